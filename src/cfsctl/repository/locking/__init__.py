"""Locks, write access and durability."""
