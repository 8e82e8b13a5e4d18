"""``cfsctl oci varlink``: the same as ``cfsctl varlink``, which serves both interfaces."""

from __future__ import annotations

from cfsctl.cli.commands.service.varlink import command as command  # noqa: PLC0414 - the command of this module
