"""Serving images by FUSE: the protocol, the files of an image, the server's loop, and mounting."""
