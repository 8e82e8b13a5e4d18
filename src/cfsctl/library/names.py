"""Names that a user may type, for completion; never waits, and offers IDs once one is begun."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING

from cfsctl.digest import id_prefix, may_be_id
from cfsctl.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.library.paths import StrPath
    from cfsctl.repository import Repository as Store


class Names(Enum):
    """Which names."""

    IMAGES = "images"
    """Refs and IDs of images."""

    IMAGE_REFS = "image-refs"
    """Refs of images."""

    PRUNABLE = "prunable"
    """Tags of commits and OCI images, and refs of images."""

    DEPLOYMENTS = "deployments"
    """IDs of images that are kept for boot entries."""

    TAGS = "tags"
    """Tags of commits."""

    COMMITS = "commits"
    """Tags and IDs of commits."""

    OCI_TAGS = "oci-tags"
    """Tags of OCI images."""

    OCI_IMAGES = "oci-images"
    """Tags and digests of OCI images."""

    STREAMS = "streams"
    """Refs of streams, as ``refs/<ref>``, and streams."""

    ROOTS = "roots"
    """Everything that can be a root of a collection."""

    TREES = "trees"
    """Everything that has a tree, also with a prefix: ``image:web``."""


def find_names(path: StrPath, which: Names, word: str) -> dict[str, str]:
    """Return the names in a repository that begin with a word, and what each is, sorted by name.

    Args:
        path: The repository.
        which: What is looked for.
        word: What has been typed.

    Raises:
        CfsError, OSError: The repository cannot be read now.
    """
    from cfsctl.repository import Repository as Store  # brings everything along

    with Store.open(os.fspath(path), upgrade=False, lock_timeout_s=0, reporter=silent) as store:
        found = dict(_iter_names(store, which, word))
    return {name: found[name] for name in sorted(found) if name.startswith(word)}


def _iter_names(  # noqa: C901, PLR0911 - one case per kind
    store: Store, which: Names, word: str
) -> Iterable[tuple[str, str]]:
    match which:
        case Names.IMAGES:
            return _iter_images(store, word)
        case Names.IMAGE_REFS:
            return _iter_image_refs(store)
        case Names.PRUNABLE:
            return (*_iter_image_refs(store), *_iter_tags(store), *_iter_oci_tags(store))
        case Names.DEPLOYMENTS:
            return _iter_deployments(store)
        case Names.TAGS:
            return _iter_tags(store)
        case Names.COMMITS:
            return _iter_of_kind(store, "commit", word)
        case Names.OCI_TAGS:
            return _iter_oci_tags(store)
        case Names.OCI_IMAGES:
            return _iter_of_kind(store, "oci", word)
        case Names.STREAMS:
            return _iter_streams(store, word)
        case Names.ROOTS:
            return (*_iter_roots(store, word), *_iter_streams(store, word))
        case Names.TREES:
            return _iter_trees(store, word)


def _iter_image_refs(store: Store) -> Iterable[tuple[str, str]]:
    for ref in store.images.list_refs():
        yield ref.name, "image"


def _iter_images(store: Store, word: str) -> Iterable[tuple[str, str]]:
    yield from _iter_image_refs(store)
    before = id_prefix(word)
    if before is not None:
        for name in store.images.links.list_names():
            yield f"{before}{name}", "image"


def _iter_roots(store: Store, word: str) -> Iterable[tuple[str, str]]:
    for name, text in _iter_images(store, word):
        yield name if may_be_id(name) else f"refs/{name}", text


def _iter_deployments(store: Store) -> Iterable[tuple[str, str]]:
    from cfsctl.boot.kept import list_kept  # few words are of a deployment

    for image_id in list_kept(store):
        yield image_id.hex(), "deployment"


def _iter_tags(store: Store) -> Iterable[tuple[str, str]]:
    from cfsctl.ostree.store.refs import list_tags  # few words are tags

    for tag in list_tags(store):
        yield tag.name, "tag"


def _iter_oci_tags(store: Store) -> Iterable[tuple[str, str]]:
    from cfsctl.oci.store.names import list_tag_names  # few words are tags

    for name in list_tag_names(store):
        yield name, "tag"


def _iter_streams(store: Store, word: str) -> Iterable[tuple[str, str]]:
    for ref in store.streams.list_refs():
        if not ref.name.startswith("cfsctl-history/"):  # not to be typed, and many
            yield f"refs/{ref.name}", "stream"
    if word:
        for stream in store.streams.list_streams():
            yield stream.name, "stream"


def _iter_of_kind(store: Store, prefix: str, word: str) -> Iterable[tuple[str, str]]:
    from cfsctl.kinds.registry import find_by_prefix  # brings all kinds along

    kind = find_by_prefix(prefix)
    return () if kind is None else kind.list_names(store, word)


def _iter_trees(store: Store, word: str) -> Iterable[tuple[str, str]]:
    from cfsctl.kinds.registry import find_by_prefix, stream_kinds  # brings all kinds along

    prefix, colon, rest = word.partition(":")
    if colon and prefix == "image":
        return [(f"image:{name}", text) for name, text in _iter_images(store, rest)]
    if colon and (kind := find_by_prefix(prefix)) is not None:
        return [(f"{prefix}:{name}", text) for name, text in kind.list_names(store, rest)]
    names = list(_iter_images(store, word))
    for kind in stream_kinds():
        names += kind.list_names(store, word) if kind.tree_prefix else ()
    return names
