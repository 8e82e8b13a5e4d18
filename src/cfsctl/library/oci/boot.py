"""Installing what a machine boots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.events import make_reporter
from cfsctl.library.oci.base import OciBase, parse_stream_id

if TYPE_CHECKING:
    from cfsctl.boot.prepare import Prepared, PrepareOptions
    from cfsctl.library.events import Progress


class BootMethods(OciBase):
    """What is done with images that are booted; see also `Repository.deployments`."""

    def prepare_boot(
        self,
        image: str,
        options: PrepareOptions | None = None,
        *,
        config_stream: str | None = None,
        progress: Progress | None = None,
    ) -> Prepared:
        """Install a boot entry for an image, and keep its boot image.

        Args:
            image: The image.
            options: How.
            config_stream: ID of the stream that the image's config must have. With it the layers of an image
                that is named by its digest are not verified, and the config is not changed.
            progress: Told what users should know of.

        Raises:
            CfsError: There is no such image, or it cannot be booted; nothing has changed then.
            OSError: Something cannot be written; the entry is not installed then.
        """
        from cfsctl.boot.prepare import PrepareOptions, prepare
        from cfsctl.library.boot import printable_prepared
        from cfsctl.oci.boot_source import OciBootSource
        from cfsctl.oci.store.images import open_trusted_config, resolve

        options = options or PrepareOptions()
        options.check()
        store = self._store
        expected = parse_stream_id(store.algorithm, config_stream)
        found = resolve(store, image)
        config = open_trusted_config(store, found, expected)
        source = OciBootSource(store, config, found.manifest, may_change_config=expected is None)
        stateroot = self._repository.stateroot
        return printable_prepared(prepare(store, source, stateroot, options, make_reporter(progress)))
