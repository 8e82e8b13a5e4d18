"""``cfsctl copy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_line
from cfsctl.progress import Message

if TYPE_CHECKING:
    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.exchange.copy import CommitCopy
    from cfsctl.repository import Repository
    from cfsctl.repository.copying import CopyCounts


@click.command("copy")
@click.argument("name")
@click.argument("target")
@click.option("--as", "new_name", metavar="REF", help="Ref or tag in TARGET; without, the one that NAME is.")
@json_option()
@pass_session
def command(session: Session, *, name: str, target: str, new_name: str | None, as_json: bool) -> None:
    """Copy an image, a commit or a stream to the repository in the directory TARGET.

    NAME is an image ID or the ref of an image, else a tag, a commit ID or the beginning of one, else the
    content identifier of a stream. All that it needs is copied too, unless it is there, and verified;
    where the file system can, copies share their blocks. Images and commits can be copied to a repository
    of the other hash; an image has another ID there.
    """
    with session.open_repository() as source, session.open_other(target) as other:
        document = _copy(session, source, other, name, new_name)
    if as_json:
        print_document(document)
        return
    counts = document["objects"]
    assert isinstance(counts, dict)
    for key in ("commit", "stream", "image", "tagged"):
        if document.get(key) is not None:
            print_line(f"{key:7} {document[key]}")
    print_line(
        f"objects {counts['copied']} copied ({counts['copied_bytes']} bytes,"
        f" {counts['shared_bytes']} shared), {counts['present']} present"
    )


def _copy(
    session: Session, source: Repository, target: Repository, name: str, new_name: str | None
) -> dict[str, object]:
    """Copy whatever has this name; return what is to be printed."""
    image_id, ref = _find_image(source, name)
    if image_id is not None:
        from cfsctl.repository.copying import copy_image  # noqa: PLC0415 - keeps --help quick

        ref = _choose_ref(session, new_name or ref)
        image = copy_image(source, target, image_id, ref, session.progress)
        return {"image": image.object_id.hex(), "tagged": ref, "objects": _counts(image.counts)}
    from cfsctl.ostree.store.refs import CommitNotFoundError, find_tag, resolve_source  # noqa: PLC0415 - the same

    try:
        commit = resolve_source(source, name)
    except CommitNotFoundError:
        copied = _copy_part(session, source, target, name, new_name)
        if copied is not None:
            return copied
        if source.streams.find(name) is None:
            raise
        return _copy_stream(session, source, target, name, new_name)
    tag = _choose_ref(session, new_name or (name if find_tag(source, name) == commit else None))
    return _copy_commit(session, source, target, commit, tag)


def _copy_commit(
    session: Session, source: Repository, target: Repository, commit: Checksum, tag: str | None
) -> dict[str, object]:
    from cfsctl.ostree.exchange.copy import copy_commit  # noqa: PLC0415 - keeps --help quick

    return _describe(copy_commit(source, target, commit, tag, session.progress), commit, tag)


def _describe(copied: CommitCopy, commit: Checksum, tag: str | None) -> dict[str, object]:
    return {
        "commit": commit.hex(),
        "stream": copied.stream_id.hex(),
        "image": None if copied.image_id is None else copied.image_id.hex(),
        "tagged": tag,
        "objects": _counts(copied.counts),
    }


def _copy_part(
    session: Session, source: Repository, target: Repository, name: str, new_name: str | None
) -> dict[str, object] | None:
    """Copy the part of a commit that has this name, if there is one."""
    from cfsctl.ostree.exchange.copy import copy_part  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.store.partial_tags import find_part_tag, parse_partial_name  # noqa: PLC0415 - the same

    tagged = find_part_tag(source, name)
    commit = parse_partial_name(name) if tagged is None else tagged
    if commit is None:
        return None
    tag = new_name or (None if tagged is None else name)
    return _describe(copy_part(source, target, commit, tag, session.progress), commit, tag)


def _copy_stream(
    session: Session, source: Repository, target: Repository, name: str, new_name: str | None
) -> dict[str, object]:
    from cfsctl.ostree.store.refs import parse_commit_name  # noqa: PLC0415 - keeps --help quick
    from cfsctl.repository.copying import copy_stream  # noqa: PLC0415 - the same
    from cfsctl.repository.names.names import parse_stream_name  # noqa: PLC0415 - the same

    entry, ref = parse_stream_name(name)
    if entry is None or source.streams.links.read_entry(entry) is None:
        assert ref is not None
        text = source.streams.links.read_ref(ref) or ""
        entry = text.rpartition("/")[2]
    else:
        ref = None
    commit = parse_commit_name(entry)
    if commit is not None:
        # By its content identifier, or by a ref that is no tag: that is not taken over.
        return _copy_commit(session, source, target, commit, _choose_ref(session, new_name))
    ref = _choose_ref(session, new_name or ref)
    copied = copy_stream(source, target, entry, ref, session.progress)
    return {"stream": copied.object_id.hex(), "tagged": ref, "objects": _counts(copied.counts)}


def _find_image(repository: Repository, name: str) -> tuple[ObjectID | None, str | None]:
    """Return the image that a name stands for, and the name if it is a ref."""
    from cfsctl.repository import InvalidNameError  # noqa: PLC0415 - keeps --help quick
    from cfsctl.repository.names.names import parse_image_name  # noqa: PLC0415 - the same

    try:
        entry, ref = parse_image_name(name, repository.algorithm)
        image_id = repository.images.find(name)
    except InvalidNameError:
        return None, None
    return image_id, None if image_id is None or image_id.hex() == entry else ref


def _choose_ref(session: Session, ref: str | None) -> str | None:
    if ref is None:
        session.progress(Message("without a ref (--as) the next gc of the target removes the copy"))
    return ref


def _counts(counts: CopyCounts) -> dict[str, int]:
    return {
        "copied": counts.copied,
        "copied_bytes": counts.copied_bytes,
        "shared_bytes": counts.shared_bytes,
        "present": counts.present,
    }
