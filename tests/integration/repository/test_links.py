"""Entries and refs, streams and images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID, qualified
from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.errors import CfsError, ObjectMissingError, RefNotFoundError
from cfsctl.repository import InvalidNameError, Ref, Repository
from cfsctl.repository.names.safe_paths import BlockedNameError
from cfsctl.repository.names.streams import DamagedLinkError
from cfsctl.splitstream import SplitstreamError
from tests.support.repositories import make_image, make_repository, object_file, view, write_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.repository.names.links import LinkDirectory


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r") as repository:
        yield repository


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "r"


IMAGE = make_image([], b"one")
OTHER = make_image([], b"two")


def test_image_is_linked_as_the_original_does(repository: Repository, path: Path) -> None:
    stored = repository.images.write(IMAGE, "a/b")
    digits = stored.object_id.hex()
    found = view(path)
    assert found[f"images/{digits}"] == f"-> ../objects/{digits[:2]}/{digits[2:]}"
    assert found["images/refs/a/b"] == f"-> ../../{digits}"
    assert sorted(found) == sorted(
        [
            "images",
            f"images/{digits}",
            "images/refs",
            "images/refs/a",
            "images/refs/a/b",
            "meta.json",
            "objects",
            f"objects/{digits[:2]}",
            f"objects/{digits[:2]}/{digits[2:]}",
        ]
    )
    assert all(
        (path / name).stat().st_mode & 0o777 == 0o755 for name in ("images", "images/refs", "images/refs/a")
    )


def test_image_is_found_by_all_its_names(repository: Repository) -> None:
    object_id = repository.images.write(IMAGE, "a/b").object_id
    repository.images.write(OTHER, "plain")
    for name in (object_id.hex(), object_id.hex()[:20], qualified(object_id), "a/b", "refs/a/b", "/a//b"):
        assert repository.images.find(name) == object_id
    for name in ("b", "refs/b", object_id.hex()[:3], "images/refs/a/b", "a"):
        assert name_is_unknown(repository, name)


def name_is_unknown(repository: Repository, name: str) -> bool:
    try:
        return repository.images.find(name) is None
    except BlockedNameError:
        return True


def test_ref_that_looks_like_an_id(repository: Repository) -> None:
    one = repository.images.write(IMAGE).object_id
    two = repository.images.write(OTHER).object_id
    with pytest.raises(InvalidNameError, match="looks like an ID"):
        repository.images.link(two, one.hex())
    # Other programs, and older versions of this one, may have made such refs.
    repository.images.links.set_ref(one.hex(), two.hex())
    assert repository.images.find(one.hex()) == one
    assert repository.images.find(f"refs/{one.hex()}") == two
    other = "ab" * 64
    repository.images.links.set_ref(other, two.hex())
    assert repository.images.find(other) == two


def test_opened_image(repository: Repository) -> None:
    object_id = repository.images.write(IMAGE, "im").object_id
    opened = repository.images.open("im")
    with open(opened.fd, "rb") as stream:
        assert stream.read() == IMAGE
    assert (opened.object_id, opened.require_verity) == (object_id, False)
    with repository.images.map("im") as data:
        assert bytes(data) == IMAGE
    with pytest.raises(RefNotFoundError, match="image not found: nothing"):
        repository.images.open("nothing")


def test_image_without_its_object(repository: Repository) -> None:
    object_id = repository.images.write(IMAGE, "im").object_id
    object_file(repository, object_id).unlink()
    with pytest.raises(ObjectMissingError):
        repository.images.open("im")


def test_entry_that_names_another_object(repository: Repository, path: Path) -> None:
    one = repository.images.write(IMAGE, "im").object_id
    two = repository.images.write(OTHER).object_id
    (path / "images" / one.hex()).unlink()
    os.symlink(f"../objects/{two.hex()[:2]}/{two.hex()[2:]}", path / "images" / one.hex())
    for name in ("im", one.hex()):
        with pytest.raises(DamagedLinkError, match="another object"):
            repository.images.open(name)


def test_names_that_are_links_elsewhere(repository: Repository, path: Path) -> None:
    object_id = repository.images.write(IMAGE, "im").object_id
    (path / "images" / "refs" / "flat").symlink_to(object_id.hex())
    (path / "images" / "refs" / "out").symlink_to("/etc/hostname")
    (path / "images" / "refs" / "up").symlink_to("..")
    (path / "streams").mkdir()
    (path / "streams" / "out").symlink_to("/etc/hostname")
    for name in ("flat", "out", "up"):
        with pytest.raises(DamagedLinkError, match="expected a link to an entry"):
            repository.images.open(name)
    with pytest.raises(DamagedLinkError, match="expected a link to a sha512 object"):
        repository.streams.open("out")


BAD_NAMES = ["", ".", "..", "../evil", "../../x", "../../../x", "a/../b", "a/..", "new/", "a\0b", "x" * 300]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_store_nothing(repository: Repository, path: Path, name: str) -> None:
    before = view(path.parent)

    def read() -> Iterator[bytes]:
        yield IMAGE
        pytest.fail("the name was not checked first")

    with pytest.raises(InvalidNameError):
        repository.images.write(IMAGE, name)
    with pytest.raises(InvalidNameError):
        repository.images.import_image(read(), name)
    with pytest.raises(InvalidNameError):
        repository.streams.link("stream", ObjectID(bytes(64)), name)
    with pytest.raises(InvalidNameError):
        repository.streams.link(name, ObjectID(bytes(64)))
    for refs in (repository.images, repository.streams):
        with pytest.raises(InvalidNameError):
            refs.remove_ref(name)
    assert view(path.parent) == before


@pytest.mark.parametrize("name", ["a/sub", "d"])
def test_name_that_something_is_in_the_way_of(repository: Repository, path: Path, name: str) -> None:
    repository.images.write(IMAGE, "a")
    repository.images.write(IMAGE, "d/e")
    before = view(path / "images")
    with pytest.raises(BlockedNameError):
        repository.images.write(IMAGE, name)
    assert view(path / "images") == before


def test_refs_move(repository: Repository, path: Path) -> None:
    one = repository.images.write(IMAGE, "im").object_id
    inode = (path / "images" / "refs" / "im").lstat().st_ino
    repository.images.link(one, "im")
    assert (path / "images" / "refs" / "im").lstat().st_ino == inode
    two = repository.images.write(OTHER, "im").object_id
    assert repository.images.list_refs() == [Ref("im", f"../{two.hex()}")]
    assert not [name for name in os.listdir(path) if name.startswith(".")]


def test_failing_replacement_cleans_up(
    repository: Repository, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.images.write(IMAGE, "im")
    before = view(path)

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        repository.images.link(repository.objects.ensure_bytes(OTHER).object_id, "im")
    monkeypatch.undo()
    changed = {name for name in view(path) if name not in before}
    assert not [name for name in changed if ".symlink-" in name]
    assert view(path)["images/refs/im"] == before["images/refs/im"]


def test_listing_is_sorted(repository: Repository, path: Path) -> None:
    for name in ("b", "a/b", "a/a/c", "a.b", "ä", "Z"):
        repository.images.write(IMAGE, name)
    os.mkfifo(path / "images" / "refs" / "fifo")
    (path / "images" / "refs" / "file").touch()
    os.symlink("x", os.fsencode(path) + b"/images/refs/\xff")
    names = [ref.name for ref in repository.images.list_refs()]
    assert names == sorted(["b", "a/b", "a/a/c", "a.b", "ä", "Z", "\udcff"])


def test_listing_below_a_prefix(repository: Repository) -> None:
    object_id = repository.objects.ensure_bytes(b"x").object_id
    repository.streams.link("s", object_id, "ostree/a%2Fb")
    repository.streams.set_ref("ostree/c", "s")
    repository.streams.set_ref("oci/d", "s")
    assert [ref.name for ref in repository.streams.list_refs("ostree")] == ["a%2Fb", "c"]
    assert [ref.entry for ref in repository.streams.list_refs("ostree")] == ["s", "s"]
    assert repository.streams.list_refs("nothing") == []
    assert repository.images.list_refs() == []


def test_removing_refs(repository: Repository, path: Path) -> None:
    repository.images.write(IMAGE, "d/e")
    for name in ("d", "nothing", "d/x", "x/y/z"):
        with pytest.raises((RefNotFoundError, BlockedNameError)):
            repository.images.remove_ref(name)
    repository.images.remove_ref("d/e")
    assert repository.images.list_refs() == []
    assert (path / "images" / "refs" / "d").is_dir()


def test_streams(repository: Repository) -> None:
    inner = repository.objects.ensure_bytes(b"x" * 100).object_id
    object_id = write_stream(
        repository, "ostree-commit-aa", [inner], {"composefs.image": inner}, "ostree/a%2Fb"
    )
    for name in ("ostree-commit-aa", "refs/ostree/a%2Fb", "ostree/a%2Fb"):
        assert repository.streams.find(name) == object_id
        with repository.streams.open(name) as stream:
            assert list(stream.object_refs) == [inner]
            assert dict(stream.named_refs) == {"composefs.image": inner}
    pieces: list[bytes] = []
    repository.streams.cat("ostree-commit-aa", lambda piece: pieces.append(bytes(piece)))
    assert b"".join(pieces) == b"ostree-commit-aa" + b"x" * 100
    assert repository.streams.list_streams() == [("ostree-commit-aa", object_id)]
    with pytest.raises(RefNotFoundError, match="stream not found: nothing"):
        repository.streams.open("nothing")
    with pytest.raises(SplitstreamError):
        repository.streams.open("ostree-commit-aa", 2)


def test_stream_ref_needs_a_stream(repository: Repository) -> None:
    with pytest.raises(RefNotFoundError):
        repository.streams.set_ref("ostree/x", "ostree-commit-aa")
    assert repository.streams.list_refs() == []


def test_no_descriptor_is_left_open(repository: Repository) -> None:
    repository.images.write(IMAGE, "a/b")
    inner = repository.objects.ensure_bytes(b"x" * 100).object_id
    write_stream(repository, "s", [inner], ref="r")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        repository.images.list_refs()
        repository.images.objects("a/b")
        with pytest.raises(RefNotFoundError):
            repository.images.open("none")
        with pytest.raises(SplitstreamError):
            repository.streams.open_object(inner)
        with pytest.raises(BlockedNameError):
            repository.images.link(inner, "a")
        with repository.streams.open("s"):
            pass
        repository.streams.cat("s", lambda _: None)
        with pytest.raises(ErofsError):
            repository.images.import_image([b"junk"], "x")
    assert sorted(os.listdir("/proc/self/fd")) == before


# Objects of images, and importing


def test_objects_of_an_image(repository: Repository) -> None:
    objects = [repository.objects.ensure_bytes(bytes([number]) * 100).object_id for number in range(5)]
    repository.images.write(make_image(objects), "im")
    assert repository.images.objects("im") == sorted(objects)


@pytest.mark.parametrize("version", list(FormatVersion))
def test_import(repository: Repository, version: FormatVersion) -> None:
    objects = [repository.objects.ensure_bytes(b"x" * 100).object_id]
    image = make_image(objects, version=version)
    chunks = [image[start : start + 1000] for start in range(0, len(image), 1000)]
    stored = repository.images.import_image(chunks, "im")
    assert stored.is_new
    assert repository.images.find("im") == stored.object_id
    assert repository.objects.read(stored.object_id) == image


def test_import_of_an_image_of_the_other_hash(tmp_path: Path, repository: Repository) -> None:
    with make_repository(tmp_path / "other", Algorithm.SHA256) as other:
        image = make_image([other.objects.ensure_bytes(b"x" * 100).object_id])
    repository.images.import_image([image], "im")
    with pytest.raises(CfsError, match="sha256"):
        repository.images.objects("im")


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage\n", IMAGE[:-1], IMAGE[:2000], IMAGE + bytes(4096), bytes(8192), b"x" + IMAGE[1:]],
    ids=["nothing", "garbage", "cut", "half a block", "too long", "zeros", "magic"],
)
def test_import_of_what_is_no_image(repository: Repository, path: Path, data: bytes) -> None:
    with pytest.raises(ErofsError):
        repository.images.import_image([data], "im")
    assert {name for name in view(path) if name != "objects"} == {"meta.json"}


# Links in the places of directories

ATTACKS = ["images", "images/refs", "images/refs/a", "streams", "streams/refs"]


def link(links: LinkDirectory, object_id: ObjectID) -> None:
    links.set_entry("entry", object_id)
    links.set_ref("a/b", "entry")


@pytest.mark.parametrize("place", ATTACKS)
def test_link_in_the_place_of_a_directory(repository: Repository, path: Path, place: str) -> None:
    outside = path.parent / "outside"
    outside.mkdir()
    (path / place).parent.mkdir(parents=True, exist_ok=True)
    (path / place).symlink_to(outside)
    object_id = repository.objects.ensure_bytes(IMAGE).object_id
    links = repository.images.links if place.startswith("images") else repository.streams.links
    with pytest.raises(BlockedNameError, match=f"{place}: expected a directory"):
        link(links, object_id)
    with pytest.raises(BlockedNameError):
        links.remove_ref("a/b")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["d", "a/b", "a/b/c", "d/e/f"])
def test_name_beside_refs_is_no_ref(repository: Repository, name: str) -> None:
    """A directory of refs, or what would be below a ref; a commit may have that name."""
    repository.images.write(IMAGE, "a")
    repository.images.write(IMAGE, "d/e")
    assert repository.images.find(name) is None
    assert repository.images.find(f"refs/{name}") is None
    with pytest.raises(RefNotFoundError):
        repository.images.open(name)


@pytest.mark.parametrize("place", ["images/ENTRY", "images/refs/r", "images/refs/r/s"])
def test_file_in_the_place_of_a_link(repository: Repository, path: Path, place: str) -> None:
    object_id = repository.objects.ensure_bytes(IMAGE).object_id
    file = path / place.replace("ENTRY", object_id.hex())
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    ref = "r/s" if place.endswith("s") else "r"
    with pytest.raises(BlockedNameError, match="in the way"):
        repository.images.link(object_id, ref)
    with pytest.raises(BlockedNameError, match="expected a symbolic link"):
        repository.images.find(ref if "refs" in place else object_id.hex())
    assert file.read_text() == "precious"
