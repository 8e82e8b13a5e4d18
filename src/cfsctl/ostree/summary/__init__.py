"""Summaries of OSTree repositories: their format, their index, and the ones that are kept."""
