"""A fake Omnitron API that the package ships, so that everything can be tried without a shop."""
