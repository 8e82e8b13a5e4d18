"""A browser without a window, driven by the protocol of its developer tools over two pipes.

It has an empty profile of its own and no network: every name resolves to nothing, and what a page asks for is
recorded.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

NAMES = ("chromium-headless-shell", "chromium-shell", "chromium", "chromium-browser")
TIMEOUT_S = 180.0
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
    "--force-color-profile=srgb",
    "about:blank",
)


def require_chromium() -> str:
    """Return the program, or skip the test."""
    for name in NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.skip("chromium is not installed (package chromium-headless-shell)")


class Browser:
    """A browser with one page.

    Attributes:
        requests: Addresses that the page has asked for.
        messages: What it has written to the console, and what the browser has to say about it.
    """

    def __init__(self, program: str) -> None:
        """Start it."""
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="cfsctl-chromium-", ignore_cleanup_errors=True)
        self._number = 0
        self._buffer = b""
        commands_out, self._commands = os.pipe()
        self._answers, answers_in = os.pipe()
        # The browser reads from descriptor 3 and writes to 4; here these may be anything.
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (commands_out, answers_in)]
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                f'exec "$0" "$@" 3<&{moved[0]} 4>&{moved[1]}',
                program,
                f"--user-data-dir={self._profile.name}",
                *OPTIONS,
            ],
            pass_fds=moved,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (commands_out, answers_in, *moved):
            os.close(fd)
        self._session: str | None = None
        self._loaded = False
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Security"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, AssertionError, subprocess.TimeoutExpired):
            self._session = None
            self.send("Browser.close")
            self._process.wait(TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # with what it has started
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
        self._profile.cleanup()

    def send(self, method: str, **parameters: object) -> Any:  # noqa: ANN401 - results are JSON
        """Call a method, and return its result."""
        self._number += 1
        call: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            call["sessionId"] = self._session
        os.write(self._commands, json.dumps(call).encode() + b"\0")
        while True:
            message = self._receive()
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self.requests.clear()
        self.messages.clear()
        self._loaded = False
        result = self.send("Page.navigate", url=url)
        assert not result.get("errorText"), result
        while not self._loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - results are JSON
        """Return the value of an expression in the page."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def show(self, width: int, height: int = 900, *, scheme: str = "light", media: str = "") -> None:
        """Set how large the window is, and what the user prefers."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)

    def press(self, key: str, code: int) -> None:
        """Press a key and release it."""
        text = "\r" if key == "Enter" else ""
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def print_pdf(self) -> bytes:
        """Return the page as a PDF file."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])

    def screenshot(self) -> bytes:
        """Return a picture of the whole page as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def _receive(self) -> dict[str, Any]:
        """Return the next message; events are recorded as well."""
        end = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._answers, 1 << 16)
            assert data, "the browser has ended"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._record(message.get("method", ""), message.get("params", {}))
        return message

    def _record(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(json.dumps(parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.messages.append(parameters["entry"]["text"])
        elif method == "Page.javascriptDialogOpening":
            self.messages.append(f"dialog: {parameters['message']}")
        elif method == "Page.loadEventFired":
            self._loaded = True
