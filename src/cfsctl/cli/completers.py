"""Shell completion of arguments: names from the repository, or files.

Each function takes the context of the command, the parameter and the incomplete word from click. Completion
must never print errors, wait, or write anything, so on any problem it offers nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

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
    from cfsctl.library.mounts import list_mountpoints  # only for a key

    places = list_mountpoints()
    return [_item(place) for place in places if place.startswith(word) and place.isprintable()]


def complete_images(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer refs of images, and their IDs."""
    return _offer(context, "images", word)


def complete_deployments(
    context: click.Context, _parameter: click.Parameter, word: str
) -> list[CompletionItem]:
    """Offer IDs of images that are kept for boot entries."""
    return _offer(context, "deployments", word)


def complete_image_refs(
    context: click.Context, _parameter: click.Parameter, word: str
) -> list[CompletionItem]:
    """Offer refs of images."""
    return _offer(context, "image-refs", word)


def complete_tags(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer tags of commits."""
    return _offer(context, "tags", word)


def complete_commits(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer tags and IDs of commits."""
    return _offer(context, "commits", word)


def complete_oci_tags(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer tags of OCI images."""
    return _offer(context, "oci-tags", word)


def complete_oci_images(
    context: click.Context, _parameter: click.Parameter, word: str
) -> list[CompletionItem]:
    """Offer tags and digests of OCI images."""
    return _offer(context, "oci-images", word)


def complete_other_oci_images(
    context: click.Context, _parameter: click.Parameter, word: str
) -> list[CompletionItem]:
    """Offer tags and digests of OCI images of the repository that ``--from`` names; before it, of none."""
    source = context.params.get("source")
    return [] if source is None else _offer(context, "oci-images", word, source)


def complete_streams(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer refs of streams, as ``refs/<ref>``, and streams."""
    return _offer(context, "streams", word)


def complete_roots(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer everything that can be a root of a collection."""
    return _offer(context, "roots", word)


def complete_prunable(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer tags of commits and OCI images, and refs of images."""
    return _offer(context, "prunable", word)


def complete_sources(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer images, commits and other streams with trees as ``diff`` takes them, and files."""
    items = _offer(context, "trees", word)
    return items if ":" in word and items else [*items, _item(word, kind=FILE)]


def complete_remotes(context: click.Context, _parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Offer configured remotes."""
    from cfsctl.errors import CfsError  # only when a key is pressed
    from cfsctl.library.remotes import list_remotes

    try:
        names = list_remotes(context.params.get("remotes"))
    except (CfsError, OSError):
        return []
    return [_item(name, "remote") for name in names if name.startswith(word) and name.isprintable()]


def _item(value: str, text: str | None = None, kind: str = "plain") -> CompletionItem:
    from click.shell_completion import CompletionItem  # only when a key is pressed

    return CompletionItem(value, kind, text)


def _offer(context: click.Context, which: str, word: str, path: str | None = None) -> list[CompletionItem]:
    """Offer names of one kind, see `cfsctl.library.names.Names`; nothing if there is any trouble.

    They are those of the repository that the command line means, or of the one at a path.
    """
    import click  # only when a key is pressed

    from cfsctl.errors import CfsError
    from cfsctl.library.names import Names, find_names

    try:
        names = find_names(path or _find_repository(context), Names(which), word)
    except (CfsError, OSError, click.UsageError):
        return []
    return [_item(name, text) for name, text in names.items() if name.isprintable()]


def _find_repository(context: click.Context) -> str:
    """Return the path of the repository that the command line means."""
    from cfsctl.cli.context import Session  # this module is imported by commands
    from cfsctl.cli.location import Place, choose_place

    given = context.find_root().params
    place = choose_place(
        Place(given.get("repo"), user=bool(given.get("user")), system=bool(given.get("system")))
    )
    return Session(place.repo, user=place.user, system=place.system).repository_path()
