"""What the operating system does for us: durable files, child processes, stopping."""
