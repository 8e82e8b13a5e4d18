"""A composefs repository on disk."""
