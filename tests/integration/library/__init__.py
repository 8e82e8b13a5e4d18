"""The public library, used as programs use it."""
