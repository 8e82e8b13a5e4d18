"""Read images: their tree, or only the objects that they refer to."""
