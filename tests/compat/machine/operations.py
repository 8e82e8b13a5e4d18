"""What the programs can do to the repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cfsctl.digest import object_path
from tests.compat.machine.mounts import can_mount, mounted, read_tree
from tests.compat.machine.programs import finish
from tests.compat.machine.sources import SUBPATH, Published
from tests.compat.machine.world import Step, World
from tests.support.repositories import flip_bit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.compat.machine.programs import Program

IMAGE_REFS = ("i", "a/b", "a/c", "os/1.2")
TAGS = ("x", "y/z", "a", "main", "percent%25")
_COMMIT = re.compile(r"([0-9a-f]{64})\b")
MAX_KILL_S = 0.4


class _Operate(Protocol):
    """Does something; a step that is returned is still to be done."""

    def __call__(self, world: World, program: Program, /) -> Step | None: ...


@dataclass(frozen=True)
class Operation:
    """Something that can be done.

    Attributes:
        name: Its name.
        operate: Does it, or says what is to be done.
        weight: How often it is chosen, compared with the others.
        by_both: Whether the original can do it too.
        is_possible: Whether there is something to do it to, for a program.
    """

    name: str
    operate: _Operate
    weight: int
    by_both: bool
    is_possible: Callable[[World, Program], bool]


OPERATIONS: list[Operation] = []


def operation(
    weight: int = 1,
    *,
    by_both: bool = True,
    when: Callable[[World, Program], bool] = lambda _world, _program: True,
) -> Callable[[_Operate], _Operate]:
    """Add a function to the operations."""

    def add(operate: _Operate) -> _Operate:
        name = getattr(operate, "__name__", "operation")
        OPERATIONS.append(Operation(name, operate, weight, by_both, when))
        return operate

    return add


def has_images(world: World, _program: Program) -> bool:
    """Return whether there is an image with a ref."""
    return bool(world.model.images)


def has_tags(world: World, _program: Program) -> bool:
    """Return whether there is a tag."""
    return bool(world.model.tags)


# --- making and naming ---------------------------------------------------------------------------


@operation(4)
def create_image(world: World, _program: Program) -> Step:
    """Make an image of a tree; a ref that is there moves."""
    tree = world.random.choice(sorted(world.sources.trees))
    ref = world.random.choice(IMAGE_REFS)
    arguments = world.on_repository(
        "create-image", world.sources.tree_path(tree), ref, "--no-propagate-usr-to-root"
    )

    def apply(_program: Program, _output: str) -> None:
        world.model.images[ref] = tree

    return Step(arguments, apply, frozenset({f"image {ref}"}))


@operation(3, when=has_images)
def commit(world: World, _program: Program) -> Step:
    """Make a commit of an image."""
    ref = world.random.choice(sorted(world.model.images))
    tree = world.model.images[ref]
    tag = world.random.choice(TAGS)
    arguments = world.on_repository("ostree", "commit", f"refs/{ref}", "--reference", tag)

    def apply(program: Program, output: str) -> None:
        found = _COMMIT.search(output)
        assert found, output
        made = found[1]
        world.model.add_commit(made, tree)
        world.model.from_images.add(made)
        world.model.tags[tag] = made
        # Of two commits of one second the later stream counts.
        (world.model.lossy.add if program.is_original else world.model.lossy.discard)(made)

    return Step(arguments, apply, frozenset({f"image {ref}", f"tag {tag}"}))


@operation(1, when=has_images)
def remove_image_ref(world: World, _program: Program) -> None:
    """Remove an image's ref, for which there is no command."""
    ref = world.random.choice(sorted(world.model.images))
    (world.path / "images" / "refs" / ref).unlink()
    del world.model.images[ref]


@operation(2, when=has_tags)
def tag(world: World, _program: Program) -> Step:
    """Give a commit another tag."""
    source = world.random.choice(sorted(world.model.tags))
    name = world.random.choice(TAGS)
    arguments = world.on_repository("ostree", "tag", source, name)
    commit = world.model.tags[source]

    def apply(program: Program, _output: str) -> None:
        world.model.tags[name] = commit
        if not program.is_original:
            world.model.parts.pop(name, None)

    return Step(arguments, apply, frozenset({f"tag {source}", f"tag {name}"}))


@operation(2, when=has_tags)
def untag(world: World, program: Program) -> None:
    """Take a tag away; the original leaves what it does not know."""
    name = world.random.choice(sorted(world.model.tags))
    program.run(*world.on_repository("ostree", "untag", name))
    del world.model.tags[name]
    if not program.is_original:
        world.model.parts.pop(name, None)


# --- pulling -------------------------------------------------------------------------------------


def _pull(world: World, program: Program, published: Published, name: str) -> Step:
    """Pull a published commit by its ref."""
    old = world.model.tags.get(name)
    if world.random.random() < 0.5:
        source = ("pull-local", world.sources.ostree_path(published.snapshot))
    else:
        source = ("pull", world.sources.ostree_url(published.snapshot))
    options = () if program.is_original else ("--allow-downgrade",)
    arguments = world.on_repository("ostree", *source, name, *options)

    def apply(program: Program, _output: str) -> None:
        world.model.add_commit(published.checksum, published.tree)
        if not program.is_original:
            world.model.tags[name] = published.checksum
            world.model.drop_parts(published.checksum, name)
            return
        # It does not tag a commit that is there already, whatever it says; also after it was killed.
        now = world.read_tag(name)
        assert now in {old, published.checksum}
        if now is not None:
            world.model.tags[name] = now

    return Step(arguments, apply, frozenset({f"tag {name}"}))


@operation(5)
def pull(world: World, program: Program) -> Step:
    """Pull a commit; its ref may move back as well."""
    published = world.random.choice(world.sources.published)
    return _pull(world, program, published, published.ref)


@operation(2, by_both=False)
def pull_part(world: World, program: Program) -> Step:
    """Pull a part of a commit, unless all of it is here."""
    published = world.random.choice(world.sources.published)
    whole = _pull(world, program, published, published.ref)
    is_whole = published.checksum in world.model.whole

    def apply(program: Program, output: str) -> None:
        if is_whole:
            whole.apply(program, output)
            return
        world.model.trees[published.checksum] = published.tree
        world.model.parts[published.ref] = published.checksum
        world.model.tags.pop(published.ref, None)

    return Step((*whole.arguments, "--subpath", SUBPATH), apply)


# --- copies --------------------------------------------------------------------------------------


@operation(2, by_both=False, when=lambda world, _program: bool(world.model.tags or world.model.images))
def copy_there_and_back(world: World, program: Program) -> None:
    """Copy something to the other repository, and from there back under another name."""
    images = [(name, name, False) for name in sorted(world.model.images) if name not in world.model.tags]
    tags = [(name, name, True) for name in sorted(world.model.tags) if name not in world.model.images]
    if not images and not tags:
        return
    name, _, is_commit = world.random.choice(images + tags)
    program.run(*world.on_repository("copy", name, str(world.aside), "--as", "copied"))
    program.run("--repo", str(world.aside), "fsck")
    if is_commit:
        new = world.random.choice(TAGS)
        program.run("--repo", str(world.aside), "copy", "copied", str(world.path), "--as", new)
        world.model.tags[new] = world.model.tags[name]
        world.model.parts.pop(new, None)
        program.run("--repo", str(world.aside), "ostree", "untag", "copied")
    else:
        new = world.random.choice(IMAGE_REFS)
        program.run("--repo", str(world.aside), "copy", "copied", str(world.path), "--as", new)
        world.model.images[new] = world.model.images[name]
        (world.aside / "images" / "refs" / "copied").unlink()


# --- keeping -------------------------------------------------------------------------------------


def _collected(world: World, program: Program) -> None:
    world.model.collect(drops_superseded=not program.is_original)
    if program.is_original:
        world.heal_loss()


@operation(5)
def collect(world: World, program: Program) -> Step:
    """Remove everything that has no name."""

    def apply(program: Program, _output: str) -> None:
        _collected(world, program)
        left = world.ours.run(*world.on_repository("gc", "--dry-run"))
        # What ran beside it may have moved a name afterwards.
        assert "Objects: 0 removed" in left or program.is_original or world.is_shared, left

    del program
    return Step(world.on_repository("gc"), apply)


@operation(1, by_both=False)
def collect_with_grace(world: World, program: Program) -> None:
    """Keep what is young, which here is everything."""
    before = set((world.path / "objects").glob("*/*"))
    program.run(*world.on_repository("gc", "--grace", "1h"))
    world.model.parts = world.model.parts_in_force
    assert set((world.path / "objects").glob("*/*")) == before


@operation(2, by_both=False, when=lambda world, _program: bool(world.model.images) and can_mount(world))
def collect_beside_a_mount(world: World, program: Program) -> None:
    """Collect while an image is mounted that has no ref any more; it can be read to the end."""
    ref = world.random.choice(sorted(world.model.images))
    with mounted(world, ref) as root:
        (world.path / "images" / "refs" / ref).unlink()
        tree = world.model.images.pop(ref)
        world.model.mounted.append(tree)
        program.run(*world.on_repository("gc"))
        world.model.collect(drops_superseded=True)
        world.check(also_other=False)
        assert read_tree(root) == world.sources.trees[tree]
        world.model.mounted.remove(tree)


@operation(1)
def check(world: World, program: Program) -> None:
    """Check the repository, in depth where that is possible."""
    program.run(*world.on_repository("fsck", *(() if program.is_original else ("--deep",))))


@operation(2, by_both=False, when=lambda world, _program: bool(world.model.tags or world.model.images))
def damage_and_repair(world: World, program: Program) -> None:
    """Lose or damage contents; they come back from the trees."""
    objects = sorted((world.path / "objects").glob("*/*"))
    contents = {
        object_path(one)
        for tree in world.sources.trees
        for one in world.sources.find_objects(tree, world.algorithm)
    }
    there = [file for file in objects if f"{file.parent.name}/{file.name}" in contents]
    for file in world.random.sample(there, min(len(there), 3)):
        if world.random.random() < 0.5:
            file.unlink()
        else:
            flip_bit(file, world.random.randrange(file.stat().st_size))
    source = str(Path(world.sources.tree_path("t0")).parent)
    program.run(*world.on_repository("fsck", "--repair", "--from", source))


@operation(1, when=lambda world, _program: bool(world.model.images) and world.version == 1)
def upgrade(world: World, program: Program) -> None:
    """Make the repository one of the old format, which either program writes the same meta.json for."""
    file = world.path / "meta.json"
    before = file.read_bytes()
    file.unlink()
    program.run(*world.on_repository("images"))
    assert file.read_bytes() == before


@operation(1)
def init_again(world: World, program: Program) -> None:
    """Make sure that the repository is there, which it is."""
    program.run("init", "--ensure", "--insecure", "--algorithm", world.algorithm.label, str(world.path))


# --- looking -------------------------------------------------------------------------------------


@operation(2, when=has_tags)
def compare(world: World, _program: Program) -> None:
    """Have both programs say what is in a commit."""
    name = world.random.choice(sorted(world.model.tags))
    for command in ("dump", "compute-id"):
        arguments = world.on_repository("ostree", command, name)
        assert world.ours.run(*arguments) == world.other.run(*arguments)


# --- faults and company --------------------------------------------------------------------------

STEPS: list[_Operate] = [create_image, commit, tag, pull, collect]
"""What can be killed, and done beside something else."""


def _possible_step(world: World, program: Program) -> Step:
    ways = [found for found in OPERATIONS if found.operate in STEPS and found.is_possible(world, program)]
    step = world.random.choice(ways).operate(world, program)
    assert step is not None
    return step


@operation(4)
def kill(world: World, program: Program) -> None:
    """Kill a command at any time; nothing is damaged, and when it is run again it does what it should."""
    step = _possible_step(world, program)
    tags = dict(world.model.tags)
    program.kill(world.random.random() * MAX_KILL_S, *step.arguments)
    if program.is_original:
        if "gc" in step.arguments:
            # It removes objects before the streams of no name that need them, and those are left damaged.
            world.ours.run(*world.on_repository("gc"))
            _collected(world, world.ours)
        world.heal_loss()
    world.ours.run(*world.on_repository("fsck"))
    world.other.run(*world.on_repository("fsck"))
    assert all(world.read_tag(name) is not None for name in tags)
    step.apply(program, program.run(*step.arguments))


@operation(4)
def side_by_side(world: World, _program: Program) -> None:
    """Let both programs work at the same time, on names of their own."""
    left, right = _possible_step(world, world.ours), _possible_step(world, world.other)
    if left.names & right.names:
        return
    running = [
        (program, step, program.start(*step.arguments)) for program, step in _pairs(world, left, right)
    ]
    outputs = [(program, step, finish(program, process)) for program, step, process in running]
    # A collection has removed what had no name, before the other one or after.
    world.is_shared = True
    for program, step, output in sorted(outputs, key=lambda item: "gc" in item[1].arguments):
        step.apply(program, output)
    world.is_shared = False


def _pairs(world: World, left: Step, right: Step) -> list[tuple[Program, Step]]:
    pairs = [(world.ours, left), (world.other, right)]
    world.random.shuffle(pairs)
    return pairs
