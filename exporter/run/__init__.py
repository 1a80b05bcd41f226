"""One export from start to end, and what it would do."""
