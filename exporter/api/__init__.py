"""The API: one exchange, its login, the pace, outages, the order list."""
