"""Real servers for tests, which misbehave as told."""
