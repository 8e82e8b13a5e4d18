"""Where images of podman and buildah are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cfsctl.oci.containers_storage import configuration
from cfsctl.oci.containers_storage.configuration import (
    StorageConfigError,
    StoreLocation,
    find_stores,
    parse_storage_reference,
)
from cfsctl.oci.reference import ImageReferenceError

if TYPE_CHECKING:
    from pathlib import Path

SYSTEM = "/var/lib/containers/storage"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory that stands for that of the administrator."""
    monkeypatch.setattr(
        configuration, "_SYSTEM_FILES", (str(tmp_path / "etc.conf"), str(tmp_path / "usr.conf"))
    )
    return tmp_path


def paths(environment: dict[str, str], user_id: int = 0) -> list[str]:
    return [location.path for location in find_stores(environment, user_id)]


@pytest.mark.parametrize(
    ("environment", "user_id", "expected"),
    [
        ({}, 0, [SYSTEM]),
        ({"HOME": "/h"}, 7, ["/h/.local/share/containers/storage", SYSTEM]),
        ({"HOME": "/h", "XDG_DATA_HOME": "/d"}, 7, ["/d/containers/storage", SYSTEM]),
        ({}, 7, [SYSTEM]),
        ({"CONTAINERS_STORAGE_ROOT": "/r"}, 0, ["/r", SYSTEM]),
        ({"STORAGE_OPTS": "x=y,additionalimagestore=/a,overlay.imagestore=/b/"}, 0, [SYSTEM, "/a", "/b"]),
        ({"STORAGE_OPTS": f"additionalimagestore={SYSTEM}"}, 0, [SYSTEM]),
    ],
)
def test_without_files(system: Path, environment: dict[str, str], user_id: int, expected: list[str]) -> None:
    assert system.exists()
    assert paths(environment, user_id) == expected


def test_files_of_the_administrator(system: Path) -> None:
    (system / "usr.conf").write_text('[storage]\ngraphroot = "/usr-root"\n')
    assert paths({}) == ["/usr-root"]
    (system / "etc.conf").write_text(
        '[storage]\ndriver = "vfs"\ngraphroot = "/etc-root"\nrunroot = "/run"\n'
        'rootless_storage_path = "$HOME/of/${UID}/$NOTHING"\n'
        '[storage.options]\nadditionalimagestores = ["/more"]\n'
    )
    assert find_stores({}, 0) == (StoreLocation("/etc-root", "vfs"), StoreLocation("/more", "vfs"))
    assert paths({"HOME": "/h"}, 7) == ["/h/of/7/", SYSTEM, "/more"]
    assert find_stores({"STORAGE_DRIVER": "overlay"}, 0)[0].driver == "overlay"
    assert paths({"STORAGE_OPTS": ""}) == ["/etc-root"]


def test_the_file_of_a_user(system: Path) -> None:
    (system / "etc.conf").write_text(
        '[storage]\ndriver = "overlay"\n[storage.options]\nadditionalimagestores = ["/m"]\n'
    )
    own = system / ".config" / "containers"
    own.mkdir(parents=True)
    (own / "storage.conf").write_text('[storage]\ngraphroot = "/own"\n')
    environment = {"HOME": str(system)}
    expected = [StoreLocation(path, "overlay") for path in ("/own", SYSTEM, "/m")]
    assert list(find_stores(environment, 7)) == expected
    assert paths(environment, 0) == [SYSTEM, "/m"]


def test_the_chosen_file_counts_alone(system: Path) -> None:
    (system / "etc.conf").write_text('[storage]\ngraphroot = "/etc-root"\n')
    (system / "chosen").write_text(
        '[storage]\ngraphroot = "/chosen"\n[storage.options.vfs]\nimagestore="/i"\n'
    )
    for user_id in (0, 7):
        environment = {"CONTAINERS_STORAGE_CONF": str(system / "chosen"), "HOME": "/h"}
        assert paths(environment, user_id)[0] == "/chosen"
        assert paths(environment, user_id)[-1] == "/i"


@pytest.mark.parametrize(
    "text", ["[storage", "[storage]\ndriver = 1\n", '[storage]\noptions = "x"\n', "\xff", "storage = 1\n"]
)
def test_files_that_are_not_valid(system: Path, text: str) -> None:
    (system / "etc.conf").write_text(text, encoding="latin-1")
    with pytest.raises(StorageConfigError, match=r"etc\.conf"):
        find_stores({}, 0)


@pytest.mark.parametrize(
    ("place", "name", "stores"),
    [
        ("image", "image", ()),
        ("[/r]image", "image", (StoreLocation("/r"),)),
        ("[vfs@/r+/run]a/b:c@d", "a/b:c@d", (StoreLocation("/r", "vfs"),)),
        (
            "[overlay@/r+/run:overlay.imagestore=/i,other=1]x",
            "x",
            (StoreLocation("/r", "overlay"), StoreLocation("/i", "overlay")),
        ),
    ],
)
def test_references(place: str, name: str, stores: tuple[StoreLocation, ...]) -> None:
    assert parse_storage_reference(place) == (name, stores)


@pytest.mark.parametrize("place", ["[", "[/r]", "[r]x", "[A@/r]x", "[/r"])
def test_texts_that_are_no_references(place: str) -> None:
    with pytest.raises(ImageReferenceError, match="containers-storage"):
        parse_storage_reference(place)
