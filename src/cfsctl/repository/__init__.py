"""A composefs repository on disk.

    meta.json     hash, image formats, feature flags; with fs-verity if the repository is secure
    objects/      content by its fs-verity digest
    images/       which objects may be mounted, and refs to them
    streams/      which objects are named streams, and refs to them

`Repository` opens one and holds its lock; the stores hang from it:

    with Repository.open(path) as repository:
        stored = repository.objects.ensure_bytes(data)
        repository.sync()                               # content before names
        repository.images.link(stored.object_id, "name")
"""

from __future__ import annotations

from cfsctl.repository.locking.durability import Durability
from cfsctl.repository.locking.lock import LockedError
from cfsctl.repository.metadata.file import NotARepositoryError
from cfsctl.repository.names.links import Ref
from cfsctl.repository.names.names import InvalidNameError
from cfsctl.repository.objects.store import ObjectStore, ObjectWriter, StoredObject
from cfsctl.repository.repository import Repository, check_algorithm, read_config
from cfsctl.repository.setup.init import InitStatus, init_repository

__all__ = [
    "Durability",
    "InitStatus",
    "InvalidNameError",
    "LockedError",
    "NotARepositoryError",
    "ObjectStore",
    "ObjectWriter",
    "Ref",
    "Repository",
    "StoredObject",
    "check_algorithm",
    "init_repository",
    "read_config",
]
