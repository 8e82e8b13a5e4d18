"""Imports ahead of need, for programs that fork a process for each client: what is imported is shared."""

from __future__ import annotations

from importlib import import_module
from typing import Final

_MODULES: Final = (
    "cfsctl.erofs.read.objects",
    "cfsctl.kinds.checks",
    "cfsctl.kinds.registry",
    "cfsctl.library.oci.images",
    "cfsctl.library.oci.options",
    "cfsctl.library.oci.results",
    "cfsctl.library.repository",
    "cfsctl.library.setup",
    "cfsctl.oci.check",
    "cfsctl.oci.layer_transfer",
    "cfsctl.oci.pull",
    "cfsctl.oci.sources.layout",
    "cfsctl.oci.store.listing",
    "cfsctl.repository.check.fsck",
    "cfsctl.repository.gc.collect",
)


def preload() -> None:
    """Import what most methods of a repository import when they are first used."""
    for module in _MODULES:
        import_module(module)
