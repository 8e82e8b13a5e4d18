"""Images that come into a repository, or leave it: pulled, built and pushed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.ids import ObjectID
from cfsctl.library.oci.base import OciBase
from cfsctl.library.opened import moving, store_of
from cfsctl.oci.reference import is_reference as is_reference  # noqa: PLC0414 - exported from here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.library.events import Progress
    from cfsctl.library.oci.options import OciBuildOptions, OciPullOptions, RegistryOptions
    from cfsctl.library.oci.results import OciPullOutcome
    from cfsctl.library.opened import OpenedRepository
    from cfsctl.oci.build import BuildResult
    from cfsctl.oci.delta.make import DeltaResult
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.pull import PullResult
    from cfsctl.oci.pull_plan import PullPlan
    from cfsctl.oci.push import PushResult
    from cfsctl.oci.registry.settings import RegistrySettings
    from cfsctl.oci.source import ImageSource
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository as Store
    from cfsctl.tree.model import FileSystem


class TransferMethods(OciBase):
    """Pulling, building and pushing images."""

    @cancellable
    def pull(
        self,
        source: str,
        tag: str | None = None,
        options: OciPullOptions | None = None,
        *,
        registry: RegistryOptions | None = None,
        on_layers: Callable[[int], object] | None = None,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> PullResult:
        """Pull an image or artifact; layers that are stored are not read.

        All digests are verified before anything is named.

        Args:
            source: Where it is: ``docker://NAME[:TAG]``, ``oci:DIRECTORY[:TAG]`` or another transport.
            tag: The tag to move to it, or None.
            options: How it is pulled.
            registry: How registries are reached.
            on_layers: Called with the number of layers, before the first is fetched.
            keep: Number of earlier images of the tag to keep; None leaves its history as it is.
            progress: Told how far each layer is, and which image had the tag before.

        Returns:
            What was pulled. It is tagged even if it has no `boot_image` although one was requested: it is an
            artifact, or none of the boot images that it can have is the expected one.

        Raises:
            InvalidNameError: The tag cannot be one; nothing was read.
            IntegrityError: Something is not what its digest says.
            FormatError: Something is not valid.
            FetchError: A registry does not answer as it should.
            CfsError: There is no such image, or not for this platform.
        """
        from cfsctl.library.oci.options import OciPullOptions, check_tag
        from cfsctl.oci.pull import pull
        from cfsctl.oci.sources.opening import open_source
        from cfsctl.repository.objects.sharing import Sharing

        store, how = self._store, options or OciPullOptions()
        if tag is not None:
            check_tag(tag)
        expected = _parse_expected(store, how.expected_boot_image)
        opened = open_source(source, registry_settings(source, registry))
        try:
            with moving(self._repository, progress, keep=keep):
                result = pull(
                    store,
                    opened,
                    None if how.with_referrers else tag,
                    platform=how.parse_platform(),
                    bootable=how.bootable,
                    expected=expected,
                    keep_compressed=how.keep_compressed,
                    sharing=Sharing(how.local_fetch),
                    boot_xattrs=how.boot_xattrs,
                    when_found=on_layers or (lambda _layers: None),
                    reporter=make_reporter(progress),
                )
                if how.with_referrers:
                    result = _add_referrers(store, opened, result, tag, make_reporter(progress))
        finally:
            opened.close()
        return printable_pull(result)

    @cancellable
    def pull_images(
        self,
        images: Iterable[tuple[str, str | None]],
        options: OciPullOptions | None = None,
        *,
        registry: RegistryOptions | None = None,
        progress: Progress | None = None,
    ) -> Iterator[OciPullOutcome]:
        """Pull one image after the other; yield what became of each immediately.

        An image that cannot be pulled does not stop the others. A layer that several of them have is fetched
        once.

        Args:
            images: Reference and tag of each.
            options: How they are pulled.
            registry: How registries are reached.
            progress: Told how far each layer is.

        Raises:
            InvalidNameError: A tag cannot be one; nothing was read.
            RepositoryError: Nothing can be written.
        """
        from cfsctl.errors import CfsError
        from cfsctl.library.oci.options import check_tag
        from cfsctl.library.oci.results import OciPullOutcome

        wanted = list(images)
        for _, tag in wanted:
            if tag is not None:
                check_tag(tag)
        self._store.check_writable()
        for source, tag in wanted:
            try:
                result = self.pull(source, tag, options, registry=registry, progress=progress)
            except (CfsError, OSError) as error:
                yield OciPullOutcome(source, None, error)
            else:
                yield OciPullOutcome(source, result)

    def plan_pull(
        self,
        source: str,
        tag: str | None = None,
        options: OciPullOptions | None = None,
        *,
        registry: RegistryOptions | None = None,
    ) -> PullPlan:
        """Return what `pull` with the same arguments would do, and change nothing.

        Raises:
            CfsError: As `pull`.
        """
        from dataclasses import replace

        from cfsctl.library.oci.options import OciPullOptions, check_tag
        from cfsctl.oci.pull_plan import plan_pull
        from cfsctl.oci.sources.opening import open_source

        if tag is not None:
            check_tag(tag)
        opened = open_source(source, registry_settings(source, registry))
        try:
            plan = plan_pull(self._store, opened, tag, (options or OciPullOptions()).parse_platform())
        finally:
            opened.close()
        return replace(plan, image=None if plan.image is None else ObjectID(plan.image))

    @cancellable
    def copy(
        self,
        image: str,
        source: OpenedRepository,
        tag: str | None = None,
        *,
        zerocopy: bool = False,
        with_referrers: bool = False,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> PullResult:
        """Copy an image or artifact from another repository to this one; layers that are here are not read.

        Everything is verified and made again as in a pull, so either repository may have either hash.

        Args:
            image: A tag, the digest of a manifest or config, or a unique prefix of one, in the source.
            source: The other repository, open.
            tag: The tag to move to it here, or None.
            zerocopy: Share objects by reflinks or hard links, and fail where that is impossible.
            with_referrers: Also copy stored artifacts about the image, such as signatures.
            keep: Number of earlier images of the tag to keep; None leaves its history as it is.
            progress: Told how far each layer is, and which image had the tag before.

        Raises:
            RepositoryError: There is no such image, or the repositories cannot share objects.
            InvalidNameError: The tag cannot be one; nothing was read.
            IntegrityError, FormatError: Something in the source is damaged.
        """
        from cfsctl.library.oci.options import check_tag
        from cfsctl.oci.copy import copy_image

        if tag is not None:
            check_tag(tag)
        other, store, report = store_of(source), self._store, make_reporter(progress)
        with moving(self._repository, progress, keep=keep):
            first = None if with_referrers else tag
            found = copy_image(other, store, image, first, zerocopy=zerocopy, reporter=report)
            if with_referrers:
                from cfsctl.oci.copy_index import copy_referrers

                digests = copy_referrers(
                    other, store, [found.manifest_digest], zerocopy=zerocopy, reporter=report
                )
                found = _tagged(store, found, tag, digests)
        return printable_pull(found)

    @cancellable
    def build(
        self,
        source: str,
        tag: str | None = None,
        options: OciBuildOptions | None = None,
        *,
        base: str | None = None,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> BuildResult:
        """Build an image with one new layer, store it and tag it.

        Args:
            source: The tree of the layer: a directory, an image or an OSTree commit, optionally with
                ``dir:``, ``image:`` or ``commit:`` before it.
            tag: The tag to move to the image, or None.
            options: What the image is to be.
            base: A stored image to build on: its layers and config, with the new layer on top.
            keep: Number of earlier images of the tag to keep; None leaves its history as it is.
            progress: Told how far it is, and which image had the tag before.

        Raises:
            InvalidNameError: The tag cannot be one.
            RepositoryError: There is no such base.
            CfsError: The source leads to nothing, or has what a layer cannot have.
        """
        from cfsctl.library.oci.options import OciBuildOptions, check_tag
        from cfsctl.oci.build import build
        from cfsctl.oci.store.images import open_found, resolve

        store, report = self._store, make_reporter(progress)
        how = (options or OciBuildOptions()).for_build()
        if tag is not None:
            check_tag(tag)
        below = None if base is None else open_found(store, resolve(store, base))
        with moving(self._repository, progress, keep=keep):
            result = build(store, _read_tree(store, source, report), tag, how, base=below, reporter=report)
        return result._replace(pulled=printable_pull(result.pulled))

    @cancellable
    def push(
        self,
        image: str,
        destination: str,
        *,
        preserve_digests: bool = False,
        with_referrers: bool = False,
        registry: RegistryOptions | None = None,
        progress: Progress | None = None,
    ) -> PushResult:
        """Copy a stored image, or an index with all its images, to a registry, layout, archive or directory.

        Args:
            image: A tag, the digest of a manifest or config, or a unique prefix of one.
            destination: ``docker://NAME[:TAG]``, ``oci:DIRECTORY[:TAG]``, ``oci-archive:FILE[:TAG]`` or
                ``dir:DIRECTORY``.
            preserve_digests: Fail if a manifest would have to change.
            with_referrers: Also push stored artifacts about the image, such as signatures.
            registry: How registries are reached.
            progress: Told how far it is.

        Raises:
            RepositoryError: There is no such image, or more than one.
            IntegrityError: Something stored is damaged.
            FetchError: The registry does not take it.
            CfsError: The destination cannot be written to, or the manifest would have to change.
        """
        from cfsctl.oci.destinations.opening import open_destination
        from cfsctl.oci.push_whole import WholePush
        from cfsctl.oci.store.images import StoredImage, open_found, resolve
        from cfsctl.oci.store.index_names import find_index
        from cfsctl.oci.store.indexes import open_index

        store = self._store
        index = find_index(store, image)
        stored = open_found(store, resolve(store, image)) if index is None else open_index(store, index)
        target = open_destination(destination, registry_settings(destination, registry))
        try:
            run = WholePush(
                store,
                target,
                with_referrers=with_referrers,
                preserve_digests=preserve_digests,
                reporter=make_reporter(progress),
            )
            return run.push_image(stored) if isinstance(stored, StoredImage) else run.push_index(stored)
        finally:
            target.close()

    def make_delta(
        self,
        old: str,
        new: str,
        destination: str,
        *,
        registry: RegistryOptions | None = None,
        progress: Progress | None = None,
    ) -> DeltaResult:
        """Make a delta: an artifact that gives one stored image to whoever has the other.

        Args:
            old: The image that is there when the delta is pulled, named as for `push`.
            new: The image that pulling the delta stores.
            destination: Where the delta goes; see `push`.
            registry: How registries are reached.
            progress: Told how far it is.

        Raises:
            RepositoryError: There is no such image, or more than one, or it is an artifact.
            IntegrityError: Something stored is damaged.
            FetchError: The registry does not take it.
            CfsError: The destination cannot be written to.
        """
        from cfsctl.oci.delta.make import make_delta
        from cfsctl.oci.destinations.opening import open_destination
        from cfsctl.oci.store.images import open_found, resolve

        store = self._store
        base, image = (open_found(store, resolve(store, name)) for name in (old, new))
        target = open_destination(destination, registry_settings(destination, registry))
        try:
            return make_delta(store, base, image, target, reporter=make_reporter(progress))
        finally:
            target.close()


def _add_referrers(
    store: Store, source: ImageSource, result: PullResult, tag: str | None, report: Reporter
) -> PullResult:
    """Pull what is about an image, and only then move the tag; return the result with both."""
    from cfsctl.oci.referrers import add_referrers  # few pulls ask for them

    found = add_referrers(store, source, result, report)
    return _tagged(store, found, tag, found.referrers)


def _tagged(store: Store, result: PullResult, tag: str | None, referrers: Iterable[OciDigest]) -> PullResult:
    """Move the tag to an image; return the result with it."""
    from dataclasses import replace

    from cfsctl.oci.store.images import set_tag

    if tag is not None:
        set_tag(store, f"@{result.manifest_digest}", tag)
    return replace(result, tag=tag, referrers=tuple(referrers))


def registry_settings(reference: str, options: RegistryOptions | None) -> RegistrySettings | None:
    """Return what the reference needs to be opened: nothing else needs what that imports."""
    if not reference.startswith(("docker:", "registry:", "containers-storage:")):
        return None
    from cfsctl.library.oci.options import RegistryOptions

    return (options or RegistryOptions()).settings()


def _parse_expected(store: Store, text: str | None) -> ObjectID | None:
    if text is None:
        return None
    from cfsctl.digest import parse_object_id  # few pulls have one

    return parse_object_id(text.lower(), store.algorithm)


def printable_pull(result: PullResult) -> PullResult:
    """Return a result whose IDs are text when they are printed."""
    from dataclasses import replace

    return replace(
        result,
        manifest_id=ObjectID(result.manifest_id),
        config_id=ObjectID(result.config_id),
        image=None if result.image is None else ObjectID(result.image),
        boot_image=None if result.boot_image is None else ObjectID(result.boot_image),
    )


def _read_tree(store: Store, text: str, report: Reporter) -> FileSystem:
    """Return the tree of a source; the contents of a directory's files are stored on the way."""
    from cfsctl.inspection.sources import DirectorySource, SourceFinder
    from cfsctl.kinds.kind import Reading
    from cfsctl.ostree.tree.xattr_names import XattrNames
    from cfsctl.scan import scan_container_root
    from cfsctl.tree.transform import XattrFilter

    reading = Reading(
        propagate_usr=False,
        xattr_filter=XattrFilter.KEEP_USER,
        xattr_names=XattrNames.STRIPPED,
        reporter=report,
    )
    source = SourceFinder(lambda: store, reading).find(text)
    if not isinstance(source, DirectorySource):
        return source.read(store.algorithm)
    return scan_container_root(
        source.name, algorithm=store.algorithm, store=store.objects, propagate_usr=False, reporter=report
    )
