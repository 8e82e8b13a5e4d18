"""Build the bytes of an image from a tree."""
