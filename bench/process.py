"""Server processes under measurement: started pinned to their core, watched through /proc and the process clock."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = [
    "LOAD_CORE",
    "SERVER_CORE",
    "Meter",
    "Server",
    "cpu_s",
    "free_port",
    "pause",
    "pinned",
    "rss_kib",
    "waited_s",
]

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[-1]
_START_S = 20.0


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process, to the nanosecond (its POSIX process clock)."""
    return time.clock_gettime((~pid << 3) | 2)


def waited_s(pid: int) -> float:
    """How long the threads of a process were ready to run and had no core: what others on the machine took from it."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return int(found[1]) if found else 0


class Meter:
    """Counts a server's CPU and the time from its making to `read`, and what others on the machine took from both sides."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {
            "server_waited_s": waited_s(self._pid),
            "load_waited_s": waited_s(os.getpid()),
            "cpu_s": cpu_s(self._pid),
            "wall_s": time.perf_counter(),
        }

    def read(self) -> dict[str, float]:
        """The differences."""
        return {name: value - self._before[name] for name, value in self._now().items()}


def pause(seconds: float) -> None:
    """Let a process settle; the harness itself runs no event loop."""
    time.sleep(seconds)  # noqa: TID251 - nothing else waits here


def free_port() -> int:
    """A port that was free a moment ago, below the ephemeral range, so that no client takes it meanwhile."""
    for port in range(20_000 + os.getpid() % 8000, 32_000):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process on one core; children started inside inherit it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def preferred(nice: int) -> Iterator[None]:
    """Run this process and those it starts at another priority, among other sessions too where the kernel groups by session."""
    if nice == 0:
        yield
        return
    os.nice(nice)
    group = Path("/proc/self/autogroup")
    before = group.read_text().rpartition(" ")[2] if group.exists() else ""
    if before:
        group.write_text(str(nice))
    try:
        yield
    finally:
        if before:
            group.write_text(before)


class Server:
    """One process under measurement, listening on `127.0.0.1:port`."""

    def __init__(self, name: str, arguments: Sequence[str], port: int, *, log: Path) -> None:
        self.name, self.port, self.log = name, port, log
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with pinned(SERVER_CORE), log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        self.pid = self._process.pid

    def wait_ready(self) -> None:
        """Wait until the port accepts, or raise with what the server printed."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            if self._process.poll() is not None:
                break
            pause(0.02)
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its output."""
        return self.log.read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        """As a power switch would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Terminate, then kill."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Attached:
    """A server somebody else started and pinned (`--url`, `--pid`)."""

    def __init__(self, port: int, pid: int) -> None:
        self.name, self.port, self.pid = "syncd", port, pid

    def wait_ready(self) -> None:
        """It is up."""

    def tail(self) -> str:
        """Its output is elsewhere."""
        return ""

    def kill(self) -> None:
        """It is not ours."""

    def stop(self) -> None:
        """It is not ours."""
