"""Repairing a repository from other copies of the same content."""
