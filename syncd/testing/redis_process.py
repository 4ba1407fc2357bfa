"""A real Redis on a TCP port of its own: one server, a node of a cluster, or a Sentinel; killed, stopped and started again by a test.

Blocks the caller's thread; no wait is without a deadline.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from syncd.testing.process import free_port
from syncd.testing.redis_server import redis_executable

__all__ = ["RedisProcess", "wait_until"]

_START_S = 20.0
_LOOK_S = 0.02


def wait_until(is_so: Callable[[], bool], what: str, timeout_s: float = _START_S) -> None:
    """Look until it is so.

    Raises:
        RuntimeError: it is not, in time.
    """
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not in {timeout_s:g} s: {what}")
        time.sleep(_LOOK_S)  # noqa: TID251 - a thread that looks at another process has nothing else to wait for


class RedisProcess:
    """One server process, over as many starts as a test wants; keeps nothing on disk unless told.

    Args:
        folder: For its log and its data.
        options: Of its command line, `--name`, `value`, ...
        config: Text of a configuration file that the server may rewrite (Sentinel).
    """

    def __init__(self, folder: Path, *options: str, config: str | None = None) -> None:
        self.port = free_port()
        self.folder = folder / f"redis-{self.port}"
        self.folder.mkdir(parents=True)
        self._log = self.folder / "redis.log"
        self._options, self._config = options, config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it does not.
        """
        command = [redis_executable() or "redis-server"]
        if self._config is not None:
            path = self.folder / "redis.conf"
            path.write_text(self._config)
            command += [str(path), "--sentinel"]
        else:
            command += ["--save", "", "--appendonly", "no"]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--logfile", str(self._log), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words
        wait_until(self._answers, f"an answer from Redis; its log is {self._log}")

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING") == b"PONG")
        except redis.RedisError:
            return False

    def ask(self, *words: str | int) -> Any:
        """Send one command on a connection of its own and return the bare answer."""
        client = redis.Redis(port=self.port, socket_timeout=10, protocol=2)
        try:
            client.response_callbacks.clear()
            return client.execute_command(*words)  # type: ignore[no-untyped-call]
        finally:
            client.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP lets it hang with its connections open."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power switch would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
