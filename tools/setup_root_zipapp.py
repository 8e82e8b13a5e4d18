"""Build dist/composefs-setup-root.pyz: composefs-setup-root in one file, for an initramfs.

    python tools/setup_root_zipapp.py [FILE]

It has the modules that the program loads, as source and compiled, and needs nothing but Python's standard
library. The compiled form makes it start quickly where nothing can be written; another version of Python uses
the source. The same source and the same Python give the same file.
"""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parents[1] / "src"
TARGET: Final = Path(__file__).parents[1] / "dist" / "composefs-setup-root.pyz"

_SHEBANG: Final = b"#!/usr/bin/python3 -IS\n"
_MAIN: Final = "import sys\n\nfrom cfsctl.cli.tools.setup_root import run\n\nsys.exit(run())\n"
_DATE: Final = (1980, 1, 1, 0, 0, 0)

_LIST: Final = """
import sys
sys.path.insert(0, sys.argv[1])
from cfsctl.cli.tools import setup_root
setup_root.needed_files()
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] == "cfsctl":
        print(module.__file__)
"""


def find_modules() -> list[Path]:
    """Return the files of the modules that the program loads, relative to the source directory."""
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", _LIST, str(SOURCE)],
        check=True,
        capture_output=True,
        text=True,
    )
    return [Path(line).relative_to(SOURCE) for line in done.stdout.splitlines()]


def compile_source(source: str, name: str) -> bytes:
    """Return the compiled form of a source, which names no directory of this machine."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "source.py")
        path.write_text(source, encoding="utf-8")
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compiled = py_compile.compile(
            str(path),
            str(Path(directory, "target")),
            dfile=name,
            doraise=True,
            invalidation_mode=mode,
            optimize=0,
        )
        assert compiled is not None
        return Path(compiled).read_bytes()


def build(target: Path = TARGET) -> None:
    """Write the file, whole or not at all."""
    sources = {str(path): (SOURCE / path).read_text(encoding="utf-8") for path in find_modules()}
    sources["__main__.py"] = _MAIN
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(f".{os.getpid()}")
    with beside.open("wb") as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, source in sorted(sources.items()):
                _add(archive, name, source.encode())
                _add(archive, f"{name}c", compile_source(source, name))
    beside.chmod(0o755)
    beside.replace(target)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = 0o644 << 16
    info.create_system = 3
    archive.writestr(info, content)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
