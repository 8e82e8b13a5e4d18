"""Writing in a second thread: order, bounded memory, failures, and no thread left behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from cfsctl.workers import BackgroundCall, BackgroundReader, BackgroundWriter

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_pieces_arrive_in_order() -> None:
    pieces: list[bytes] = []
    writer = BackgroundWriter(pieces.append)
    expected = [b"%d" % number for number in range(100)]
    for piece in expected:
        writer.write(piece)
    writer.finish()
    assert pieces == expected


def test_the_producer_waits_when_too_much_is_waiting() -> None:
    taken, go = threading.Semaphore(0), threading.Semaphore(0)
    produced = []

    def take(_data: bytes) -> None:
        taken.release()
        go.acquire()

    writer = BackgroundWriter(take, depth=2)

    def produce() -> None:
        for number in range(10):
            writer.write(b"x")
            produced.append(number)

    producer = threading.Thread(target=produce)
    producer.start()
    taken.acquire()
    producer.join(0.2)
    assert len(produced) <= 3
    for _ in range(10):
        go.release()
    producer.join()
    writer.finish()
    assert len(produced) == 10


def test_a_failure_comes_back_to_the_producer() -> None:
    def fail(_data: bytes) -> None:
        raise OSError(28, "No space left on device")

    writer = BackgroundWriter(fail)
    with pytest.raises(OSError, match="No space left"):
        _write_for_ever(writer)
    with pytest.raises(OSError, match="No space left"):
        writer.finish()


def _write_for_ever(writer: BackgroundWriter) -> None:
    while True:
        writer.write(b"x")


def test_abort_may_be_repeated_and_raises_nothing() -> None:
    def fail(_data: bytes) -> None:
        raise OSError(28, "No space left on device")

    writer = BackgroundWriter(fail)
    writer.write(b"x")
    writer.abort()
    writer.abort()


def test_a_call_runs_at_the_same_time_and_its_failure_comes_back() -> None:
    go = threading.Event()
    call = BackgroundCall(go.wait)
    go.set()
    call.finish()
    call.finish()

    def fail() -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        BackgroundCall(fail).finish()


def test_pieces_are_read_ahead_in_order() -> None:
    with BackgroundReader(iter(range(100)), depth=3) as pieces:
        assert list(pieces) == list(range(100))


def test_what_the_iterator_raises_comes_in_its_place() -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with BackgroundReader(produce()) as pieces:
        found = iter(pieces)
        assert next(found) == 1
        with pytest.raises(ValueError, match="broken"):
            next(found)


def test_a_reader_that_is_left_early_ends_its_thread() -> None:
    produced = []

    def produce() -> Iterator[int]:
        for number in range(1000):
            produced.append(number)
            yield number

    with BackgroundReader(produce(), depth=2) as pieces:
        assert next(iter(pieces)) == 0
    assert len(produced) < 20
