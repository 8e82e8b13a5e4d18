"""Manage composefs repositories.

A composefs repository keeps file content once, as fs-verity objects named by their digest, and
describes each file system tree by a small EROFS image that refers to those objects.

    import cfsctl

    with cfsctl.Repository.open("/var/lib/images") as repository:
        result = repository.pull("https://example.com/repo", "some/ref")
        repository.mount(result.image_id, "/mnt")

The names in `__all__` are the library's interface (docs/reference/library.md); the modules below this
package are not. Each name is imported when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.9.0"

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm, Checksum, ObjectID
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.errors import (
        CfsError,
        ExitCode,
        FetchError,
        FormatError,
        IntegrityError,
        ObjectMissingError,
        RefNotFoundError,
        RepositoryError,
    )
    from cfsctl.http.fetcher import Options as ConnectionOptions
    from cfsctl.inspection.diff import Added, Attribute, Change, Changed, Difference, Removed
    from cfsctl.library.events import CancelledError, Progress
    from cfsctl.library.repository import Repository
    from cfsctl.mount import WritableLayer
    from cfsctl.ostree.pull.options import PullResult
    from cfsctl.ostree.store.binding import PolicyError
    from cfsctl.ostree.store.refs import CommitNotFoundError
    from cfsctl.ostree.trust.from_keys import trust_keys
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.progress import Advanced, Done, Event, Message, Skipped, Started, Unit
    from cfsctl.repository import InvalidNameError, LockedError, NotARepositoryError
    from cfsctl.repository.check.report import FsckReport
    from cfsctl.repository.gc.collect import GcResult
    from cfsctl.tree.transform import XattrFilter

__all__ = [
    "Added",
    "Advanced",
    "Algorithm",
    "Attribute",
    "CancelledError",
    "CfsError",
    "Change",
    "Changed",
    "Checksum",
    "CommitNotFoundError",
    "ConnectionOptions",
    "Difference",
    "Done",
    "Event",
    "ExitCode",
    "FetchError",
    "FormatError",
    "FormatVersion",
    "FsckReport",
    "GcResult",
    "IntegrityError",
    "InvalidNameError",
    "LockedError",
    "Message",
    "NotARepositoryError",
    "ObjectID",
    "ObjectMissingError",
    "PolicyError",
    "Progress",
    "PullResult",
    "RefNotFoundError",
    "Removed",
    "Repository",
    "RepositoryError",
    "Skipped",
    "Started",
    "TrustPolicy",
    "Unit",
    "WritableLayer",
    "XattrFilter",
    "__version__",
    "trust_keys",
]

_MODULES = {
    "library.events": ("CancelledError", "Progress"),
    "library.repository": ("Repository",),
    "digest": ("Algorithm", "Checksum", "ObjectID"),
    "erofs.format": ("FormatVersion",),
    "errors": (
        "CfsError",
        "ExitCode",
        "FetchError",
        "FormatError",
        "IntegrityError",
        "ObjectMissingError",
        "RefNotFoundError",
        "RepositoryError",
    ),
    "http.fetcher": ("ConnectionOptions",),
    "inspection.diff": ("Added", "Attribute", "Change", "Changed", "Difference", "Removed"),
    "mount": ("WritableLayer",),
    "ostree.store.binding": ("PolicyError",),
    "ostree.pull.options": ("PullResult",),
    "ostree.store.refs": ("CommitNotFoundError",),
    "ostree.trust.from_keys": ("trust_keys",),
    "ostree.trust.policy": ("TrustPolicy",),
    "progress": ("Advanced", "Done", "Event", "Message", "Skipped", "Started", "Unit"),
    "repository": ("InvalidNameError", "LockedError", "NotARepositoryError"),
    "repository.check.report": ("FsckReport",),
    "repository.gc.collect": ("GcResult",),
    "tree.transform": ("XattrFilter",),
}
"""Where each public name is, below this package."""

_INNER = {"ConnectionOptions": "Options"}
"""Public names that are others where they are defined."""


if not TYPE_CHECKING:  # for a type checker a name that is not above is a mistake

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        for module, names in _MODULES.items():
            if name in names:
                from importlib import import_module  # noqa: PLC0415 - most programs need it anyway, commands do not

                value: object = getattr(import_module(f"{__name__}.{module}"), _INNER.get(name, name))
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, imported or not, and what is here besides."""
    return sorted({*globals(), *__all__})
