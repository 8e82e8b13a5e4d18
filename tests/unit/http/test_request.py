"""Options of connections that no library is to trip over."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import ExitCode
from cfsctl.http import open_fetcher
from cfsctl.http.fetcher import Options
from cfsctl.http.request import OptionsError, check_options, select_headers

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "headers",
    [
        {"X": "a\nb"},
        {"X": "a\0"},
        {"X": "\u20ac"},
        {"X\r": "a"},
        {"": "a"},
        {"X:": "a"},
        {"X Y": "a"},
        {"\xe4": "a"},
    ],
)
def test_header_fields_that_cannot_be_sent(headers: dict[str, str]) -> None:
    with pytest.raises(OptionsError, match="header field") as caught:
        open_fetcher(options=Options(headers=headers))
    assert caught.value.exit_code is ExitCode.USAGE


def test_header_fields_that_can() -> None:
    check_options(Options(headers={"X-Token": "a b: c", "Cookie": ""}))


@pytest.mark.parametrize("option", ["ca_file", "client_certificate", "client_key"])
def test_files_of_certificates(tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    for path in ("/dev/zero", tmp_path / "fifo", tmp_path, tmp_path / "none", tmp_path / "huge", "a\0b", ""):
        with pytest.raises(OptionsError, match="certificates in"):
            check_options(Options(**{option: str(path)}))  # type: ignore[arg-type]  # one of the file options
    (tmp_path / "good").touch()
    (tmp_path / "link").symlink_to("good")
    check_options(Options(**{option: str(tmp_path / "link")}))  # type: ignore[arg-type]


def test_fields_meant_for_one_server_stay_there() -> None:
    options = Options(headers={"Cookie": "a"})
    assert select_headers(options, "http://HOST:80/x", "http://host/") == {"Cookie": "a"}
    assert "Cookie" not in select_headers(options, "http://other/x", "http://host/")
