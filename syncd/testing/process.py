"""A real server process that a test starts, kills and starts again on the same port and file.

Owner of: the child process and its log file. Everything here blocks the caller's thread; Trio tests go through
`trio.to_thread.run_sync`. No wait is without a deadline.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["ServerProcess", "free_port"]

API_KEY = "key-of-the-tests"
START_S = 30.0
"""A busy machine needs seconds to import everything."""
_LOOK_S = 0.02


def free_port(second: int = 0) -> int:
    """Return a port nobody listens on, below the ephemeral range, so that no client takes it between two starts.

    Args:
        second: A server that also listens this far above it needs that port, too: it is free and no client's either.
    """
    for _ in range(200):
        port = random.SystemRandom().randrange(12_000, 32_000 - second)
        if _is_free(port) and _is_free(port + second):
            return port
    raise OSError("no free port")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class ServerProcess:
    """One `syncd serve` on `127.0.0.1:port`, over as many starts as a test wants.

    Args:
        folder: Holds `syncd.toml`, the database and the log.
        config: Text of the configuration file, without `[server]`.
        arguments: More of the command line.
        program: What Python runs in place of `-m syncd.cli.main`, to plant a fault first.
        environment: More of its environment.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *,
        arguments: tuple[str, ...] = (),
        program: tuple[str, ...] = ("-m", "syncd.cli.main"),
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port() if port is None else port
        self.log = folder / f"server-{self.port}.log"
        config_path = folder / "syncd.toml"
        config_path.write_text(config)
        self._command = [
            sys.executable,
            *program,
            "serve",
            *("--config", str(config_path), "--db", str(folder / "syncd.db")),
            *("--listen", f"127.0.0.1:{self.port}", "--log-format", "json"),
            *arguments,
        ]
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.kill()
        if error is not None:
            sys.stderr.write(self.tail())

    # ---------------------------------------------------------------- up and down

    def start(self) -> None:
        """Start it and wait until it is ready for traffic.

        Raises:
            RuntimeError: it ended, or was not ready in time; the message has the end of its log.
        """
        self.spawn()
        self.wait_ready()

    def spawn(self) -> None:
        """Start it without waiting."""
        assert self._process is None or self._process.poll() is not None, "it still runs"
        environment = {**os.environ, "SYNCD_API_KEY": API_KEY, **self.environment}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Wait until `/health/ready` says so, or raise with what the server printed."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get("/health/ready")[0] == 200:
                    return
            if self.returncode is not None:
                raise RuntimeError(f"the server ended with {self.returncode}:\n{self.tail()}")
            _pause()
        raise RuntimeError(f"the server was not ready in {timeout_s:g} s:\n{self.tail()}")

    def kill(self) -> None:
        """End it as a power switch would (SIGKILL) and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, timeout_s: float = 15.0) -> tuple[int, float]:
        """Ask it to stop (SIGTERM).

        Returns:
            Its exit code, and how many seconds it took.

        Raises:
            subprocess.TimeoutExpired: it did not stop in time.
        """
        started = time.monotonic()
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s), time.monotonic() - started

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and return the exit code; `subprocess.TimeoutExpired` when it goes on."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    # ---------------------------------------------------------------- what it tells

    @property
    def pid(self) -> int:
        """Of the process started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def get(self, path: str) -> tuple[int, Any]:
        """Ask its HTTP side; returns status and decoded JSON. OSError while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {API_KEY}"})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def rss_bytes(self) -> int:
        """Resident memory now."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", text)
        assert found is not None
        return int(found[1]) * 1024

    def log_lines(self) -> list[dict[str, Any]]:
        """What it logged so far, over all starts."""
        lines: list[dict[str, Any]] = []
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def tail(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def _pause() -> None:
    time.sleep(_LOOK_S)  # noqa: TID251 - a thread that looks at another process has nothing else to wait for
