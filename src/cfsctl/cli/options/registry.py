"""Options for connections to registries."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

from cfsctl.cli.options.common import TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.oci.registry.settings import RegistrySettings

F = TypeVar("F", bound="Callable[..., object]")


class RegistryArguments(TypedDict):
    """What `registry_options` adds to a command."""

    authfile: str | None
    cert_dir: str | None
    tls_verify: bool | None
    proxy: str | None


def registry_options(function: F) -> F:
    """Add the options of every command that talks to registries."""
    for decorate in (
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
    ):
        function = decorate(function)
    return function


def make_registry_settings(arguments: RegistryArguments) -> RegistrySettings:
    """Return how registries are talked to, from options, environment and the usual places of files."""
    from cfsctl.http.fetcher import MAX_CONNECTIONS, Limits, Options  # noqa: PLC0415 - keeps --help quick
    from cfsctl.http.proxies import environment_proxies, read_variable  # noqa: PLC0415 - the same
    from cfsctl.oci.registry.settings import (  # noqa: PLC0415 - the same
        RegistrySettings,
        find_auth_files,
        find_certificate_directories,
        find_registries_files,
    )
    from cfsctl.workers import default_worker_count  # noqa: PLC0415 - the same

    authfile, proxy = arguments["authfile"], arguments["proxy"]
    if authfile is not None and not os.path.exists(authfile):
        raise click.UsageError(f"--authfile: no such file: {authfile}")
    return RegistrySettings(
        auth_files=find_auth_files(os.environ) if authfile is None else (authfile,),
        registries_files=find_registries_files(os.environ),
        certificate_directories=find_certificate_directories(os.environ),
        certificate_directory=arguments["cert_dir"],
        verifies_tls=arguments["tls_verify"],
        limits=Limits.shared(default_worker_count(), MAX_CONNECTIONS),
        options=Options(
            proxies=environment_proxies() if proxy is None else _proxies(proxy),
            no_proxy=read_variable("no_proxy") if proxy is None else "",
        ),
        helper_path=os.environ.get("PATH", os.defpath),
    )


def _proxies(url: str) -> dict[str, str]:
    return {"http": url, "https": url} if url else {}
