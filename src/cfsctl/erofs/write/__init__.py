"""From a tree to the bytes of an image."""
