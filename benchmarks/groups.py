"""All groups of rows, in the order in which they are run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import (
    bench_commands,
    bench_digest,
    bench_fuse,
    bench_image,
    bench_many,
    bench_oci,
    bench_pull,
    bench_start,
    bench_store,
    bench_updates,
)

if TYPE_CHECKING:
    from benchmarks.declaration import Group

GROUPS: tuple[Group, ...] = (
    *bench_start.GROUPS,
    *bench_digest.GROUPS,
    *bench_commands.GROUPS,
    *bench_updates.GROUPS,
    *bench_pull.GROUPS,
    *bench_many.GROUPS,
    *bench_oci.GROUPS,
    *bench_image.GROUPS,
    *bench_fuse.GROUPS,
    *bench_store.GROUPS,
)
