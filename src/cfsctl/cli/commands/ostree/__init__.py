"""The ``ostree`` commands."""
