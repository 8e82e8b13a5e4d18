"""Installing a boot entry for an image: everything is checked first, and the entry comes last.

entries ─▶ choice ─▶ is it sealed for this image? ─▶ plan ─▶ space
                                                              │
          the image, durable, with a ref ─▶ state directories ─▶ files ─▶ entry
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from cfsctl.boot.choice import NEWEST, BootRules, choose_entry, describe, find_newest
from cfsctl.boot.cmdline import format_argument
from cfsctl.boot.content import read_leaf
from cfsctl.boot.contents import content_reader, new_file
from cfsctl.boot.directory import BootDirectory
from cfsctl.boot.entries import MAX_KERNEL_BYTES, AbootPayload, Type2Entry
from cfsctl.boot.kept import keep_image, release_image
from cfsctl.boot.paths import check_argument, check_name
from cfsctl.boot.payload import open_targets
from cfsctl.boot.plan import PlanRequest, check_cmdline_is_free, make_plan
from cfsctl.boot.sealed import WrongImageError, check_named_image, payload_cmdline
from cfsctl.boot.state import StateRoot
from cfsctl.boot.uki import read_cmdline
from cfsctl.erofs.format import FormatVersion
from cfsctl.errors import CfsError, ExitCode
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cfsctl.boot.directory import NewFile
    from cfsctl.boot.entries import BootEntry, BootFile
    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

DEFAULT_BOOTDIR: Final = "/boot"


class PayloadTargetError(CfsError):
    """An aboot payload without a place to write it to, or a place without a payload."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareOptions:
    """How a boot entry is installed.

    Attributes:
        bootdir: Where the boot partition is mounted.
        stateroot: Directory that has ``state/deploy``; None is the one that has the repository.
        entry: Which boot entry of the tree: its name, ``newest``, or None for what the rules say.
        entry_id: Name of the installed entry, or None for what the rules say.
        cmdline: Kernel arguments to add.
        rules: Whose rules choose and write.
        with_addons: Install addons with a unified kernel image; None is what the rules say.
        payload: File or partition for an aboot payload.
        vbmeta: File or partition for its vbmeta image.
        lock_timeout_s: Longest time to wait for another program that writes there; None waits forever.
    """

    bootdir: str = DEFAULT_BOOTDIR
    stateroot: str | None = None
    entry: str | None = None
    entry_id: str | None = None
    cmdline: Sequence[str] = ()
    rules: BootRules = BootRules.ORIGINAL
    with_addons: bool | None = None
    payload: str | None = None
    vbmeta: str | None = None
    lock_timeout_s: float | None = None

    def check(self) -> None:
        """Check what can be checked before anything is opened.

        Raises:
            BootNameError: A name or an argument cannot be used.
        """
        if self.entry_id is not None:
            check_name(self.entry_id, "--entry-id")
        for argument in self.cmdline:
            check_argument(argument)


class ImageSet(NamedTuple):
    """The images of a tree.

    Attributes:
        by_version: IDs by format, the default format first.
        note: What is special about them, or an empty text.
    """

    by_version: Mapping[FormatVersion, ObjectID]
    note: str = ""

    def preferred(self) -> tuple[FormatVersion, ObjectID]:
        """Return the image that is booted unless a command line names another: format 1 before 2."""
        for version, image_id in self.by_version.items():
            if version is not FormatVersion.V2:
                return version, image_id
        return next(iter(self.by_version.items()))


class BootSource(Protocol):
    """A tree that can be booted, wherever it comes from."""

    @property
    def entries(self) -> Sequence[BootEntry]:
        """Its boot entries."""

    @property
    def os_release(self) -> Mapping[str, str]:
        """Values of its os-release."""

    @property
    def labels(self) -> Mapping[str, bytes]:
        """SELinux labels of directories at its top, by name."""

    @property
    def missing(self) -> Sequence[str]:
        """Directories that something is mounted on when it boots, and that it lacks."""

    def images(self) -> ImageSet:
        """Return its images, which need not be stored yet."""

    def find_older(self, image_id: ObjectID) -> ImageSet | None:
        """Return the images by an older rule if this ID is among them."""

    def publish(self, images: ImageSet) -> None:
        """Store images, make everything durable, and name them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was installed.

    Attributes:
        image: The image that is booted.
        argument: The kernel argument that names it; None where a signed command line does.
        entry: The boot entry of the tree.
        files: What the boot entry consists of, relative to the boot partition, the entry last.
        written: Those that were not there before.
        state: Directory of the state.
        notes: What users should know of.
    """

    image: ObjectID
    argument: str | None
    entry: str
    files: tuple[str, ...]
    written: tuple[str, ...]
    state: str
    notes: tuple[str, ...] = field(default=())


def prepare(
    repository: Repository,
    source: BootSource,
    stateroot: str,
    options: PrepareOptions,
    reporter: Reporter = silent,
) -> Prepared:
    """Install a boot entry for a tree.

    Args:
        repository: Where its objects are.
        source: The tree.
        stateroot: Directory that has ``state/deploy``, unless the options say otherwise.
        options: How.
        reporter: Told what users should know of.

    Raises:
        NoEntryError: There is no such boot entry.
        CfsError: The entry cannot be installed; nothing has changed then.
        OSError: Something cannot be written; the entry is not installed then.
    """
    options.check()
    repository.check_writable()
    return _Preparation(repository, source, options, reporter).run(options.stateroot or stateroot)


class _Preparation:
    def __init__(
        self, repository: Repository, source: BootSource, options: PrepareOptions, reporter: Reporter
    ) -> None:
        self._repository = repository
        self._source = source
        self._options = options
        self._report = reporter
        self._entry = choose_entry(source.entries, options.entry, options.rules)
        self._notes: list[str] = []

    def run(self, stateroot: str) -> Prepared:
        is_sealed = self._check_options()
        if self._source.missing:
            self._notes.append(
                f"the image has no {', no '.join(f'/{name}' for name in self._source.missing)}:"
                " it does not boot unless setup-root-conf.toml says that nothing is mounted there"
            )
        images, version, image_id = self._choose_image()
        argument = self._format_argument(images, version, image_id)
        plan = make_plan(self._entry, self._source.entries, self._request(image_id, argument))
        self._notes += plan.notes
        files = [new_file(self._repository, planned) for planned in plan.files]
        for note in self._notes:
            self._report(Message(note))
        with StateRoot(stateroot) as states:
            written = self._install(images, image_id, files, states)
            return Prepared(
                image=image_id,
                argument=None if is_sealed else argument,
                entry=plan.entry,
                files=tuple(file.path for file in files),
                written=tuple(written),
                state=states.path_of(image_id),
                notes=tuple(self._notes),
            )

    def _check_options(self) -> bool:
        """Return whether the entry has a command line of its own; check that the options fit to it."""
        entry, options = self._entry, self._options
        if options.entry is None and options.rules is BootRules.ORIGINAL:
            self._note_choice()
        if isinstance(entry, AbootPayload):
            check_cmdline_is_free(options.cmdline, "aboot payloads")
            if options.payload is None:
                raise PayloadTargetError(
                    "writing aboot payloads is not supported without a place for them",
                    hint="name the file or partition with --payload"
                    + ("" if entry.vbmeta is None else ", and that of the vbmeta image with --vbmeta"),
                )
            if (entry.vbmeta is None) != (options.vbmeta is None):
                problem = "needs --vbmeta" if options.vbmeta is None else "has no vbmeta image"
                raise PayloadTargetError(f"{describe(entry)} {problem}")
            return True
        if options.payload is not None or options.vbmeta is not None:
            raise PayloadTargetError(
                f"--payload and --vbmeta are for aboot payloads, not for {describe(entry)}"
            )
        if isinstance(entry, Type2Entry):
            check_cmdline_is_free(options.cmdline, "UKIs")
            return True
        return False

    def _note_choice(self) -> None:
        newest = find_newest(self._source.entries)
        if newest is not None and newest is not self._entry:
            self._notes.append(
                f"installing {describe(self._entry)}, the first boot entry, as the original does;"
                f" the newest is {describe(newest)} (--entry={NEWEST})"
            )

    def _choose_image(self) -> tuple[ImageSet, FormatVersion, ObjectID]:
        images = self._source.images()
        cmdline = self._read_cmdline()
        if cmdline is None:
            return images, *images.preferred()
        what = "UKI" if isinstance(self._entry, Type2Entry) else "aboot payload"
        allowed = [*images.by_version.values()]
        try:
            found = check_named_image(cmdline, self._repository.algorithm, allowed, what)
        except WrongImageError as error:
            older = self._source.find_older(error.found)
            if older is None:
                raise
            self._notes.append(older.note)
            images, found = older, error.found
        version = next(version for version, image_id in images.by_version.items() if image_id == found)
        return images, version, found

    def _read_cmdline(self) -> str | None:
        """Return the command line that is part of the entry, or None."""
        match self._entry:
            case Type2Entry(file=file):
                return read_cmdline(self._read(file))
            case AbootPayload(payload=file, kind=kind):
                return payload_cmdline(self._read(file), kind)
            case _:
                return None

    def _read(self, file: BootFile) -> bytes:
        content = read_leaf(file.node, file.path, content_reader(self._repository), MAX_KERNEL_BYTES)
        return content or b""

    def _format_argument(self, images: ImageSet, version: FormatVersion, image_id: ObjectID) -> str:
        # The original writes the older key wherever format 2 is made as well.
        is_legacy = version is FormatVersion.V2 or (
            self._options.rules is BootRules.ORIGINAL and FormatVersion.V2 in images.by_version
        )
        return format_argument(image_id, is_format_2=is_legacy, is_insecure=not self._repository.is_secure)

    def _request(self, image_id: ObjectID, argument: str) -> PlanRequest:
        options = self._options
        with_addons = options.with_addons
        return PlanRequest(
            image_id=image_id,
            argument=argument,
            cmdline=options.cmdline,
            entry_id=options.entry_id,
            rules=options.rules,
            with_addons=options.rules is BootRules.CFSCTL if with_addons is None else with_addons,
            os_release=self._source.os_release,
        )

    def _install(
        self, images: ImageSet, image_id: ObjectID, files: Sequence[NewFile], states: StateRoot
    ) -> list[str]:
        """Write everything; return the paths of new files."""
        options = self._options
        if isinstance(self._entry, AbootPayload):
            payloads = self._find_payloads(self._entry)
            with open_targets(self._repository, payloads) as write:
                self._publish(images, image_id)
                states.ensure(image_id, self._source.labels)
                write()
            return [target for target, _ in payloads]
        with BootDirectory(
            options.bootdir, lock_timeout_s=options.lock_timeout_s, reporter=self._report
        ) as directory:
            changed = directory.find_changed(files)
            directory.check_space(changed)
            is_new = self._publish(images, image_id)
            states.ensure(image_id, self._source.labels)
            try:
                directory.write(changed)
            except BaseException:
                states.undo()
                if is_new:
                    release_image(self._repository, image_id)
                raise
        return [file.path for file in changed]

    def _publish(self, images: ImageSet, image_id: ObjectID) -> bool:
        self._source.publish(images)
        return keep_image(self._repository, image_id)

    def _find_payloads(self, entry: AbootPayload) -> list[tuple[str, BootFile]]:
        """Return targets and their files, in the order in which they are written."""
        assert self._options.payload is not None
        payloads = [(self._options.payload, entry.payload)]
        if entry.vbmeta is not None and self._options.vbmeta is not None:
            # Before the payload: what verifies it must be there first.
            payloads.insert(0, (self._options.vbmeta, entry.vbmeta))
        return payloads
