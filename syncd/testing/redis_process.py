"""A real Redis, or Valkey, as a process of a test: started, stopped, killed and started again.

Blocks the caller's thread; no wait is without a deadline.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from syncd.testing.process import free_port

__all__ = ["RedisBase", "RedisProcess", "redis_executable", "wait_until"]

_START_S = 20.0
_LOOK_S = 0.02
_LOG_CHARS = 2000
_BUS_ABOVE = 10_000
"""A node of a cluster listens to the others this far above its port."""


def redis_executable() -> str | None:
    """Return where a server is installed: what `SYNCD_TEST_REDIS` names, or Redis, or Valkey."""
    wanted = os.environ.get("SYNCD_TEST_REDIS")
    return shutil.which(wanted or "redis-server") or shutil.which("valkey-server")


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


class RedisBase:
    """One server process, over as many starts as a test wants; `with` starts it and ends it.

    Args:
        url: Where it will be.
        log: Where it writes what it does.
    """

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

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

    def _arguments(self) -> list[str]:
        """Prepare a start and return its command line but for the program and its log."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it does not; with the end of its log.
        """
        command = [redis_executable() or "redis-server", *self._arguments()]
        command += ["--logfile", str(self._log)]
        self._process = process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"Redis has ended: {self._last_words()}")
            return self._answers()

        try:
            wait_until(answers, "an answer from Redis")
        except RuntimeError as error:
            self.kill()
            raise RuntimeError(f"{error}: {self._last_words()}") from error

    def _last_words(self) -> str:
        return self._log.read_text()[-_LOG_CHARS:] if self._log.exists() else "it wrote no log"

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING") == b"PONG")
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        """Return a client of redis-py; close it."""
        return redis.Redis.from_url(self.url, socket_timeout=10, protocol=2)

    def ask(self, *words: str | int) -> Any:
        """Send one command on a connection of its own and return the bare answer."""
        with contextlib.closing(self.client()) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)  # type: ignore[no-untyped-call]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP lets it hang with its connections open."""
        assert self._process is not None, "it runs"
        self._process.send_signal(number)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it hang, its connections open."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`, as a power switch would; what was not written to disk is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


class RedisProcess(RedisBase):
    """A server on a TCP port of its own: one server, a node of a cluster, or a Sentinel; keeps nothing on disk unless told.

    Args:
        folder: For its log and its data.
        options: Of its command line, `--name`, `value`, ...
        config: Text of a configuration file that the server may rewrite (Sentinel).
    """

    def __init__(self, folder: Path, *options: str, config: str | None = None) -> None:
        self.port = free_port(_BUS_ABOVE)
        self.folder = folder / f"redis-{self.port}"
        self.folder.mkdir(parents=True)
        self._options, self._config = options, config
        super().__init__(f"redis://127.0.0.1:{self.port}", self.folder / "redis.log")

    def _arguments(self) -> list[str]:
        if self._config is None:
            # By itself a master lets a replica wait 5 s for others who may want the same copy.
            first = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
        else:
            path = self.folder / "redis.conf"
            path.write_text(self._config)
            first = [str(path), "--sentinel"]
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [*first, *where, *self._options]
