"""The store: one SQLite file with what was answered, and beside it the plan of what is wanted."""
