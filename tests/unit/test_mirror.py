"""Tests of a module are in the same place below tests/unit."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent
SOURCE: Final = HERE.parents[1] / "src" / "cfsctl"

ELSEWHERE: Final = {
    "cli/test_imports.py": "what the start of the program imports",
    "cli/test_man_pages.py": "tools/man_pages.py",
    "cli/test_single_way_out.py": "all modules",
    "cli/tools/test_tool_status.py": "all tools",
    "test_benchmarks.py": "benchmarks",
    "test_mirror.py": "this directory",
}
"""Tests of what is no module of the program, and what they are about."""

FILES: Final = sorted(path.relative_to(HERE) for path in HERE.rglob("test_*.py"))


def find_counterpart(test: Path) -> Path | None:
    """Return the module or package that a test is about.

    A test is called as the module is, or as the package that it is in; more words may follow.
    """
    words = test.stem.removeprefix("test_").split("_")
    package = SOURCE / test.parent
    for count in range(len(words), 0, -1):
        name = "_".join(words[:count])
        for found in (package / f"{name}.py", package / name, package / f"_{name}.py"):
            if found.is_file() or (found / "__init__.py").is_file():
                return found
        if name == package.name and (package / "__init__.py").is_file():
            return package
    return None


@pytest.mark.parametrize("test", FILES, ids=str)
def test_each_test_is_where_its_module_is(test: Path) -> None:
    assert (find_counterpart(test) is None) == (str(test) in ELSEWHERE), (
        f"{test}: no such module below {SOURCE}"
    )


def test_exceptions_exist() -> None:
    assert set(ELSEWHERE) <= {str(test) for test in FILES}


def test_there_is_nothing_but_tests() -> None:
    """What several tests use is in tests/support."""
    others = [path.name for path in HERE.rglob("*.py") if not path.name.startswith("test_")]
    assert set(others) <= {"__init__.py", "conftest.py"}


def test_other_names_have_no_counterpart() -> None:
    assert find_counterpart(Path("workers/test_pools.py")) is None
    assert find_counterpart(Path("nowhere/test_pool.py")) is None
    assert find_counterpart(Path("workers/test_pool_order.py")) == SOURCE / "workers" / "pool.py"
