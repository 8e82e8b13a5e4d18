"""What can be done with the OSTree commits of a repository."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.ids import Checksum, ObjectID
from cfsctl.library.opened import OpenedRepository, moving
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cfsctl.erofs.format import FormatVersion
    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath
    from cfsctl.library.results import CommitInfo, KeptTarget, RefChange
    from cfsctl.ostree.exchange.commit import CommitResult
    from cfsctl.ostree.pull.options import PullResult
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.ostree.store.history import LogEntry
    from cfsctl.ostree.tree.xattr_names import XattrNames
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.ostree.trust.verdict import ValidSignature
    from cfsctl.tree.model import FileSystem


_OSTREE = "ostree"


class CommitMethods(OpenedRepository):
    """Making, naming, reading and verifying commits.

    A `source` is a tag, the ID of a commit, or a unique prefix of one.
    """

    def tags(self) -> dict[str, Checksum]:
        """Return the OSTree commits that have a tag, by tag, sorted."""
        from cfsctl.ostree.store.refs import list_tags

        return {tag.name: Checksum(tag.commit) for tag in list_tags(self._store)}

    def partial_tags(self) -> dict[str, Checksum]:
        """Return the commits of which only a part was pulled, by tag or ID, sorted."""
        if not self._store.streams.list_refs("ostree-partial"):
            return {}
        from cfsctl.ostree.store.partial_tags import list_parts

        return {part.name: Checksum(part.commit) for part in list_parts(self._store)}

    @cancellable
    def tag(
        self,
        source: str,
        name: str,
        *,
        replace: bool = True,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> RefChange:
        """Give a commit a tag, in place of what had it before.

        The requirements of the pull that set the tag stay for the next pull.

        Args:
            source: The commit.
            name: The tag.
            replace: Move the tag if another commit has it.
            keep: Number of earlier commits of the tag to keep; None leaves its history as it is.
            progress: Told if the commit does not meet what the tag was set under, and which commit had it.

        Raises:
            RepositoryError: There is no such commit, or more than one, or the name cannot be a tag.
            RefExistsError: The tag belongs to a commit, and may not be taken from it.
        """
        from cfsctl.library.demands import warn_of_demand
        from cfsctl.library.kept import find_target
        from cfsctl.ostree.store.partial_tags import tag_commit
        from cfsctl.repository.history.kept import HistoryKey

        commit = self._resolve_whole(source)
        warn_of_demand(self._store, name, commit, make_reporter(progress))
        old = find_target(self._store, HistoryKey(_OSTREE, name))
        with moving(self, progress, replace=replace, keep=keep):
            commit = Checksum(tag_commit(self._store, source, name))
        from cfsctl.library.results import RefChange

        return RefChange(name, old, commit.hex())

    def untag(self, name: str) -> RefChange:
        """Remove a tag and its history; commits stay until garbage is collected.

        Raises:
            RepositoryError: There is no such tag.
        """
        from cfsctl.library.kept import find_target
        from cfsctl.ostree.store.partial_tags import untag
        from cfsctl.ostree.store.refs import is_tag_name
        from cfsctl.repository.history.changes import forget_history
        from cfsctl.repository.history.kept import HistoryKey

        key = HistoryKey(_OSTREE, name)
        old = find_target(self._store, key) if is_tag_name(name) else None
        forgotten = 0 if old is None else forget_history(self._store, key)
        untag(self._store, name)
        from cfsctl.library.results import RefChange

        return RefChange(name, old, None, forgotten)

    def rename_tag(self, name: str, new: str) -> RefChange:
        """Give a tag another name; its history and its requirements go along.

        Raises:
            RefNotFoundError: There is no such tag.
            RefExistsError: The new name belongs to another commit.
            RepositoryError: The new name cannot be a tag, or the tag is that of a part of a commit.
        """
        from cfsctl.ostree.store.partial_tags import rename_tag

        commit = rename_tag(self._store, name, new).hex()
        from cfsctl.library.results import RefChange

        return RefChange(new, commit, commit)

    def roll_back(self, name: str, to: str | None = None, *, progress: Progress | None = None) -> RefChange:
        """Set a tag to the commit that it named before; what it names now is kept, to undo this.

        Args:
            name: The tag.
            to: The ID of a kept commit or a prefix of it; None is the latest.
            progress: Told if the commit does not meet what the tag was set under, or if what the tag leaves
                is damaged, and so is not kept.

        Raises:
            RefNotFoundError: There is no such tag.
            NothingKeptError: No such commit is kept.
        """
        from cfsctl.digest import parse_checksum
        from cfsctl.library.demands import warn_of_demand
        from cfsctl.library.kept import roll_back

        change = roll_back(self._store, _OSTREE, name, to, progress)
        assert change.new is not None
        warn_of_demand(self._store, name, parse_checksum(change.new), make_reporter(progress))
        return change

    def tag_history(self, name: str) -> list[KeptTarget]:
        """Return the current commit of a tag and the earlier ones that are kept, latest first.

        Raises:
            RefNotFoundError: There is no such tag, and no history of it.
        """
        from cfsctl.library.kept import list_history

        return list_history(self._store, _OSTREE, name)

    @cancellable
    def commit_image(
        self,
        source: str,
        *,
        erofs_version: FormatVersion | None = None,
        xattr_names: XattrNames | None = None,
        progress: Progress | None = None,
    ) -> ObjectID:
        """Return the image of an OSTree commit, which is made if it is missing.

        Args:
            source: The commit.
            erofs_version: Format of the image; None is that of the repository.
            xattr_names: How names of extended attributes go into the image; None is without the NUL that
                commits have at their ends.
            progress: Told what was found damaged.

        Raises:
            RepositoryError: There is no such commit, or more than one.
        """
        from cfsctl.ostree.store.images import source_image
        from cfsctl.ostree.tree.xattr_names import XattrNames

        image_id = source_image(
            self._store,
            source,
            erofs_version,
            xattr_names=xattr_names or XattrNames.STRIPPED,
            reporter=make_reporter(progress),
        )
        return ObjectID(image_id)

    @cancellable
    def commit_info(
        self, source: str, *, check_digest: bool = True, progress: Progress | None = None
    ) -> CommitInfo:
        """Return what a commit says about itself.

        Args:
            source: The commit.
            check_digest: Compute the composefs digest of libostree if the commit has recorded one.
            progress: Called with a message if the commit is partial.

        Raises:
            RepositoryError: There is no such commit, or more than one.
            FormatError, IntegrityError: It is damaged.
        """
        from cfsctl.library.results import CommitInfo
        from cfsctl.ostree.store.metadata_text import json_value, render_value
        from cfsctl.ostree.trust.verification_record import read_record

        stream = self._open_commit(source, progress)
        commit = stream.commit
        digest = None
        if check_digest and not stream.is_partial:
            from cfsctl.ostree.tree.composefs_digest import check_composefs_digest

            digest = check_composefs_digest(stream, self._store.objects)
        return CommitInfo(
            commit=Checksum(stream.checksum),
            parent=None if commit.parent is None else Checksum(commit.parent),
            timestamp_s=commit.timestamp_s,
            subject=commit.subject,
            body=commit.body,
            root_dirtree=Checksum(commit.root_dirtree),
            root_dirmeta=Checksum(commit.root_dirmeta),
            metadata=tuple((key, render_value(value)) for key, value in commit.metadata),
            metadata_values=tuple((key, json_value(value)) for key, value in commit.metadata),
            signatures=tuple(read_record(self._store, stream)),
            is_partial=stream.is_partial,
            composefs_digest=digest,
        )

    @cancellable
    def commit_tree(
        self, source: str, *, xattr_names: XattrNames | None = None, progress: Progress | None = None
    ) -> FileSystem:
        """Return the tree of a commit; its type is not part of the interface.

        Raises:
            RepositoryError: There is no such commit, or more than one.
            FormatError, IntegrityError: It is damaged.
        """
        from cfsctl.ostree.tree.to_tree import commit_to_filesystem
        from cfsctl.ostree.tree.xattr_names import XattrNames

        report = make_reporter(progress)
        stream = self._open_commit(source, progress)
        names = xattr_names or XattrNames.STRIPPED
        return commit_to_filesystem(stream, names, note=lambda text: report(Message(text)))

    def iter_commit_dump(
        self, source: str, *, xattr_names: XattrNames | None = None, progress: Progress | None = None
    ) -> Iterator[bytes]:
        """Yield the lines of a commit's composefs dump, line ends included.

        Raises:
            RepositoryError: There is no such commit, or more than one.
            FormatError, IntegrityError: It is damaged.
        """
        from cfsctl.dumpfile import iter_dump

        return iter_dump(self.commit_tree(source, xattr_names=xattr_names, progress=progress))

    def _open_commit(self, source: str, progress: Progress | None) -> CommitStream:
        """Return a commit or, with a message, the stored part of a partial one."""
        from cfsctl.ostree.store.partial_commits import describe_partial, open_source

        stream = open_source(self._store, source)
        if stream.is_partial:
            make_reporter(progress)(Message(describe_partial(stream)))
        return stream

    def _resolve_whole(self, source: str) -> Checksum:
        from cfsctl.ostree.store.partial_commits import check_whole
        from cfsctl.ostree.store.refs import resolve_source

        check_whole(self._store, source)
        return Checksum(resolve_source(self._store, source))

    def history(self, source: str) -> Iterator[LogEntry]:
        """Return a commit, its parent, that one's parent, and so on, as far as they are stored.

        The `commit` of the last entry is None if there is a parent that is not stored.

        Raises:
            RepositoryError: There is no such commit, or more than one.
        """
        from cfsctl.ostree.store.history import iter_history

        entries = iter_history(self._store, self._resolve_whole(source))
        return (entry._replace(checksum=Checksum(entry.checksum)) for entry in entries)

    @cancellable
    def verify_commit(
        self, source: str, trust: TrustPolicy, *, progress: Progress | None = None
    ) -> tuple[Checksum, tuple[ValidSignature, ...]]:
        """Verify the signatures that are stored with a commit, and that its files and image are its own.

        Returns:
            The commit, and the signatures by which it is trusted.

        Raises:
            RepositoryError: There is no such commit, or more than one.
            PolicyError: It is not signed as it has to be.
            IntegrityError: Something of it is not what its name says.
        """
        from cfsctl.ostree.store.commit_proof import check_stored
        from cfsctl.ostree.store.refs import open_commit, resolve_source
        from cfsctl.ostree.trust.verify import verify_stored

        stream = open_commit(self._store, resolve_source(self._store, source))
        verified = verify_stored(self._store, stream, trust)
        check_stored(self._store, stream, make_reporter(progress))
        return Checksum(stream.checksum), verified

    @cancellable
    def commit(
        self,
        image: str,
        ref: str | None = None,
        *,
        subject: str = "",
        body: str = "",
        parent: str | None = None,
        timestamp_s: int | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        owner_uid: int | None = None,
        owner_gid: int | None = None,
        keep_xattrs: bool = True,
        replace: bool = True,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> CommitResult:
        """Make an OSTree commit of the tree of an image, bit for bit the same as that of `ostree commit`.

        Args:
            image: The ref or ID of the image.
            ref: The ref that the commit is bound to, and that becomes its tag; or None.
            subject: One line about the commit.
            body: More about it.
            parent: The commit before: a source.
            timestamp_s: Its time in seconds since 1970; None is now.
            metadata: Texts by key, in order.
            owner_uid: Owner of everything; None leaves owners as they are.
            owner_gid: Group of everything; None leaves groups as they are.
            keep_xattrs: Keep extended attributes.
            replace: Move the tag if another commit has it.
            keep: Number of earlier commits of the tag to keep; None leaves its history as it is.
            progress: Told how many directories have been read, and which commit had the tag.

        Raises:
            RefNotFoundError: There is no such image.
            RepositoryError: There is no such parent, or the ref cannot be one.
            FormatError, IntegrityError: The tree cannot be a commit, or is damaged.
        """
        from cfsctl.library.demands import warn_of_demand
        from cfsctl.ostree.exchange.commit import CommitText, commit_image_tree
        from cfsctl.ostree.store.refs import resolve_source
        from cfsctl.ostree.tree.from_tree import TreeOptions

        text = CommitText(
            subject=subject,
            body=body,
            timestamp_s=timestamp_s,
            parent=None if parent is None else resolve_source(self._store, parent),
            metadata=metadata,
        )
        options = TreeOptions(owner_uid, owner_gid, keeps_xattrs=keep_xattrs)
        if ref is not None:
            warn_of_demand(self._store, ref, None, make_reporter(progress))
            self._check_free_tag(ref, replace=replace)
        with moving(self, progress, replace=replace, keep=keep):
            made = commit_image_tree(self._store, image, text, ref, options, make_reporter(progress))
        return made._replace(commit=Checksum(made.commit), stream_id=ObjectID(made.stream_id))

    def _check_free_tag(self, name: str, *, replace: bool) -> None:
        from cfsctl.repository.history.kept import HistoryKey
        from cfsctl.repository.history.moves import check_free

        if not replace:
            check_free(self._store, HistoryKey(_OSTREE, name))

    @cancellable
    def export(
        self, source: str, path: StrPath, ref: str | None = None, *, progress: Progress | None = None
    ) -> Checksum:
        """Write a commit to an OSTree repository, in mode archive, bare, bare-user or bare-user-only.

        Args:
            source: The commit.
            path: The OSTree repository.
            ref: A branch to move to the commit once it is whole, or None.
            progress: Told how many files have been written.

        Raises:
            RepositoryError: There is no such commit, or more than one.
            IntegrityError: Something of it is missing or damaged.
            CfsError: That is not an OSTree repository that can be written to.
        """
        from cfsctl.ostree.exchange.export import export_commit

        checksum = self._resolve_whole(source)
        export_commit(self._store, checksum, os.fspath(path), ref, make_reporter(progress))
        return checksum

    @cancellable
    def apply_delta(
        self,
        path: StrPath,
        *,
        trust: TrustPolicy | None = None,
        xattr_names: XattrNames | None = None,
        progress: Progress | None = None,
    ) -> PullResult:
        """Store the commit that a static delta leads to; it gets no tag.

        Args:
            path: The delta: a file, or the directory of one. The commit that it starts from must be here.
            trust: What the commit, and the delta, have to prove.
            xattr_names: As for `commit_image`.
            progress: Told what is done.

        Raises:
            FormatError, IntegrityError: It is not a valid delta, or its source commit is not stored.
            PolicyError: It is not signed as it has to be.
        """
        from cfsctl.ostree.exchange.apply_delta import apply_delta
        from cfsctl.ostree.tree.xattr_names import XattrNames

        result = apply_delta(
            self._store,
            os.fspath(path),
            reporter=make_reporter(progress),
            xattr_names=xattr_names or XattrNames.STRIPPED,
            trust=trust,
        )
        return printable_result(result)


def printable_result(result: PullResult) -> PullResult:
    """Return a result whose IDs are text when they are printed."""
    from dataclasses import replace

    return replace(
        result,
        commit=Checksum(result.commit),
        stream_id=ObjectID(result.stream_id),
        image_id=ObjectID(result.image_id),
    )
