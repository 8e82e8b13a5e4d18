"""Commands that configure remotes."""
