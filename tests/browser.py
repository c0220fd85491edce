"""Chromium without a window, for tests of pages; skips where there is none.

It is driven over its DevTools protocol through two pipes, so that no library is needed:
https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip
_SECONDS = 60.0
_KEYS = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


class Browser:
    """One tab. What it does is what a person's browser does on the same event."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol; returns its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found

    def open(self, path: Path, width: int = 1280, height: int = 900, phone: bool = False) -> None:
        """Opens a file in a window of that size."""
        self.requests.clear()
        self.errors.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Page.navigate", url=path.as_uri())
        self.wait(f"document.readyState == 'complete' && location.href == '{path.as_uri()}'")

    def __call__(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Within it, expressions are of the page in the frame, which is a process of its own."""
        outer, self._session = self._session, None
        try:
            found = self.call("Target.getTargets")["targetInfos"]
            (inner,) = (each["targetId"] for each in found if each["type"] == "iframe")
            attached = self.call("Target.attachToTarget", targetId=inner, flatten=True)
            self._session = attached["sessionId"]
            yield
        finally:
            self._session = outer

    def wait(self, condition: str) -> None:
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + _SECONDS
        while not self(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def middle(self, selector: str) -> tuple[float, float]:
        """Where an element is in the window, scrolled there."""
        x, y = self(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        return x, y

    def mouse(self, kind: str, x: float, y: float) -> None:
        """``"Moved"``, ``"Pressed"`` or ``"Released"``."""
        button = {} if kind == "Moved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **button)

    def hover(self, selector: str) -> None:
        """Moves the mouse there."""
        self.mouse("Moved", *self.middle(selector))

    def click(self, selector: str) -> None:
        """Moves the mouse there and clicks."""
        place = self.middle(selector)
        for kind in ("Moved", "Pressed", "Released"):
            self.mouse(kind, *place)

    def tap(self, selector: str) -> None:
        """Touches an element with a finger."""
        self.touch("Start", *self.middle(selector))
        self.touch("End")

    def slide(self, first: str, last: str) -> None:
        """Slides with a finger from one element to another, so slowly that it is no fling."""
        (x, y), (to, _) = self.middle(first), self.middle(last)
        self.touch("Start", x, y)
        for step in range(1, 11):
            time.sleep(0.03)
            self.touch("Move", x + (to - x) * step / 10, y)
        for _ in range(3):  # at rest before it is lifted
            time.sleep(0.1)
            self.touch("Move", to, y)
        self.touch("End")

    def touch(self, kind: str, *place: float) -> None:
        """``"Start"``, ``"Move"`` or ``"End"``, which has no place."""
        points = [dict(zip("xy", place, strict=True))] if place else []
        self.call("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=points)

    def press(self, key: str, shift: bool = False) -> None:
        """Presses a key, for example ``"Tab"``."""
        code = {"key": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 * shift}
        text = {" ": {"text": " "}, "Enter": {"text": "\r"}}.get(key, {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def scheme(self, name: str) -> None:
        """``"light"`` or ``"dark"``."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def scripts(self, allowed: bool) -> None:
        """Whether pages that are opened later run their scripts."""
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Writes what is seen, or the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], _SECONDS)
            chunk = os.read(self._from, 1 << 20) if ready else b""
            assert chunk, "Chromium does not answer"
            self._buffer += chunk
        one, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(one)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, event: str | None, details: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(str(details["exceptionDetails"]))
        elif event == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.errors.append(details["entry"]["text"])


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, closed at the end."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None or os.name != "posix":
        pytest.skip("no Chromium is installed")
    read_end, to_browser = os.pipe()
    from_browser, write_end = os.pipe()

    def give_pipes() -> None:
        # Copies out of the way first: 3 or 4 may be one of the two.
        reader, writer = os.dup(read_end), os.dup(write_end)
        os.dup2(reader, 3)
        os.dup2(writer, 4)

    process = subprocess.Popen(
        [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=give_pipes,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_end)
    os.close(write_end)
    try:
        yield Browser(to_browser, from_browser)
    finally:
        process.terminate()
        process.wait(_SECONDS)
        os.close(to_browser)
        os.close(from_browser)
