"""Images of a Docker daemon: ``docker-daemon:NAME:TAG``, by way of skopeo.

skopeo writes the image to a temporary file, as ``docker save`` would, which is deleted in the end. A daemon
at another place than usual is named by DOCKER_HOST.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import Final

from cfsctl.errors import CfsError
from cfsctl.oci.source import ImageNotFoundError
from cfsctl.oci.sources.archive import ArchiveFiles
from cfsctl.oci.sources.docker_archive import DockerArchiveName, DockerArchiveSource

_LARGE_FILES: Final = "/var/tmp"  # noqa: S108 - a private directory is made in it
_MAX_MESSAGE_CHARACTERS: Final = 2000


class SkopeoError(CfsError):
    """skopeo is not installed, or has failed."""


class DockerDaemonSource(DockerArchiveSource):
    """One image of a Docker daemon, copied to a temporary file."""

    def __init__(self, name: str) -> None:
        """Copy the image.

        Args:
            name: Name and tag, or ID.

        Raises:
            SkopeoError: It cannot be copied.
            ImageNotFoundError: The daemon does not have it.
        """
        self._directory = tempfile.TemporaryDirectory(
            prefix="cfsctl-", dir=os.environ.get("TMPDIR") or _LARGE_FILES
        )
        try:
            path = f"{self._directory.name}/image.tar"
            _copy(name, path)
            super().__init__(ArchiveFiles(path), DockerArchiveName(path), f"docker-daemon:{name}")
        except BaseException:
            self._directory.cleanup()
            raise

    def close(self) -> None:
        """Delete the copy."""
        super().close()
        self._directory.cleanup()


def _copy(name: str, path: str) -> None:
    program = shutil.which("skopeo")
    if program is None:
        raise SkopeoError(
            f"docker-daemon:{name}: skopeo is needed for this transport, and not found in PATH",
            hint="install skopeo, or use `docker save` and docker-archive:FILE",
        )
    host = os.environ.get("DOCKER_HOST")
    options = ["--src-daemon-host", host] if host else []
    done = subprocess.run(
        [
            *(program, "--insecure-policy", "copy", "--quiet", *options),
            *(f"docker-daemon:{name}", f"docker-archive:{path}"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()[-_MAX_MESSAGE_CHARACTERS:]
        kind = ImageNotFoundError if "No such image" in text else SkopeoError
        raise kind(f"docker-daemon:{name}: skopeo: {text or f'exit status {done.returncode}'}")
