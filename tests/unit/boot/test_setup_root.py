"""Configuration and policy of setup-root: pure functions."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.boot.cmdline import KernelArgumentError
from cfsctl.boot.setup_root.config import MAX_BYTES, MountKind, SetupConfig, SetupConfigError, parse_config
from cfsctl.boot.setup_root.policy import (
    NoArgumentError,
    NoBootImageError,
    choose_image,
    read_candidates,
)
from cfsctl.errors import CfsError

if TYPE_CHECKING:
    from cfsctl.boot.cmdline import ImageArgument

A, B, C = ("a" * 64, "b" * 64, "c" * 128)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", SetupConfig()),
        ("unknown = 1\n[more]\nx = []\n", SetupConfig()),
        ('[etc]\nmount = "none"\n', SetupConfig(etc=MountKind.NONE)),
        ("[etc]\ntransient = true\n", SetupConfig(etc=MountKind.TRANSIENT)),
        ('[etc]\ntransient = true\nmount = "bind"\n', SetupConfig(etc=MountKind.BIND)),
        ('var.mount = "overlay"', SetupConfig(var=MountKind.OVERLAY)),
        ("[var]\ntransient = true\n", SetupConfig(var=MountKind.TRANSIENT)),
        ("[root]\ntransient = true\n", SetupConfig(is_root_transient=True)),
    ],
)
def test_configurations(text: str, expected: SetupConfig) -> None:
    assert parse_config(text.encode()) == expected


def test_defaults() -> None:
    config = SetupConfig()
    assert (config.etc, config.var, config.needs_state) == (MountKind.OVERLAY, MountKind.BIND, True)
    assert not SetupConfig(etc=MountKind.NONE, var=MountKind.TRANSIENT).needs_state


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"etc = 1", "etc: expected a table"),
        (b"[etc]\nmount = 'sideways'", "etc.mount: expected one of none, bind, overlay, transient"),
        (b"[etc]\nmount = ['none']", "etc.mount: expected one of"),
        (b"[var]\ntransient = 'yes'", "var.transient: expected true or false"),
        (b"root = []", "root: expected a table"),
        (b"[etc", "not valid TOML"),
        (b"\xff", "not valid UTF-8 at byte 0"),
        (b"x = " + b"[" * 100_000, "not valid TOML"),
        (b"#" * (MAX_BYTES + 1), "bytes; expected"),
    ],
)
def test_invalid_configurations(content: bytes, said: str) -> None:
    with pytest.raises(SetupConfigError) as raised:
        parse_config(content)
    assert said in str(raised.value)


@given(st.binary(max_size=300) | st.text(alphabet='[]etcvarmoun.="\n tru', max_size=80).map(str.encode))
def test_any_configuration_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(SetupConfigError):
        parse_config(content)


def choose(cmdline: str, *stored: str) -> tuple[str, list[str]]:
    """Return the image that is chosen among those that are stored, and what was said."""
    said: list[str] = []

    def find(argument: ImageArgument) -> str | None:
        return argument.object_id.hex() if argument.object_id.hex() in stored else None

    argument, found = choose_image(cmdline, find, said.append)
    assert argument.object_id.hex() == found
    return found, said


@pytest.mark.parametrize(
    ("cmdline", "stored", "chosen"),
    [
        (f"quiet composefs={A} rw", [A], A),
        (f"composefs.digest=v1-sha256-12:{A} composefs={B}", [A, B], A),
        (f"composefs={B} composefs.digest=v1-sha256-12:{A}", [A, B], B),
        (f"composefs={C} composefs={B}", [B], B),
        (f"composefs=foo composefs={A}", [A], A),
        (f"composefs=?{B} composefs={A}", [A], A),
        (f"composefs=?{C} composefs=?{A}", [A], A),
        (f'x="composefs={B}" composefs={A}', [A, B], A),
        (f"composefs.digest=v9-sha256-12:{B} composefs.digest=v2-sha256-12:{A}", [A, B], A),
    ],
)
def test_first_stored_image_is_chosen(cmdline: str, stored: list[str], chosen: str) -> None:
    assert choose(cmdline, *stored)[0] == chosen


def test_what_is_passed_over_is_said() -> None:
    _, said = choose(f"composefs=foo composefs={B} composefs={A}", A)
    assert said == [
        "invalid composefs= digest length: 3, trying next karg",
        f"image {B} not found, trying next karg",
    ]


@pytest.mark.parametrize("before", [f"composefs={B}", "composefs=zz", "composefs.digest=v1-sha256-12:00"])
def test_demand_for_verity_is_not_got_around(before: str) -> None:
    with pytest.raises(NoBootImageError):
        choose(f"{before} composefs=?{A}", A)


@pytest.mark.parametrize("cmdline", ["", "quiet", "composefs", "composefs.digest", "xcomposefs=1"])
def test_command_lines_without_an_image(cmdline: str) -> None:
    with pytest.raises(NoArgumentError, match="no composefs karg found in kernel cmdline"):
        choose(cmdline)


def test_all_that_was_tried_is_named() -> None:
    with pytest.raises(NoBootImageError, match=f"tried: {A}, {B}"):
        choose(f"composefs={A} composefs={B}")


def test_error_of_one_that_is_stored_ends_the_search() -> None:
    def find(_: ImageArgument) -> None:
        raise OSError("tampered")

    with pytest.raises(OSError, match="tampered"):
        choose_image(f"composefs={A} composefs={B}", find, print)


def test_long_command_lines_are_bounded() -> None:
    assert len(read_candidates(" ".join(f"composefs={number}" for number in range(10_000)))) == 64
    with pytest.raises(KernelArgumentError):
        read_candidates("x" * 3_000_000)
    (candidate,) = read_candidates("composefs=" + "\x1b" * 10_000)
    assert candidate.argument is None
    assert candidate.problem.isprintable()
    assert len(candidate.problem) < 300


@given(st.text(max_size=200) | st.text(alphabet='composefs.digt=?v12-sha56:"\n 0af', max_size=200))
def test_any_command_line_is_read_or_refused(cmdline: str) -> None:
    with contextlib.suppress(CfsError):
        choose_image(cmdline, lambda _: None, lambda _: None)
