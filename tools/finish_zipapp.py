"""Put our own first module into a file that shiv has made, and keep it the same whenever it is built.

usage: finish_zipapp.py FILE
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Final

_MAIN: Final = "__main__.py"
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def main() -> None:
    """Replace ``__main__.py``; the order and the times of all entries stay fixed."""
    path = Path(sys.argv[1])
    source = Path(__file__).with_name("zipapp_main.in").read_text()
    built_for = f"BUILT_FOR = ({sys.version_info.major}, {sys.version_info.minor})"
    source = source.replace("BUILT_FOR = (0, 0)", built_for)
    data = path.read_bytes()
    shebang = data[: data.index(b"\n") + 1]
    made = path.with_suffix(".new")
    with zipfile.ZipFile(path) as old, made.open("wb") as stream:
        stream.write(shebang)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
            for entry in sorted(old.infolist(), key=lambda one: one.filename):
                content = source.encode() if entry.filename == _MAIN else old.read(entry)
                kept = zipfile.ZipInfo(entry.filename, _TIME)
                kept.compress_type = zipfile.ZIP_DEFLATED
                kept.external_attr = entry.external_attr
                new.writestr(kept, content)
    made.chmod(0o755)
    made.replace(path)


if __name__ == "__main__":
    main()
