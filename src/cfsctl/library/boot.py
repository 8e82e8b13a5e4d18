"""What can be done with images that are booted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.library.events import make_reporter
from cfsctl.library.ids import ObjectID
from cfsctl.library.opened import OpenedRepository

if TYPE_CHECKING:
    from cfsctl.boot.deployments import Deployment, RemovedDeployment
    from cfsctl.boot.prepare import Prepared, PrepareOptions
    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath


class BootMethods(OpenedRepository):
    """Installing, listing and removing what a machine boots."""

    def prepare_boot(
        self, image: str, options: PrepareOptions | None = None, *, progress: Progress | None = None
    ) -> Prepared:
        """Install a boot entry for an image as it is, which `create_image` made bootable; and keep it.

        Args:
            image: Its ref or ID.
            options: How.
            progress: Told what users should know of.

        Raises:
            CfsError: There is no such image, or it cannot be booted; nothing has changed then.
            OSError: Something cannot be written; the entry is not installed then.
        """
        from cfsctl.boot.image_source import StoredImageSource
        from cfsctl.boot.prepare import PrepareOptions, prepare

        options = options or PrepareOptions()
        options.check()
        source = StoredImageSource(self._store, image)
        return printable_prepared(
            prepare(self._store, source, self.stateroot, options, make_reporter(progress))
        )

    def deployments(
        self,
        bootdir: StrPath = "/boot",
        *,
        stateroot: StrPath | None = None,
        progress: Progress | None = None,
    ) -> list[Deployment]:
        """Return what can be booted: images that are kept for it, named by boot entries, or have a state.

        Args:
            bootdir: Where the boot partition is mounted.
            stateroot: Directory that has ``state/deploy``; None is the one that has the repository.
            progress: Told of boot entries that cannot be read.
        """
        from cfsctl.boot.deployments import list_deployments

        return list_deployments(
            self._store,
            os.fspath(bootdir),
            self.stateroot if stateroot is None else os.fspath(stateroot),
            make_reporter(progress),
        )

    def find_deployment(
        self, prefix: str, bootdir: StrPath = "/boot", *, stateroot: StrPath | None = None
    ) -> ObjectID:
        """Return the image of the deployment whose ID begins with this prefix.

        Raises:
            RefNotFoundError: There is none.
            AmbiguousIdError: There is more than one.
        """
        from cfsctl.errors import RefNotFoundError
        from cfsctl.repository.names.short_ids import choose_id, parse_short_id

        short = parse_short_id(prefix, 1)
        images = [ObjectID(found.image) for found in self.deployments(bootdir, stateroot=stateroot)]
        known = {image_id.hex(): image_id for image_id in images}
        found = None if short is None else choose_id(short.digits, known, "deployment")
        if found is None:
            raise RefNotFoundError(
                f"no deployment has an image whose ID begins with {prefix!r}",
                hint="list them with `cfsctl boot list`",
            )
        return known[found]

    def remove_deployment(
        self,
        image: ObjectID,
        bootdir: StrPath = "/boot",
        *,
        stateroot: StrPath | None = None,
        purge_state: bool = False,
        force: bool = False,
        progress: Progress | None = None,
    ) -> RemovedDeployment:
        """Remove boot entries of an image, and what keeps it; it stays until garbage is collected.

        Args:
            image: The image.
            bootdir: Where the boot partition is mounted.
            stateroot: Directory that has ``state/deploy``; None is the one that has the repository.
            purge_state: Remove what was written to ``/etc`` and ``/var`` as well.
            force: Also if the machine has booted it.
            progress: Told of boot entries that cannot be read.

        Raises:
            CfsError: It is not installed, or the machine has booted it.
            OSError: Something cannot be removed.
        """
        from cfsctl.boot.deployments import remove_deployment

        return remove_deployment(
            self._store,
            image,
            os.fspath(bootdir),
            self.stateroot if stateroot is None else os.fspath(stateroot),
            purge_state=purge_state,
            force=force,
            reporter=make_reporter(progress),
        )


def printable_prepared(prepared: Prepared) -> Prepared:
    """Return a result whose ID is text when it is printed."""
    from dataclasses import replace

    return replace(prepared, image=ObjectID(prepared.image))
