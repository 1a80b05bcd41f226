"""One publish: the store's payloads to staged files, in a process of its own."""
