"""OSTree commits, whole and partial, as a kind of stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.kinds.kind import Copyable, NamedCopy, Remarks, StoredTree, StoredVersion, StreamKind
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import Checksum
    from cfsctl.kinds.kind import Reading
    from cfsctl.ostree.exchange.copy import CommitCopy
    from cfsctl.ostree.tree.xattr_names import XattrNames
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.check.links import ContentCheck
    from cfsctl.repository.repair.sources import RepairSource
    from cfsctl.tree.model import FileSystem


class OstreeKind(StreamKind):
    """Commits, and parts of commits."""

    noun = "commit"
    content_types = frozenset({ContentType.OSTREE_COMMIT, ContentType.OSTREE_PARTIAL})
    tree_prefix = "commit"
    named_by = "tag, ID or a prefix of its ID"

    def claims(self, name: str) -> bool:
        """Return whether this is the name of a commit, or of a part of one."""
        from cfsctl.ostree.store.partial_tags import parse_partial_name
        from cfsctl.ostree.store.refs import parse_commit_name

        return parse_commit_name(name) is not None or parse_partial_name(name) is not None

    def find_check(self, repository: Repository, *, is_deep: bool) -> ContentCheck:
        """Return what proves commits by their checksums."""
        from cfsctl.ostree.store.check import commit_check

        return commit_check(repository, is_deep=is_deep)

    def list_names(self, repository: Repository, word: str) -> Iterable[tuple[str, str]]:
        """Yield tags, and IDs where one may have been begun."""
        from cfsctl.digest import id_prefix
        from cfsctl.ostree.store.refs import iter_commits, list_tags

        for tag in list_tags(repository):
            yield tag.name, "tag"
        before = id_prefix(word)
        if before in {"", "@", "sha256:", "@sha256:"}:
            for checksum in iter_commits(repository):
                yield f"{before}{checksum.hex()}", "commit"

    def find_tree(self, repository: Repository, name: str) -> StoredTree:
        """Return the tree of a commit, by tag, ID, or a prefix of its ID."""
        from cfsctl.ostree.store.refs import resolve_source

        return _CommitTree(repository, resolve_source(repository, name))

    def find_version(self, repository: Repository, entry: str) -> StoredVersion | None:
        """Return what a whole commit says about itself."""
        from cfsctl.ostree.store.metadata_text import version_of
        from cfsctl.ostree.store.refs import open_commit, parse_commit_name, stream_name

        checksum = parse_commit_name(entry)
        if checksum is None:
            return None
        commit = open_commit(repository, checksum, checks_table=False).commit
        parent = None if commit.parent is None else stream_name(commit.parent)
        tree = _CommitTree(repository, checksum)
        return StoredVersion(
            checksum.hex(), commit.timestamp_s, version_of(commit), commit.subject, parent, tree
        )

    def find_copyable(self, repository: Repository, name: str) -> Copyable:
        """Return a commit, or a part of one, by tag, ID, the beginning of its ID, or content identifier."""
        from cfsctl.ostree.store.refs import (
            CommitNotFoundError,
            find_tag,
            parse_commit_name,
            resolve_source,
            stream_name,
        )

        try:
            commit = resolve_source(repository, name)
        except CommitNotFoundError:
            named = parse_commit_name(name)
            if named is not None and repository.streams.find(stream_name(named)) is not None:
                return _Commit(repository, named, None)
            part = _find_part(repository, name)
            if part is None:
                raise
            return part
        return _Commit(repository, commit, name if find_tag(repository, name) == commit else None)

    def restore_stream(self, source: Repository, target: Repository, name: str) -> None:
        """Copy a commit, or a part of one; see `StreamKind.restore_stream`."""
        from cfsctl.ostree.exchange.copy import copy_commit, copy_part
        from cfsctl.ostree.store.partial_tags import parse_partial_name
        from cfsctl.ostree.store.refs import parse_commit_name

        commit, part = parse_commit_name(name), parse_partial_name(name)
        if commit is not None:
            copy_commit(source, target, commit, from_scratch=True)
        elif part is not None:
            copy_part(source, target, part)

    def list_repair_sources(self, repository: Repository) -> list[RepairSource]:
        """Return the stored commits as a source of their images."""
        from cfsctl.ostree.exchange.repair import CommitImageSource

        return [CommitImageSource(repository)]

    def open_repair_source(
        self, repository: Repository, path: str, reporter: Reporter
    ) -> RepairSource | None:
        """Return an OSTree repository as a source of contents and commits."""
        from cfsctl.ostree.exchange.repair import OstreeRepairSource
        from cfsctl.ostree.sources.local import LocalSource
        from cfsctl.ostree.sources.local_repository import NotAnOstreeRepositoryError

        try:
            return OstreeRepairSource(repository, LocalSource(path), reporter)
        except NotAnOstreeRepositoryError:
            return None

    def prepare_collection(self, repository: Repository) -> None:
        """Remove the tags of parts that whole commits have superseded."""
        from cfsctl.ostree.store.partial_tags import drop_superseded

        drop_superseded(repository)

    def find_remarks(self, repository: Repository) -> Remarks | None:
        """Return the commits that were pulled in part, which most repositories lack."""
        if not repository.streams.list_refs("ostree-partial"):
            return None
        from cfsctl.ostree.store.partial_tags import list_parts  # hardly ever needed

        commits = {part.name: part.commit.hex() for part in list_parts(repository)}
        if not commits:
            return None
        lines = [f"partial commit: {commit} ({name})" for name, commit in commits.items()]
        found = [{"name": name, "commit": commit} for name, commit in commits.items()]
        return Remarks(lines, {"partial_commits": found})


class _CommitTree(StoredTree):
    """The tree of a commit."""

    def __init__(self, repository: Repository, checksum: Checksum) -> None:
        self._repository = repository
        self._checksum = checksum

    def read(self, reading: Reading, note: Callable[[str], object]) -> FileSystem:
        return self._read(reading.xattr_names, note)

    def iter_others(self, note: Callable[[str], object]) -> Iterator[tuple[str, FileSystem]]:
        from cfsctl.ostree.tree.xattr_names import XattrNames

        tree = self._read(XattrNames.UPSTREAM, note)
        yield "attribute names with the NUL that the original keeps", tree

    def _read(self, names: XattrNames, note: Callable[[str], object]) -> FileSystem:
        from cfsctl.ostree.store.refs import open_commit
        from cfsctl.ostree.tree.to_tree import commit_to_filesystem

        return commit_to_filesystem(open_commit(self._repository, self._checksum), names, note=note)


class _Commit(Copyable):
    """A whole commit."""

    def __init__(self, source: Repository, commit: Checksum, tag: str | None) -> None:
        self._source = source
        self._commit = commit
        self.ref = tag

    def copy(
        self, target: Repository, ref: str | None, reporter: Reporter, *, allow_unverified: bool = False
    ) -> NamedCopy:
        from cfsctl.ostree.exchange.copy import copy_commit

        copied = copy_commit(
            self._source, target, self._commit, ref, reporter, allow_unverified=allow_unverified
        )
        return _describe(copied, self._commit, ref)


class _Part(_Commit):
    """The stored part of a partial commit, which can be named by its ID, without a tag."""

    needs_ref = False

    def copy(
        self, target: Repository, ref: str | None, reporter: Reporter, *, allow_unverified: bool = False
    ) -> NamedCopy:
        from cfsctl.ostree.exchange.copy import copy_part

        copied = copy_part(
            self._source, target, self._commit, ref, reporter, allow_unverified=allow_unverified
        )
        return _describe(copied, self._commit, ref)


def _find_part(repository: Repository, name: str) -> Copyable | None:
    """Return the part of a commit that has this name, if there is one."""
    from cfsctl.ostree.store.partial_tags import find_part_tag, parse_partial_name

    tagged = find_part_tag(repository, name)
    commit = parse_partial_name(name) if tagged is None else tagged
    return None if commit is None else _Part(repository, commit, None if tagged is None else name)


def _describe(copied: CommitCopy, commit: Checksum, tag: str | None) -> NamedCopy:
    from cfsctl.digest import qualified

    image = None if copied.image_id is None else qualified(copied.image_id)
    ids = {"commit": commit.hex(), "stream": qualified(copied.stream_id), "image": image}
    return NamedCopy(ids, tag, copied.counts)
