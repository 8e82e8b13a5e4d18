"""What is written for a boot entry: which files, with which names, and the text of the entry. No I/O.

    type 1, kernel   the files that the entry names, then loader/entries/NAME.conf
    UKI              addons, if they are wanted, then EFI/Linux/NAME.efi
    aboot            nothing on the boot partition; the payload goes where the user says

The file that makes the boot loader see the entry is always the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cfsctl.boot.bls import BootLoaderEntry, EntryError, kernel_entry
from cfsctl.boot.choice import BootRules, describe
from cfsctl.boot.entries import AbootPayload, BootFile, KernelEntry, Type1Entry, Type2Entry, Type2Kind
from cfsctl.boot.os_release import boot_label
from cfsctl.boot.paths import check_name, check_path
from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cfsctl.boot.entries import BootEntry
    from cfsctl.digest import ObjectID

ENTRIES: Final = "loader/entries"
UKIS: Final = "EFI/Linux"
ADDONS: Final = "loader/addons"

_MAX_TITLE: Final = 200
"""Characters of a title; a boot menu shows fewer."""

_SHORT_ID: Final = 12
"""Digits of the image's ID in names that are made for it."""


def name_suffix(image_id: ObjectID) -> str:
    """Return what names that are made for an image end with."""
    return f"-{image_id.hex()[:_SHORT_ID]}"


class FixedCommandLineError(CfsError):
    """Kernel arguments for something whose command line cannot be changed."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file to write.

    Attributes:
        path: Relative to the boot partition, checked.
        content: A file of the tree, or the content itself.
    """

    path: str
    content: BootFile | bytes


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is asked of a plan.

    Attributes:
        image_id: The image that is booted.
        argument: The kernel argument that names it.
        cmdline: Further kernel arguments.
        entry_id: Name of the entry, or None for the rules'.
        rules: How names and texts are made.
        with_addons: Install addons along with a unified kernel image.
        os_release: Values of the tree's os-release.
    """

    image_id: ObjectID
    argument: str
    cmdline: Sequence[str] = ()
    entry_id: str | None = None
    rules: BootRules = BootRules.ORIGINAL
    with_addons: bool = False
    os_release: Mapping[str, str] = field(default_factory=dict)

    def name_for(self, name: str) -> str | None:
        """Return the name that an entry gets instead of its own, or None."""
        if self.entry_id is not None:
            return check_name(self.entry_id, "--entry-id")
        if self.rules is BootRules.ORIGINAL:
            return None
        return check_name(name + name_suffix(self.image_id), "name of the boot entry")


@dataclass(slots=True)
class Plan:
    """What is going to be written.

    Attributes:
        entry: The entry that it comes from, as users name it.
        files: The files; the last one is the entry itself.
        notes: What users should know of.
    """

    entry: str
    files: list[PlannedFile]
    notes: list[str] = field(default_factory=list)


def make_plan(entry: BootEntry, entries: Sequence[BootEntry], request: PlanRequest) -> Plan:
    """Return what is to be written for an entry of a tree.

    Args:
        entry: The entry.
        entries: All entries of the tree, for its addons.
        request: How.

    Raises:
        BootNameError: A name cannot be a file on a boot partition.
        EntryError: The entry lacks something, or two of its files have the same place.
        FixedCommandLineError: Arguments cannot be added.
    """
    plan = _plan_one(entry, entries, request)
    _check_places(plan.files)
    return plan


def _plan_one(entry: BootEntry, entries: Sequence[BootEntry], request: PlanRequest) -> Plan:
    match entry:
        case Type1Entry():
            return _plan_type1(entry, request)
        case KernelEntry():
            return _plan_kernel(entry, request)
        case Type2Entry():
            return _plan_uki(entry, entries, request)
        case AbootPayload():
            check_cmdline_is_free(request.cmdline, "aboot payloads")
            return Plan(describe(entry), [])


def check_cmdline_is_free(cmdline: Sequence[str], what: str) -> None:
    """Check that no kernel arguments are given for what has a command line of its own.

    Raises:
        FixedCommandLineError: There are some.
    """
    if cmdline:
        raise FixedCommandLineError(
            f"Can't add --cmdline args to {what}", hint="its command line is part of what is signed"
        )


def _check_places(files: Iterable[PlannedFile]) -> None:
    places: dict[str, PlannedFile] = {}
    for file in files:
        # FAT does not tell upper from lower case.
        other = places.setdefault(file.path.casefold(), file)
        if other is not file and other.content != file.content:
            raise EntryError(f"two files of the boot entry would be written to {file.path!r}")


# --- type 1 and kernels


def _plan_type1(source: Type1Entry, request: PlanRequest) -> Plan:
    own_name = check_name(source.name.removesuffix(".conf"), "boot entry")
    name = request.name_for(own_name)
    entry = BootLoaderEntry(list(source.entry.lines))
    if request.rules is BootRules.CFSCTL and not any(entry.values("linux") + entry.values("efi")):
        raise EntryError(
            f"boot entry {own_name} has neither a linux nor an efi line, so nothing can be booted by it",
            hint="choose another one with --entry",
        )
    places = _relocate(source, name) if name is not None else _keep_places(source)
    files = {path: PlannedFile(path, source.files[value]) for value, path in places.items()}
    entry.replace_files({value: f"/{path}" for value, path in places.items() if _needs_text(value, name)})
    plan = Plan(describe(source), list(files.values()))
    _finish_entry(plan, entry, name or own_name, request)
    return plan


def _needs_text(value: str, name: str | None) -> bool:
    return name is not None or not value.startswith("/")


def _keep_places(source: Type1Entry) -> dict[str, str]:
    return {value: check_path(value, "file of the boot entry") for value in source.files}


def _relocate(source: Type1Entry, name: str) -> dict[str, str]:
    """Return the place of each file by the value that names it, all of them in one directory."""
    places: dict[str, str] = {}
    taken: set[str] = set()
    for value in source.files:
        base = check_name(value.rstrip("/").rpartition("/")[2], "file of the boot entry")
        place, number = f"{name}/{base}", 2
        while place.casefold() in taken:
            place, number = f"{name}/{number}-{base}", number + 1
        taken.add(place.casefold())
        places[value] = place
    return places


def _plan_kernel(source: KernelEntry, request: PlanRequest) -> Plan:
    version = check_name(source.version, "kernel version")
    if source.initramfs is None:
        raise EntryError(
            f"kernel {version} has no initramfs.img in /usr/lib/modules/{version}",
            hint="make one when the image is built, for example with dracut",
        )
    name = request.name_for(version) or version
    entry = _kernel_text(name, version, request)
    files = [
        PlannedFile(f"{name}/vmlinuz", source.kernel),
        PlannedFile(f"{name}/initramfs.img", source.initramfs),
    ]
    plan = Plan(describe(source), files)
    _finish_entry(plan, entry, name, request)
    return plan


def _kernel_text(name: str, version: str, request: PlanRequest) -> BootLoaderEntry:
    if request.rules is BootRules.ORIGINAL:
        return kernel_entry(name, title="todoOS", version="0-todo")
    values = request.os_release
    entry = kernel_entry(
        name, title=_one_line(values.get("PRETTY_NAME") or boot_label(values) or "Linux"), version=version
    )
    if values.get("ID"):
        entry.lines.insert(3, f"sort-key {_one_line(values['ID'])}")
    return entry


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_TITLE]).strip()


def _finish_entry(plan: Plan, entry: BootLoaderEntry, name: str, request: PlanRequest) -> None:
    """Add kernel arguments and the file of the entry."""
    for argument in (request.argument, *request.cmdline):
        if request.rules is BootRules.CFSCTL:
            entry.set_argument(argument)
            continue
        replaced = entry.add_argument(argument)
        if replaced is not None and replaced.partition("=")[0] != argument.partition("=")[0]:
            plan.notes.append(
                f"{argument} took the place of {replaced}, as with the original;"
                " with --rules=cfsctl both are kept"
            )
    others = [found for found in entry.image_arguments() if found != request.argument]
    if others:
        plan.notes.append(
            f"the entry names another image too ({', '.join(others)}), as with the original;"
            " with --rules=cfsctl that is removed"
        )
    plan.files.append(PlannedFile(f"{ENTRIES}/{name}.conf", entry.format().encode()))


# --- unified kernel images


def _plan_uki(source: Type2Entry, entries: Sequence[BootEntry], request: PlanRequest) -> Plan:
    check_cmdline_is_free(request.cmdline, "UKIs")
    path = check_path(source.path, "unified kernel image")
    above, slash, base = path.rpartition("/")
    stem = base.removesuffix(".efi")
    if source.kernel_version is not None and request.rules is BootRules.CFSCTL:
        above, slash, stem = "", "", source.kernel_version
    name = request.name_for(stem)
    target = f"{UKIS}/{above}{slash}{name or stem}.efi"
    addons = _plan_addons(source, entries, target) if request.with_addons else []
    return Plan(describe(source), [*addons, PlannedFile(target, source.file)])


def _plan_addons(source: Type2Entry, entries: Sequence[BootEntry], target: str) -> list[PlannedFile]:
    own = f"{source.path}.extra.d/"
    start = source.file.path.decode("utf-8", "replace").removesuffix(source.path)
    files = []
    for entry in entries:
        if not isinstance(entry, Type2Entry) or entry.kind is not Type2Kind.ADDON:
            continue
        where = entry.file.path.decode("utf-8", "replace").removesuffix(entry.path)
        if where == "/boot/loader/addons/":
            files.append(PlannedFile(f"{ADDONS}/{check_path(entry.path, 'addon')}", entry.file))
        elif where == start and entry.path.startswith(own):
            name = check_path(entry.path.removeprefix(own), "addon")
            files.append(PlannedFile(f"{target}.extra.d/{name}", entry.file))
    return files
