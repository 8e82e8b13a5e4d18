"""Commits on their way out or in by other means: export, commit, copy, repair."""
