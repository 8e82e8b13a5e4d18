"""Options of what is done with OCI images, checked when they are made, and so before anything is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cfsctl.compression import Compression
from cfsctl.oci.digest import OciDigest as OciDigest  # noqa: PLC0414 - exported from here
from cfsctl.oci.digest import OciDigestError as OciDigestError  # noqa: PLC0414 - the same
from cfsctl.oci.digest import parse_digest as parse_digest  # noqa: PLC0414 - the same
from cfsctl.oci.reference import parse_platform
from cfsctl.oci.store.names import check_tag as check_tag  # noqa: PLC0414 - exported from here
from cfsctl.repository.objects.sharing import Sharing
from cfsctl.tree.transform import XattrFilter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cfsctl.library.paths import StrPath
    from cfsctl.library.patience import Patience
    from cfsctl.oci.build import BuildOptions
    from cfsctl.oci.manifest import Platform
    from cfsctl.oci.registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """How registries are reached.

    Attributes:
        auth_file: File with credentials; None is where podman, skopeo and docker have them.
        certificate_directory: Directory with the certificates for the registry; None is the one of its host
            below ``certs.d``.
        verify_tls: Whether servers must use TLS with a valid certificate; None is as ``registries.conf``
            says, otherwise they must.
        proxy: URL of a proxy, or an empty text for none; None is as the environment says.
        patience: How long to wait for a registry, and how often to ask again; None is the defaults.
    """

    auth_file: StrPath | None = None
    certificate_directory: StrPath | None = None
    verify_tls: bool | None = None
    proxy: str | None = None
    patience: Patience | None = None

    def settings(self) -> RegistrySettings:
        """Return the same for the room below, with what the environment adds; not part of the interface."""
        from cfsctl.http.fetcher import MAX_CONNECTIONS, Limits, Options  # only registries need it
        from cfsctl.http.proxies import environment_proxies, read_variable
        from cfsctl.oci.registry.settings import (
            RegistrySettings,
            find_auth_files,
            find_certificate_directories,
            find_registries_files,
        )
        from cfsctl.processors import default_worker_count

        directory = self.certificate_directory
        limits = Limits.shared(default_worker_count(), MAX_CONNECTIONS)
        return RegistrySettings(
            auth_files=find_auth_files(os.environ)
            if self.auth_file is None
            else (os.fspath(self.auth_file),),
            registries_files=find_registries_files(os.environ),
            certificate_directories=find_certificate_directories(os.environ),
            certificate_directory=None if directory is None else os.fspath(directory),
            verifies_tls=self.verify_tls,
            limits=limits if self.patience is None else limits.with_patience(*self.patience),
            options=Options(
                proxies=environment_proxies() if self.proxy is None else _proxies(self.proxy),
                no_proxy=read_variable("no_proxy") if self.proxy is None else "",
            ),
            helper_path=os.environ.get("PATH", os.defpath),
            environment=os.environ,
        )


def _proxies(url: str) -> dict[str, str]:
    return {"http": url, "https": url} if url else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OciPullOptions:
    """How an image is pulled.

    Attributes:
        platform: Platform to choose from an index, ``os/architecture[/variant]``; None is this machine's.
        bootable: Also make a boot image.
        expected_boot_image: With `bootable`: ID that the boot image must have; all formats and filters of
            extended attributes are tried.
        keep_compressed: Also store compressed layers as received, so that a push can send them unchanged.
        local_fetch: Whether files of images in containers-storage are shared with it: ``disabled``, ``auto``
            (by reflink or hard link where that is possible) or ``zerocopy`` (fail where neither is).
        boot_xattrs: With `bootable`: extended attributes that the boot image keeps.
        with_referrers: Also pull artifacts about the image, such as signatures.
    """

    platform: str | None = None
    bootable: bool = False
    expected_boot_image: str | None = None
    keep_compressed: bool = False
    local_fetch: str = "disabled"
    boot_xattrs: XattrFilter = XattrFilter.ALLOWLIST_ONLY
    with_referrers: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not go together.

        Raises:
            ValueError: A boot image is expected, and none is asked for; or an unknown `local_fetch`.
            FormatError: The platform is not valid.
        """
        if self.expected_boot_image is not None and not self.bootable:
            raise ValueError("expected_boot_image needs bootable")
        Sharing(self.local_fetch)
        _parse_platform(self.platform)

    def parse_platform(self) -> Platform | None:
        """Return the platform for the room below; not part of the interface."""
        return _parse_platform(self.platform)


def _parse_platform(text: str | None) -> Platform | None:
    return None if text is None else parse_platform(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class OciBuildOptions:
    """What an image is to be that is built.

    Attributes:
        platform: Platform of the image, ``os/architecture[/variant]``; None is that of the base, or of this
            machine.
        compression: Compression of the layer when it is pushed: ``gzip``, ``zstd`` or ``none``.
        xattrs: Extended attributes that the layer has.
        source_date_s: Time of the image in seconds since 1970, and the latest of its files; None is the
            latest time of a file.
        entrypoint: What is run; None is that of the base.
        cmd: Its arguments; None are those of the base.
        env: Variables of the environment, added to those of the base.
        labels: Labels, added to those of the base.
        bootable: Also make a boot image.
    """

    platform: str | None = None
    compression: str = "gzip"
    xattrs: XattrFilter = XattrFilter.ALLOWLIST_ONLY
    source_date_s: int | None = None
    entrypoint: Sequence[str] | None = None
    cmd: Sequence[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    bootable: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not valid.

        Raises:
            ValueError: There is no such compression.
            FormatError: The platform is not valid.
        """
        Compression(self.compression)
        _parse_platform(self.platform)

    def for_build(self) -> BuildOptions:
        """Return the same for the room below; not part of the interface."""
        from cfsctl.oci.build import BuildOptions  # only builds need it

        return BuildOptions(
            platform=_parse_platform(self.platform),
            compression=Compression(self.compression),
            xattr_filter=self.xattrs,
            source_date_s=self.source_date_s,
            entrypoint=self.entrypoint,
            cmd=self.cmd,
            env=self.env,
            labels=self.labels,
            bootable=self.bootable,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OciTreeOptions:
    """How the tree of an image is put together.

    Attributes:
        config_stream: ID of the stream that the image's config must have. With it the layers of an image that
            is named by its digest need not be verified.
        bootable: Use the tree of the boot image.
        xattrs: Extended attributes that the tree keeps.
    """

    config_stream: str | None = None
    bootable: bool = False
    xattrs: XattrFilter = XattrFilter.ALLOWLIST_ONLY
