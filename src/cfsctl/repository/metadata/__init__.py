"""The metadata of a repository: ``meta.json``, parsed, read and written."""
