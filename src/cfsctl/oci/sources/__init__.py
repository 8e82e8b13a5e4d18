"""Sources of images: each finds a manifest and opens blobs.

Sources do not verify digests; `read_document` does for documents, and the pull for layers.
"""
