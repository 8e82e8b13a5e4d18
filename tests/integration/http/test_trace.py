"""What is told about requests: the same by both transports, to whoever listens, and without secrets."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest

from cfsctl import logs
from cfsctl.errors import CfsError
from cfsctl.http import open_fetcher
from cfsctl.http.fetcher import Options
from cfsctl.http.upload import Uploader
from tests.fakes.faulty_server import redirect, respond
from tests.integration.http.jobs import QUICK, fetch

if TYPE_CHECKING:
    from cfsctl.http import Transport
    from cfsctl.http.fetcher import Fetcher
    from tests.fakes.faulty_server import FaultyServer

SECRETS = ("hunter2", "joe", "t0ken", "s3cret", "k3y", "c00kie")


def listen(caplog: pytest.LogCaptureFixture, level: int) -> None:
    caplog.set_level(level, "cfsctl.http")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines, with numbers that differ each time replaced."""
    lines = [record.getMessage() for record in caplog.records if record.name == "cfsctl.http"]
    return [re.sub(r"\d+\.\d{3} s", "T s", re.sub(r"127\.0\.0\.1:\d+", "HOST", line)) for line in lines]


def test_each_exchange(caplog: pytest.LogCaptureFixture, fetcher: Fetcher, server: FaultyServer) -> None:
    listen(caplog, logging.DEBUG)
    server.on("/new?signature=s3cret", respond(status=503), respond(b"x" * 5000))
    server.on("/old?key=k3y", redirect("/new?signature=s3cret"))
    server.on("/none", respond(status=404))
    url = server.url.replace("http://", "http://joe:hunter2@")
    fetch(fetcher, f"{url}/old?key=k3y")
    with pytest.raises(CfsError):
        fetcher.get(f"{url}/none", limit_bytes=100)
    assert told(caplog) == [
        "GET http://HOST/old?...: redirected to http://HOST/new?..., T s",
        "GET http://HOST/new?...: 503, T s",
        "http://HOST/old?...: attempt 2 in T s",
        "GET http://HOST/old?...: redirected to http://HOST/new?..., T s",
        "GET http://HOST/new?...: 200, 5000 bytes, T s",
        "GET http://HOST/none: 404, T s",
    ]


def test_connection_that_fails(caplog: pytest.LogCaptureFixture, fetcher: Fetcher) -> None:
    listen(caplog, logging.DEBUG)
    with pytest.raises(CfsError):
        fetcher.get("http://joe:hunter2@127.0.0.1:1/x", limit_bytes=100)
    lines = told(caplog)
    assert len(lines) == 5  # three attempts
    assert all(line.startswith("GET http://HOST/x: ") for line in lines[::2])
    assert all(line.startswith("http://HOST/x: attempt ") for line in lines[1::2])


def test_header_fields_without_secrets(
    caplog: pytest.LogCaptureFixture, transport: Transport, server: FaultyServer
) -> None:
    listen(caplog, logs.TRACE)
    server.on("/x", respond(b"body", Set_Cookie="id=c00kie", X_Auth_Token="t0ken", ETag="abc"))
    options = Options(headers={"X-Api": "k3y", "Authorization": "Bearer t0ken"})
    fetcher = open_fetcher(QUICK, options, transport=transport)
    url = server.url.replace("http://", "http://joe:hunter2@")
    fetcher.get(f"{server.url}/x", limit_bytes=100, headers={"If-None-Match": "abc"})
    fetcher.get(f"{url}/x", limit_bytes=100, authorization="Basic s3cret")
    fetcher.close()
    lines = told(caplog)
    assert lines[:5] == [
        "> GET http://HOST/x",
        "> User-Agent: cfsctl",
        "> X-Api: ***",
        "> Authorization: Bearer ***",
        "> If-None-Match: abc",
    ]
    assert "< ETag: abc" in lines
    assert "< Set-Cookie: ***" in lines
    assert lines.count("> Authorization: Basic ***") == 1
    assert not [line for line in lines if any(secret in line for secret in SECRETS)]


def test_proxy_without_its_password(
    caplog: pytest.LogCaptureFixture, transport: Transport, server: FaultyServer
) -> None:
    listen(caplog, logs.TRACE)
    proxy = server.url.replace("http://", "http://joe:hunter2@")
    fetcher = open_fetcher(QUICK, Options(proxies={"http": proxy}), transport=transport)
    with pytest.raises(CfsError):
        fetcher.get("http://example.invalid/x", limit_bytes=100)
    fetcher.close()
    lines = told(caplog)
    assert lines[0] == "> GET http://example.invalid/x by way of http://HOST"
    assert not [line for line in lines if any(secret in line for secret in SECRETS)]


def test_uploads(caplog: pytest.LogCaptureFixture, server: FaultyServer) -> None:
    listen(caplog, logging.DEBUG)
    server.on("/v2/uploads?digest=1", respond(status=201))
    uploader = Uploader(QUICK, Options())
    uploader.send("PUT", f"{server.url}/v2/uploads?digest=1", body=b"data", size=4)
    uploader.close()
    assert told(caplog) == ["PUT http://HOST/v2/uploads?...: 201, 0 bytes, T s"]


def test_nobody_listens(caplog: pytest.LogCaptureFixture, fetcher: Fetcher, server: FaultyServer) -> None:
    server.on("/x", respond(b"body"))
    fetcher.get(f"{server.url}/x", limit_bytes=100)
    assert told(caplog) == []
