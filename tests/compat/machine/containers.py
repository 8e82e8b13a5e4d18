"""What the programs can do with OCI images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.compat.machine.operations import STEPS, operation
from tests.compat.machine.world import Step, World

if TYPE_CHECKING:
    from tests.compat.machine.programs import Program

TAGS = ("web", "registry.example.org/app:1.2", "percent%25/a:b")


def has_containers(world: World, _program: Program) -> bool:
    """Return whether there is a tagged image."""
    return bool(world.model.containers)


def can_pull(world: World, program: Program) -> bool:
    """Return whether a program can store images here; the original cannot where format 0 is the default."""
    return not (program.is_original and world.version == 0)


def can_copy(world: World, program: Program) -> bool:
    """Return whether there is an image that a program can copy."""
    return has_containers(world, program) and can_pull(world, program)


@operation(4, when=can_pull)
def oci_pull(world: World, _program: Program) -> Step:
    """Pull an image; its tag may have been that of another one."""
    name = world.random.choice(sorted(world.sources.containers))
    tag = world.random.choice(TAGS)
    options = ("--bootable",) if world.random.random() < 0.3 else ()
    arguments = world.on_repository("oci", "pull", *options, world.sources.container_source(name), tag)

    def apply(_program: Program, _output: str) -> None:
        world.model.containers[tag] = name

    return Step(arguments, apply, frozenset({f"container {tag}"}))


@operation(2, when=has_containers)
def oci_tag(world: World, _program: Program) -> Step:
    """Give an image another tag."""
    source = world.random.choice(sorted(world.model.containers))
    name = world.model.containers[source]
    tag = world.random.choice(TAGS)
    # The original takes digests only.
    digest = world.sources.containers[name].manifest
    arguments = world.on_repository("oci", "tag", digest, tag)

    def apply(_program: Program, _output: str) -> None:
        world.model.containers[tag] = name

    return Step(arguments, apply, frozenset({f"container {source}", f"container {tag}"}))


@operation(2, when=has_containers)
def oci_untag(world: World, program: Program) -> None:
    """Take a tag away."""
    tag = world.random.choice(sorted(world.model.containers))
    program.run(*world.on_repository("oci", "untag", tag))
    del world.model.containers[tag]


@operation(2, when=has_containers)
def oci_compare(world: World, _program: Program) -> None:
    """Have both programs say what is in an image, and whether the images are sound."""
    tag = world.random.choice(sorted(world.model.containers))
    for command in ("dump", "compute-id"):
        arguments = world.on_repository("oci", command, tag)
        assert world.ours.run(*arguments) == world.other.run(*arguments)
    for program in (world.ours, world.other):
        program.run(*world.on_repository("oci", "fsck"))


@operation(2, when=can_copy)
def oci_copy_there_and_back(world: World, program: Program) -> None:
    """Copy an image to the other repository, and from there back under another tag."""
    tag, new = world.random.choice(sorted(world.model.containers)), world.random.choice(TAGS)
    there = ("--repo", str(world.aside), "oci")
    program.run(*there, "copy", "--from", str(world.path), "--name", "copied", tag)
    program.run(*there, "fsck")
    program.run(*world.on_repository("oci", "copy", "--from", str(world.aside), "--name", new, "copied"))
    program.run(*there, "untag", "copied")
    world.model.containers[new] = world.model.containers[tag]


STEPS += [oci_pull, oci_tag]
