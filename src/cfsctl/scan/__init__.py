"""A directory becomes a tree, and its large files become objects."""

from cfsctl.scan.cache import FileCache
from cfsctl.scan.creating import create_image
from cfsctl.scan.files import ChangedError, StoringError
from cfsctl.scan.images import build_images, compute_image_id
from cfsctl.scan.recorder import StaleCacheError
from cfsctl.scan.scanner import scan_directory
from cfsctl.scan.store import ObjectSink
from cfsctl.scan.transform import TransformError, XattrFilter, apply_oci_transform, scan_container_root

__all__ = [
    "ChangedError",
    "FileCache",
    "ObjectSink",
    "StaleCacheError",
    "StoringError",
    "TransformError",
    "XattrFilter",
    "apply_oci_transform",
    "build_images",
    "compute_image_id",
    "create_image",
    "scan_container_root",
    "scan_directory",
]
