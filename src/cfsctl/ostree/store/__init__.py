"""Commits in a repository: streams, images, tags, partial commits."""
