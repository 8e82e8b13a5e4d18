"""Destinations of images: each takes blobs, and then the manifest that names them."""
