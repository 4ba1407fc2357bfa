"""Load generators as processes of their own: one a target, pinned to the load core, asleep while another target's turn is on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from bench.load_nodes import NodesLoad
from bench.process import LOAD_CORE
from bench.wire import Dialect

__all__ = ["LoadFailed", "Worker", "raise_file_limit"]

_ANSWER_S = 180.0


class LoadFailed(RuntimeError):
    """A load generator saw what must not be; the text is its traceback."""


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Worker:
    """A `NodesLoad` in another process; methods are called by name and answered in turn."""

    def __init__(self, dialect: Callable[[], Dialect], port: int, pid: int) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, dialect, port, pid), daemon=True
        )
        self._process.start()
        theirs.close()

    def call(self, method: str, **arguments: Any) -> Any:
        """Run one method of `Load`.

        Raises:
            LoadFailed: a count was wrong, a connection ended, or nothing came for three minutes.
        """
        self._pipe.send((method, arguments))
        if not self._pipe.poll(_ANSWER_S):
            raise LoadFailed(f"{method}: no answer in {_ANSWER_S} s")
        is_ok, answer = self._pipe.recv()
        if not is_ok:
            raise LoadFailed(answer)
        return answer

    def stop(self) -> None:
        """End the process and with it its connections."""
        self._pipe.close()
        self._process.terminate()
        self._process.join(5)


def _serve(pipe: Connection, dialect: Callable[[], Dialect], port: int, pid: int) -> None:
    os.sched_setaffinity(0, {LOAD_CORE})
    load = NodesLoad(dialect(), port, pid)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            method, arguments = pipe.recv()
            try:
                pipe.send((True, getattr(load, method)(**arguments)))
            except Exception:  # noqa: BLE001 - told to the harness, which fails the scenario
                pipe.send((False, traceback.format_exc()))
