"""Making, finding, upgrading and opening repositories."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.erofs.format import FormatVersion
from cfsctl.fsverity.kernel import VerityMissingError
from cfsctl.repository import (
    InitStatus,
    NotARepositoryError,
    Repository,
    init_repository,
    read_config,
)
from cfsctl.repository.locking.access import NotWritableError
from cfsctl.repository.metadata import file as metafile
from cfsctl.repository.metadata.config import (
    AlgorithmMismatchError,
    Config,
    ConfigError,
    UnsupportedFeatureError,
    format_config,
)
from cfsctl.repository.metadata.file import VerityRequiredError
from cfsctl.repository.objects.store import ObjectStore
from cfsctl.repository.setup import upgrade
from cfsctl.repository.setup.init import ConfigConflictError
from tests.support.repositories import make_image, make_repository, view

SHA256, SHA512 = Algorithm
V0, V1, V2 = FormatVersion
VECTORS = Path(__file__).parents[2] / "vectors" / "repository"


def init(path: Path, **options: object) -> InitStatus:
    return init_repository(str(path), insecure=True, **options)  # type: ignore[arg-type]  # passed on as given


def mode_of(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_fresh(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "r"
    assert init(path) is InitStatus.CREATED
    assert view(path) == {"meta.json": "219"}
    assert (path / "meta.json").read_bytes() == (VECTORS / "sha512-erofs1-insecure.json").read_bytes()
    assert (mode_of(path), mode_of(path / "meta.json")) == ("0o700", "0o644")


def test_everything_as_asked(tmp_path: Path) -> None:
    assert init(tmp_path, algorithm=SHA256, erofs_version=V2) is InitStatus.CREATED
    assert (tmp_path / "meta.json").read_bytes() == (VECTORS / "sha256-erofs2-insecure.json").read_bytes()


def test_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.mkdir(mode=0o750)
    init(path)
    assert mode_of(path) == "0o750"


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        init(tmp_path / "a" / "b" / "r")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a" / "b" / "r") == "0o700"
    assert mode_of(tmp_path / "a" / "b" / "r" / "meta.json") == "0o644"
    assert mode_of(tmp_path / "a") == oct(0o777 & ~mask | 0o300)


def test_link_to_a_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert init(tmp_path / "link") is InitStatus.CREATED
    assert init(tmp_path / "real" / ".." / "real") is InitStatus.EXISTED


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_path_that_cannot_be_a_repository(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r"
    if kind == "file":
        path.touch()
    else:
        path.symlink_to("nothing")
    with pytest.raises(OSError, match=r"Not a directory|No such file"):
        init(path)


def test_again(tmp_path: Path) -> None:
    init(tmp_path)
    before = (tmp_path / "meta.json").stat()
    assert init(tmp_path) is InitStatus.EXISTED
    assert init(tmp_path, ensure=True) is InitStatus.PRESERVED
    assert init(tmp_path, ensure=True, erofs_version=V2) is InitStatus.PRESERVED
    assert (tmp_path / "meta.json").stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": SHA256}, r"\(algorithm: fsverity-sha512-12, erofs_version: V1\).*sha256-12"),
        ({"erofs_version": V2}, r"erofs_version: V1\).*erofs_version: V2\)"),
    ],
)
def test_conflict(tmp_path: Path, options: dict[str, object], message: str) -> None:
    init(tmp_path)
    before = (tmp_path / "meta.json").read_bytes()
    with pytest.raises(ConfigConflictError, match=message):
        init(tmp_path, **options)
    assert (tmp_path / "meta.json").read_bytes() == before


def test_conflict_in_what_the_message_does_not_show(tmp_path: Path) -> None:
    config = Config(SHA512, V1, (V2,), read_only_compatible=("v1_erofs",))
    (tmp_path / "meta.json").write_bytes(format_config(config))
    with pytest.raises(ConfigConflictError, match=r"they differ in erofs_formats\.extra"):
        init(tmp_path)


def test_before_there_were_formats(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"version":1,"algorithm":"fsverity-sha512-12"}')
    assert init(tmp_path, erofs_version=V2) is InitStatus.EXISTED
    with pytest.raises(ConfigConflictError):
        init(tmp_path, erofs_version=V1)


def test_ensure_creates_and_refuses_another_algorithm(tmp_path: Path) -> None:
    assert init(tmp_path, ensure=True, algorithm=SHA256) is InitStatus.CREATED
    with pytest.raises(AlgorithmMismatchError, match="does not match expected fsverity-sha512-12"):
        init(tmp_path, ensure=True)


@pytest.mark.parametrize("ensure", [False, True])
def test_broken_metadata_is_kept(tmp_path: Path, *, ensure: bool) -> None:
    (tmp_path / "meta.json").write_text("junk")
    with pytest.raises(ConfigError):
        init(tmp_path, ensure=ensure)
    assert (tmp_path / "meta.json").read_text() == "junk"


def test_secure_without_verity(tmp_path: Path) -> None:
    if has_verity(tmp_path):
        pytest.skip("this file system has fs-verity")
    with pytest.raises(VerityRequiredError, match="fs-verity"):
        init_repository(str(tmp_path / "r"))
    assert view(tmp_path) == {}


def has_verity(path: Path) -> bool:
    dirfd = os.open(path, os.O_RDONLY)
    try:
        metafile.write_metadata(dirfd, Config.new(SHA512), is_secure=True)
    except VerityRequiredError:
        return False
    else:
        os.unlink("meta.json", dir_fd=dirfd)
        return True
    finally:
        os.close(dirfd)


def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have seen that there is nothing; one link wins, and the other finds what it would have written."""
    barrier = threading.Barrier(2)
    read = metafile.read_metadata

    def wait_first_time(dirfd: int) -> metafile.Metadata | None:
        found = read(dirfd)
        if found is None and not waited.get(threading.get_ident()):
            waited[threading.get_ident()] = True
            barrier.wait(120)
        return found

    waited: dict[int, bool] = {}
    monkeypatch.setattr("cfsctl.repository.setup.init.read_metadata", wait_first_time)
    results: list[InitStatus] = []
    threads = [threading.Thread(target=lambda: results.append(init(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert sorted(result.name for result in results) == ["CREATED", "EXISTED"]
    assert view(tmp_path) == {"meta.json": "219"}


def test_directory_that_another_one_removes_as_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It made the directory, which is empty still when it gives up."""
    path, removals = tmp_path / "a" / "r", 3
    read = metafile.read_metadata

    def remove_first(dirfd: int) -> metafile.Metadata | None:
        nonlocal removals
        if removals:
            removals -= 1
            path.rmdir()
            path.parent.rmdir()
        return read(dirfd)

    monkeypatch.setattr("cfsctl.repository.setup.init.read_metadata", remove_first)
    assert init(path) is InitStatus.CREATED
    assert removals == 0
    assert list(view(path)) == ["meta.json"]


# Old repositories


def make_old(path: Path, algorithm: Algorithm, version: FormatVersion | None = None) -> None:
    """Make a repository of the old format with an object and, if wanted, an image."""
    with make_repository(path, algorithm) as repository:
        object_id = repository.objects.ensure_bytes(b"x" * 100).object_id
        if version is not None:
            repository.images.write(make_image([object_id], version=version), "im")
    (path / "meta.json").unlink()


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize(("version", "expected"), [(None, V2), (V0, V0), (V1, V1), (V2, V2)])
def test_upgrade_on_opening(
    tmp_path: Path, algorithm: Algorithm, version: FormatVersion | None, expected: FormatVersion
) -> None:
    make_old(tmp_path, algorithm, version)
    assert read_config(str(tmp_path)) == Config.new(algorithm, expected)
    assert not (tmp_path / "meta.json").exists()
    with Repository.open(str(tmp_path)) as repository:
        assert (repository.algorithm, repository.erofs_versions) == (algorithm, (expected,))
    assert (tmp_path / "meta.json").read_bytes() == format_config(Config.new(algorithm, expected))
    assert mode_of(tmp_path / "meta.json") == "0o644"


def test_image_that_cannot_be_read_does_not_decide(tmp_path: Path) -> None:
    with make_repository(tmp_path) as repository:
        repository.images.link(repository.objects.ensure_bytes(b"no image" * 200).object_id)
        repository.images.link(ObjectID(bytes(64)))
        repository.images.write(make_image([], version=V1))
    (tmp_path / "meta.json").unlink()
    (tmp_path / "images" / "dangling").symlink_to("nowhere")
    assert read_config(str(tmp_path)).image_formats == (V1,)


def test_no_upgrade_without_being_asked(tmp_path: Path) -> None:
    make_old(tmp_path, SHA512)
    with pytest.raises(NotARepositoryError, match=r"meta.json not found in .*must be initialized"):
        Repository.open(str(tmp_path), upgrade=False)
    with pytest.raises(NotARepositoryError, match="must be initialized"):
        read_config(str(tmp_path), may_infer=False)
    assert not (tmp_path / "meta.json").exists()


def test_upgrade_for_another_algorithm(tmp_path: Path) -> None:
    make_old(tmp_path, SHA256)
    with pytest.raises(AlgorithmMismatchError, match=r"sha256-12 \(from meta.json\) but --hash sha512"):
        Repository.open(str(tmp_path), algorithm=SHA512)
    with pytest.raises(AlgorithmMismatchError, match="not compatible"):
        init(tmp_path, ensure=True)
    with pytest.raises(AlgorithmMismatchError, match="existing objects use fsverity-sha256-12"):
        init(tmp_path)
    assert not (tmp_path / "meta.json").exists()
    assert init(tmp_path, ensure=True, algorithm=SHA256) is InitStatus.UPGRADED


NO_REPOSITORIES = {
    "empty directory": [],
    "no objects": ["objects/"],
    "directories of other names": ["objects/abc/"],
    "files of other names": ["objects/ab/junk"],
}


@pytest.mark.parametrize("entries", NO_REPOSITORIES.values(), ids=NO_REPOSITORIES.keys())
def test_nothing_to_infer_from(tmp_path: Path, entries: list[str]) -> None:
    for entry in entries:
        path = tmp_path / entry
        (path if entry.endswith("/") else path.parent).mkdir(parents=True)
        if not entry.endswith("/"):
            path.touch()
    with pytest.raises(NotARepositoryError, match=r"is not a composefs repository: it has no meta\.json"):
        Repository.open(str(tmp_path))
    assert not (tmp_path / "meta.json").exists()
    assert init(tmp_path, ensure=True) is InitStatus.CREATED


def test_file_among_the_directories_of_objects(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "ab").touch()
    with pytest.raises(NotADirectoryError):
        Repository.open(str(tmp_path))


def test_fifo_for_an_object(tmp_path: Path) -> None:
    (tmp_path / "objects" / "ab").mkdir(parents=True)
    os.mkfifo(tmp_path / "objects" / "ab" / ("0" * 126))
    with pytest.raises(OSError, match="expected a regular file"):
        Repository.open(str(tmp_path))


def test_upgrades_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that comes second finds the link taken and goes on with what is there."""
    make_old(tmp_path, SHA512)
    write = metafile.write_metadata

    def write_twice(dirfd: int, config: Config, *, is_secure: bool) -> None:
        write(dirfd, config, is_secure=is_secure)
        write(dirfd, config, is_secure=is_secure)

    monkeypatch.setattr(upgrade, "write_metadata", write_twice)
    with Repository.open(str(tmp_path)) as repository:
        assert repository.algorithm is SHA512
    assert sorted(name for name in view(tmp_path) if "/" not in name) == ["meta.json", "objects"]
    assert (tmp_path / "meta.json").read_bytes() == format_config(Config.new(SHA512, V2))


# Reset


def test_reset_keeps_objects_alone(tmp_path: Path) -> None:
    with make_repository(tmp_path) as repository:
        repository.images.write(make_image([]), "a/b")
        repository.streams.link("stream", ObjectID(bytes(64)), "r")
    objects = {name for name in view(tmp_path) if name.startswith("objects")}
    assert init(tmp_path, reset_metadata=True, erofs_version=V2) is InitStatus.CREATED
    assert view(tmp_path).keys() == objects | {"meta.json"}
    assert read_config(str(tmp_path)).image_formats == (V2,)
    assert init(tmp_path, reset_metadata=True, ensure=True) is InitStatus.UPGRADED
    assert init(tmp_path / "new", reset_metadata=True, ensure=True) is InitStatus.CREATED


def test_reset_of_an_empty_repository_may_change_the_algorithm(tmp_path: Path) -> None:
    init(tmp_path, algorithm=SHA256)
    assert init(tmp_path, reset_metadata=True) is InitStatus.CREATED
    assert read_config(str(tmp_path)).algorithm is SHA512


def test_reset_that_objects_speak_against_removes_nothing(tmp_path: Path) -> None:
    with make_repository(tmp_path, SHA256) as repository:
        repository.images.write(make_image([]), "a/b")
    before = view(tmp_path)
    for ensure in (False, True):
        with pytest.raises(AlgorithmMismatchError):
            init(tmp_path, reset_metadata=True, ensure=ensure)
    assert view(tmp_path) == before


def test_reset_that_verity_speaks_against_removes_nothing(tmp_path: Path) -> None:
    if has_verity(tmp_path):
        pytest.skip("this file system has fs-verity")
    with make_repository(tmp_path) as repository:
        repository.images.write(make_image([]), "a/b")
    before = view(tmp_path)
    with pytest.raises(VerityRequiredError):
        init_repository(str(tmp_path), reset_metadata=True)
    assert view(tmp_path) == before


def test_reset_replaces_broken_metadata_but_not_newer(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("junk")
    assert init(tmp_path, reset_metadata=True) is InitStatus.CREATED
    (tmp_path / "meta.json").write_bytes(format_config(Config(SHA512, version=2)))
    with pytest.raises(UnsupportedFeatureError):
        init(tmp_path, reset_metadata=True)


def test_reset_follows_no_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "keep").mkdir(parents=True)
    path = tmp_path / "r"
    init(path)
    (path / "images").symlink_to(outside)
    (path / "streams").mkdir()
    (path / "streams" / "out").symlink_to(outside)
    init(path, reset_metadata=True)
    assert view(path) == {"meta.json": "219"}
    assert (outside / "keep").is_dir()


# Opening


def test_opening(tmp_path: Path) -> None:
    init(tmp_path, algorithm=SHA256)
    with Repository.open(str(tmp_path), algorithm=SHA256, erofs_version=V0) as repository:
        assert repository.erofs_versions == (V0,)
        assert not repository.is_secure
        assert repository.config == Config.new(SHA256)
        repository.sync()
    repository.close()
    assert view(tmp_path) == {"meta.json": "219"}


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_no_directory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r"
    if kind == "file":
        path.touch()
    for open_it in (Repository.open, read_config):
        with pytest.raises(NotARepositoryError, match="opening repository"):
            open_it(str(path))


def test_fifo_for_a_repository(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r")
    with pytest.raises(NotARepositoryError):
        Repository.open(str(tmp_path / "r"))


def test_requirements_that_are_not_met(tmp_path: Path) -> None:
    init(tmp_path)
    with pytest.raises(AlgorithmMismatchError, match="--hash sha256 was specified"):
        Repository.open(str(tmp_path), algorithm=SHA256)
    with pytest.raises(VerityRequiredError, match="not initialized with fs-verity"):
        Repository.open(str(tmp_path), require_verity=True)
    (tmp_path / "meta.json").write_bytes(format_config(Config(SHA512, incompatible=("x",))))
    with pytest.raises(UnsupportedFeatureError):
        Repository.open(str(tmp_path))


def test_failed_opening_leaves_no_lock(tmp_path: Path) -> None:
    init(tmp_path)
    with pytest.raises(VerityRequiredError):
        Repository.open(str(tmp_path), require_verity=True)
    assert init(tmp_path, reset_metadata=True, lock_timeout_s=0) is InitStatus.CREATED


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_meta_json_that_is_no_file(tmp_path: Path, kind: str) -> None:
    meta = tmp_path / "meta.json"
    if kind == "link":
        (tmp_path / "other").write_bytes(format_config(Config.new(SHA512)))
        meta.symlink_to("other")
    elif kind == "fifo":
        os.mkfifo(meta)
    else:
        meta.mkdir()
    with pytest.raises(OSError, match=r"regular file|symbolic links"):
        Repository.open(str(tmp_path))


def test_unknown_feature_forbids_every_write(tmp_path: Path) -> None:
    with make_repository(tmp_path) as repository:
        image = repository.images.write(make_image([]), "im")
    config = Config(SHA512, read_only_compatible=("v1_erofs", "future"))
    (tmp_path / "meta.json").write_bytes(format_config(config))
    before = view(tmp_path)
    with Repository.open(str(tmp_path)) as repository:
        assert repository.images.find("im") == image.object_id
        for write in (
            lambda: repository.objects.ensure_bytes(b"new"),
            lambda: repository.images.link(image.object_id, "other"),
            lambda: repository.images.remove_ref("im"),
            lambda: repository.streams.link("s", image.object_id, "r"),
            repository.check_writable,
        ):
            with pytest.raises(NotWritableError, match="future"):
                write()
    assert view(tmp_path) == before


class Kernel:
    """A file system with fs-verity, as far as meta.json and objects go."""

    def __init__(self) -> None:
        self.protected: set[int] = set()

    def enable(self, fd: int, _algorithm: Algorithm) -> None:
        self.protected.add(os.fstat(fd).st_ino)

    def measure(self, fd: int, algorithm: Algorithm) -> ObjectID:
        if os.fstat(fd).st_ino not in self.protected:
            raise VerityMissingError(61, "fs-verity is not enabled on file")
        return ObjectID(bytes(algorithm.digest_size))


def test_secure_where_there_is_verity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()
    for module in (metafile, upgrade):
        monkeypatch.setattr(module, "measure", kernel.measure)
    monkeypatch.setattr(metafile, "enable", kernel.enable)
    assert init_repository(str(tmp_path)) is InitStatus.CREATED
    assert kernel.protected == {(tmp_path / "meta.json").stat().st_ino}
    with Repository.open(str(tmp_path), require_verity=True) as repository:
        assert repository.is_secure
        assert repository.objects.is_secure
    with Repository.open(str(tmp_path), insecure=True) as repository:
        assert not repository.is_secure
    with pytest.raises(VerityRequiredError):
        Repository.open(str(tmp_path), insecure=True, require_verity=True)
    (tmp_path / "meta.json").unlink()
    kernel.protected.clear()
    dirfd = os.open(tmp_path, os.O_RDONLY)
    ObjectStore(dirfd, SHA512).ensure_bytes(b"x")
    os.close(dirfd)
    (file,) = (path for path in (tmp_path / "objects").glob("*/*"))
    kernel.protected.add(file.stat().st_ino)
    with Repository.open(str(tmp_path)) as repository:
        assert repository.is_secure
