"""Build hook: compile the optional extension `cfsctl.fsverity._lanes` where there is a C compiler.

Without a compiler, without Python's headers, on other processors, or with CFSCTL_NO_EXTENSION=1 in the
environment, the wheel is pure Python and computes the same digests more slowly.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

DIRECTORY = Path("src", "cfsctl", "fsverity")
TARGET = "_lanes.abi3.so"
"""For the stable ABI of Python 3.11: one file serves all later versions."""

FLAGS = ["-O3", "-std=gnu11", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"]


class LanesHook(BuildHookInterface):  # type: ignore[type-arg]  # the configuration class is hatchling's own
    """Compiles the extension into the wheel, or beside its source for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and make the wheel one for this machine; leave it pure where that cannot be done."""
        if os.environ.get("CFSCTL_NO_EXTENSION", "") not in {"", "0"}:
            return
        source = Path(self.root) / DIRECTORY
        if version == "editable":
            compile_extension(source, source / TARGET)
            return
        self._directory = Path(tempfile.mkdtemp())
        target = self._directory / TARGET
        if compile_extension(source, target):
            build_data["force_include"][str(target)] = f"cfsctl/fsverity/{TARGET}"
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"cp311-abi3-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled beside the wheel."""
        del version, build_data, artifact_path
        directory = getattr(self, "_directory", None)
        if directory is not None:
            shutil.rmtree(directory)


class ReadmeHook(MetadataHookInterface):
    """Makes the readme of the package from README.md."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the readme."""
        text = (Path(self.root) / "README.md").read_text()
        metadata["readme"] = {"content-type": "text/markdown", "text": without_relative_links(text)}


def without_relative_links(text: str) -> str:
    """Return Markdown in which a link to a file of the sources is its text and the name of the file.

    An index shows the readme without the files beside it, where such links lead nowhere.
    """
    text = re.sub(r"<!--.*?-->\n", "", text, flags=re.DOTALL)
    return re.sub(r"\[([^\]]+)\]\((?![a-z]+://|#)([^)\s]+)\)", r"\1 (`\2`)", text)


def compile_extension(source: Path, target: Path) -> bool:
    """Compile the extension; return whether that worked, and say on standard error why it did not.

    Args:
        source: Directory of the C files.
        target: The shared object to write; replaced by a rename, so that running programs keep theirs.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        return _skip(f"there is no C compiler ({compiler[0]})")
    include = sysconfig.get_paths()["include"]
    if not (Path(include) / "Python.h").exists():
        return _skip(f"Python's headers are missing ({include}/Python.h; on Debian: python3-dev)")
    beside = target.with_suffix(f".{os.getpid()}")
    command = [*compiler, *FLAGS, *shlex.split(os.environ.get("CFLAGS", "")), f"-I{include}"]
    command += ["-o", str(beside), str(source / "_lanes.c"), *shlex.split(os.environ.get("LDFLAGS", ""))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        beside.unlink(missing_ok=True)
        return _skip(f"compiling failed:\n{done.stderr}")
    beside.replace(target)
    return True


def _skip(reason: str) -> bool:
    sys.stderr.write(f"cfsctl: building without the extension for fast hashing: {reason}\n")
    return False
