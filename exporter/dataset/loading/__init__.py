"""A finished dataset into a database; each file is imported only when it is used."""
