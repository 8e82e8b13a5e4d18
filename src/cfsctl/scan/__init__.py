"""Scan directories: build a tree, and store large files as objects."""

from cfsctl.scan.cache import FileCache
from cfsctl.scan.container_root import scan_container_root
from cfsctl.scan.creating import create_image
from cfsctl.scan.files import ChangedError, StoringError
from cfsctl.scan.images import build_images, compute_image_id
from cfsctl.scan.recorder import StaleCacheError
from cfsctl.scan.scanner import scan_directory
from cfsctl.scan.store import ObjectSink

__all__ = [
    "ChangedError",
    "FileCache",
    "ObjectSink",
    "StaleCacheError",
    "StoringError",
    "build_images",
    "compute_image_id",
    "create_image",
    "scan_container_root",
    "scan_directory",
]
