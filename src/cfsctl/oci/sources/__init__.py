"""Where images come from: each source finds a manifest and opens blobs, and believes nothing.

Digests are checked by whoever reads: `read_document` for documents, the pull for layers.
"""
