"""Streams get a name in another repository only if nothing else has it, and the name is not a lie."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from cfsctl.repository.certified import UncertifiedStreamError
from cfsctl.repository.copying import copy_stream
from cfsctl.splitstream import SplitstreamWriter
from tests.support.repositories import make_image, make_repository, write_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository

LAYER = b"layer" * 100
CONFIG = b'{"rootfs": {}}'


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "here") as repository:
        yield repository


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "there") as repository:
        yield repository


def name_of(content: bytes, kind: str = "layer") -> str:
    return f"oci-{kind}-sha256:{hashlib.sha256(content).hexdigest()}"


def store(
    repository: Repository, name: str, content: bytes, named: dict[str, ObjectID] | None = None
) -> ObjectID:
    with SplitstreamWriter(repository.objects, repository.algorithm, 1) as writer:
        writer.write_inline(content)
        for label, object_id in (named or {}).items():
            writer.add_named_ref(label, object_id)
        stream_id = writer.finish()
    repository.streams.link(name, stream_id)
    return stream_id


def test_a_name_that_is_the_checksum_of_all_is_copied(here: Repository, there: Repository) -> None:
    layer = store(there, name_of(LAYER), LAYER)
    key = name_of(LAYER).removeprefix("oci-layer-")
    config = store(there, name_of(CONFIG, "config"), CONFIG, {key: layer})
    store(there, "unrelated", b"unrelated")
    assert copy_stream(there, here, name_of(CONFIG, "config")).object_id == config
    assert {stream.name for stream in here.streams.list_streams()} == {
        name_of(LAYER),
        name_of(CONFIG, "config"),
    }


@pytest.mark.parametrize("lie", ["content", "inner content", "image", "unnamed key"])
def test_a_name_that_is_another_checksum_is_not(here: Repository, there: Repository, lie: str) -> None:
    layer = store(there, name_of(LAYER), LAYER if lie != "inner content" else b"EVIL")
    key = name_of(LAYER).removeprefix("oci-layer-")
    named = {key: layer}
    if lie == "image":
        named["composefs.image"] = there.images.write(make_image([])).object_id
    if lie == "unnamed key":
        named["helper"] = layer
    store(there, name_of(CONFIG, "config"), CONFIG if lie != "content" else b"EVIL", named)
    with pytest.raises(UncertifiedStreamError):
        copy_stream(there, here, name_of(CONFIG, "config"))
    assert here.streams.list_streams() == []


def test_another_stream_keeps_its_name(here: Repository, there: Repository) -> None:
    before = write_stream(here, "name", [here.objects.ensure_bytes(b"good" * 50).object_id], ref="r")
    write_stream(there, "name", [there.objects.ensure_bytes(b"evil" * 50).object_id])
    with pytest.raises(UncertifiedStreamError, match="has another stream of this name"):
        copy_stream(there, here, "name", "r")
    assert here.streams.find("name") == before
    assert here.streams.find("refs/r") == before


def test_content_that_is_proven_replaces_other_content(here: Repository, there: Repository) -> None:
    store(here, name_of(LAYER), b"damaged")
    layer = store(there, name_of(LAYER), LAYER)
    copy_stream(there, here, name_of(LAYER))
    assert here.streams.find(name_of(LAYER)) == layer


@pytest.mark.parametrize("kind", ["commit", "partial"])
def test_a_stream_does_not_become_a_commit(here: Repository, there: Repository, kind: str) -> None:
    name = f"ostree-{kind}-{'00' * 32}"
    store(there, name, b"anything")
    with pytest.raises(UncertifiedStreamError, match="a stream other than a commit"):
        copy_stream(there, here, name)
