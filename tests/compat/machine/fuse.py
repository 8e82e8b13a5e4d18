"""What the programs do while an image is served by FUSE."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from tests.compat.machine.mounts import mounted, read_tree
from tests.compat.machine.operations import operation

if TYPE_CHECKING:
    from tests.compat.machine.programs import Program
    from tests.compat.machine.world import World

_OPTIONS = "--fuse=yes"


def can_serve(world: World, _program: Program) -> bool:
    """Return whether there is an image, and FUSE mounts can be made here; the latter is found out once."""
    if not world.model.images:
        return False
    if world.can_serve is None:
        world.can_serve = False
        if os.geteuid() == 0 and os.path.exists("/dev/fuse"):
            with contextlib.suppress(OSError), mounted(world, min(world.model.images), _OPTIONS):
                world.can_serve = True
    return world.can_serve


@operation(2, when=can_serve)
def collect_beside_a_server(world: World, program: Program) -> None:
    """Collect while a FUSE server has an image that lost its ref; it can be read to the end."""
    ref = world.random.choice(sorted(world.model.images))
    with mounted(world, ref, _OPTIONS) as root:
        (world.path / "images" / "refs" / ref).unlink()
        tree = world.model.images.pop(ref)
        world.model.mounted.append(tree)
        # The server holds the lock of readers, so a collection waits; of ours, no longer than it is told.
        program.run(*world.on_repository("gc", "--dry-run"))
        world.check(also_other=False)
        assert read_tree(root) == world.sources.trees[tree]
        world.model.mounted.remove(tree)
