"""A real Chromium without a window, driven through the pipe of its own protocol: no driver, no library, no port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections import deque
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

PATIENCE = 60.0
"""Seconds for anything that is waited for: a page of some megabytes, on a busy machine."""


def installed() -> str | None:
    """Path of a Chromium, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Chromium:
    """One page. What it asks the network for, what it throws and what it says in its console is kept."""

    def __init__(self, profile: Path, size: tuple[int, int] = (1280, 900)):
        ours, theirs = os.pipe(), os.pipe()
        # The protocol is read from file descriptor 3 and written to 4.
        command = (
            'exec "$0" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars '
            '--disable-background-networking --disable-component-update --disable-sync --remote-debugging-pipe "$@" '
            f"3<&{ours[0]} 4>&{theirs[1]}"
        )
        where = f"--user-data-dir={profile}"
        self.process = subprocess.Popen(
            ["bash", "-c", command, installed() or "", where, "about:blank"],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._write, self._read = ours[1], theirs[0]
        self._rest, self._messages, self._number, self._session = b"", deque(), 0, None
        self.requests, self.complaints = [], []
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.resize(*size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._write)
        os.close(self._read)
        self.process.kill()
        self.process.wait()

    def ask(self, method, **parameters):
        """The result of a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, (method, said["error"])
                return said["result"]

    def _next(self):
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium has ended"
            self._rest += part
        first, _, self._rest = self._rest.partition(b"\0")
        said = json.loads(first)
        method, parameters = said.get("method"), said.get("params")
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(str(parameters["entry"]))
        return said

    def open(self, path: Path, fragment: str = ""):
        """Load a file and wait until its charts are drawn."""
        self.ask("Page.navigate", url=path.as_uri() + fragment)
        self.wait("document.readyState == 'complete' && document.body.dataset.drawn > 0")

    def run(self, script):
        """The value of an expression of JavaScript on the page; a promise is waited for."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, (script, result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, condition):
        """Until an expression holds."""
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def drawn(self, action):
        """Do something, and wait until the charts have been drawn again."""
        before = self.run("Number(document.body.dataset.drawn)")
        action()
        self.wait(f"Number(document.body.dataset.drawn) > {before}")

    def click(self, selector):
        """Press and release the mouse on the middle of an element, as a hand would."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, selector, along=0.5):
        """Move the mouse over an element, at a part of its width."""
        x, y = self._middle(selector, along)
        for shift in (-3, 0):
            self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x + shift, y=y)

    def _middle(self, selector, along=0.5):
        place = self.run(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); if (!one) return null; "
            "one.scrollIntoView({block: 'center', inline: 'center'}); const box = one.getBoundingClientRect(); "
            f"return [box.left + box.width * {along}, box.top + box.height / 2]; }})()"
        )
        assert place, f"there is no {selector}"
        return place

    def key(self, name, code=0, text=""):
        """Press a key."""
        parameters = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **parameters)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **parameters)

    def write(self, text):
        """Write into what has the focus."""
        self.ask("Input.insertText", text=text)

    def texts(self, selector):
        """Texts of all elements."""
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText.trim())")

    def resize(self, width, height, *, dark=False, mobile=False):
        """Size of the window in CSS pixels, and the scheme of colours."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, *, whole=True):
        """A picture of the page, or of what the window shows."""
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
