"""Which names the package has, and what it costs to import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import cfsctl
from cfsctl.http.fetcher import Options
from cfsctl.ostree.pull.pull import PullResult

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "reference" / "library.md").read_text()
TYPED_EXAMPLE = (ROOT / "tests" / "typing" / "public_api.py").read_text()


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_importing_the_package_imports_nothing_else() -> None:
    loaded = run(
        "import __future__, sys, typing; before = set(sys.modules);"
        "import cfsctl; print(*set(sys.modules) - before)"
    )
    assert sorted(loaded.split()) == ["cfsctl", "cfsctl.started"]


def test_opening_a_repository_loads_no_network_and_no_cryptography(tmp_path: Path) -> None:
    loaded = run(
        f"import sys, cfsctl; cfsctl.Repository.init({str(tmp_path / 'repo')!r}, insecure=True).close();"
        "print(*sys.modules)"
    ).split()
    assert "cfsctl.library" in loaded
    heavy = {"requests", "urllib3", "pycurl", "ssl", "cryptography", "zstandard", "click", "cfsctl.cli"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize("name", cfsctl.__all__)
def test_each_name_is_there_and_documented_and_checked(name: str) -> None:
    assert getattr(cfsctl, name) is not None
    assert f"`{name}" in DOCUMENT or f"cfsctl.{name}" in DOCUMENT
    assert f"cfsctl.{name}" in TYPED_EXAMPLE
    assert name in dir(cfsctl)


def test_every_name_is_of_the_class_that_the_rooms_use() -> None:
    assert cfsctl.ConnectionOptions is Options
    assert cfsctl.PullResult is PullResult


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = cfsctl.nonsense  # type: ignore[attr-defined]


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(cfsctl.__file__).parent / "py.typed").exists()


ERRORS = [name for name in cfsctl.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_family(name: str) -> None:
    kind = getattr(cfsctl, name)
    assert issubclass(kind, cfsctl.CfsError)
    assert isinstance(kind.exit_code, cfsctl.ExitCode)
