"""`syncd serve --workers N`: the parent of several processes that share one port. It serves nobody itself.

It starts the workers, starts each again that ends (`model.restart_plan`), passes on SIGTERM and waits for them to drain, and goes away with an
error when one cannot be kept alive. A worker that cannot start because the store is away is none of those, once a worker has reached it: it is
tried again for as long as that takes, and the others stay. The port stays reserved by the parent's own sockets, which are bound and never listen. A parent that
is killed lets go of the workers' lifeline, and they drain.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import structlog
import trio

from syncd.cli.exits import ExitCode
from syncd.config import Address, Config, WorkerSeat
from syncd.errors import ConfigError
from syncd.model.restart_plan import RestartPlan

__all__ = ["drain_without_parent", "seat_from", "seated", "supervise_workers"]

_log = structlog.get_logger("syncd.workers")

_SEAT = "SYNCD_WORKER_SEAT"
_KILL_AFTER_S = 5.0
"""Beyond the time that a node takes to stop by itself."""
_LOOK_S = 0.25
"""How often it is looked whether a try to start has reached the store: only then it is told, or the log would have a line a try."""


# ------------------------------------------------------------------------------------------------ a worker's side


def seat_from(environ: Mapping[str, str]) -> WorkerSeat | None:
    """Return what the parent gave this process; None: it has none."""
    if _SEAT not in environ:
        return None
    values = json.loads(environ[_SEAT])
    return WorkerSeat(**{**values, "ports": tuple(values["ports"])})


def seated(config: Config, seat: WorkerSeat) -> Config:
    """Return a worker's configuration: the parent's, with the ports that it got."""
    listen = attrs.evolve(config.listen, port=seat.ports[0])
    api_listen = config.api_listen
    if api_listen is not None:
        api_listen = attrs.evolve(api_listen, port=seat.ports[1])
    return attrs.evolve(config, listen=listen, api_listen=api_listen, seat=seat)


def drain_without_parent(seat: WorkerSeat) -> None:
    """Have this process stop as by SIGTERM when its parent is gone, however that ended. Returns at once."""

    def wait() -> None:
        os.read(
            seat.lifeline, 1
        )  # nothing is ever written: it returns when nobody holds the other end
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="syncd-lifeline", daemon=True).start()


# ------------------------------------------------------------------------------------------------ the parent's side


def supervise_workers(config: Config, environ: Mapping[str, str], made_key: str | None) -> int:
    """Run the workers until SIGTERM or SIGINT.

    Args:
        config: Checked.
        environ: Theirs, to which their seat is added.
        made_key: API key to be shared, where none is configured.

    Returns:
        Exit code: 0 stopped and all drained, 1 otherwise.

    Raises:
        ConfigError: an address is taken or not ours.
    """
    environment = dict(environ)
    if made_key is not None:
        environment["SYNCD_API_KEY"] = made_key
    command = [sys.executable, "-m", "syncd.cli.main", *sys.argv[1:]]
    with (
        contextlib.ExitStack() as held,
        tempfile.TemporaryDirectory(prefix="syncd-workers-") as folder,
        _lifeline() as lifeline,
    ):
        addresses = (config.listen, config.api_listen)
        ports = tuple(
            0 if each is None else held.enter_context(reserved(each)) for each in addresses
        )
        seats = [
            WorkerSeat(index, config.workers, folder, lifeline, (ports[0], ports[1]))
            for index in range(config.workers)
        ]
        workers = Workers(command, environment, seats, config.timing.stop_s + _KILL_AFTER_S)
        trio.run(workers.run)
    return int(workers.has_failed)


@contextlib.contextmanager
def reserved(address: Address) -> Iterator[int]:
    """Hold an address so that workers, and nobody else, can listen there; yields its port.

    Raises:
        ConfigError: somebody listens there.
    """
    with contextlib.ExitStack() as opened:
        port = address.port
        try:
            infos = socket.getaddrinfo(
                address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, name in dict.fromkeys(infos):
                place = (name[0], port, *name[2:])
                if port != 0:
                    _bound(family, place, is_shared=False).close()  # other workers would share it
                sock = opened.enter_context(_bound(family, place, is_shared=True))
                port = sock.getsockname()[1]
        except OSError as error:
            where = f"{address.host}:{port}"
            raise ConfigError(f"Cannot listen on {where}: {error.strerror or error}.") from error
        yield port


def _bound(family: int, place: tuple[object, ...], *, is_shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(place)
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """Yield the reading end of a pipe whose writing end this process holds."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(writing)
        os.close(reading)


class Workers:
    """The processes, and what is to become of them.

    Args:
        command: What each runs.
        environment: Of each, but for its seat.
        seats: One each.
        stop_s: How long a worker may take to stop before it is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        seats: Sequence[WorkerSeat],
        stop_s: float,
    ) -> None:
        self.has_failed = False
        self._has_reached_store = False
        self._command, self._environment, self._seats = command, environment, seats
        self._stop_s = stop_s
        self._stopping = trio.Event()
        self._processes: dict[int, trio.Process] = {}

    async def run(self) -> None:
        """Keep them alive until told to stop; all have ended on return.

        Cancellation: they are killed.
        """
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals)
                async with trio.open_nursery() as keepers:
                    for seat in self._seats:
                        keepers.start_soon(self._keep, seat)
                nursery.cancel_scope.cancel("all workers have ended")

    async def _obey(self, signals: object) -> None:
        async for number in signals:  # type: ignore[attr-defined]  # Trio does not name its type
            _log.info("stopping", signal=signal.Signals(number).name)
            self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)

    async def _keep(self, seat: WorkerSeat) -> None:
        plan = RestartPlan()
        while not self._stopping.is_set():
            started = trio.current_time()
            process = await self._start(seat)
            try:
                code = await self._wait(process, seat)
            finally:
                del self._processes[seat.index]
                if process.poll() is None:
                    process.kill()
            if self._stopping.is_set():
                self.has_failed = self.has_failed or code not in self._good_ends(seat)
                return
            is_away = self._store_was_reached() and code == ExitCode.STORE_UNAVAILABLE
            if not (is_away and seat.is_known_away):
                _log.error("worker_ended", worker=seat.index, pid=process.pid, code=code)
            lasted_s = trio.current_time() - started
            wait_s = plan.found_store_away() if is_away else plan.ended(lasted_s)
            if is_away and not seat.is_known_away:
                _log.warning("worker_waits_for_store", worker=seat.index)
            if wait_s is None:
                _log.critical("worker_given_up", worker=seat.index, ends=plan.num_ends)
                self.has_failed = True
                self._stop()
                return
            seat = attrs.evolve(seat, is_known_away=is_away)
            with trio.move_on_after(wait_s):
                await self._stopping.wait()

    def _store_was_reached(self) -> bool:
        """Tell whether any worker has ever got as far: before, a store that does not answer may as well be a mistake in its URL."""
        self._has_reached_store = self._has_reached_store or any(map(_is_up, self._seats))
        return self._has_reached_store

    def _good_ends(self, seat: WorkerSeat) -> set[int]:
        """Return the codes with which a worker may end when it is told to stop."""
        if _is_up(seat):
            return {ExitCode.OK}
        return {ExitCode.OK, ExitCode.STORE_UNAVAILABLE, -signal.SIGTERM}  # it had nobody to drain

    async def _start(self, seat: WorkerSeat) -> trio.Process:
        _forget(seat)
        environment = {**self._environment, _SEAT: json.dumps(attrs.asdict(seat))}
        # A session of its own: Ctrl-C reaches the parent alone, which passes it on once.
        process = await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=(seat.lifeline,),
            start_new_session=True,
        )
        self._processes[seat.index] = process
        if self._stopping.is_set():
            process.send_signal(signal.SIGTERM)
        if not seat.is_known_away:
            _log.info("worker_started", worker=seat.index, pid=process.pid)
        return process

    async def _wait(self, process: trio.Process, seat: WorkerSeat) -> int:
        """Wait for a worker's end, as long as it likes until it is told to stop."""
        async with trio.open_nursery() as nursery:

            async def tell_when_up() -> None:
                while not _is_up(seat):  # noqa: ASYNC110 - another process, which tells in no other way
                    await trio.sleep(_LOOK_S)
                _log.info("worker_started", worker=seat.index, pid=process.pid)

            if seat.is_known_away:
                nursery.start_soon(tell_when_up)

            async def limit() -> None:
                await self._stopping.wait()
                await trio.sleep(self._stop_s)
                _log.error("worker_killed", pid=process.pid)
                process.kill()

            nursery.start_soon(limit)
            code = await process.wait()
            nursery.cancel_scope.cancel("it has ended")
        return code


def _is_up(seat: WorkerSeat) -> bool:
    """Tell whether the process that has the seat, or had it last, has got as far as to serve."""
    return Path(seat.socket_of(seat.index)).exists()


def _forget(seat: WorkerSeat) -> None:
    Path(seat.socket_of(seat.index)).unlink(missing_ok=True)
