"""What is traded and what it costs: instruments, names, quotes."""
