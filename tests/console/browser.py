"""A real Chromium, told what to do over its debugging pipe."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any, Self

SECONDS = 60  # for what takes a moment, on a machine that is busy with other tests


def find_browser() -> str | None:
    """The Chromium that is installed here, if any."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class Refused(AssertionError):
    """The browser would not do something: perhaps the page it is about has gone meanwhile."""


class Browser:
    """One tab of a headless Chromium."""

    def __init__(self, program: str, width: int = 1280, height: int = 800) -> None:
        self._profile = tempfile.mkdtemp(prefix="hostler-browser-")
        hears, self._to = os.pipe()
        self._from, says = os.pipe()
        command = (
            program,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={self._profile}"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank"),
        )
        # Chromium listens on descriptor 3 and answers on 4, and on no others
        script = f'exec 3<&{hears} 4>&{says}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(hears, says),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(hears), os.close(says)
        self._read, self._numbers, self._session = b"", count(1), None
        self.problems: list[str] = []  # what the page's console complained about
        attached = self._ask("Target.attachToTarget", targetId=self._first_tab(), flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)
        self._process.terminate()
        self._process.wait(SECONDS)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str) -> None:
        self._ask("Page.navigate", url=url)
        self.until("document.readyState == 'complete'")

    def run(self, script: str) -> Any:
        """What a script on the page answers."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until the page says yes."""
        deadline, clock = time.monotonic() + SECONDS, Event()
        while not self._agrees(script):
            if time.monotonic() > deadline:
                raise AssertionError(f"the page never said yes to: {script}\n{self.text()}")
            clock.wait(0.05)

    def _agrees(self, script: str) -> bool:
        try:
            return bool(self.run(f"Boolean({script})"))
        except Refused:  # the answer to come was that of a page that is being left
            return False

    def until_shown(self, text: str) -> None:
        """Wait until a reader sees this."""
        self.until(f"document.body?.innerText.includes({json.dumps(text)})")

    def text(self) -> str:
        """What a reader sees."""
        return str(self.run("document.body?.innerText"))

    def type(self, selector: str, text: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self._ask("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def resize(self, width: int, height: int) -> None:
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    def screenshot(self, path: Path) -> None:
        image = self._ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(image))

    def _first_tab(self) -> str:
        """The tab it begins with, which may come after its first answers."""
        while True:
            for target in self._ask("Target.getTargets")["targetInfos"]:
                if target["type"] == "page":
                    return str(target["targetId"])
            Event().wait(0.05)

    def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        said: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            said["sessionId"] = self._session
        os.write(self._to, json.dumps(said).encode() + b"\0")
        while (answer := self._hear()).get("id") != number:
            self._notice(answer)
        if "error" in answer:
            raise Refused(f"{method}: {answer['error']}")
        return answer["result"]

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            got = os.read(self._from, 1 << 16)
            if not got:
                raise AssertionError("the browser has gone")
            self._read += got
        text, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _notice(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Page.javascriptDialogOpening":
                os.write(
                    self._to,
                    json.dumps(
                        {
                            "id": next(self._numbers),
                            "method": "Page.handleJavaScriptDialog",
                            "params": {"accept": True},
                            "sessionId": self._session,
                        }
                    ).encode()
                    + b"\0",
                )
            case "Log.entryAdded":
                self.problems.append(parameters["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(parameters["exceptionDetails"]))
