"""Creating an image: how often the disk is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cfsctl.scan.creating import create_image
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.digest import ObjectID


@pytest.mark.parametrize(("large", "syncs"), [(4000, 1), (3, 2)], ids=["small", "large"])
def test_a_small_tree_waits_for_the_disk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int, syncs: int
) -> None:
    """Files of a large tree are written while its image is made; the barrier follows all the same."""
    calls: list[str] = []
    monkeypatch.setattr("cfsctl.scan.creating._LARGE", large)
    monkeypatch.setattr("cfsctl.repository.repository.syncfs", lambda _: calls.append("sync"))
    tree = tmp_path / "tree"
    (tree / "usr").mkdir(parents=True)
    for name in ("one", "two", "three"):
        (tree / "usr" / name).write_bytes(name.encode() * 100)
    with make_repository(tmp_path / "repo") as repository:
        link = repository.images.link

        def note(image_id: ObjectID, ref: str | None = None) -> None:
            calls.append("name")
            link(image_id, ref)

        monkeypatch.setattr(repository.images, "link", note)
        create_image(repository, str(tree), "image")
    assert calls == ["sync"] * syncs + ["name"]
