"""Both transports, and a server that misbehaves."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from cfsctl.http import Transport, open_fetcher
from tests.fakes.faulty_server import FaultyServer
from tests.integration.http.jobs import QUICK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.http.fetcher import Fetcher


@pytest.fixture(params=Transport, ids=lambda transport: transport.value)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    if chosen is Transport.CURL and importlib.util.find_spec("pycurl") is None:
        pytest.skip("pycurl is not installed (extra 'fast')")
    return chosen


@pytest.fixture
def fetcher(transport: Transport) -> Iterator[Fetcher]:
    fetcher = open_fetcher(QUICK, transport=transport)
    yield fetcher
    fetcher.close()


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server
