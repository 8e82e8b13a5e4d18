"""Indexes: several images, usually of one for several platforms, under one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.ids import ObjectID
from cfsctl.library.oci.base import OciBase
from cfsctl.library.oci.transfer import printable_pull, registry_settings
from cfsctl.library.opened import moving, store_of

if TYPE_CHECKING:
    from cfsctl.library.events import Progress
    from cfsctl.library.oci.options import OciPullOptions, RegistryOptions
    from cfsctl.library.oci.results import OciIndexInspection
    from cfsctl.library.opened import OpenedRepository
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.pull_index import IndexPullResult


class IndexMethods(OciBase):
    """What is done with indexes. All other methods use the image of an index that is for this machine."""

    def find_index(self, name: str) -> OciDigest | None:
        """Return the stored index that a tag, digest or unique prefix of a digest names, or None.

        Raises:
            RepositoryError: It names more than one.
        """
        from cfsctl.oci.store.index_names import find_index

        return find_index(self._store, name)

    def inspect_index(self, index: OciDigest) -> OciIndexInspection:
        """Return an index and what it lists.

        Raises:
            FormatError, IntegrityError: It is damaged, or not stored.
        """
        from cfsctl.library.oci.results import OciIndexEntry, OciIndexInspection
        from cfsctl.oci.store.index_names import iter_platforms
        from cfsctl.oci.store.indexes import open_index
        from cfsctl.oci.store.referrers import list_referrers

        store = self._store
        found = open_index(store, index)
        return OciIndexInspection(
            digest=index,
            document=found.document.data,
            stream=ObjectID(found.document.stream_id),
            entries=tuple(
                OciIndexEntry(descriptor.digest, platform)
                for descriptor, platform in iter_platforms(store, found)
            ),
            referrers=tuple(list_referrers(store, index)),
        )

    @cancellable
    def pull_index(
        self,
        source: str,
        tag: str | None = None,
        options: OciPullOptions | None = None,
        *,
        registry: RegistryOptions | None = None,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> IndexPullResult | None:
        """Pull an index with the images for all platforms, and with their compressed layers.

        So the same bytes can be pushed again. Images of which no file system image can be made are stored
        without one.

        Args:
            source: Where it is; see `pull`.
            tag: The tag to move to it, or None.
            options: Of these only `with_referrers` counts.
            registry: How registries are reached.
            keep: Number of earlier images of the tag to keep; None leaves its history as it is.
            progress: Told how far each layer is.

        Returns:
            What was pulled, or None if the source leads to a single image; then nothing was.

        Raises:
            CfsError, OSError: As `pull`.
        """
        from cfsctl.library.oci.options import check_tag
        from cfsctl.oci.pull_index import IndexPull, find_named_index, tag_pulled
        from cfsctl.oci.sources.opening import open_source

        store, report = self._store, make_reporter(progress)
        if tag is not None:
            check_tag(tag)
        opened = open_source(source, registry_settings(source, registry))
        try:
            named = find_named_index(opened)
            if named is None:
                return None
            with moving(self._repository, progress, keep=keep):
                run = IndexPull(store, opened, report)
                result = run.run(*named)
                if options is not None and options.with_referrers:
                    result = run.add_referrers(result)
                if tag is not None:
                    result = tag_pulled(store, result, tag)
        finally:
            opened.close()
        return _printable(result)

    @cancellable
    def copy_index(
        self,
        index: OciDigest,
        source: OpenedRepository,
        tag: str | None = None,
        *,
        zerocopy: bool = False,
        with_referrers: bool = False,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> IndexPullResult:
        """Copy an index and its images from another repository to this one; see `copy`.

        Args:
            index: The index; see `find_index` of the other repository.
            source: The other repository, open.
            tag: The tag to move to it here, or None.
            zerocopy: Share objects by reflinks or hard links, and fail where that is impossible.
            with_referrers: Also copy stored artifacts about the index and its images.
            keep: Number of earlier images of the tag to keep; None leaves its history as it is.
            progress: Told how far each layer is, and which image had the tag before.

        Raises:
            RepositoryError: The repositories cannot share objects.
            InvalidNameError: The tag cannot be one; nothing was read.
            IntegrityError, FormatError: Something in the source is damaged, or not there.
        """
        from dataclasses import replace

        from cfsctl.library.oci.options import check_tag
        from cfsctl.oci.copy import check_zerocopy
        from cfsctl.oci.copy_index import copy_index, copy_referrers
        from cfsctl.oci.pull_index import tag_pulled

        if tag is not None:
            check_tag(tag)
        other, store, report = store_of(source), self._store, make_reporter(progress)
        if zerocopy:
            check_zerocopy(other, store)
        result = copy_index(other, store, index, zerocopy=zerocopy, reporter=report)
        if with_referrers:
            subjects = [index, *(member.result.manifest_digest for member in result.members)]
            found = copy_referrers(other, store, subjects, zerocopy=zerocopy, reporter=report)
            result = replace(result, referrers=tuple(found))
        if tag is not None:
            with moving(self._repository, progress, keep=keep):
                result = tag_pulled(store, result, tag)
        return _printable(result)


def _printable(result: IndexPullResult) -> IndexPullResult:
    """Return a result whose IDs are text when they are printed."""
    from dataclasses import replace

    members = tuple(member._replace(result=printable_pull(member.result)) for member in result.members)
    return replace(result, stream_id=ObjectID(result.stream_id), members=members)
