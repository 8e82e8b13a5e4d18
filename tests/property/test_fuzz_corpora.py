"""The small inputs that fuzzing has found keep every promise of their target."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.py"))


@pytest.fixture
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a target without atheris, of which it needs nothing but to be imported under."""
    atheris = ModuleType("atheris")
    monkeypatch.setattr(atheris, "instrument_imports", lambda **_: contextlib.nullcontext(), raising=False)
    monkeypatch.setitem(sys.modules, "atheris", atheris)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"fuzz_{request.param}"
    spec = importlib.util.spec_from_file_location(name, FUZZ / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_corpus(target: ModuleType) -> None:
    inputs = sorted((FUZZ / "corpus" / target.__name__.removeprefix("fuzz_")).iterdir())
    assert len(inputs) > 20
    for path in inputs:
        try:
            target.one_input(path.read_bytes())
        except BaseException as error:
            error.add_note(f"input {path.name}")
            raise


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_seeds(target: ModuleType, tmp_path: Path) -> None:
    target.seed(tmp_path / "corpus")
    inputs = sorted((tmp_path / "corpus").iterdir())
    assert inputs
    for path in inputs[:10]:
        target.one_input(path.read_bytes())


def test_every_target_has_a_corpus() -> None:
    assert sorted(path.name for path in (FUZZ / "corpus").iterdir()) == TARGETS
