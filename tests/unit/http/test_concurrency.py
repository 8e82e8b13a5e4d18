"""How many transfers are in flight, as the server lets on."""

from __future__ import annotations

from cfsctl.http.concurrency import INTERVAL_S, Window


def run(window: Window, rate: dict[int, float], idle_share: float, rounds: int = 20) -> list[int]:
    """Let the window see a line whose rate depends on its size; return the sizes it tried."""
    sizes = [window.size]
    now_s = 0.0
    for _ in range(rounds):
        step_s = 2 * INTERVAL_S
        now_s += step_s
        window.count(round(rate[window.size] * step_s))
        window.adapt(idle_share * step_s, now_s)
        if window.size != sizes[-1]:
            sizes.append(window.size)
    return sizes


def test_a_server_far_away_gets_more_requests() -> None:
    assert run(Window(8, 24), {8: 400, 16: 800, 24: 1200}, 0.9) == [8, 16, 24]


def test_a_busy_processor_does_not_get_more_to_do() -> None:
    assert run(Window(8, 24), {8: 20000}, 0.1) == [8]


def test_a_full_line_does_not_get_more_connections() -> None:
    assert run(Window(8, 24), {8: 400, 16: 410}, 0.9) == [8, 16, 8]
    assert run(Window(8, 64), {8: 400, 16: 800, 32: 810}, 0.9) == [8, 16, 32, 16]


def test_a_few_large_bodies_are_no_reason_for_more() -> None:
    assert run(Window(8, 24), {8: 10, 16: 10}, 0.9) == [8, 16, 8]


def test_the_maximum_binds_from_the_start() -> None:
    assert run(Window(8, 2), {2: 400}, 0.9) == [2]


def test_a_server_that_asks_for_less_gets_less_and_is_not_pressed_again() -> None:
    window = Window(8, 24)
    for now_s in (10.0, 10.1, 10.9):  # answers to requests that were all on their way
        window.throttle(now_s)
    assert window.size == 4
    assert run(window, {4: 400}, 0.9) == [4]
    for second in range(20, 30):
        window.throttle(second)
    assert window.size == 1


def test_streams_cost_less_than_connections() -> None:
    window = Window(8, 24)
    window.widen(32, 64)
    assert window.size == 32
    window.widen(16, 64)
    assert window.size == 32
    assert run(window, {32: 400, 64: 800}, 0.9) == [32, 64]


def test_pauses_of_ours_do_not_count() -> None:
    window = Window(8, 24)
    window.resume(1000.0)
    for start_s in (1000.0, 2000.0):
        for step in range(1, 5):
            window.count(400)
            window.adapt(0.04, start_s + step * 0.05)
        window.pause(start_s + 0.2)
        window.resume(start_s + 1000.0)
    assert window.size == 16
