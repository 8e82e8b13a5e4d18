"""``oci prepare-boot`` beyond the recorded runs, and ``boot prepare``, ``boot list`` and ``boot remove``."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl.boot.cmdline import format_argument
from cfsctl.digest import Algorithm, object_path
from cfsctl.erofs.format import FormatVersion
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.oci.boot_images import turn_bootable
from cfsctl.oci.store.images import open_config, resolve
from cfsctl.oci.store.publish import build
from cfsctl.oci.to_tree import image_tree
from cfsctl.repository import Repository
from tests.support import schemas
from tests.support.boot import (
    OS_RELEASE,
    Machine,
    files_below,
    kernel,
    make_android,
    make_executable,
    make_layer,
    make_uki,
    type1,
)
from tests.support.oci import directory, file, make_tar
from tests.support.programs import cfsctl, run_cfsctl

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with an image of one kernel."""
    machine = Machine(tmp_path_factory.mktemp("stored"))
    machine.add("img", make_layer([*kernel("6.1"), OS_RELEASE]))
    return machine.repository


@pytest.fixture
def one_kernel(machine: Machine, stored: Path) -> Machine:
    shutil.copytree(stored, machine.repository, symlinks=True)
    return machine


BAD_NAMES = [
    *("../../x", "..", ".", "", "a/b", "/a", "a\\b", "a\nb", "a\tb", "a:b", "a*", "x ", " x", "x.", "a" * 300)
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_refused_names_write_nothing(one_kernel: Machine, name: str) -> None:
    done = one_kernel.prepare("img", f"--entry-id={name}", status=16)
    assert "--entry-id" in done.stderr
    assert not one_kernel.bootdir.exists()
    assert not (one_kernel.work / "state").exists()
    assert not one_kernel.kept()


@pytest.mark.parametrize(
    "argument", ["", " ", "a\nlinux /evil", "composefs=abc", "composefs.digest=x", "\x7f"]
)
def test_refused_arguments_write_nothing(one_kernel: Machine, argument: str) -> None:
    one_kernel.prepare("img", f"--cmdline={argument}", status=16)
    assert not one_kernel.bootdir.exists()


@pytest.mark.parametrize(
    "members",
    [
        kernel("6.1\nlinux evil"),
        kernel("6:1"),
        type1("linux /k\n", file("k", b"k"), name="a\nb"),
        type1("linux /../k\n", file("k", b"k")),
        type1("linux /k\0\n", file("k", b"k")),
        type1(
            "linux /loader/entries/a.conf\n",
            *map(directory, ("loader", "loader/entries")),
            file("loader/entries/a.conf", b"k"),
        ),
    ],
    ids=["line in a version", "colon in a version", "line in a name", "dots", "NUL", "the entry itself"],
)
def test_names_in_images_lead_nowhere(machine: Machine, members: list[Any]) -> None:
    machine.add("img", make_layer(members))
    done = machine.run("oci", "prepare-boot", "img", "--bootdir", machine.bootdir)
    assert done.returncode in {16, 17}, done.stderr
    assert not machine.bootdir.exists() or not files_below(machine.bootdir)
    assert not (machine.work / "state").exists()


def test_newest_kernel_by_version_order(machine: Machine) -> None:
    machine.add("img", make_layer([*kernel("5.9.0"), *kernel("5.10.0"), OS_RELEASE]))
    done = machine.prepare("img")
    assert (machine.bootdir / "loader/entries/5.10.0.conf").exists()  # first by bytes, and newest
    assert "--entry" not in done.stderr
    machine.add("other", make_layer([*kernel("6.1.0-9"), *kernel("6.10.0")]))
    assert "the newest is kernel:6.10.0" in machine.prepare("other").stderr
    assert machine.prepared("other", "--entry=newest")["entry"] == "kernel:6.10.0"
    assert machine.prepared("other", "--entry=6.1.0-9")["entry"] == "kernel:6.1.0-9"
    assert (
        "choose one of kernel:6.1.0-9, kernel:6.10.0"
        in machine.prepare("other", "--entry=7", status=17).stderr
    )


def test_own_rules(machine: Machine) -> None:
    machine.add("img", make_layer([*kernel("5.9.0"), *kernel("5.10.0"), OS_RELEASE]), version="1")
    document = machine.prepared("img", "--rules=cfsctl", "--cmdline=root=/dev/vda2", "--cmdline=ro")
    name = f"5.10.0-{document['image'].partition(':')[2][:12]}"
    assert document["files"] == [f"{name}/vmlinuz", f"{name}/initramfs.img", f"loader/entries/{name}.conf"]
    assert machine.text(f"loader/entries/{name}.conf") == (
        "# File created by composefs\ntitle Test System 1\nversion 5.10.0\nsort-key test\n"
        f"linux /{name}/vmlinuz\ninitrd /{name}/initramfs.img\n"
        f"options {document['argument']} root=/dev/vda2 ro\n"
    )


def test_missing_mount_point_is_told(machine: Machine) -> None:
    where = ("usr", "usr/lib", "usr/lib/modules", "boot", "sysroot", "var")
    machine.add("img", make_tar([*map(directory, where), *kernel("6.1")]))
    (note,) = machine.prepared("img")["notes"]
    assert note.startswith("the image has no /etc: ")


def test_lost_argument_is_told(one_kernel: Machine) -> None:
    done = one_kernel.prepare("img", "--cmdline=root=/dev/vda2", "--cmdline=ro")
    assert "ro took the place of root=/dev/vda2, as with the original" in done.stderr


def test_files_of_entries_are_found_and_kept_apart(machine: Machine) -> None:
    """CRLF and blanks, paths relative to /boot, and equal basenames."""
    members = type1(
        "title A\r\nlinux k \r\ninitrd /x/i\ninitrd /y/i\n",
        file("boot/k", b"kernel"),
        *map(directory, ("boot/x", "boot/y")),
        file("boot/x/i", b"first"),
        file("boot/y/i", b"second"),
    )
    machine.add("img", make_layer(members))
    assert machine.prepared("img", "--entry-id=id")["files"][-1] == "loader/entries/id.conf"
    found = files_below(machine.bootdir)
    assert found.pop("loader/entries/id.conf").startswith(
        b"title A\r\nlinux /id/k\ninitrd /id/i\ninitrd /id/2-i\n"
    )
    assert found == {"id/k": b"kernel", "id/i": b"first", "id/2-i": b"second"}
    machine.prepare("img")
    assert "linux /k\n" in machine.text("loader/entries/a.conf")


@pytest.mark.parametrize("text", ["", "title A\noptions quiet\n", "title A\nlinux\n"])
def test_entry_with_nothing_to_boot_is_refused(machine: Machine, text: str) -> None:
    machine.add("img", make_layer(type1(text)))
    done = machine.prepare("img", "--rules=cfsctl", status=16)
    assert "boot entry a has neither a linux nor an efi line" in done.stderr
    assert not files_below(machine.bootdir)
    machine.prepare("img")  # as the original does


def sealed_layers(machine: Machine, mtimes: dict[str, float], *, old_rule: bool = False) -> bytes:
    """Return a layer with a unified kernel image that names the image of the layer."""
    probe = Machine(machine.work / "probe")
    probe.work.mkdir()
    probe.add("img", make_layer([directory("boot/EFI")], mtimes=mtimes))
    with Repository.open(str(probe.repository)) as repository:
        config = open_config(repository, resolve(repository, "img"))
        tree = image_tree(repository, config.layers())
        turn_bootable(repository, tree, keep_nanoseconds=old_rule)
        image_id, _ = build(tree, FormatVersion.V1, repository.algorithm)
    uki = make_uki(f"quiet {format_argument(image_id, is_format_2=False, is_insecure=True)}\0")
    own = "boot/EFI/Linux/sub/s.efi.extra.d"
    return make_layer(
        [
            *map(directory, ("boot/EFI", "boot/EFI/Linux", "boot/EFI/Linux/sub", own)),
            *map(directory, ("boot/loader", "boot/loader/addons")),
            file("boot/EFI/Linux/sub/s.efi", uki),
            file(f"{own}/own.addon.efi", make_executable({".cmdline": b"debug"})),
            file("boot/loader/addons/all.addon.efi", make_executable({".cmdline": b"x"})),
        ],
        mtimes=mtimes,
    )


def test_sealed_image_with_addons(machine: Machine) -> None:
    machine.add("img", sealed_layers(machine, {}))
    assert machine.prepared("img")["files"] == ["EFI/Linux/sub/s.efi"]
    assert machine.prepared("img", "--addons", "--entry-id=id")["files"] == [
        "EFI/Linux/sub/id.efi.extra.d/own.addon.efi",
        "loader/addons/all.addon.efi",
        "EFI/Linux/sub/id.efi",
    ]
    assert machine.prepared("img", "--addons")["argument"] is None
    (found,) = machine.deployments().values()
    assert found["entries"] == ["EFI/Linux/sub/id.efi", "EFI/Linux/sub/s.efi"]


def test_image_that_was_sealed_by_the_old_rule(machine: Machine) -> None:
    mtimes = {"usr": 1.5, "boot": 1.25, "sysroot": 2.75}
    machine.add("img", sealed_layers(machine, mtimes, old_rule=True))
    document = machine.prepared("img")
    assert "before 0.9.4" in document["notes"][0]
    named = document["image"].partition(":")[2]
    assert machine.kept() == {named}
    # A pull makes the other one, and keeps this one, which the machine boots.
    layout = machine.work / "layout-img"
    pulled = json.loads(
        cfsctl("--repo", machine.repository, "oci", "pull", f"oci:{layout}:t", "img", "--bootable", "--json")
    )
    assert pulled["boot_image"] != named
    cfsctl("--repo", machine.repository, "gc")
    assert machine.deployments()[document["image"]]["stored"]


def test_boot_image_that_a_pull_replaces_is_kept(machine: Machine) -> None:
    """Found by its digest and not installed from here; a later pull makes the other rule's image."""
    mtimes = {"usr": 1.5, "boot": 1.25, "sysroot": 2.75}
    layer = sealed_layers(machine, mtimes, old_rule=True)
    old = re.findall(rb"sha256-12:([0-9a-f]{64})", layer)[0].decode()
    machine.add("img", layer)
    source = f"oci:{machine.work / 'layout-img'}:t"
    pull = ("--repo", machine.repository, "oci", "pull", source, "img", "--bootable")
    assert "before-0.9.4" in cfsctl(*pull, "--expected-digest", old)
    done = run_cfsctl(*pull)
    assert done.returncode == 0
    assert f"keeping boot image {old}" in done.stderr
    cfsctl("--repo", machine.repository, "gc")
    assert (machine.repository / "images" / old).exists()


def test_uki_of_another_image_is_refused(machine: Machine) -> None:
    uki = make_uki("composefs=" + "ab" * 32)
    where = ("boot/EFI", "boot/EFI/Linux")
    machine.add("img", make_layer([*map(directory, where), file("boot/EFI/Linux/x.efi", uki)]))
    done = machine.prepare("img", status=15)
    assert f"(is 'sha256:{'ab' * 32}', should be one of [sha256:" in done.stderr
    assert not machine.bootdir.exists()
    assert not machine.kept()


def test_lone_addon_is_no_entry(machine: Machine) -> None:
    addon = make_executable({".cmdline": b"x"})
    where = ("boot/loader", "boot/loader/addons")
    machine.add("img", make_layer([*map(directory, where), file("boot/loader/addons/x.addon.efi", addon)]))
    assert "No boot entries!" in machine.prepare("img", status=17).stderr


def test_collection_keeps_what_is_installed(one_kernel: Machine) -> None:
    document = one_kernel.prepared("img")
    image = document["image"]
    cfsctl("--repo", one_kernel.repository, "oci", "untag", "img")
    cfsctl("--repo", one_kernel.repository, "gc")
    assert cfsctl("--repo", one_kernel.repository, "image-objects", image).count("\n") == 2
    found = one_kernel.deployments()[image]
    assert (found["kept"], found["stored"], found["state"]) == (True, True, document["state"])
    removed = json.loads(
        cfsctl(
            "--repo",
            one_kernel.repository,
            "boot",
            "remove",
            image[:20],
            "--bootdir",
            one_kernel.bootdir,
            "--json",
        )
    )
    schemas.check(removed, "boot-remove")
    assert removed["files"] == ["loader/entries/6.1.conf", "6.1/vmlinuz", "6.1/initramfs.img"]
    assert not files_below(one_kernel.bootdir)
    assert Path(document["state"]).exists()
    cfsctl("--repo", one_kernel.repository, "gc")
    assert not one_kernel.deployments()[image]["stored"]


def test_config_names_the_boot_image(one_kernel: Machine) -> None:
    image = one_kernel.prepared("img")["image"].partition(":")[2]
    linked = json.loads(cfsctl("--repo", one_kernel.repository, "oci", "linked-erofs-images", image))
    assert {found["id"] for found in linked if found["bootable"]} == {image}


def test_stream_id_is_valid_twice(one_kernel: Machine) -> None:
    """With VERITY, the config stays as it is."""
    inspected = json.loads(cfsctl("--repo", one_kernel.repository, "oci", "inspect", "img"))
    config = json.loads(inspected["manifest"])["config"]["digest"]
    with Repository.open(str(one_kernel.repository)) as repository:
        stream = open_config(repository, resolve(repository, f"@{config}")).document.stream_id.hex()
    first = one_kernel.prepared(f"@{config}", stream)
    assert one_kernel.prepared(f"@{config}", stream)["image"] == first["image"]
    assert "expected the stream" in one_kernel.prepare(f"@{config}", "00" * 32, status=15).stderr


def test_second_run_writes_nothing(one_kernel: Machine) -> None:
    assert one_kernel.prepared("img")["written"]
    assert one_kernel.prepared("img")["written"] == []
    (one_kernel.bootdir / "6.1/vmlinuz").write_bytes(b"damaged")
    assert one_kernel.prepared("img")["written"] == ["6.1/vmlinuz"]


def test_damaged_object_is_not_installed(one_kernel: Machine) -> None:
    content = b"kernel 6.1 " * 4000
    path = one_kernel.repository / "objects" / object_path(compute_digest(content, Algorithm.SHA256))
    path.chmod(0o644)
    path.write_bytes(b"k" + content[1:-1] + b"!")
    one_kernel.prepare("img", status=15)
    assert not files_below(one_kernel.bootdir)
    assert not (one_kernel.work / "state/deploy").exists()
    assert not one_kernel.kept()


def test_failure_leaves_nothing(one_kernel: Machine) -> None:
    """Something is in the way of the entry, which is written last."""
    (one_kernel.bootdir / "loader/entries/6.1.conf").mkdir(parents=True)
    one_kernel.prepare("img", status=1)
    assert not files_below(one_kernel.bootdir)
    assert not (one_kernel.bootdir / "6.1").exists()
    assert not (one_kernel.work / "state/deploy").exists()
    assert not one_kernel.kept()


def test_links_lead_nowhere_outside(one_kernel: Machine) -> None:
    outside = one_kernel.work / "outside"
    outside.mkdir()
    one_kernel.bootdir.mkdir()
    (one_kernel.bootdir / "loader").symlink_to(outside)
    done = one_kernel.run("oci", "prepare-boot", "img", "--bootdir", one_kernel.bootdir)
    assert done.returncode != 0
    assert f"{one_kernel.bootdir}/loader/entries: a symbolic link leads out of" in done.stderr
    assert not any(outside.iterdir())


def test_link_inside_is_followed(one_kernel: Machine) -> None:
    (one_kernel.bootdir / "loader.0").mkdir(parents=True)
    (one_kernel.bootdir / "loader").symlink_to("loader.0")
    one_kernel.prepare("img")
    assert (one_kernel.bootdir / "loader.0/entries/6.1.conf").exists()


def test_aboot_payload(machine: Machine) -> None:
    probe = Machine(machine.work / "probe")
    probe.work.mkdir()
    probe.add("img", make_layer(kernel("6.1")))
    argument = probe.prepared("img")["argument"]
    payload = make_android(f"quiet {argument}")
    members = [file("boot/aboot-6.1.img", payload), file("boot/vbmeta-6.1.img", b"vbmeta" * 20)]
    machine.add("img", make_layer(members))
    assert "writing aboot payloads is not supported" in machine.prepare("img", status=2).stderr
    assert "needs --vbmeta" in machine.prepare("img", f"--payload={machine.work}/p", status=2).stderr
    target, vbmeta = machine.work / "slot", machine.work / "vb"
    done = machine.prepare("img", f"--payload={target}", f"--vbmeta={vbmeta}", status=15)
    assert "aboot payload has the wrong composefs digest" in done.stderr
    assert not target.exists()
    machine.add("empty", make_layer([]))
    image = cfsctl("--repo", machine.repository, "oci", "compute-id", "empty", "--bootable").strip()
    good = make_android(f"composefs.digest=?v1-sha256-12:{image}")
    machine.add("good", make_layer([file("boot/aboot-6.1.img", good), members[1]]))
    document = machine.prepared("good", f"--payload={target}", f"--vbmeta={vbmeta}")
    assert (target.read_bytes(), vbmeta.read_bytes()) == (good, b"vbmeta" * 20)
    assert document["entry"] == "aboot:6.1"
    assert machine.kept() == {image}


def test_plain_image(machine: Machine, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("usr/lib/modules/6.1", "etc", "var", "boot", "sysroot"):
        (tree / name).mkdir(parents=True)
    for name in ("vmlinuz", "initramfs.img"):
        (tree / "usr/lib/modules/6.1" / name).write_bytes(name.encode() * 100)
    cfsctl("init", "--insecure", machine.repository)
    image = cfsctl("--repo", machine.repository, "create-image", "--bootable", tree, "sys").strip()
    found = cfsctl(
        "--repo", machine.repository, "boot", "prepare", "sys", "--bootdir", machine.bootdir, "--json"
    )
    document = json.loads(found)
    schemas.check(document, "boot-prepare")
    assert document["image"].endswith(image.rpartition(":")[2])
    assert f"composefs.digest=?v1-sha512-12:{image.rpartition(':')[2]}" in machine.text(document["files"][-1])


# --- killed at every step

EVERY = 12
"""The default run takes one step in so many, the deep ones all of them."""


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(1, EVERY))]


def run_killed(machine: Machine, step: int, *arguments: str | Path) -> bool:
    """Run a command and kill it before a step; return whether it came to its end before that."""
    command = [sys.executable, "-m", "tests.support.kill_at", str(step), *machine.at, *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode == 0


def iter_killed(template: Machine, seed: int, *arguments: str) -> Iterator[Machine]:
    """Yield copies of a machine in which the command was killed, each at another step."""
    for step in itertools.count(seed, EVERY):
        machine = Machine(template.work / f"killed-{step}")
        shutil.copytree(template.work / "template", machine.work, symlinks=True)
        if run_killed(machine, step, *arguments, "--bootdir", machine.bootdir):
            assert step or seed
            return
        yield machine
        shutil.rmtree(machine.work)


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_anywhere_a_second_run_converges(one_kernel: Machine, seed: int) -> None:
    """Killed at each call that changes the boot partition, the states or the refs."""
    template, whole = (one_kernel.work / name for name in ("template", "whole"))
    for copy in (template, whole):
        shutil.copytree(one_kernel.repository, copy / "repo", symlinks=True)
    Machine(whole).prepare("img")
    expected = files_below(whole / "boot")
    for machine in iter_killed(one_kernel, seed, "oci", "prepare-boot", "img"):
        if (machine.bootdir / "loader/entries/6.1.conf").exists():
            # Whoever sees the entry can boot it.
            assert files_below(machine.bootdir).items() >= expected.items()
            assert machine.kept()
            assert (machine.work / "state/deploy").exists()
        machine.prepare("img")
        assert files_below(machine.bootdir) == expected
        assert cfsctl(*machine.at, "fsck")


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_removal_converges(one_kernel: Machine, seed: int) -> None:
    template = Machine(one_kernel.work / "template")
    shutil.copytree(one_kernel.repository, template.repository, symlinks=True)
    image = template.prepared("img", "--rules=cfsctl")["image"]
    for machine in iter_killed(one_kernel, seed, "boot", "remove", image):
        done = machine.run("boot", "remove", image, "--bootdir", machine.bootdir, "--purge-state")
        assert done.returncode == 0, done.stderr
        assert not files_below(machine.bootdir)
        assert not machine.kept()
