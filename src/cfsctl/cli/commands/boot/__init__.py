"""Commands for what a machine boots."""
