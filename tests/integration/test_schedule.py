"""Files of tests are handed out in an order that ends all workers at the same time."""

from __future__ import annotations

from pathlib import Path

from tests.support.schedule import LONGEST, choose_next

ROOT = Path(__file__).parents[2]


def test_files_that_take_long_exist() -> None:
    assert [path for path in LONGEST if not (ROOT / path).exists()] == []


def test_the_longest_come_first_and_then_those_with_most_tests() -> None:
    waiting = {"tests/few.py": ["1"], "tests/many.py": ["1", "2"], LONGEST[1]: ["1"], LONGEST[0]: ["1"]}
    order = []
    while waiting:
        order.append(choose_next(waiting))
        del waiting[order[-1]]
    assert order == [LONGEST[0], LONGEST[1], "tests/many.py", "tests/few.py"]
