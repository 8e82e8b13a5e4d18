"""Commits that composefs-rs made of images in a form that OSTree does not have; see `objects._upstream`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.ostree.objects import OstreeObjectError
from cfsctl.ostree.tree.to_tree import commit_to_filesystem

if TYPE_CHECKING:
    from cfsctl.ostree.store.commit_stream import CommitStream


def require_ostree_form(stream: CommitStream) -> None:
    """Check that a commit has nothing that programs of OSTree refuse, before it goes to where they look.

    Raises:
        OstreeObjectError: It has, or something of it is damaged.
    """
    commit_to_filesystem(stream, note=lambda text: _refuse(stream, text))


def _refuse(stream: CommitStream, text: str) -> None:
    image = "its image" if stream.image is None else stream.image.hex()
    raise OstreeObjectError(text, hint=f"create the commit again with `cfsctl ostree commit {image}`")
