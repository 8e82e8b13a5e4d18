"""Make an image of a tree, compare it with the last one, and keep three: a pipeline as its user writes it."""

from __future__ import annotations

import json
import sys
import time

import cfsctl

KEPT = 3


def main(store: str, tree: str, budget_s: float) -> int:
    """Print a JSON document about the new release; end with the exit code of what went wrong."""
    deadline = time.monotonic() + budget_s

    def watch(event: cfsctl.Event) -> None:
        if time.monotonic() >= deadline:
            raise cfsctl.CancelledError(f"over budget at {type(event).__name__}")

    try:
        with cfsctl.Repository.init(store, insecure=True, exist_ok=True, lock_timeout_s=60) as repository:
            releases = sorted(repository.images())
            last = releases[-1] if releases else None
            number = int(last.rpartition("/")[2]) + 1 if last else 1
            changes = list(repository.diff(last, f"dir:{tree}", progress=watch)) if last else []
            if last and not changes:
                print(json.dumps({"release": last, "is_new": False}))
                return 0
            name = f"release/{number:04}"
            image = repository.create_image(tree, name, progress=watch)
            for old in releases[: -KEPT + 1]:
                repository.remove_image(old)
            collected = repository.gc(progress=watch, lock_timeout_s=60)
            report = repository.fsck(progress=watch)
    except cfsctl.CfsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    document = {
        "release": name,
        "is_new": True,
        "image": image.hex(),
        "changes": len(changes),
        "removed": collected.objects_removed,
        "sound": report.is_ok,
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
