"""`Repository`: all that the library does with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.boot import BootMethods
from cfsctl.library.commits import CommitMethods
from cfsctl.library.compared import ComparisonMethods
from cfsctl.library.contained import ContentMethods
from cfsctl.library.image_refs import ImageRefMethods
from cfsctl.library.images import ImageMethods
from cfsctl.library.listed import ListMethods
from cfsctl.library.maintenance import MaintenanceMethods
from cfsctl.library.pull import PullMethods
from cfsctl.library.reports import ReportMethods

if TYPE_CHECKING:
    from cfsctl.library.oci.images import OciImages


class Repository(
    ImageMethods,
    ImageRefMethods,
    CommitMethods,
    ListMethods,
    PullMethods,
    ComparisonMethods,
    ContentMethods,
    MaintenanceMethods,
    ReportMethods,
    BootMethods,
):
    """An open repository; its lock prevents garbage collection.

    A context manager: `open` or `init` makes one, `close` or the end of the block closes it; after that each
    method raises `ValueError`. Use it from one thread at a time; several processes, and several instances for
    one directory, may work side by side.

    IDs that are returned are `ObjectID` or `Checksum`: bytes that print as hexadecimal text.
    """

    @property
    def oci(self) -> OciImages:
        """What can be done with the OCI images in it."""
        from cfsctl.library.oci.images import OciImages

        return OciImages(self)
