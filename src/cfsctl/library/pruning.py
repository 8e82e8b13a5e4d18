"""Retention: which tags, and which earlier targets of them, stay; and removing the others.

    tags and histories ─▶ series ─▶ rules ─▶ what would go ─▶ mounted? deployed? ─▶ removed

A *series* is what the rules count together. The earlier targets of a ref are one, with its present target,
which they never remove. The tags that match a pattern are one for each kind; so are the tags that are named
without a pattern.

Everything is read and removed under the exclusive lock, so no pull or tag can move a name between the
decision and the removal. Each removal is one unlink, made durable; if this is killed, the rest is removed the
next time.
"""

from __future__ import annotations

import fnmatch
import re
import time
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, IntegrityError, RefNotFoundError
from cfsctl.repository.history.kept import HistoryKey, drop_kept, list_all_kept, time_of_ref
from cfsctl.repository.history.moves import current_target, describe_target, ref_of
from cfsctl.repository.history.retention import RetentionRules, choose_kept
from cfsctl.repository.names.names import suggest
from cfsctl.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository as Store
    from cfsctl.repository.gc.results import GcResult
    from cfsctl.repository.history.kept import Kept

KINDS: Final = {"image": "images", "commit": "ostree", "oci": "oci"}
"""What stands before a pattern that is for one kind only, and the directory of its refs."""

_NOUNS: Final = {directory: kind for kind, directory in KINDS.items()}
_GLOB: Final = re.compile(r"[*?\[]")
_BEFORE_CLOCKS_S: Final = 86400 * 365
"""Times before this are those of builds that leave times out; then the time of the tag counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions:
    """What may go.

    Attributes:
        patterns: Names of tags and refs, or patterns with ``*``, ``?`` and ``[...]``, optionally with the
            kind before a colon; without any, only earlier targets may go.
        rules: What of each series stays.
        keep_tags: Patterns of names that stay, with all that is kept of them.
        boot_directories: Where boot entries are; None is where they usually are.
    """

    rules: RetentionRules
    patterns: Sequence[str] = ()
    keep_tags: Sequence[str] = ()
    boot_directories: Sequence[str] | None = None


@dataclass(slots=True)
class PruneDecision:
    """What becomes of a tag, or of an earlier target of one.

    Attributes:
        key: The ref.
        target: What it names or named, as it is printed.
        entry: The same as an entry.
        time_s: When that was made, as far as it says; else when the ref was set to it.
        kept: The link in the history, or None for the ref itself.
        reasons: Why it stays; none if it goes.
    """

    key: HistoryKey
    target: str
    entry: str
    time_s: float
    kept: Kept | None
    reasons: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """``image``, ``commit`` or ``oci``."""
        return _NOUNS[self.key.directory]

    @property
    def stays(self) -> bool:
        """Whether it is not removed."""
        return bool(self.reasons)

    def as_dict(self) -> dict[str, object]:
        """Return it as it is printed in JSON."""
        return {
            "kind": self.kind,
            "name": self.key.name,
            "id": self.target,
            "timestamp": format_timestamp(self.time_s),
            "earlier": self.kept is not None,
            "reasons": list(self.reasons),
        }

    def path(self) -> str:
        """Return the link below the repository that goes."""
        from cfsctl.repository.history.kept import format_stamp  # of a dry run only

        if self.kept is not None:
            return f"streams/refs/{self.key.path}/{format_stamp(self.kept.set_us)}"
        category = "images" if self.key.directory == "images" else "streams"
        return f"{category}/refs/{ref_of(self.key)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """What a pruning did, or would do.

    Attributes:
        is_dry_run: Whether nothing was changed.
        decisions: About everything that the rules were asked about, sorted by kind and name, newest first.
        problems: What could not be looked at, one sentence each.
        gc: What the collection afterwards did, if one was asked for.
    """

    is_dry_run: bool
    decisions: list[PruneDecision]
    problems: list[str]
    gc: GcResult | None

    @property
    def removed(self) -> list[PruneDecision]:
        """What goes."""
        return [one for one in self.decisions if not one.stays]

    def as_dict(self) -> dict[str, object]:
        """Return the result as it is printed in JSON, in the order of its keys."""
        return {
            "dry_run": self.is_dry_run,
            "kept": [one.as_dict() for one in self.decisions if one.stays],
            "removed": [one.as_dict() for one in self.removed],
            "problems": list(self.problems),
            "gc": None if self.gc is None else self.gc.as_dict(),
        }


def decide(store: Store, options: PruneOptions, note: Callable[[str], object]) -> list[PruneDecision]:
    """Return what becomes of every tag and earlier target that may go; nothing is changed.

    Args:
        store: The repository.
        options: What may go.
        note: Called with a sentence about what cannot be looked at.

    Raises:
        RefNotFoundError: There is nothing of a name that was given without a pattern.
    """
    found = _Candidates(store, note)
    tags = _match_tags(found, options.patterns)
    decisions = {id(one): one for series in tags for one in series}
    now_s = time.time()
    for series in tags:
        _apply(series, options.rules, now_s)
        max(series, key=lambda one: one.time_s).reasons.append("newest")
    for key, series in found.histories():
        if options.patterns and not any(_selects(pattern, key) for pattern in options.patterns):
            continue
        current = next((one for one in series if one.kept is None), None)
        if current is not None and id(current) not in decisions:
            current.reasons.append("current")
        going = current is not None and not current.stays and not _is_kept_tag(current, options)
        if not going:
            _apply([one for one in series if one is not current], options.rules, now_s, current)
        decisions |= {id(one): one for one in series}
    ordered = sorted(decisions.values(), key=lambda one: (one.kind, one.key.name, -one.time_s))
    for one in ordered:
        _keep_named(one, options)
    _keep_live(store, ordered, options, note)
    for one in ordered:
        if len(one.reasons) > 1 and "newest" in one.reasons:
            one.reasons.remove("newest")  # said only of what stays for nothing else
    return ordered


def _apply(
    series: Sequence[PruneDecision],
    rules: RetentionRules,
    now_s: float,
    current: PruneDecision | None = None,
) -> None:
    """Give each version of a series the rules that keep it; `current` counts, and stays anyway."""
    counted = [*([] if current is None else [current]), *series]
    times = [one.time_s for one in counted]
    if current is not None:  # what was named later is newer, whatever dates the commits have
        times = list(accumulate(times, min))
    for one, reasons in zip(counted, choose_kept(times, rules, now_s), strict=True):
        one.reasons += [reason for reason in reasons if reason not in one.reasons]


def _selects(text: str, key: HistoryKey) -> bool:
    """Return whether a pattern, or a name, is one for a ref."""
    kind, colon, rest = text.partition(":")
    if colon and kind in KINDS:
        return KINDS[kind] == key.directory and _is_like(key, rest)
    return _is_like(key, text)


def _is_like(key: HistoryKey, pattern: str) -> bool:
    name = pattern.removeprefix("refs/") if key.directory == "images" else pattern
    return fnmatch.fnmatchcase(key.name, name) if _GLOB.search(name) else key.name == name


def _is_kept_tag(one: PruneDecision, options: PruneOptions) -> bool:
    return any(fnmatch.fnmatchcase(one.key.name, pattern) for pattern in options.keep_tags)


def _keep_named(one: PruneDecision, options: PruneOptions) -> None:
    for pattern in options.keep_tags:
        if fnmatch.fnmatchcase(one.key.name, pattern):
            one.reasons.append(f"--keep-tag {pattern}")
            return


def _match_tags(found: _Candidates, patterns: Sequence[str]) -> list[list[PruneDecision]]:
    """Return the series of tags: one for each pattern and kind, and one for each kind of plain names."""
    globs: list[list[PruneDecision]] = []
    named: dict[str, list[PruneDecision]] = {}
    for text in patterns:
        kind, colon, rest = text.partition(":")
        kinds, pattern = ([kind], rest) if colon and kind in KINDS else (list(KINDS), text)
        matches = {kind: found.match(KINDS[kind], pattern) for kind in kinds}
        if _GLOB.search(pattern):
            globs += [series for series in matches.values() if series]
        elif not any(matches.values()) and not any(found.has_history(KINDS[kind], pattern) for kind in kinds):
            names = [one.key.name for one in found.tags]
            hint = suggest(pattern, names) or "list the names with `cfsctl stats`"
            raise RefNotFoundError(f"there is no tag or image ref {pattern!r}", hint=hint)
        else:
            for kind, series in matches.items():
                named.setdefault(kind, []).extend(one for one in series if one not in named.get(kind, []))
    return [*globs, *(series for series in named.values() if series)]


class _Candidates:
    """All tags and earlier targets of a repository."""

    def __init__(self, store: Store, note: Callable[[str], object]) -> None:
        self._store = store
        self._times = _Times(store, note)
        self._kept = list_all_kept(store)
        self.tags = list(self._iter_tags())

    def _iter_tags(self) -> Iterator[PruneDecision]:
        from cfsctl.boot.kept import PREFIX
        from cfsctl.oci.store.names import TAGS as OCI_TAGS
        from cfsctl.ostree.store.refs import list_tags

        # What boot entries name is for `boot remove` to let go.
        images = (ref.name for ref in self._store.images.list_refs())
        refs = [HistoryKey("images", name) for name in images if not name.startswith(f"{PREFIX}/")]
        refs += [HistoryKey("ostree", tag.name) for tag in list_tags(self._store)]
        refs += [HistoryKey("oci", tag.name) for tag in OCI_TAGS.list(self._store.streams)]
        for key in refs:
            entry = current_target(self._store, key)
            if entry is not None:
                set_s = time_of_ref(self._store, key.directory, ref_of(key)) / 1e6
                yield self._decision(key, entry, set_s, None)

    def _decision(self, key: HistoryKey, entry: str, set_s: float, kept: Kept | None) -> PruneDecision:
        return PruneDecision(
            key=key,
            target=describe_target(self._store, key.directory, entry),
            entry=entry,
            time_s=self._times.find(key, entry, set_s),
            kept=kept,
        )

    def match(self, directory: str, pattern: str) -> list[PruneDecision]:
        """Return the tags of a kind whose names are like this."""
        return [one for one in self.tags if one.key.directory == directory and _is_like(one.key, pattern)]

    def has_history(self, directory: str, name: str) -> bool:
        """Return whether a ref, which may be gone, has a history."""
        return HistoryKey(directory, name) in self._kept

    def histories(self) -> Iterator[tuple[HistoryKey, list[PruneDecision]]]:
        """Yield each ref that has a history, with its present target first."""
        tags = {one.key: one for one in self.tags}
        for key, kept in self._kept.items():
            current = tags.get(key)
            others = [
                self._decision(key, one.target, one.set_us / 1e6, one)
                for one in kept
                if key.directory in _NOUNS and (current is None or one.target != current.entry)
            ]
            if others:
                yield key, [*([] if current is None else [current]), *others]


class _Times:
    """When what is named was made: commits and OCI images say so, of other images the ref's time counts."""

    def __init__(self, store: Store, note: Callable[[str], object]) -> None:
        self._store = store
        self._note = note
        self._found: dict[str, float | None] = {}

    def find(self, key: HistoryKey, entry: str, set_s: float) -> float:
        if key.directory == "images":
            return set_s
        if entry not in self._found:
            try:
                self._found[entry] = self._read(key.directory, entry)
            except (CfsError, OSError) as error:
                self._note(f"{key.name}: {error}")
                self._found[entry] = None
        made_s = self._found[entry]
        return set_s if made_s is None or made_s < _BEFORE_CLOCKS_S else made_s

    def _read(self, directory: str, entry: str) -> float | None:
        if directory == "ostree":
            from cfsctl.ostree.store.refs import open_commit, parse_commit_name

            commit = parse_commit_name(entry)
            if commit is None:
                raise IntegrityError(f"expected a tag of a commit, found one of {entry}")
            return open_commit(self._store, commit, checks_table=False).commit.timestamp_s
        from cfsctl.oci.store.images import config_of, open_image
        from cfsctl.oci.store.names import parse_manifest_name
        from cfsctl.timestamps import parse_timestamp

        digest = parse_manifest_name(entry)
        if digest is None:
            return None  # an index, which has no date
        image = open_image(self._store, digest)
        created = config_of(image).config.created if image.manifest.is_container else None
        return None if created is None else parse_timestamp(created)


def _keep_live(
    store: Store, decisions: list[PruneDecision], options: PruneOptions, note: Callable[[str], object]
) -> None:
    """Keep what is mounted, or booted, for as long as it is."""
    from cfsctl.boot.deployed import BOOT_DIRECTORIES, find_deployed
    from cfsctl.boot.kept import PREFIX, list_kept
    from cfsctl.repository.gc.live_mounts import find_live_mounts

    going = [one for one in decisions if not one.stays]
    if not going:
        return
    images = set(store.images.list_ids())
    look = find_live_mounts(store.objects, images)
    for gap in look.gaps:
        note(f"cannot tell all that is mounted: {gap}; gc keeps what is mounted all the same")
    live = {image_id: f"mounted at {mount.where}" for mount in look.mounts for image_id in mount.image_ids}
    directories = BOOT_DIRECTORIES if options.boot_directories is None else options.boot_directories
    for image_id, path in find_deployed(directories, note=note).items():
        live.setdefault(image_id, f"deployed by {path}")
    for image_id in list_kept(store):
        live.setdefault(image_id, f"deployed, see images/refs/{PREFIX}")
    for one in going if live else ():
        for image_id in sorted(images_of(store, one, live)):
            one.reasons.append(live[image_id])


def images_of(store: Store, one: PruneDecision, wanted: Iterable[ObjectID]) -> set[ObjectID]:
    """Return which of some images a tag leads to: it is one, or its streams name them."""
    from cfsctl.digest import find_object_name

    wanted = set(wanted)
    if one.key.directory == "images":
        image_id = find_object_name(one.entry, store.algorithm)
        return wanted & {image_id} if image_id is not None else set()
    start = store.streams.find(one.entry)
    found: set[ObjectID] = set()
    pending = [start] if start is not None else []
    seen: set[ObjectID] = set()
    while pending:
        stream_id = pending.pop()
        if stream_id in seen:
            continue
        seen.add(stream_id)
        try:
            with store.streams.open_object(stream_id) as reader:
                named = set(reader.named_refs.values())
        except (CfsError, OSError):
            continue  # an image, or damaged, which is for a check to tell
        found |= named & wanted
        pending += named - wanted
    return found


def remove(store: Store, decisions: Iterable[PruneDecision]) -> None:
    """Remove what goes: earlier targets first, then tags. The caller holds the exclusive lock.

    Raises:
        OSError: Something could not be removed; some may be gone.
    """
    from cfsctl.oci.store.images import remove_tag as remove_oci_tag
    from cfsctl.ostree.store.partial_tags import untag

    going = list(decisions)
    for one in going:
        if one.kept is not None:
            drop_kept(store, one.key, [one.kept])
    for one in going:
        if one.kept is not None:
            continue
        if one.key.directory == "images":
            store.images.remove_ref(one.key.name)
        elif one.key.directory == "ostree":
            untag(store, one.key.name)
        else:
            remove_oci_tag(store, one.key.name)
