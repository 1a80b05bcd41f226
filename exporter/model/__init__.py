"""What every room speaks of: options, errors, records, laws, columns, the manifest; pure values only."""
