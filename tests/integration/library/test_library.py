"""Each operation of the library, and what is left when its callback ends it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cfsctl
from tests.integration.library.conftest import FILES, REF

if TYPE_CHECKING:
    from collections.abc import Callable


class StoppedError(Exception):
    """What a program of its own raises."""


class Stop:
    """Ends the operation at an event, and counts what comes after that."""

    def __init__(self, when: Callable[[cfsctl.Event], bool]) -> None:
        self._when = when
        self.events: list[cfsctl.Event] = []
        self.has_stopped = False

    def __call__(self, event: cfsctl.Event) -> None:
        assert not self.has_stopped
        self.events.append(event)
        if self._when(event):
            self.has_stopped = True
            raise StoppedError


def advanced(name: str) -> Callable[[cfsctl.Event], bool]:
    return lambda event: isinstance(event, cfsctl.Advanced) and event.id == name


def names_of(repository: cfsctl.Repository) -> list[str]:
    """Return all names there are, of images and streams, and refs to them."""
    root = Path(repository.path)
    found = [*(root / "images").rglob("*"), *(root / "streams").rglob("*")]
    return sorted(str(path.relative_to(root)) for path in found if path.is_symlink())


def check_nothing_is_half_done(repository: cfsctl.Repository) -> None:
    report = repository.fsck(deep=True)
    assert report.is_ok, report.findings
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_images_of_directories(repository: cfsctl.Repository, tree: Path) -> None:
    events: list[cfsctl.Event] = []
    image = repository.create_image(tree, "web", progress=events.append)
    assert repository.images() == {"web": image}
    assert repository.find_image("web") == image == repository.find_image(image.hex())
    assert repository.find_image("other") is None
    told = [event for event in events if not isinstance(event, cfsctl.Waiting)]
    assert isinstance(told[0], cfsctl.Started)
    assert told[-1] == cfsctl.Done("scan", FILES + 3)
    repository.remove_image("web")
    assert repository.images() == {}


def test_difference_of_trees(repository: cfsctl.Repository, tree: Path) -> None:
    repository.create_image(tree, "web")
    assert list(repository.diff("web", f"dir:{tree}")) == []
    (tree / "usr" / "share" / "0").unlink()
    (tree / "usr" / "share" / "1").chmod(0o600)
    (tree / "usr" / "new").symlink_to("share")
    ignore = {cfsctl.Attribute.MTIME}
    added, removed, changed = repository.diff("web", str(tree), ignore=ignore)
    assert isinstance(added, cfsctl.Added)
    assert added.path == b"/usr/new"
    assert isinstance(removed, cfsctl.Removed)
    assert removed.path == b"/usr/share/0"
    assert isinstance(changed, cfsctl.Changed)
    assert changed.changes == (cfsctl.Change(cfsctl.Attribute.MODE, "0644", "0600"),)


def test_pull_from_a_directory(repository: cfsctl.Repository, ostree: Path) -> None:
    result = repository.pull(ostree, REF)
    assert result.files_fetched == FILES
    assert repository.tags() == {REF: result.commit}
    assert repository.commit_image(REF) == result.image_id
    repository.tag(REF, "kept")
    repository.untag(REF)
    assert repository.tags() == {"kept": result.commit}


def test_pull_over_http(repository: cfsctl.Repository, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    result = repository.pull(url, REF)
    assert result.tag == REF
    assert repository.fsck(deep=True).is_ok


def test_pull_heeds_how_to_reach_the_server(repository: cfsctl.Repository, url: str) -> None:
    nowhere = cfsctl.ConnectionOptions(proxies={"http": "http://127.0.0.1:9"})
    with pytest.raises(cfsctl.FetchError) as caught:
        repository.pull(url, REF, connection=nowhere)
    assert caught.value.exit_code is cfsctl.ExitCode.NETWORK


@pytest.mark.parametrize("over_http", [False, True])
def test_trust_that_is_demanded_and_missing(
    repository: cfsctl.Repository, ostree: Path, url: str, *, over_http: bool
) -> None:
    trust = cfsctl.trust_keys(sign_keys=["ed25519=inline:S+reKyM0MLlxi6rOzw/gUcsiogtteaWp/FrYc4ji9zw="])
    with pytest.raises(cfsctl.PolicyError, match="found no signature"):
        repository.pull(url if over_http else ostree, REF, trust=trust)
    assert repository.tags() == {}


def test_keys_that_are_spelt_wrongly() -> None:
    with pytest.raises(ValueError, match="keys: expected ed25519"):
        cfsctl.trust_keys(sign_keys=["nothing"])


def test_collection(repository: cfsctl.Repository, tree: Path) -> None:
    repository.create_image(tree, "web")
    repository.remove_image("web")
    assert repository.gc(dry_run=True).objects_removed == FILES + 1
    with pytest.raises(cfsctl.RepositoryError, match="garbage"):
        repository.gc(max_delete=3)
    events: list[cfsctl.Event] = []
    assert repository.gc(progress=events.append).objects_removed == FILES + 1
    assert [event for event in events if isinstance(event, cfsctl.Done)] == [
        cfsctl.Done("mark", 0),
        cfsctl.Done("sweep", FILES + 1),
    ]


def test_a_lock_that_somebody_else_has(repository: cfsctl.Repository) -> None:
    with cfsctl.Repository.open(repository.path), pytest.raises(cfsctl.LockedError):
        repository.gc(lock_timeout_s=0.1)


def test_damage_is_reported_not_raised(repository: cfsctl.Repository, tree: Path) -> None:
    repository.create_image(tree, "web")
    victim = next(path for path in Path(repository.path, "objects").rglob("*") if path.is_file())
    victim.chmod(0o600)
    victim.write_bytes(b"?")
    report = repository.fsck()
    assert not report.is_ok
    assert any(victim.name in line for line in report.findings)


def test_what_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(cfsctl.NotARepositoryError) as caught:
        cfsctl.Repository.open(tmp_path)
    assert caught.value.exit_code is cfsctl.ExitCode.NO_REPOSITORY


# Cancellation


@pytest.mark.parametrize("over_http", [False, True])
@pytest.mark.parametrize("when", ["start", "metadata", "files"])
def test_pull_that_is_cancelled_goes_on_later(
    repository: cfsctl.Repository, ostree: Path, url: str, when: str, *, over_http: bool
) -> None:
    source = url if over_http else ostree
    stop = Stop(advanced(when) if when != "start" else lambda _: True)
    with pytest.raises(StoppedError):
        repository.pull(source, REF, progress=stop)
    assert stop.has_stopped
    assert repository.tags() == {}
    assert repository.images() == {}
    check_nothing_is_half_done(repository)
    result = repository.pull(source, REF)
    assert repository.tags() == {REF: result.commit}
    if when == "files":
        assert result.files_fetched < FILES
    check_nothing_is_half_done(repository)


def test_image_that_is_cancelled_has_no_name(repository: cfsctl.Repository, tree: Path) -> None:
    before = repository.create_image(tree / "usr", "web", as_root=False)
    names = names_of(repository)
    for when in (lambda _: True, lambda event: isinstance(event, cfsctl.Done)):
        stop = Stop(when)
        with pytest.raises(StoppedError):
            repository.create_image(tree, "web", progress=stop)
        assert names_of(repository) == names
        check_nothing_is_half_done(repository)
    assert repository.images() == {"web": before}
    assert repository.create_image(tree, "web") != before


def test_collection_that_is_cancelled_before_it_removes(repository: cfsctl.Repository, tree: Path) -> None:
    repository.create_image(tree, "web")
    repository.remove_image("web")
    names = names_of(repository)
    with pytest.raises(StoppedError):
        repository.gc(progress=Stop(lambda event: isinstance(event, cfsctl.Done)))
    assert names_of(repository) == names
    assert repository.gc(dry_run=True).objects_removed == FILES + 1


def test_collection_that_is_cancelled_while_it_removes(repository: cfsctl.Repository, tree: Path) -> None:
    kept = repository.create_image(tree / "usr" / "share", "kept", as_root=False)
    for number in range(FILES // 2):
        (tree / "usr" / "share" / str(number)).write_bytes(b"other %d\n" % number * 30_000)
    repository.create_image(tree, "web")
    repository.remove_image("web")
    with pytest.raises(StoppedError):
        repository.gc(progress=Stop(advanced("sweep")))
    assert repository.images() == {"kept": kept}
    check_nothing_is_half_done(repository)
    with cfsctl.Repository.open(repository.path) as other:  # the lock is shared again
        assert 0 < other.gc(dry_run=True).objects_removed < FILES // 2 + 1
    assert repository.gc().objects_removed > 0
    check_nothing_is_half_done(repository)


def test_check_that_is_cancelled(repository: cfsctl.Repository, tree: Path) -> None:
    repository.create_image(tree, "web")
    with pytest.raises(StoppedError):
        repository.fsck(progress=Stop(advanced("fsck")))
    check_nothing_is_half_done(repository)


def test_difference_that_is_cancelled(repository: cfsctl.Repository, tree: Path) -> None:
    repository.create_image(tree, "web")
    with pytest.raises(cfsctl.CancelledError, match="cancelled"):
        repository.diff("web", str(tree), progress=_cancel)
    check_nothing_is_half_done(repository)


def _cancel(_: cfsctl.Event) -> None:
    raise cfsctl.CancelledError


def test_a_callback_that_raised_is_not_asked_again(repository: cfsctl.Repository, url: str) -> None:
    """Deltas are given up for objects when something of them fails; cancelling is no such failure."""
    asked: list[cfsctl.Event] = []

    def progress(event: cfsctl.Event) -> None:
        asked.append(event)
        raise cfsctl.CancelledError("enough")

    with pytest.raises(cfsctl.CancelledError, match="enough"):
        repository.pull(url, REF, progress=progress)
    assert len(asked) == 1


# Errors


@pytest.mark.parametrize("over_http", [False, True])
def test_a_ref_that_is_missing_is_one_error_wherever_it_is_missing(
    repository: cfsctl.Repository, ostree: Path, url: str, *, over_http: bool
) -> None:
    with pytest.raises(cfsctl.RefNotFoundError) as there:
        repository.pull(url if over_http else ostree, "no/such/ref")
    with pytest.raises(cfsctl.RefNotFoundError) as here:
        repository.remove_image("no/such/ref")
    assert there.value.exit_code is here.value.exit_code is cfsctl.ExitCode.NOT_FOUND


def test_an_object_that_is_missing_is_one_error_wherever_it_is_missing(
    repository: cfsctl.Repository, ostree: Path, tree: Path
) -> None:
    for path in (ostree / "objects").rglob("*.dirtree"):
        path.unlink()
    with pytest.raises(cfsctl.ObjectMissingError, match="is missing from"):
        repository.pull(ostree, REF)
    image = repository.create_image(tree, "web").hex()
    Path(repository.path, "objects", image[:2], image[2:]).unlink()
    with pytest.raises(cfsctl.ObjectMissingError, match="is missing from"):
        list(repository.diff("web", f"dir:{tree}"))


# What prints as text, and what is refused


def test_ids_print_as_text(repository: cfsctl.Repository, tree: Path, ostree: Path) -> None:
    image = repository.create_image(tree, "web")
    result = repository.pull(ostree, REF)
    for digest in (image, repository.images()["web"], repository.tags()[REF], result.commit, result.image_id):
        assert str(digest) == format(digest) == digest.hex()
        assert digest.hex() in repr(digest)
        assert digest == bytes(digest)
    assert format(image, ".12") == image.hex()[:12]
    assert isinstance(image, cfsctl.ObjectID)  # type: ignore[misc]
    assert isinstance(result.commit, cfsctl.Checksum)  # type: ignore[misc]


def test_a_path_is_opened_by_open() -> None:
    with pytest.raises(
        TypeError, match=r"Repository\('store'\).*use Repository\.open\(path\) or Repository\.init"
    ):
        cfsctl.Repository("store")


def test_use_after_close_is_refused(repository: cfsctl.Repository, tree: Path) -> None:
    repository.close()
    repository.close()
    assert repository.is_closed
    assert "closed" in repr(repository)
    for use in (
        repository.images,
        repository.gc,
        repository.fsck,
        repository.stats,
        lambda: repository.create_image(tree),
        lambda: repository.pull(tree, "main"),
        lambda: repository.algorithm,
    ):
        with pytest.raises(ValueError, match="is closed: open it again"):
            use()


def test_subpaths_are_checked_before_anything_is_opened() -> None:
    with pytest.raises(cfsctl.CfsError, match="expected a path within the tree"):
        cfsctl.PullOptions(subpaths=["/usr/../etc"])


# More that commands do


def test_commits_of_images(repository: cfsctl.Repository, tree: Path, ostree: Path, tmp_path: Path) -> None:
    repository.create_image(tree, "web", as_root=False)
    made = repository.commit("web", "made", subject="one", timestamp_s=1)
    child = repository.commit("web", "made", subject="two", parent="made", metadata=[("key", "value")])
    info = repository.commit_info("made")
    assert (info.commit, info.parent, info.subject) == (child.commit, made.commit, "two")
    assert ("key", "value") in info.metadata
    assert [entry.checksum for entry in repository.history("made")] == [child.commit, made.commit]
    assert repository.export("made", ostree, "exported") == child.commit
    assert ("exported", child.commit) in [(ref.name, ref.commit) for ref in cfsctl.list_refs(ostree)]
    with cfsctl.Repository.init(tmp_path / "other", insecure=True) as other:
        copied = repository.copy("made", other)
        assert other.tags() == {"made": child.commit}
        assert copied.counts.copied > 0
        other.tag("made", "again")
        assert set(other.tags()) == {"made", "again"}


def test_several_refs_at_once(repository: cfsctl.Repository, ostree: Path) -> None:
    (estimate,) = repository.estimate_pull(ostree, None)
    assert not estimate.is_here
    (result,) = repository.pull_refs(ostree, None)
    assert (result.tag, result.commit) == (REF, estimate.commit)
    (estimate,) = repository.estimate_pull(ostree, [REF])
    assert estimate.is_here


def test_statistics_and_repair(repository: cfsctl.Repository, tree: Path) -> None:
    image = repository.create_image(tree, "web")
    assert repository.stats().objects == FILES + 1
    victim = Path(repository.path, "objects", image.hex()[:2], image.hex()[2:])
    assert repository.explain_object(image).is_kept
    victim.unlink()
    assert not repository.repair().after.is_ok
    big = next(path for path in (tree / "usr" / "share").iterdir())
    assert big.exists()


def test_what_needs_no_repository(repository: cfsctl.Repository, tree: Path) -> None:
    image = repository.create_image(tree, "web")
    assert cfsctl.compute_id(tree) == image
    assert cfsctl.compute_id(tree, cfsctl.ScanOptions(cache=repository.path)) == image
    assert image.hex() in cfsctl.format_kernel_argument(image)
    assert b"/usr/share/0 " in b"".join(cfsctl.create_dumpfile(tree))
    assert list(cfsctl.diff(f"dir:{tree}", f"dir:{tree}")) == []
    assert cfsctl.explain_digest(f"dir:{tree}", image).is_explained
    with pytest.raises(cfsctl.CfsError, match="no repository"):
        cfsctl.diff("image:web", f"dir:{tree}")
