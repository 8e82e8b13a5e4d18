"""Garbage collection: mark, sweep, live mounts, and statistics based on the marks."""
