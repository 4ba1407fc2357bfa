"""The application's authorizer, asked on behalf of all sessions.

Owner of: the calls on their way. A plain function is called at once; a coroutine function in a task of `run`, at most `MAX_CALLS` at the
same time. The same question about the same identity is asked once, however many sessions wait for it. Questions behind the running calls
are bounded by `MAX_WAITING` (policy: refused as `overloaded`).

Fails safe: whatever is not `True` denies, an exception too; no answer within `HOLD_S` is none.
"""

from __future__ import annotations

import collections
import enum
import inspect
from collections.abc import Callable
from typing import Any

import structlog
import trio

from syncd.actors.kit_application import application_code
from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.gateway.holding import HOLD_S, RETRY_MS
from syncd.model.definitions import Authorizer
from syncd.ports import Identity

__all__ = ["MAX_CALLS", "Answer", "AuthorizerCalls", "Failure"]

_log = structlog.get_logger("syncd.gateway")

MAX_CALLS = 256
"""Calls of the authorizer at the same time: each may hold a connection to a database."""
MAX_WAITING = 10_000
LOG_EVERY_S = 10.0
"""Failures are told at most so often, each time with how many there were."""


class Failure(enum.Enum):
    """In place of an answer: the authorizer raised. That denies what is asked for, and says nothing about what is held already."""

    RAISED = enum.auto()


Answer = bool | Failure
Hear = Callable[[Answer | None], None]
"""Called once with the answer; None: there was none in time. Never waits, never raises."""


class _Call:
    """One question on its way."""

    __slots__ = ("action", "identity", "listeners", "result", "target")

    def __init__(self, identity: Identity, action: str, target: str) -> None:
        self.identity = identity
        self.action = action
        self.target = target
        self.result: Any = None
        """What a plain function returned, if that is to be awaited."""
        self.listeners: list[Hear] = []


class AuthorizerCalls:
    """Asks the application (see the module's docstring)."""

    def __init__(self, authorizer: Authorizer, now: Callable[[], float]) -> None:
        self._authorizer = authorizer
        self._now = now
        self._is_async = inspect.iscoroutinefunction(authorizer) or inspect.iscoroutinefunction(
            getattr(authorizer, "__call__", None)  # noqa: B004 - its kind is asked, not whether it can be called
        )
        self._by_question: dict[tuple[Identity, str, str], list[_Call]] = {}
        self._waiting: collections.deque[_Call] = collections.deque()
        self._has_waiting = trio.Event()
        self._running = trio.CapacityLimiter(MAX_CALLS)
        self._told_at = float("-inf")
        self._untold = 0
        self.num_failed = 0

    def ask(self, identity: Identity, action: str, target: str, hear: Hear) -> Answer | None:
        """Return the answer, or None when `hear` will be called with it.

        Raises:
            RequestRejected: overloaded; too many questions wait.
        """
        question = (identity, action, target)
        for call in self._by_question.get(question, ()):
            # Identities are equal whatever their claims, which the authorizer looks at.
            if call.identity.claims == identity.claims:
                call.listeners.append(hear)
                return None
        if len(self._waiting) >= MAX_WAITING:
            raise RequestRejected(ErrorCode.OVERLOADED, after_ms=RETRY_MS)
        call = _Call(identity, action, target)
        if not self._is_async:
            try:
                with application_code:
                    result = self._authorizer(identity, action, target)
            except Exception as failure:  # noqa: BLE001 - an application's bug denies this request only
                self._fail(failure)
                return Failure.RAISED
            if not inspect.isawaitable(result):
                return result is True
            call.result = result
        call.listeners.append(hear)
        self._by_question.setdefault(question, []).append(call)
        self._waiting.append(call)
        self._has_waiting.set()
        return None

    async def run(self) -> None:
        """Make the calls, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    await self._has_waiting.wait()
                    while self._waiting:
                        call = self._waiting[0]
                        await self._running.acquire_on_behalf_of(call)
                        self._waiting.popleft()
                        nursery.start_soon(self._run, call)
                    self._has_waiting = trio.Event()
        finally:
            while self._waiting:
                _discard(self._waiting.popleft())

    async def _run(self, call: _Call) -> None:
        answer: Answer | None = None
        try:
            with trio.move_on_after(HOLD_S):
                answer = await self._call(call)
        finally:
            self._running.release_on_behalf_of(call)
            self._end(call)
        for hear in call.listeners:
            hear(answer)

    async def _call(self, call: _Call) -> Answer:
        try:
            with application_code:
                result = call.result
                if result is None:
                    result = self._authorizer(call.identity, call.action, call.target)
                call.result = None
                if inspect.isawaitable(result):
                    result = await result
        except Exception as failure:  # noqa: BLE001 - an application's bug denies this request only
            self._fail(failure)
            return Failure.RAISED
        return result is True

    def _end(self, call: _Call) -> None:
        question = (call.identity, call.action, call.target)
        calls = self._by_question[question]
        calls.remove(call)
        if not calls:
            del self._by_question[question]

    def _fail(self, failure: Exception) -> None:
        self.num_failed += 1
        self._untold += 1
        now = self._now()
        if now - self._told_at >= LOG_EVERY_S:
            _log.error("authorizer_failed", failures=self._untold, exc_info=failure)
            self._told_at, self._untold = now, 0


def _discard(call: _Call) -> None:
    """The node stops: a coroutine that never ran is closed."""
    close = getattr(call.result, "close", None)
    if close is not None:
        close()
