"""Initialising a repository, and upgrading one that predates ``meta.json``."""
