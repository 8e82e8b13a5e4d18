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
    assert isinstance(events[0], cfsctl.Started)
    assert events[-1] == cfsctl.Done("scan", FILES + 3)
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
