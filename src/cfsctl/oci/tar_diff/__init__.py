"""Patches of layers (tar-diff): what they are made of, applying them, and making them."""
