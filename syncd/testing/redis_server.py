"""A real redis-server for tests: started on a Unix socket in a folder of its own, killed, stopped, started again with or without its data."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

__all__ = ["RedisServer", "redis_executable"]

_START_S = 20.0


def redis_executable() -> str | None:
    """Return where a server is installed: Redis, or Valkey."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """One server process; `with` starts it and ends it."""

    def __init__(self, folder: Path, *options: str, appendfsync: str | None = None) -> None:
        """Start nothing.

        Args:
            folder: Its own: socket, data and log lie there. Its path must be short (a socket's has 107 bytes at most).
            options: More of the server's, such as `--maxmemory`, `10mb`.
            appendfsync: None keeps nothing on disk.
        """
        self.folder = folder
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self._options = list(options)
        keeps = ["--appendonly", "yes", "--appendfsync", appendfsync] if appendfsync else []
        self._keeps = [*keeps, "--save", ""]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            RuntimeError: it does not; with what it said.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            redis_executable() or "redis-server",
            *("--port", "0", "--unixsocket", str(self.path), "--dir", str(self.folder)),
            *("--logfile", str(self.folder / "redis.log"), *self._keeps, *self._options),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no Redis: {(self.folder / 'redis.log').read_text()[-2000:]}")
            time.sleep(0.01)  # noqa: TID251 - waits for a condition, with a deadline

    def _answers(self) -> bool:
        client = self.client()
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def client(self) -> redis.Redis:
        """Return a client of redis-py; close it."""
        return redis.Redis.from_url(self.url, socket_timeout=10)

    def kill(self) -> None:
        """`kill -9`; what was not written to disk is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def forget(self) -> None:
        """Delete what lies on disk, between `kill` and `start`."""
        shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it hang, its connections open."""
        assert self._process is not None, "it runs"
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
