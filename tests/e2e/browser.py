"""A real Chromium for tests, driven through `driver.mjs`: windows, what they show, and what they print."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

FOLDER = Path(__file__).parent
PATIENCE_S = 30.0

ROWS = """() => [...document.querySelectorAll("#rows > li")].map((row) => row.dataset.offset === undefined
    ? {note: row.textContent}
    : {offset: Number(row.dataset.offset), how: row.dataset.how, prev: row.querySelector(".prev").innerText,
       text: row.querySelector("code").textContent, by: row.querySelector(".by").textContent})"""


class BrowserError(AssertionError):
    """What was asked of the page did not happen, most often: not in time."""


class Browser:
    """One Chromium with a fresh profile, or with this one. Its calls block, none without a deadline."""

    def __init__(self, profile: Path | None = None) -> None:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        assert chromium is not None, "the tests need chromium; `make test` installs it"
        assert (FOLDER / "node_modules").is_dir(), "run `make npm` first, or `make test`"
        self._process = subprocess.Popen(
            ["node", "driver.mjs", chromium, *([str(profile)] if profile else [])],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def ask(self, on: str | int, method: str, *args: Any) -> Any:
        """Call a method of the driver or of a page."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"on": on, "method": method, "args": args}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the driver is gone"}')
        if "error" in answer:
            raise BrowserError(f"{method}{args!r}: {answer['error']}")
        return answer["value"]

    def open(self, url: str, **options: Any) -> Page:
        """Open a window of its own."""
        return Page(self, self.ask("driver", "open", {"url": url, **options}))

    def close_pages(self) -> None:
        """Close every window."""
        self.ask("driver", "closePages")


def _call(function: str, argument: Any) -> str:
    """Return JavaScript that calls a function; JSON as such in a program would make `__proto__` a prototype."""
    return f"({function})(JSON.parse({json.dumps(json.dumps(argument))}))"


class Page:
    """One window or tab."""

    def __init__(self, browser: Browser, number: int) -> None:
        self.browser = browser
        self.number = number

    def do(self, method: str, *args: Any) -> Any:
        """Call one of Playwright's page methods."""
        return self.browser.ask(self.number, method, *args)

    def open_tab(self, url: str) -> Page:
        """Open another tab from this one, with a copy of its sessionStorage."""
        opened = self.browser.ask("driver", "openFrom", {"opener": self.number, "url": url})
        return Page(self.browser, opened)

    def open_beside(self, url: str) -> Page:
        """Open another tab with the same storage and a process of its own: it runs while this one hangs."""
        opened = self.browser.ask("driver", "openBeside", {"opener": self.number, "url": url})
        return Page(self.browser, opened)

    def metrics(self) -> dict[str, float]:
        """Return what Chromium counts of the page: `TaskDuration` and others, in seconds of its main thread."""
        counted: dict[str, float] = self.browser.ask("driver", "metrics", {"page": self.number})
        return counted

    def freeze(self) -> None:
        """Let nothing run in the page until `thaw`: it keeps its locks and answers nobody."""
        self.browser.ask("driver", "freeze", {"page": self.number})

    def thaw(self) -> None:
        """Let a frozen page go on."""
        self.browser.ask("driver", "thaw", {"page": self.number})

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Return what a function in JavaScript returns."""
        return self.do("evaluate", _call(script, argument))

    def wait_for(
        self, condition: str, argument: Any = None, *, patience_s: float = PATIENCE_S
    ) -> None:
        """Wait until a function in JavaScript is true."""
        source = _call(condition, argument)
        wanted = {"page": self.number, "condition": source, "timeoutMs": patience_s * 1000}
        self.browser.ask("driver", "waitFor", wanted)

    def wait_state(self, state: str) -> None:
        """Wait for a state of the connection."""
        self.do("waitForSelector", f'#state[data-state="{state}"]', {"timeout": PATIENCE_S * 1000})

    def wait_live(self) -> None:
        """Wait until the channel in view is subscribed, and its history is there."""
        self.do("waitForSelector", '#subscription[data-state="live"]')

    def wait_offset(self, offset: int) -> None:
        """Wait until the channel in view has come that far."""
        self.wait_text("#offset", f"{offset:,}")

    def wait_people(self, *names: str) -> None:
        """Wait until exactly these are present."""
        self.wait_for(
            "(names) => String([...document.querySelectorAll('#people .who')].map((x) => x.textContent).sort()) === String(names)",
            sorted(names),
        )

    def wait_text(self, selector: str, text: str) -> None:
        """Wait until an element's text is this."""
        condition = "([selector, text]) => document.querySelector(selector)?.textContent === text"
        self.wait_for(condition, [selector, text])

    def text(self, selector: str) -> str:
        """Return an element's text."""
        found = self.do("textContent", selector)
        assert isinstance(found, str)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Return the list as shown: events and notes."""
        rows: list[dict[str, Any]] = self.evaluate(ROWS)
        return rows

    def events(self) -> list[dict[str, Any]]:
        """Return the events shown."""
        return [row for row in self.rows() if "offset" in row]

    def notes(self) -> list[str]:
        """Return the lines shown that are no events."""
        return [row["note"] for row in self.rows() if "note" in row]

    def data(self) -> list[Any]:
        """Return the data of the events shown."""
        return [json.loads(event["text"]) for event in self.events()]

    def printed(self) -> list[str]:
        """Return what the page printed to its console, errors included."""
        lines: list[str] = self.browser.ask("driver", "printed", {"page": self.number})
        return lines
