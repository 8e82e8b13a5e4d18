"""Comparing trees wherever they come from, and explaining image IDs."""
