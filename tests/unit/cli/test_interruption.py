"""A program that is ended says once what it leaves behind."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from cfsctl.cli import interruption as module
from cfsctl.cli.interruption import Interruption, TerminatedError

if TYPE_CHECKING:
    from collections.abc import Iterator

GUARD_S = 120


@pytest.fixture
def told() -> Iterator[list[int]]:
    """Return what is told in the end; afterwards signals do what they did before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [(number, signal.getsignal(number)) for number in numbers]
    yield []
    for number, handler in before:
        signal.signal(number, handler)


def end(interruption: Interruption) -> None:
    with pytest.raises(TerminatedError):
        signal.raise_signal(signal.SIGTERM)
    interruption.take_turn()


def test_who_unwinds_in_time_tells_alone(told: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", GUARD_S)
    interruption = Interruption(told.append)
    end(interruption)
    interruption.close()
    assert told == []


def test_who_is_late_tells_nothing(told: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock ends the process, here as soon as the other thread waits for that."""
    waits, ended = threading.Event(), threading.Event()

    def pause() -> None:
        waits.set()
        raise InterruptedError

    def end_at_once(_number: int) -> None:
        assert waits.wait(GUARD_S)
        ended.set()

    monkeypatch.setattr(module, "_PATIENCE_S", 0)
    monkeypatch.setattr(module, "end_at_once", end_at_once)
    monkeypatch.setattr(signal, "pause", pause)
    has_told = threading.Event()

    def tell(number: int) -> None:
        told.append(number)
        has_told.set()

    interruption = Interruption(tell)
    with pytest.raises(TerminatedError):
        signal.raise_signal(signal.SIGTERM)
    assert has_told.wait(GUARD_S)
    with pytest.raises(InterruptedError):
        interruption.take_turn()
    assert ended.wait(GUARD_S)
    assert told == [signal.SIGTERM]
