"""Shell completion of arguments: names from the repository, or files.

Each function takes the context of the command, the parameter and the incomplete word from click. Completion
must never print errors, wait, or write anything, so on any problem it offers nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.digest import id_prefix, may_be_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import click
    from click.shell_completion import CompletionItem

    from cfsctl.repository import Repository

FILE: Final = "file"
DIRECTORY: Final = "dir"


def complete_files(_context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Let the shell complete a file name."""
    return [_item(word, kind=FILE)]


def complete_directories(
    _context: click.Context, _parameter: click.Parameter, word: str
) -> list[CompletionItem]:
    """Let the shell complete a directory name."""
    return [_item(word, kind=DIRECTORY)]


def complete_mountpoints(
    _context: click.Context, _parameter: click.Parameter, word: str
) -> list[CompletionItem]:
    """Offer the places where images are mounted."""
    from cfsctl.repository.mounting.unmounting import list_mountpoints  # noqa: PLC0415 - only for a key

    places = list_mountpoints()
    return [_item(place) for place in places if place.startswith(word) and place.isprintable()]


def complete_images(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer refs of images, and their IDs."""
    return _offer(context, word, _image_names)


def complete_deployments(
    context: click.Context, _parameter: click.Parameter, word: str
) -> list[CompletionItem]:
    """Offer IDs of images that are kept for boot entries."""
    return _offer(context, word, _kept_images)


def complete_image_refs(
    context: click.Context, _parameter: click.Parameter, word: str
) -> list[CompletionItem]:
    """Offer refs of images."""
    return _offer(context, word, _image_refs)


def complete_tags(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer tags of commits."""
    return _offer(context, word, _tag_names)


def complete_commits(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer tags and IDs of commits."""
    from cfsctl.kinds.ostree import OstreeKind  # noqa: PLC0415 - only when a key is pressed

    return _offer(context, word, OstreeKind().list_names)


def complete_oci_tags(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer tags of OCI images."""
    return _offer(context, word, _oci_tag_names)


def complete_oci_images(
    context: click.Context, _parameter: click.Parameter, word: str
) -> list[CompletionItem]:
    """Offer tags and digests of OCI images."""
    from cfsctl.kinds.oci import OciKind  # noqa: PLC0415 - only when a key is pressed

    return _offer(context, word, OciKind().list_names)


def complete_streams(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer refs of streams, as ``refs/<ref>``, and streams."""
    return _offer(context, word, _stream_names)


def complete_roots(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer everything that can be a root of a collection."""
    return [
        *_offer(context, word, _image_roots),
        *_offer(context, word, _stream_names),
    ]


def complete_prunable(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer tags of commits and OCI images, and refs of images."""
    return [
        *_offer(context, word, _image_refs),
        *_offer(context, word, _tag_names),
        *_offer(context, word, _oci_tag_names),
    ]


def complete_sources(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer images, commits and other streams with trees as ``diff`` takes them, and files."""
    from cfsctl.kinds.registry import find_by_prefix, stream_kinds  # noqa: PLC0415 - only when a key is pressed

    prefix, colon, rest = word.partition(":")
    if colon and prefix == "image":
        return _with_prefix(prefix, _offer(context, rest, _image_names))
    if colon and (kind := find_by_prefix(prefix)) is not None:
        return _with_prefix(prefix, _offer(context, rest, kind.list_names))
    items = _offer(context, word, _image_names)
    for kind in stream_kinds():
        items += _offer(context, word, kind.list_names) if kind.tree_prefix else []
    return [*items, _item(word, kind=FILE)]


def complete_remotes(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer configured remotes."""
    from cfsctl.errors import CfsError  # noqa: PLC0415 - only when a key is pressed
    from cfsctl.library.remotes import list_remotes  # noqa: PLC0415 - the same

    try:
        names = list_remotes(context.params.get("remotes"))
    except (CfsError, OSError):
        return []
    return [_item(name, "remote") for name in names if name.startswith(word) and name.isprintable()]


def _with_prefix(prefix: str, items: list[CompletionItem]) -> list[CompletionItem]:
    return [_item(f"{prefix}:{item.value}", item.help) for item in items]


def _item(value: str, text: str | None = None, kind: str = "plain") -> CompletionItem:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only when a key is pressed

    return CompletionItem(value, kind, text)


def _offer(
    context: click.Context, word: str, find: Callable[[Repository, str], Iterable[tuple[str, str]]]
) -> list[CompletionItem]:
    import click  # noqa: PLC0415 - only when a key is pressed

    from cfsctl.errors import CfsError  # noqa: PLC0415 - the same

    try:
        with _open_repository(context) as repository:
            names = dict(find(repository, word))
    except (CfsError, OSError, click.UsageError):
        return []
    return [
        _item(name, text)
        for name, text in sorted(names.items())
        if name.startswith(word) and name.isprintable()
    ]


def _open_repository(context: click.Context) -> Repository:
    from cfsctl.cli.context import Session  # noqa: PLC0415 - this module is imported by commands
    from cfsctl.cli.location import Place, choose_place  # noqa: PLC0415 - the same
    from cfsctl.progress import silent  # noqa: PLC0415 - the same
    from cfsctl.repository import Repository  # noqa: PLC0415 - the same

    given = context.find_root().params
    place = choose_place(
        Place(given.get("repo"), user=bool(given.get("user")), system=bool(given.get("system")))
    )
    session = Session(place.repo, user=place.user, system=place.system)
    return Repository.open(session.repository_path(), upgrade=False, lock_timeout_s=0, reporter=silent)


def _image_refs(repository: Repository, _word: str) -> Iterable[tuple[str, str]]:
    for ref in repository.images.list_refs():
        yield ref.name, "image"


def _image_names(repository: Repository, word: str) -> Iterable[tuple[str, str]]:
    yield from _image_refs(repository, word)
    before = id_prefix(word)
    if before is not None:
        for name in repository.images.links.list_names():
            yield f"{before}{name}", "image"


def _kept_images(repository: Repository, _word: str) -> Iterable[tuple[str, str]]:
    from cfsctl.boot.kept import list_kept  # noqa: PLC0415 - only when a key is pressed

    for image_id in list_kept(repository):
        yield image_id.hex(), "deployment"


def _image_roots(repository: Repository, word: str) -> Iterable[tuple[str, str]]:
    for name, text in _image_names(repository, word):
        yield name if may_be_id(name) else f"refs/{name}", text


def _tag_names(repository: Repository, _word: str) -> Iterable[tuple[str, str]]:
    from cfsctl.ostree.store.refs import list_tags  # noqa: PLC0415 - only when a key is pressed

    for tag in list_tags(repository):
        yield tag.name, "tag"


def _stream_names(repository: Repository, word: str) -> Iterable[tuple[str, str]]:
    for ref in repository.streams.list_refs():
        if not ref.name.startswith("cfsctl-history/"):
            yield f"refs/{ref.name}", "stream"
    if word:
        for stream in repository.streams.list_streams():
            yield stream.name, "stream"


def _oci_tag_names(repository: Repository, _word: str) -> Iterable[tuple[str, str]]:
    from cfsctl.oci.store.names import TAGS  # noqa: PLC0415 - only when a key is pressed

    for tag in TAGS.list(repository.streams):
        yield tag.name, "tag"
