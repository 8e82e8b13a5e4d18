"""What pulls and copies of images print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.digest import qualified
from cfsctl.errors import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    import cfsctl
    from cfsctl.errors import CfsError
    from cfsctl.library.oci.results import OciPullOutcome


def lines_of(result: cfsctl.OciPullResult) -> Iterator[str]:
    """Yield what a pull has done, for people."""
    counts = result.counts
    yield f"manifest {result.manifest_digest}"
    yield f"config   {result.config_digest}"
    yield f"verity   {result.manifest_id.hex()}"
    if result.tag is not None:
        yield f"tagged   {result.tag}"
    yield f"objects  {counts.describe()}"
    yield from (f"referrer {digest}" for digest in result.referrers)
    if result.boot_image is not None:
        how = "" if result.boot_match is None else f" ({result.boot_match.describe()})"
        yield f"Boot image: {result.boot_image.hex()}{how}"


def document_of(result: cfsctl.OciPullResult) -> dict[str, object]:
    """Return what a pull has done, for programs."""
    counts = result.counts
    return {
        "manifest": str(result.manifest_digest),
        "config": str(result.config_digest),
        "stream": qualified(result.manifest_id),
        "tag": result.tag,
        "image": None if result.image is None else qualified(result.image),
        "boot_image": None if result.boot_image is None else qualified(result.boot_image),
        "new_objects": counts.new,
        "present_objects": counts.present,
        "stored_bytes": counts.new_bytes,
        "inlined_bytes": counts.inline_bytes,
        "reflinked_objects": counts.reflinked,
        "hardlinked_objects": counts.hardlinked,
        "reflinked_bytes": counts.reflinked_bytes,
        "hardlinked_bytes": counts.hardlinked_bytes,
        "referrers": [str(digest) for digest in result.referrers],
    }


def lines_of_index(index: cfsctl.OciIndexPullResult) -> Iterator[str]:
    """Yield what the pull of an index has done, for people."""
    yield f"index    {index.digest}"
    yield f"verity   {index.stream_id.hex()}"
    if index.tag is not None:
        yield f"tagged   {index.tag}"
    for member in index.members:
        what = "artifact" if member.platform is None and member.result.image is None else member.platform
        yield f"manifest {member.result.manifest_digest} {what or '(no platform info)'}"
    yield f"objects  {index.counts.describe()}"
    yield from (f"referrer {digest}" for digest in index.referrers)


def document_of_index(index: cfsctl.OciIndexPullResult) -> dict[str, object]:
    """Return what the pull of an index has done, for programs."""
    return {
        "index": str(index.digest),
        "stream": qualified(index.stream_id),
        "tag": index.tag,
        "images": [
            {
                "platform": None if member.platform is None else str(member.platform),
                **document_of(member.result),
            }
            for member in index.members
        ],
        "referrers": [str(digest) for digest in index.referrers],
    }


def lines_of_plan(plan: cfsctl.OciPullPlan) -> Iterator[str]:
    """Yield what a pull would do, for people."""
    yield f"manifest {plan.manifest_digest}"
    yield f"config   {plan.config_digest}"
    if plan.tag is not None:
        yield f"tag      {plan.tag}"
    for layer in plan.layers:
        kept = f", {layer.kept_bytes} bytes kept" if layer.kept_bytes else ""
        yield f"layer    {layer.digest} {layer.state.value}, {layer.size} bytes{kept}"
    if plan.is_stored:
        yield "fetch    nothing: the image is here"
    else:
        yield f"fetch    {len(plan.missing)} of {len(plan.layers)} layers, {plan.fetch_bytes} bytes"
    yield f"room     {plan.free_bytes} bytes free"


def document_of_plan(plan: cfsctl.OciPullPlan) -> dict[str, object]:
    """Return what a pull would do, for programs."""
    return {
        "manifest": str(plan.manifest_digest),
        "config": str(plan.config_digest),
        "tag": plan.tag,
        "is_here": plan.is_stored,
        "image": None if plan.image is None else qualified(plan.image),
        "layers": [
            {
                "blob": str(layer.digest),
                "size": layer.size,
                "layer": str(layer.layer),
                "state": layer.state.value,
                "kept_bytes": layer.kept_bytes,
            }
            for layer in plan.layers
        ],
        "fetch_layers": len(plan.missing),
        "fetch_bytes": plan.fetch_bytes,
        "free_bytes": plan.free_bytes,
        "has_room": plan.has_room,
    }


def document_of_outcome(outcome: OciPullOutcome, error: CfsError | OSError | None) -> dict[str, object]:
    """Return what became of one of several images, for programs."""
    return {
        "source": outcome.source,
        "pulled": None if outcome.result is None else document_of(outcome.result),
        "error": None if error is None else describe(error),
    }
