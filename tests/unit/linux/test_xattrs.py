"""Attributes of file systems that list what they do not have."""

from __future__ import annotations

import errno
import os

import pytest

from cfsctl.linux.xattrs import list_names, read_value


def answer(number: int) -> object:
    def fail(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number), "somewhere")

    return fail


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENODATA, errno.ENOSYS])
def test_no_attributes_at_all(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "listxattr", answer(number))
    assert list_names(0) == []


@pytest.mark.parametrize("number", [errno.ENODATA, errno.ENOENT, errno.EOPNOTSUPP, errno.ENOSYS])
def test_an_attribute_that_is_listed_and_has_no_value(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["security.x"])
    monkeypatch.setattr(os, "getxattr", answer(number))
    assert read_value(0, "security.x") is None


def test_an_attribute_that_is_gone_from_the_list_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", lambda *_, **__: ["user.other"])
    monkeypatch.setattr(os, "getxattr", answer(errno.ENODATA))
    with pytest.raises(OSError, match=r"user\.x was removed") as caught:
        read_value(0, "user.x")
    assert caught.value.errno == errno.ENODATA


def test_a_file_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", answer(errno.ENOENT))
    monkeypatch.setattr(os, "getxattr", answer(errno.ENOENT))
    with pytest.raises(FileNotFoundError):
        list_names(b"gone")
    with pytest.raises(FileNotFoundError):
        read_value(b"gone", "user.x")


@pytest.mark.parametrize("number", [errno.ERANGE, errno.E2BIG])
def test_what_is_too_large_says_so(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "listxattr", answer(number))
    monkeypatch.setattr(os, "getxattr", answer(number))
    with pytest.raises(OSError, match="names of its attributes: more than the 64 KiB"):
        list_names(0)
    with pytest.raises(OSError, match=r"attribute user\.x: more than the 64 KiB"):
        read_value(0, "user.x")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_other_errors_are_errors(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "getxattr", answer(number))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is the point
        read_value(0, "user.x")
    assert caught.value.errno == number
