"""Mounting images of a repository, by the kernel or by FUSE."""
