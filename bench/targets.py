"""What is measured: a server process, its load generator, and how each kind is started."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.process import (
    LOAD_CORE,
    SERVER_CORE,
    Attached,
    Server,
    cpu_s,
    free_port,
    pinned,
    rss_kib,
)
from bench.state_fill import fill
from bench.wire import Dialect, RawDialect, SyncdDialect
from bench.worker import LoadFailed, Worker

__all__ = ["Lab", "Target", "payload_bytes"]

_FRAME_HEAD_BYTES = 4

_CONFIG = """\
[server]
log_level = "warning"

[limits]
messages_per_s = 1e9
messages_burst = 1000000000
connections = 0

[namespaces.mem]
mode = "stream"
history = "memory"
[namespaces.mem.allow]
subscribe = ["anyone"]
publish = ["anyone"]

[namespaces.dur]
mode = "stream"
history = "durable"
[namespaces.dur.allow]
subscribe = ["anyone"]
publish = ["anyone"]

[namespaces.live]
mode = "ephemeral"
[namespaces.live.allow]
subscribe = ["anyone"]
publish = ["anyone"]
"""
"""Figures are those of the product's defaults but for the rate limits, which exist to stop such a load."""


class Target:
    """A server and the load generator that belongs to it."""

    def __init__(
        self, server: Server | Attached, dialect: Callable[[], Dialect], profile: Path | None
    ) -> None:
        self.name, self.server, self._profile = server.name, server, profile
        self.dialect = dialect
        self._worker = Worker(dialect, server.port, server.pid)

    def call(self, method: str, **arguments: Any) -> Any:
        """Run a method of `bench.load.Load` against the server; failures carry the server's last words."""
        with self._profiled(method, arguments):
            try:
                return self._worker.call(method, **arguments)
            except LoadFailed as failure:
                raise LoadFailed(f"{self.name}: {failure}\n{self.server.tail()}") from failure

    @property
    def cpu_s(self) -> float:
        """CPU that the server has used."""
        return cpu_s(self.server.pid)

    @property
    def rss_kib(self) -> int:
        """Resident memory of the server."""
        return rss_kib(self.server.pid)

    @contextlib.contextmanager
    def _profiled(self, method: str, arguments: dict[str, Any]) -> Iterator[None]:
        """Sample the server while a timed method runs, when a profile is wanted; figures are then not worth keeping."""
        if self._profile is None or "duration_s" not in arguments or self.name != "syncd":
            yield
            return
        detail = "-".join(str(value) for value in arguments.values() if not isinstance(value, list))
        path = self._profile / f"{method}-{detail}.txt"
        duration = str(max(1, math.floor(arguments["duration_s"])))
        command = ["-m", "py_spy", "record", "-f", "raw", "-r", "250", "-d", duration]
        command = [_py_spy(), *command[2:], "-o", str(path), "-p", str(self.server.pid)]
        with pinned(LOAD_CORE):
            sampler = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        yield
        sampler.wait()

    def stop(self) -> None:
        """Close the connections and end the process."""
        self._worker.stop()
        self.server.stop()


def payload_bytes(target: Target) -> int:
    """Warm a target up and return the size of the message one delivery carries."""
    figures: dict[str, float] = target.call("fanout", duration_s=0.3, window=1)
    return round(figures["bytes"] / figures["deliveries"]) - _FRAME_HEAD_BYTES


def _py_spy() -> str:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else "py-spy"


class Lab:
    """Starts targets in a temporary directory and stops them all at the end."""

    def __init__(self, attached: Attached | None = None, profile: Path | None = None) -> None:
        self._attached, self._profile = attached, profile
        self._targets: list[Target] = []
        self._scratch = tempfile.TemporaryDirectory(prefix="syncd-bench-")
        self.folder = Path(self._scratch.name)
        self._num_started = 0
        if profile is not None:
            profile.mkdir(parents=True, exist_ok=True)

    def syncd(self) -> Target:
        """A node of its own with a database of its own, or the one we were told to attach to."""
        if self._attached is not None:
            return self._add(self._attached, SyncdDialect)
        config = self.folder / "bench.toml"
        config.write_text(_CONFIG)
        port = free_port()
        database = self.folder / f"bench-{port}-{self._num_started}.db"
        arguments = ["-m", "syncd.cli.main", "serve", "--listen", f"127.0.0.1:{port}"]
        arguments += ["--db", str(database), "--config", str(config)]
        return self._start("syncd", arguments, port, SyncdDialect)

    def node(self, redis_url: str) -> Target:
        """A node of several, on this Redis."""
        config = self.folder / "bench.toml"
        config.write_text(_CONFIG)
        port = free_port()
        arguments = ["-m", "syncd.cli.main", "serve", "--listen", f"127.0.0.1:{port}"]
        arguments += ["--redis", redis_url, "--config", str(config)]
        return self._start("syncd", arguments, port, SyncdDialect)

    def syncd_state(self, *, is_filled: bool = False) -> Target:
        """A node that runs `bench/state_app.py`, with 100,000 entries or none."""
        config = self.folder / "bench.toml"
        config.write_text(_CONFIG)
        port = free_port()
        database = self.folder / f"state-{port}-{self._num_started}.db"
        if is_filled:
            fill(database)
        application = str(Path(__file__).with_name("state_app.py"))
        arguments = ["-m", "syncd.cli.main", "serve", application]
        arguments += ["--listen", f"127.0.0.1:{port}"]
        arguments += ["--db", str(database), "--config", str(config)]
        return self._start("syncd", arguments, port, SyncdDialect)

    def beside(self, target: Target) -> Target:
        """Another load generator on the same server."""
        server = Attached(target.server.port, target.server.pid)
        return self._add(server, target.dialect)

    def state_floor(self, count: int) -> dict[str, float]:
        """Run the bare loop of mutations' rows on the server core, on the same disk."""
        return self._sqlite("bench.floor_state", count)

    def floor(self, payload_bytes: int) -> Target:
        """The bare loop of sends."""
        port = free_port()
        arguments = ["-m", "bench.floor", "fanout", str(port), str(payload_bytes)]
        dialect = functools.partial(RawDialect, payload_bytes, is_websocket=False)
        return self._start("floor", arguments, port, dialect)

    def echo_floor(self) -> Target:
        """The raw epoll echo."""
        port = free_port()
        dialect = functools.partial(RawDialect, 128, is_websocket=False)
        return self._start("echo", ["-m", "bench.floor", "echo", str(port)], port, dialect)

    def rival(self, name: str, payload_bytes: int) -> Target:
        """`websockets` or `trio`."""
        port = free_port()
        dialect = functools.partial(RawDialect, payload_bytes, is_websocket=True)
        return self._start(name, ["-m", "bench.rivals", name, str(port)], port, dialect)

    def sqlite_floor(self, seconds: float) -> dict[str, float]:
        """Run the bare insert loop on the server core, on the same disk."""
        return self._sqlite("bench.floor_sqlite", seconds)

    def _sqlite(self, module: str, argument: float) -> dict[str, float]:
        path = self.folder / f"floor-{self._num_started}.db"
        self._num_started += 1
        command = [sys.executable, "-m", module, str(path), str(argument)]
        with pinned(SERVER_CORE):
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
        for leftover in self.folder.glob(path.name + "*"):
            leftover.unlink()
        figures: dict[str, float] = json.loads(answer.stdout)
        return figures

    def _start(
        self, name: str, arguments: list[str], port: int, dialect: Callable[[], Dialect]
    ) -> Target:
        self._num_started += 1
        log = self.folder / f"{self._num_started}-{name}.log"
        server = Server(name, arguments, port, log=log)
        server.wait_ready()
        return self._add(server, dialect)

    def _add(self, server: Server | Attached, dialect: Callable[[], Dialect]) -> Target:
        target = Target(server, dialect, self._profile)
        self._targets.append(target)
        return target

    def stop(self) -> None:
        """Stop whatever still runs."""
        while self._targets:
            self._targets.pop().stop()

    def close(self) -> None:
        """Stop and clean up."""
        self.stop()
        self._scratch.cleanup()
