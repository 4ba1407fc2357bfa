"""Cached plain functions: the first caller of a key loads in its own thread, the others wait on a lock that it holds.

A caller that is interrupted (`KeyboardInterrupt`) leaves no result; one of those who wait then loads. Refreshes run in daemon threads
of their own.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Hashable
from typing import Any

from syncd.cache.errors import NotFound, twin_of
from syncd.cache.loads import Found, Landing, Loads, current_flight
from syncd.model.flights import Flight

__all__ = ["ThreadShell", "make_gate"]

_Call = tuple[tuple[Any, ...], dict[str, Any]]


def make_gate() -> Any:
    """A lock that its flight holds until it has landed."""
    gate = threading.Lock()
    gate.acquire()
    return gate


class ThreadShell:
    """Loads and waits for callers in threads."""

    def __init__(self, function: Callable[..., Any], loads: Loads[Any]) -> None:
        self._function = function
        self._loads = loads

    def load(self, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a call that found nothing fresh."""
        is_retry = False
        while True:
            step = self._loads.step(key, None, is_retry=is_retry)
            if isinstance(step, Found):
                if step.refresh is not None:
                    self._start_refresh(step.refresh, (args, kwargs))
                return step.value
            flight = step.flight
            try:
                if step.is_leader:
                    self._run(flight, (args, kwargs))
                else:
                    with flight.gate:  # open for a moment, to each in turn
                        pass
            finally:
                self._loads.arrived(step)
            if not flight.is_abandoned:
                return _result(flight, is_own=step.is_leader)
            is_retry = True

    def _run(self, flight: Flight[Any], call: _Call) -> None:
        """Fly: load until what was brought is not outdated, and open the gate whatever happens."""
        token = current_flight.set(flight)
        try:
            while not self._loads.land(flight, self._attempt(call)):
                pass
        except Exception as error:  # noqa: BLE001 - the loader's; every caller gets it
            self._loads.fail(flight, error)
        finally:
            current_flight.reset(token)
            self._loads.abandon(flight)  # interrupted, if it has not ended by now
            flight.gate.release()

    def _attempt(self, call: _Call) -> Landing:
        args, kwargs = call
        try:
            value = self._function(*args, **kwargs)
        except NotFound as error:
            return Landing(None, error, size_bytes=0)
        return self._loads.brought(value, args, kwargs)

    def _start_refresh(self, flight: Flight[Any], call: _Call) -> None:
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run,
            args=(self._run, flight, call),
            name=f"refresh of {flight.key!r}",
            daemon=True,
        )
        try:
            thread.start()
        except (
            RuntimeError
        ):  # no more threads, or the program ends: the stale value was served, that is all
            self._loads.abandon(flight)
            flight.gate.release()


def _result(flight: Flight[Any], *, is_own: bool) -> Any:
    """The flight's value, or its error: whoever flew raises the error itself, the others copies of it."""
    error = flight.error
    if error is None:
        return flight.value
    try:
        if is_own:
            raise error
        raise twin_of(error) from error
    finally:
        del error, flight  # else the error, its traceback and this frame would hold each other
