"""Cached async functions, for Trio: each load runs in a system task of its own, so no caller's cancellation can end it for others.

When its last caller has been cancelled, the load is cancelled too: nobody would see it end. Refreshes go on, as nobody waits for them
anyway. Deadlines of callers do not reach into a load; a loader sets its own. A hit does not checkpoint.

Each run of Trio has its own loads; what they bring is shared.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import attrs
import trio

from syncd.cache.errors import LoadFailed, NotFound, twin_of
from syncd.cache.loads import Found, Landing, Loads, current_flight
from syncd.model.flights import Flight

__all__ = ["TaskShell", "make_gate"]

_Call = tuple[tuple[Any, ...], dict[str, Any]]


@attrs.define
class _Gate:
    """Opens when the load has ended; its scope ends the load."""

    opened: trio.Event
    scope: trio.CancelScope


def make_gate() -> Any:
    """What callers wait at."""
    return _Gate(trio.Event(), trio.CancelScope())


class TaskShell:
    """Loads and waits for callers in Trio tasks."""

    def __init__(self, function: Callable[..., Awaitable[Any]], loads: Loads[Any]) -> None:
        self._function = function
        self._loads = loads

    async def load(self, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a call that found nothing fresh.

        Cancellation: this caller leaves; the load goes on while others wait for it.
        """
        run = trio.lowlevel.current_trio_token()
        is_retry = False
        while True:
            step = self._loads.step(key, run, is_retry=is_retry)
            if isinstance(step, Found):
                if step.refresh is not None:
                    self._start(step.refresh, (args, kwargs))
                return step.value
            flight = step.flight
            try:
                if step.is_leader:
                    self._start(flight, (args, kwargs))
                await self._wait(flight)
            finally:
                self._loads.arrived(step)
            if not flight.is_abandoned:
                return _result(flight, is_own=step.is_leader)
            if step.is_leader:
                raise LoadFailed("cancelled: this run of Trio ends")
            is_retry = True

    def _start(self, flight: Flight[Any], call: _Call) -> None:
        context = contextvars.copy_context()
        try:
            trio.lowlevel.spawn_system_task(
                self._run, flight, call, name=f"load of {flight.key!r}", context=context
            )
        except BaseException:
            self._loads.abandon(flight)
            flight.gate.opened.set()
            raise

    async def _wait(self, flight: Flight[Any]) -> None:
        flight.num_waiting += 1
        try:
            await flight.gate.opened.wait()
        finally:
            flight.num_waiting -= 1
            if not (flight.num_waiting or flight.is_settled or flight.is_refresh):
                self._loads.abandon(flight)  # whoever asks from here on starts a new one
                flight.gate.scope.cancel(reason="nobody waits for this load any more")

    async def _run(self, flight: Flight[Any], call: _Call) -> None:
        """Fly: load until what was brought is not outdated, and open the gate whatever happens."""
        current_flight.set(flight)
        try:
            with flight.gate.scope:
                await self._fly(flight, call)
        finally:
            self._loads.abandon(flight)  # cancelled, if it has not ended by now
            flight.gate.opened.set()

    async def _fly(self, flight: Flight[Any], call: _Call) -> None:
        try:
            while not self._loads.land(flight, await self._attempt(call)):
                pass
        except Exception as error:  # noqa: BLE001 - the loader's; every caller gets it
            self._loads.fail(flight, error)
        except BaseException as error:  # noqa: ASYNC103, BLE001 - cancellation goes on below
            cancelled, rest = _split(error)
            if rest is not None:  # Ctrl-C and the like belong to who waits, not to a system task
                self._loads.abandon(flight, rest)
            if cancelled is not None:
                raise cancelled from None  # noqa: ASYNC104 - the same, without the rest

    async def _attempt(self, call: _Call) -> Landing:
        args, kwargs = call
        try:
            value = await self._function(*args, **kwargs)
        except NotFound as error:
            return Landing(None, error, size_bytes=0)
        return self._loads.brought(value, args, kwargs)


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Part an error into Trio's cancellation and the rest."""
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        cancelled, rest = error.split(trio.Cancelled)
        return cancelled, rest
    return None, error


def _result(flight: Flight[Any], *, is_own: bool) -> Any:
    """The flight's value, or its error: who asked first raises the error itself, the others copies of it."""
    error = flight.error
    if error is None:
        return flight.value
    try:
        if is_own:
            raise error
        raise twin_of(error) from error
    finally:
        del error, flight  # else the error, its traceback and this frame would hold each other
