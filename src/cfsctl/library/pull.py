"""Pulling commits into a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.library.commits import printable_result
from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.ids import Checksum
from cfsctl.library.opened import OpenedRepository, moving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cfsctl.http.fetcher import Options as ConnectionOptions
    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath
    from cfsctl.library.sources import Location, SourceOptions
    from cfsctl.ostree.pull.dry_run import PullEstimate
    from cfsctl.ostree.pull.options import PullOptions, PullResult
    from cfsctl.ostree.trust.policy import TrustPolicy

_BASES: Final = 8
"""Commits of the same run from which objects are taken that the next one shares."""


class PullMethods(OpenedRepository):
    """Pulling commits from directories and servers."""

    @cancellable
    def pull(
        self,
        source: StrPath,
        ref: str,
        *,
        base: str | None = None,
        allow_downgrade: bool = False,
        allow_unverified: bool = False,
        subpaths: Sequence[str] = (),
        use_deltas: bool = True,
        keep: int | None = None,
        trust: TrustPolicy | None = None,
        connection: ConnectionOptions | None = None,
        progress: Progress | None = None,
    ) -> PullResult:
        """Bring an OSTree commit into the repository, and make the tag of its ref name it.

        A pull that ends early leaves names unchanged, and the next one continues where it stopped. For all
        options of a pull, see `pull_refs`.

        Args:
            source: URL of an archive repository, or the directory of one in any mode.
            ref: A ref there, which becomes the tag too, or the ID of a commit.
            base: A stored commit (tag, ID or unique prefix) that has much in common with it.
            allow_downgrade: Let the tag move to an older commit.
            allow_unverified: Let the tag move from a verified commit to one that is not.
            subpaths: Pull only what is at these paths.
            use_deltas: Take static deltas where they cost less than objects; only with a URL.
            keep: Number of earlier commits of the tag to keep; None leaves its history as it is.
            trust: What the commit has to prove; see `trust_keys`.
            connection: How to reach a server; None is as the environment says about proxies.
            progress: Told what arrives.

        Raises:
            RefNotFoundError, ObjectMissingError: The source does not have the ref, or an object.
            FetchError: A server does not answer as it should.
            FormatError, IntegrityError: Something is not valid.
            PolicyError: The commit must not have this tag, or is not signed as it has to be.
            CfsError: There is no OSTree repository.
        """
        from cfsctl.library.sources import Location, SourceOptions
        from cfsctl.ostree.pull.options import PullOptions

        location = Location.parse(source)
        options = PullOptions(
            base_name=base,
            allow_downgrade=allow_downgrade,
            allow_unverified=allow_unverified,
            subpaths=subpaths,
            trust=trust,
        )
        source_options = SourceOptions(connection=connection, use_deltas=use_deltas and location.is_url)
        (result,) = self.pull_refs(
            location, [ref], options, source_options=source_options, keep=keep, progress=progress
        )
        return result

    @cancellable
    def pull_refs(
        self,
        source: StrPath | Location,
        refs: Sequence[str] | None,
        options: PullOptions | None = None,
        *,
        source_options: SourceOptions | None = None,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[PullResult]:
        """Pull one commit after the other from the same source; yield each result immediately.

        Args:
            source: URL of an archive repository, or the directory of one in any mode.
            refs: Refs there, or IDs of commits; None is all refs that the source lists.
            options: How commits are pulled.
            source_options: How the source is read.
            keep: Number of earlier commits of each tag to keep; None leaves histories as they are.
            progress: Told what arrives, and which commits had the tags before.

        Raises:
            CfsError: As `pull`.
        """
        from dataclasses import replace

        from cfsctl.library.sources import (
            Location,
            SourceOptions,
            opened_source,
        )
        from cfsctl.ostree.pull.pull import PullOptions, pull
        from cfsctl.ostree.store.opened_streams import OpenedStreams

        store, report = self._store, make_reporter(progress)
        options = options or PullOptions()
        how = source_options or SourceOptions()
        pulled: list[Checksum] = []
        streams = OpenedStreams()
        with opened_source(Location.parse(source), how, options.trust, report) as (opened, deltas):
            for ref in opened.list_ref_names() if refs is None else refs:
                bases = (*options.also_bases, *pulled[-_BASES:])
                one = replace(options, also_bases=bases, deltas=deltas, is_mirror=refs is None)
                with moving(self, progress, keep=keep):
                    result = pull(store, opened, ref, one, report, streams)
                pulled.append(result.commit)
                yield printable_result(result)

    @cancellable
    def estimate_pull(
        self,
        source: StrPath | Location,
        refs: Sequence[str] | None,
        options: PullOptions | None = None,
        *,
        source_options: SourceOptions | None = None,
        progress: Progress | None = None,
    ) -> Iterator[PullEstimate]:
        """Yield what `pull_refs` with the same arguments would do, and change nothing.

        Raises:
            CfsError: As `pull`, for all that comes before the content.
        """
        from dataclasses import replace

        from cfsctl.library.sources import (
            Location,
            SourceOptions,
            opened_source,
        )
        from cfsctl.ostree.pull.pull import PullOptions, estimate_pull

        store, report = self._store, make_reporter(progress)
        options = options or PullOptions()
        how = source_options or SourceOptions()
        with opened_source(Location.parse(source), how, options.trust, report) as (opened, deltas):
            for ref in opened.list_ref_names() if refs is None else refs:
                one = replace(options, deltas=deltas, is_mirror=refs is None)
                found = estimate_pull(store, opened, ref, one, report)
                yield replace(found, commit=Checksum(found.commit))
