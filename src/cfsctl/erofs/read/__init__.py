"""From the bytes of an image back to its tree, or to the objects that it names."""
