"""Import content objects: verify, hash and store them."""
