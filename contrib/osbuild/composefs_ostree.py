"""What `osbuild.util.ostree` does with the `ostree` program, done with a composefs repository.

`pull_local` and `rev_parse` have the names and the parameters that they have there, so a stage or an input
needs another import only. In place of a checkout, which copies every file, `mounted` shows the tree.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import cfsctl

if TYPE_CHECKING:
    from collections.abc import Iterator


def _tag(remote: str | None, ref: str) -> str:
    return f"{remote}:{ref}" if remote else ref


def pull_local(
    source_repo: str | os.PathLike[str], target_repo: str | os.PathLike[str], remote: str, ref: str
) -> None:
    """Copy a commit from an OSTree repository to a composefs repository, which is made if it is missing.

    Args:
        source_repo: The OSTree repository.
        target_repo: The composefs repository.
        remote: The remote that the ref is to belong to there, or empty for none.
        ref: A ref of the source, or the ID of a commit.
    """
    if os.path.exists(os.path.join(target_repo, "meta.json")):
        opened = cfsctl.Repository.open(target_repo)
    else:
        opened = cfsctl.Repository.init(target_repo, insecure=True)
    with opened as repository:
        result = repository.pull(source_repo, ref)
        if remote and result.tag is not None:
            repository.tag(result.commit.hex(), _tag(remote, result.tag))
            repository.untag(result.tag)


def rev_parse(repo: str | bytes | os.PathLike[str], ref: str) -> str:
    """Return the ID of the commit that a ref names.

    Raises:
        RuntimeError: It does not exist; the same error that `osbuild.util.ostree` raises.
    """
    with cfsctl.Repository.open(os.fsdecode(repo)) as repository:
        commit = repository.tags().get(ref)
    if commit is None:
        raise RuntimeError(f"error: Refspec '{ref}' not found")
    return commit.hex()


@contextlib.contextmanager
def mounted(repo: str | os.PathLike[str], ref: str, target: str | os.PathLike[str]) -> Iterator[None]:
    """Show the tree of a commit in a directory, for as long as the block lasts; nothing is copied.

    Args:
        repo: The composefs repository.
        ref: A ref, as `REMOTE:REF` if it belongs to a remote, or the ID of a commit.
        target: A directory.
    """
    with (
        cfsctl.Repository.open(repo) as repository,
        repository.mounted(repository.commit_image(ref), target),
    ):
        yield
