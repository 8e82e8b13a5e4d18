"""``cfsctl oci fetch``: the same as ``cfsctl fetch``, which fetches images with all that belongs to them."""

from __future__ import annotations

from cfsctl.cli.commands.repository.fetch import command as command  # noqa: PLC0414 - the command of this module
