"""What differs between two datasets; each file is imported only when it is used, for DuckDB is an extra."""
