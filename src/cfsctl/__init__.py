"""Manage composefs repositories.

A composefs repository keeps file content once, as fs-verity objects named by their digest, and
describes each file system tree by a small EROFS image that refers to those objects.
"""

__version__ = "0.9.0"
