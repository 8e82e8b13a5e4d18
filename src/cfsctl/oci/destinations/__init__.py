"""Where images go to: each destination takes blobs, and then the manifest that names them."""
