"""Pulling commits."""
