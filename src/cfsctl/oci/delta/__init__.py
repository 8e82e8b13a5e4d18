"""Deltas between images: artifacts with patches for layers. `artifact` reads them, `make` makes them."""
