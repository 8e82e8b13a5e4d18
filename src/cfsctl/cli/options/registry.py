"""Options for connections to registries."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cfsctl.cli.help import CONNECTION
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.options.groups import option_group
from cfsctl.cli.options.patience import PATIENCE_OPTIONS

if TYPE_CHECKING:
    from cfsctl.library.oci.options import RegistryOptions


def _make(
    *,
    authfile: str | None,
    cert_dir: str | None,
    tls_verify: bool | None,
    proxy: str | None,
    connect_timeout_s: float | None,
    stall_timeout_s: float | None,
    retries: int | None,
) -> RegistryOptions:
    """Return how registries are talked to.

    Raises:
        click.UsageError: There is no such file with credentials.
    """
    from cfsctl.library.oci.options import RegistryOptions
    from cfsctl.library.patience import Patience

    if authfile is not None and not os.path.exists(authfile):
        raise click.UsageError(f"--authfile: no such file: {authfile}")
    return RegistryOptions(
        auth_file=authfile,
        certificate_directory=cert_dir,
        verify_tls=tls_verify,
        proxy=proxy,
        patience=Patience(connect_timeout_s, stall_timeout_s, retries),
    )


registry_options = option_group(
    "registry",
    _make,
    (
        *PATIENCE_OPTIONS,
        click.option(
            "--proxy",
            type=TEXT,
            metavar="URL",
            help="Proxy for registries; the default comes from http_proxy, https_proxy and no_proxy in the "
            "environment. An empty URL disables the proxy.",
        ),
        click.option(
            "--tls-verify",
            type=click.BOOL,
            metavar="BOOLEAN",
            help="Whether registries must use TLS with a valid certificate; false also allows plain HTTP. "
            "The default comes from registries.conf, otherwise true.",
        ),
        click.option(
            "--cert-dir",
            metavar="DIR",
            help="Certificate directory, instead of certs.d/HOST[:PORT]: trusted authorities in *.crt, the "
            "client certificate and key in *.cert and *.key.",
        ),
        click.option(
            "--authfile",
            metavar="FILE",
            help="Credentials for registries, instead of $REGISTRY_AUTH_FILE, "
            "$XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json and "
            "~/.docker/config.json.",
        ),
    ),
    CONNECTION,
)
"""Adds the options of every command that talks to registries, as `registry`."""
