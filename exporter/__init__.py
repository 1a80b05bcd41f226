"""Export orders and their items from Akinon's Omnitron API to Parquet and CSV."""

__version__ = "0.1.0"
