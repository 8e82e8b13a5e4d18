"""What is installed: images that are kept for boot entries, their entries and their states."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.boot.bls import MAX_ENTRY_BYTES, BootLoaderEntry
from cfsctl.boot.cmdline import KernelArgumentError, iter_images
from cfsctl.boot.directory import BootDirectory
from cfsctl.boot.kept import list_kept, release_image
from cfsctl.boot.plan import ENTRIES, UKIS, name_suffix
from cfsctl.boot.state import StateRoot
from cfsctl.boot.uki import read_cmdline
from cfsctl.digest import DigestFormatError, parse_object_id
from cfsctl.errors import CfsError, ExitCode, FormatError, RefNotFoundError
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

_MAX_UKI_BYTES: Final = 1 << 30
_MAX_DEPTH: Final = 4


class BootedError(CfsError):
    """The image that the machine has booted, which is not removed."""

    exit_code = ExitCode.POLICY


class InstalledEntry(NamedTuple):
    """A boot entry on the boot partition.

    Attributes:
        path: Its file, relative to the partition.
        images: The images that it names.
        files: Files that its lines name, relative to the partition.
    """

    path: str
    images: frozenset[ObjectID]
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the entry, without its suffix."""
        return self.path.rpartition("/")[2].removesuffix(".conf").removesuffix(".efi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An image that can be booted.

    Attributes:
        image: The image.
        entries: Files of boot entries that name it, relative to the boot partition.
        is_booted: Whether the machine's kernel command line names it.
        is_kept: Whether a ref keeps it because it was installed.
        is_stored: Whether the repository has it.
        state: Directory of its state, or None if there is none.
    """

    image: ObjectID
    entries: tuple[str, ...]
    is_booted: bool
    is_kept: bool
    is_stored: bool
    state: str | None


class RemovedDeployment(NamedTuple):
    """What was removed with a deployment, and what was left.

    Attributes:
        files: Files of the boot partition that are gone.
        left: Files that its entries named and that may be somebody else's.
        state: Directory of the state if it was removed, or None.
    """

    files: tuple[str, ...]
    left: tuple[str, ...]
    state: str | None


def read_booted_cmdline() -> str:
    """Return the command line of the running kernel; empty where it cannot be read."""
    try:
        with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def list_entries(
    directory: BootDirectory, algorithm: Algorithm, reporter: Reporter = silent
) -> list[InstalledEntry]:
    """Return the boot entries of a partition, sorted; what cannot be read is reported and skipped."""
    found = []
    for path in _entry_paths(directory):
        try:
            entry = _read_entry(directory, path, algorithm)
        except (FormatError, OSError) as error:
            reporter(Message(f"{directory.path}/{path}: skipped: {error}"))
        else:
            found.append(entry)
    return found


def _entry_paths(directory: BootDirectory) -> Iterator[str]:
    for name, is_directory in directory.list_names(ENTRIES):
        if name.endswith(".conf") and not is_directory:
            yield f"{ENTRIES}/{name}"
    yield from _uki_paths(directory, UKIS, _MAX_DEPTH)


def _uki_paths(directory: BootDirectory, path: str, depth: int) -> Iterator[str]:
    for name, is_directory in directory.list_names(path):
        if is_directory and depth:
            yield from _uki_paths(directory, f"{path}/{name}", depth - 1)
        elif name.endswith(".efi") and not name.endswith(".addon.efi"):
            yield f"{path}/{name}"


def _read_entry(directory: BootDirectory, path: str, algorithm: Algorithm) -> InstalledEntry:
    if path.endswith(".efi"):
        cmdline = read_cmdline(directory.read(path, _MAX_UKI_BYTES) or b"")
        return InstalledEntry(path, frozenset(iter_images(cmdline, algorithm)))
    entry = BootLoaderEntry.parse(directory.read(path, MAX_ENTRY_BYTES) or b"")
    cmdline = " ".join(entry.values("options"))
    files = tuple(value.strip("/") for value in entry.files())
    return InstalledEntry(path, frozenset(iter_images(cmdline, algorithm)), files)


def list_deployments(
    repository: Repository, bootdir: str, stateroot: str, reporter: Reporter = silent
) -> list[Deployment]:
    """Return what can be booted: images that are kept, named by a boot entry, or have a state; sorted.

    A boot partition or state root that is missing counts as empty.
    """
    algorithm = repository.algorithm
    try:
        with BootDirectory(bootdir, create=False, is_locked=False) as directory:
            entries = list_entries(directory, algorithm, reporter)
    except (FileNotFoundError, NotADirectoryError):
        entries = []
    kept = set(list_kept(repository))
    states = _list_states(stateroot, algorithm)
    booted = _booted_images(algorithm)
    named = {image_id for entry in entries for image_id in entry.images}
    return [
        Deployment(
            image=image_id,
            entries=tuple(entry.path for entry in entries if image_id in entry.images),
            is_booted=image_id in booted,
            is_kept=image_id in kept,
            is_stored=repository.images.find(image_id.hex()) is not None,
            state=states.get(image_id),
        )
        for image_id in sorted(kept | named | states.keys())
    ]


def _booted_images(algorithm: Algorithm) -> set[ObjectID]:
    with contextlib.suppress(KernelArgumentError):
        return set(iter_images(read_booted_cmdline(), algorithm))
    return set()


def _list_states(stateroot: str, algorithm: Algorithm) -> dict[ObjectID, str]:
    found = {}
    try:
        with StateRoot(stateroot) as states:
            for name in states.list_names():
                with contextlib.suppress(DigestFormatError):
                    image_id = parse_object_id(name, algorithm)
                    found[image_id] = states.path_of(image_id)
    except CfsError:
        return {}
    return found


def remove_deployment(
    repository: Repository,
    image_id: ObjectID,
    bootdir: str,
    stateroot: str,
    *,
    purge_state: bool = False,
    force: bool = False,
    reporter: Reporter = silent,
) -> RemovedDeployment:
    """Remove the boot entries of an image, then their files, its state if that is asked for, and its ref.

    The image itself stays until garbage is collected. Files are removed from directories that are called
    like the entry, which nobody else uses; others are left.

    Args:
        repository: Where the image is.
        image_id: The image.
        bootdir: Where the boot partition is mounted.
        stateroot: Directory that has ``state/deploy``.
        purge_state: Remove what the deployment has written to ``/etc`` and ``/var`` as well.
        force: Also if it is what the machine has booted.
        reporter: Told of entries that cannot be read.

    Raises:
        BootedError: It is what the machine has booted.
        RefNotFoundError: Nothing of the kind is installed.
        OSError: Something cannot be removed.
    """
    repository.check_writable()
    if not force and image_id in _booted_images(repository.algorithm):
        raise BootedError(
            f"image {image_id.hex()} is what this machine has booted",
            hint="boot another one first, or use --force",
        )
    removed, left = _remove_entries(repository, image_id, bootdir, reporter)
    state = _remove_state(stateroot, image_id) if purge_state else None
    if not release_image(repository, image_id) and not removed and state is None:
        raise RefNotFoundError(
            f"no deployment of image {image_id.hex()}", hint="list them with `cfsctl boot list`"
        )
    return RemovedDeployment(tuple(removed), tuple(left), state)


def _remove_entries(
    repository: Repository, image_id: ObjectID, bootdir: str, reporter: Reporter
) -> tuple[list[str], list[str]]:
    removed: list[str] = []
    left: list[str] = []
    try:
        directory = BootDirectory(bootdir, create=False, reporter=reporter)
    except (FileNotFoundError, NotADirectoryError):
        return removed, left
    with directory:
        entries = list_entries(directory, repository.algorithm, reporter)
        going = [entry for entry in entries if image_id in entry.images]
        staying = {file for entry in entries if entry not in going for file in entry.files}
        for entry in going:
            # The entry first: a boot loader must not offer what has lost its files.
            removed += [entry.path] if directory.remove(entry.path) else []
            for file in dict.fromkeys(entry.files):
                if file in staying or not file.startswith(f"{entry.name}/") or ".." in file.split("/"):
                    left.append(file)
                elif directory.remove(file):
                    removed.append(file)
        # Of a removal that was killed after the entry was gone.
        removed += [
            file
            for file in _files_named_after(directory, image_id)
            if file not in staying and directory.remove(file)
        ]
    return removed, left


def _files_named_after(directory: BootDirectory, image_id: ObjectID) -> list[str]:
    """Return the files in directories that were made for an image, as `PlanRequest.name_for` calls them."""
    suffix = name_suffix(image_id)
    tops = [name for name, is_directory in directory.list_names("") if is_directory]
    return [
        f"{top}/{name}"
        for top in tops
        if top.endswith(suffix)
        for name, is_directory in directory.list_names(top)
        if not is_directory
    ]


def _remove_state(stateroot: str, image_id: ObjectID) -> str | None:
    with StateRoot(stateroot) as states:
        return states.path_of(image_id) if states.remove(image_id) else None
