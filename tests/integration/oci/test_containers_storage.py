"""Pulls from the storage of podman and buildah: names, stores, drivers, links, and hostile storages."""

from __future__ import annotations

import fcntl
import gzip
import os
import stat
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError, FormatError
from cfsctl.linux.capabilities import CAP_DAC_READ_SEARCH, has_capability
from cfsctl.oci.containers_storage.images import find_image
from cfsctl.oci.manifest import Platform
from cfsctl.oci.media_types import DOCKER_CONFIG, DOCKER_MANIFEST, INDEX
from cfsctl.oci.pull import PullResult, pull
from cfsctl.oci.registry.settings import RegistrySettings
from cfsctl.oci.source import ImageNotFoundError, SourceError
from cfsctl.oci.sources.opening import open_source
from cfsctl.oci.store.layer_writer import ImportCounts
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.objects.sharing import CannotShareError, Sharing
from tests.support.container_storage import Storage
from tests.support.oci import Layout, Member, digest_of, directory, example_layers, file, make_tar, to_json
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cfsctl.repository import Repository

LAYERS = example_layers()
NAME = "localhost/example:one"
links = pytest.mark.skipif(not has_capability(CAP_DAC_READ_SEARCH), reason="needs CAP_DAC_READ_SEARCH")


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r", Algorithm.SHA256) as made:
        yield made


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "storage")


def pull_image(
    repository: Repository,
    reference: str,
    *,
    sharing: Sharing = Sharing.DISABLED,
    platform: Platform | None = None,
    keep_compressed: bool = False,
    environment: Mapping[str, str] | None = None,
) -> PullResult:
    source = open_source(reference, RegistrySettings(environment=environment or {}))
    try:
        return pull(
            repository,
            source,
            "t",
            sharing=sharing,
            platform=platform,
            keep_compressed=keep_compressed,
            workers=0,
        )
    finally:
        source.close()


class TestImages:
    @pytest.mark.parametrize("driver", ["overlay", "vfs", "btrfs"])
    @pytest.mark.parametrize("sharing", [Sharing.DISABLED, Sharing.AUTO])
    def test_it_is_the_image_that_a_layout_has(
        self, tmp_path: Path, repository: Repository, driver: str, sharing: Sharing
    ) -> None:
        layout = Layout(tmp_path / "layout")
        layout.add_image("t", LAYERS)
        storage = Storage(tmp_path / "storage", driver)
        storage.add_image([NAME], LAYERS)
        found = pull_image(repository, f"{storage.reference}{NAME}", sharing=sharing)
        with make_repository(tmp_path / "other", Algorithm.SHA256) as other:
            expected = pull_image(other, f"oci:{layout.path}:t")
        assert found.manifest_digest == expected.manifest_digest
        assert found.manifest_id == expected.manifest_id
        assert found.image == expected.image
        assert found.counts[:4] == expected.counts[:4]
        assert check_repository(repository, deep=True).is_ok

    def test_layers_are_taken_by_workers(self, repository: Repository, storage: Storage) -> None:
        large = [make_tar([directory("usr"), file("usr/large", os.urandom(1_500_000))]) for _ in range(3)]
        storage.add_image([NAME], large)
        source = open_source(f"{storage.reference}{NAME}")
        try:
            assert pull(repository, source, "t", workers=2).counts.new == 3
        finally:
            source.close()

    def test_docker_images_are_converted(self, tmp_path: Path, repository: Repository) -> None:
        storage = Storage(tmp_path / "storage")
        layer_type = "application/vnd.docker.image.rootfs.diff.tar.gzip"
        storage.add_image([NAME], LAYERS, layer_type=layer_type, media_types=(DOCKER_MANIFEST, DOCKER_CONFIG))
        assert pull_image(repository, f"{storage.reference}{NAME}").image is not None

    def test_names_that_are_not_utf8(self, repository: Repository, storage: Storage) -> None:
        name = os.fsdecode(b"usr/\xff-name")
        storage.add_image([NAME], [make_tar([directory("usr"), file(name, b"x" * 100)])])
        assert pull_image(repository, f"{storage.reference}{NAME}").counts.new == 1

    def test_another_platform(self, repository: Repository, storage: Storage) -> None:
        storage.add_image([NAME], LAYERS, config={"architecture": "s390x"})
        pull_image(repository, f"{storage.reference}{NAME}", platform=Platform("linux", "s390x"))
        with pytest.raises(ImageNotFoundError, match=r"for platform linux/arm64; available: linux/s390x"):
            pull_image(repository, f"{storage.reference}{NAME}", platform=Platform("linux", "arm64"))

    def test_an_image_of_a_list(self, repository: Repository, storage: Storage) -> None:
        entries = []
        for architecture in ("arm64", "amd64"):
            image = storage.add_image([], LAYERS, config={"architecture": architecture})
            manifest = storage.document_path(image, "manifest").read_bytes()
            entries.append(
                {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": digest_of(manifest),
                    "size": len(manifest),
                    "platform": {"os": "linux", "architecture": architecture},
                }
            )
        index = to_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
        storage.add_documents(["localhost/list:latest"], "", b"", index)
        found = pull_image(repository, f"{storage.reference}list", platform=Platform("linux", "arm64"))
        assert str(found.manifest_digest) == entries[0]["digest"]

    def test_compressed_layers_cannot_be_kept(self, repository: Repository, storage: Storage) -> None:
        storage.add_image([NAME], LAYERS)
        with pytest.raises(SourceError, match="compressed layers cannot be kept"):
            pull_image(repository, f"{storage.reference}{NAME}", keep_compressed=True)


class TestNames:
    @pytest.fixture
    def image_id(self, storage: Storage) -> str:
        storage.add_image(["quay.io/other/image:latest"], LAYERS[:1])
        return storage.add_image(["localhost/example:one", "docker.io/library/hub:latest"], LAYERS)

    @pytest.mark.parametrize(
        "name",
        [
            "localhost/example:one",
            "example:one",
            "hub",
            "hub:latest",
            "docker.io/library/hub",
            "docker.io/hub",
            "{id}",
            "{id:.12}",
            "sha256:{id}",
            "@{id}",
            "localhost/example@{id}",
            "localhost/example:one@{id:.8}",
            "localhost/example@{digest}",
            "localhost/example:gone@{digest}",
            "@{digest}",
            "{digest}",
        ],
    )
    def test_an_image_is_found(
        self, repository: Repository, storage: Storage, image_id: str, name: str
    ) -> None:
        digest = storage.images[-1]["digest"]
        found = pull_image(repository, storage.reference + name.format(id=image_id, digest=digest))
        assert str(found.config_digest) == f"sha256:{image_id}"

    @pytest.mark.parametrize(
        "name",
        [
            "example",
            "example:two",
            "quay.io/example:one",
            "0123456789ab",
            "quay.io/other/image@{digest}",
            "localhost/example:one@000000",
            "localhost/example@sha256:" + "0" * 64,
        ],
    )
    def test_an_image_is_not_found(
        self, repository: Repository, storage: Storage, image_id: str, name: str
    ) -> None:
        digest = storage.images[-1]["digest"]
        with pytest.raises(ImageNotFoundError) as found:
            pull_image(repository, storage.reference + name.format(id=image_id, digest=digest))
        assert str(storage.path) in str(found.value)
        assert "localhost/example:one" in str(found.value.hint)

    @pytest.mark.parametrize(
        "name", ["", "[]x", "[overlay@relative]x", "[overlay@/x]", "[/x", "a/UPPER", "x@y"]
    )
    def test_not_a_name(self, repository: Repository, storage: Storage, name: str) -> None:
        reference = name if name.startswith("[") else f"[{storage.path}]{name}"
        with pytest.raises(FormatError):
            pull_image(repository, f"containers-storage:{reference}")

    def test_the_beginning_of_several_ids(self, repository: Repository, storage: Storage) -> None:
        for number in range(40):
            storage.add_image([], [make_tar([directory("usr", mtime=number)])])
        firsts = [str(image["id"])[:1] for image in storage.images]
        common = max(firsts, key=firsts.count)
        for image in storage.images:  # IDs can be any text
            if str(image["id"]).startswith(common):
                image["id"] = f"{common}{common}{common}{image['id']}"
        storage.write()
        with pytest.raises(SourceError, match="have this prefix"):
            pull_image(repository, f"{storage.reference}{common * 3}")


class TestStores:
    def test_the_file_says_where(self, tmp_path: Path, repository: Repository, storage: Storage) -> None:
        storage.add_image([NAME], LAYERS)
        conf = tmp_path / "storage.conf"
        conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{storage.path}"\n')
        pull_image(
            repository, f"containers-storage:{NAME}", environment={"CONTAINERS_STORAGE_CONF": str(conf)}
        )

    @pytest.mark.parametrize("way", ["STORAGE_OPTS", "additionalimagestores", "imagestore", "specifier"])
    def test_more_stores(self, tmp_path: Path, repository: Repository, storage: Storage, way: str) -> None:
        """The image is in another store, and its lowest layer in the first one."""
        more = Storage(tmp_path / "more")
        more.add_image([NAME], LAYERS)
        storage.add_layer(LAYERS[0])
        del more.layers[0]
        more.write()
        options = {
            "additionalimagestores": f'[storage.options]\nadditionalimagestores = ["{more.path}"]\n',
            "imagestore": f'[storage.options.overlay]\nimagestore = "{more.path}"\n',
        }
        conf = tmp_path / "storage.conf"
        conf.write_text(f'[storage]\ngraphroot = "{storage.path}"\n{options.get(way, "")}')
        environment = {"CONTAINERS_STORAGE_CONF": str(conf)}
        if way == "STORAGE_OPTS":
            environment[way] = f"ignore_chown_errors=true,additionalimagestore={more.path}"
        specifier = f"[{storage.path}:overlay.imagestore={more.path}]" if way == "specifier" else ""
        found = pull_image(repository, f"containers-storage:{specifier}{NAME}", environment=environment)
        assert found.counts.new == 2

    def test_a_driver_that_is_not_known(self, tmp_path: Path, repository: Repository) -> None:
        for kind in ("images", "layers"):
            (tmp_path / "s" / f"zfs-{kind}").mkdir(parents=True)
        with pytest.raises(SourceError, match="cannot read images of the storage driver zfs"):
            pull_image(repository, f"containers-storage:[zfs@{tmp_path}/s]x")

    def test_no_store(self, tmp_path: Path, repository: Repository) -> None:
        (tmp_path / "empty").mkdir()
        for place in (tmp_path / "empty", tmp_path / "missing"):
            with pytest.raises(ImageNotFoundError, match="any storage"):
                pull_image(repository, f"containers-storage:[{place}]x")


class TestLinks:
    def members(self) -> list[Member]:
        return [
            directory("usr"),
            file("usr/plain", b"p" * 5000),
            file("usr/empty"),
            file("usr/small", b"s" * 64),
            file("usr/set-uid", b"u" * 5000, 0o4755),
            file("usr/writable", b"w" * 5000, 0o666),
        ]

    def prepare(self, storage: Storage) -> Path:
        storage.add_image([NAME], [make_tar(self.members())])
        files = storage.files(str(storage.layers[0]["id"])) / "usr"
        (files / "set-uid").chmod(0o4755)
        (files / "writable").chmod(0o666)
        (files / "plain").chmod(0o600)
        return files

    @links
    def test_only_harmless_files_are_linked(self, repository: Repository, storage: Storage) -> None:
        files = self.prepare(storage)
        counts = pull_image(repository, f"{storage.reference}{NAME}", sharing=Sharing.REQUIRED).counts
        linked = {
            name: (files / name).stat().st_nlink - 1 for name in ("plain", "small", "set-uid", "writable")
        }
        if counts.reflinked:
            pytest.skip("the file system has reflinks")
        assert linked == {"plain": 1, "small": 0, "set-uid": 0, "writable": 0}
        assert counts._replace(inline_bytes=0) == ImportCounts(
            new=3, new_bytes=15000, hardlinked=1, hardlinked_bytes=5000
        )
        assert stat.S_IMODE((files / "plain").stat().st_mode) == 0o600
        for object_path in Path(repository.path, "objects").glob("??/*"):
            assert not object_path.stat().st_mode & (stat.S_ISUID | stat.S_IWGRP | stat.S_IWOTH)
        assert check_repository(repository, deep=True).is_ok

    @links
    def test_a_file_that_is_open_for_writing_is_copied(
        self, repository: Repository, storage: Storage
    ) -> None:
        files = self.prepare(storage)
        with open(files / "plain", "r+b"):
            counts = pull_image(repository, f"{storage.reference}{NAME}", sharing=Sharing.AUTO).counts
        assert counts.new == 3
        assert not counts.hardlinked

    def test_without_the_capability(
        self, repository: Repository, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.prepare(storage)
        monkeypatch.setattr("cfsctl.repository.objects.sharing.has_capability", lambda _: False)
        monkeypatch.setattr("cfsctl.repository.objects.sharing.ingest_clone", lambda *_: None)
        with pytest.raises(CannotShareError, match=r"copy fallback is disabled .*CAP_DAC_READ_SEARCH"):
            pull_image(repository, f"{storage.reference}{NAME}", sharing=Sharing.REQUIRED)
        assert pull_image(repository, f"{storage.reference}{NAME}", sharing=Sharing.AUTO).counts.new == 3

    @links
    def test_what_is_stored_already_is_not_linked(self, repository: Repository, storage: Storage) -> None:
        files = self.prepare(storage)
        repository.objects.ensure_bytes(b"p" * 5000)
        counts = pull_image(repository, f"{storage.reference}{NAME}", sharing=Sharing.AUTO).counts
        assert (counts.new, counts.present, counts.hardlinked) == (2, 1, 0)
        assert (files / "plain").stat().st_nlink == 1


def _replace_file(storage: Storage, layer: str) -> None:
    (storage.files(layer) / "etc" / "f").write_bytes(b"g" * 100)


def _shorten_file(storage: Storage, layer: str) -> None:
    (storage.files(layer) / "etc" / "f").write_bytes(b"f" * 99)


def _remove_file(storage: Storage, layer: str) -> None:
    (storage.files(layer) / "etc" / "f").unlink()


def _link_file(storage: Storage, layer: str) -> None:
    _remove_file(storage, layer)
    (storage.path / "secret").write_bytes(b"f" * 100)
    (storage.files(layer) / "etc" / "f").symlink_to(storage.path / "secret")


def _link_directory(storage: Storage, layer: str) -> None:
    etc = storage.files(layer) / "etc"
    etc.rename(storage.path / "etc")
    etc.symlink_to(storage.path / "etc")


def _link_layer(storage: Storage, layer: str) -> None:
    files = storage.files(layer)
    files.rename(storage.path / "moved")
    files.symlink_to(storage.path / "moved")


def _make_fifo(storage: Storage, layer: str) -> None:
    _remove_file(storage, layer)
    os.mkfifo(storage.files(layer) / "etc" / "f")


def _rename_in_split(name: str) -> Callable[[Storage, str], None]:
    def change(storage: Storage, layer: str) -> None:
        lines = storage.read_split(layer)
        for line in lines:
            if line.get("name") == "etc/f":
                line["name"] = name
        storage.write_split(layer, lines)

    return change


def _drop_line(storage: Storage, layer: str) -> None:
    storage.write_split(layer, storage.read_split(layer)[:-1])


def _swap_lines(storage: Storage, layer: str) -> None:
    lines = storage.read_split(layer)
    lines[0], lines[2] = lines[2], lines[0]
    storage.write_split(layer, lines)


def _grow_file(storage: Storage, layer: str) -> None:
    lines = storage.read_split(layer)
    for line in lines:
        if line.get("name") == "etc/f":
            line["size"] = 101
    storage.write_split(layer, lines)
    (storage.files(layer) / "etc" / "f").write_bytes(b"f" * 101)


def _spoil_split(data: bytes) -> Callable[[Storage, str], None]:
    def change(storage: Storage, layer: str) -> None:
        storage.split_path(layer).write_bytes(data)

    return change


def _remove_split(storage: Storage, layer: str) -> None:
    storage.split_path(layer).unlink()


def _circle(storage: Storage, _layer: str) -> None:
    storage.layers[0]["parent"] = storage.layers[1]["id"]
    storage.write()


def _set(kind: str, key: str, value: object) -> Callable[[Storage, str], None]:
    def change(storage: Storage, _layer: str) -> None:
        records = storage.images if kind == "images" else storage.layers
        records[-1][key] = value
        storage.write()

    return change


def _list(kind: str, data: bytes) -> Callable[[Storage, str], None]:
    def change(storage: Storage, _layer: str) -> None:
        (storage.path / f"overlay-{kind}" / f"{kind}.json").write_bytes(data)

    return change


def _spoil_document(name: str, data: bytes | None) -> Callable[[Storage, str], None]:
    def change(storage: Storage, _layer: str) -> None:
        image = str(storage.images[0]["id"])
        path = storage.document_path(image, name.format(id=image))
        path.unlink()
        if data is not None:
            path.write_bytes(data)

    return change


HOSTILE: dict[str, Callable[[Storage, str], None]] = {
    "content changed": _replace_file,
    "file shorter": _shorten_file,
    "file missing": _remove_file,
    "file is a link": _link_file,
    "directory is a link": _link_directory,
    "layer is a link": _link_layer,
    "file is a fifo": _make_fifo,
    "name leads out": _rename_in_split("../../../../secret"),
    "name inside leads out": _rename_in_split("etc/../../x"),
    "name is absolute": _rename_in_split("//proc/version"),
    "name has a zero": _rename_in_split("etc/f\0"),
    "name is empty": _rename_in_split(""),
    "name is a directory": _rename_in_split("etc"),
    "last segment missing": _drop_line,
    "segments swapped": _swap_lines,
    "size differs from the header": _grow_file,
    "split not gzip": _spoil_split(b"{}"),
    "split cut": _spoil_split(gzip.compress(b"x" * 100)[:-5]),
    "split not JSON": _spoil_split(gzip.compress(b"not JSON\n")),
    "split of other types": _spoil_split(gzip.compress(b'{"type":3,"position":0}\n')),
    "split of bad base64": _spoil_split(gzip.compress(b'{"type":2,"payload":"?","position":0}\n')),
    "split nested": _spoil_split(gzip.compress(b"[" * 100_000)),
    "split missing": _remove_split,
    "layers in a circle": _circle,
    "layer missing": _list("layers", b"[]"),
    "layers not a list": _list("layers", b"[1]"),
    "layers not JSON": _list("layers", b"["),
    "images nested": _list("images", b"[" * 100_000),
    "layer ID leads out": _set("images", "layer", "../../x"),
    "parent leads out": _set("layers", "parent", "../x"),
    "image ID leads out": _set("images", "id", "../x"),
    "names of a wrong type": _set("images", "names", [1]),
    "manifest missing": _spoil_document("manifest", None),
    "manifest empty": _spoil_document("manifest", b"{}"),
    "config changed": _spoil_document("sha256:{id}", b"{}"),
    "config missing": _spoil_document("sha256:{id}", None),
}


class TestHostile:
    @pytest.mark.parametrize("case", HOSTILE)
    @pytest.mark.parametrize("sharing", [Sharing.DISABLED, Sharing.AUTO])
    def test_nothing_gets_a_name(
        self, repository: Repository, storage: Storage, case: str, sharing: Sharing
    ) -> None:
        storage.add_image([NAME], LAYERS)
        HOSTILE[case](storage, str(storage.layers[0]["id"]))
        with pytest.raises(CfsError) as found:
            pull_image(repository, f"{storage.reference}{NAME}", sharing=sharing)
        assert str(found.value).startswith(storage.reference)
        names = [stream.name for stream in repository.streams.list_streams()]
        assert f"oci-layer-{digest_of(LAYERS[0])}" not in names
        assert not [name for name in names if "manifest" in name]
        assert check_repository(repository, deep=True).is_ok

    def test_a_file_that_is_named_twice(self, repository: Repository, storage: Storage) -> None:
        """Of two entries with one name the storage has only the last content."""
        twice = make_tar([directory("usr"), file("usr/x", b"1" * 100), file("usr/x", b"2" * 100)])
        storage.add_image([NAME], [twice])
        with pytest.raises(CfsError, match="diff_id"):
            pull_image(repository, f"{storage.reference}{NAME}")

    def test_links_to_the_lists_are_not_followed(
        self, tmp_path: Path, repository: Repository, storage: Storage
    ) -> None:
        storage.add_image([NAME], LAYERS)
        (storage.path / "overlay-images").rename(tmp_path / "elsewhere")
        (storage.path / "overlay-images").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="overlay-images"):
            pull_image(repository, f"{storage.reference}{NAME}")


class TestLocks:
    @pytest.mark.parametrize("kind", ["images", "layers"])
    @pytest.mark.parametrize("way", ["fcntl", "flock"])
    def test_it_waits_for_writers(
        self, repository: Repository, storage: Storage, kind: str, way: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.add_image([NAME], LAYERS)
        writer = os.open(storage.path / f"overlay-{kind}" / f"{kind}.lock", os.O_RDWR)
        waited = threading.Event()

        def release(_: float) -> None:
            waited.set()
            os.close(writer)

        if way == "flock":
            fcntl.flock(writer, fcntl.LOCK_EX)
        else:
            lock = struct.pack("=hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(writer, 37, lock)  # of the open file, as this process is reader and writer
        monkeypatch.setattr("cfsctl.oci.containers_storage.locks.time.sleep", release)
        pull_image(repository, f"{storage.reference}{NAME}")
        assert waited.is_set()

    def test_layers_stay_locked_while_they_are_read(self, storage: Storage) -> None:
        storage.add_image([NAME], LAYERS)
        source = open_source(f"{storage.reference}{NAME}")
        source.find_manifest(Platform("linux", "amd64"))
        with open(storage.path / "overlay-layers" / "layers.lock", "r+b") as writer:
            with pytest.raises(BlockingIOError):
                fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
            source.close()
            fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_a_store_without_lock_files(self, repository: Repository, storage: Storage) -> None:
        storage.add_image([NAME], LAYERS)
        for lock in storage.path.glob("*/*.lock"):
            lock.unlink()
        pull_image(repository, f"{storage.reference}{NAME}")
        assert not [*storage.path.glob("*/*.lock")]


def test_find_image_needs_a_store() -> None:
    with pytest.raises(ImageNotFoundError, match="there is none"):
        find_image([], "x")
