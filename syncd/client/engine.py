"""What keeps a client alive: its connections one after another, its clock, its tokens.

Owns the core's inputs and outputs: three tasks tell it what happened and perform what it returns; every step between two
awaits is whole. Facts for the application go to `tell`, which must not wait.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable

import trio

from syncd.client.clock import CoreClock
from syncd.client.core import ClientCore
from syncd.client.facts import AskToken, Dial, Fact, Hangup, Output, Send
from syncd.client.tables import ConnectionState
from syncd.client.transport import CLOSE_S, Link, StreamOpener, Target

__all__ = ["Engine", "TokenSource"]

TokenSource = Callable[[], str | Awaitable[str | None] | None]

_log = logging.getLogger("syncd.client")


class Engine:
    """The core with a socket and a clock."""

    def __init__(
        self,
        core: ClientCore,
        target: Target,
        open_stream: StreamOpener,
        token_source: TokenSource | None,
        tell: Callable[[Fact], None],
    ) -> None:
        self.core = core
        self._target = target
        self._open_stream = open_stream
        self._token_source = token_source
        self._tell = tell
        self._link: Link | None = None
        self._has_dial = trio.Event()
        self._has_token_request = trio.Event()
        self._clock = CoreClock(core, self.perform)
        self._is_free = trio.Event()
        """Set while no connection exists."""
        self._is_free.set()

    def start(self, nursery: trio.Nursery) -> None:
        """Start the tasks and the first connection."""
        nursery.start_soon(self._run_connections)
        nursery.start_soon(self._clock.run)
        nursery.start_soon(self._fetch_tokens)
        self.core.start(trio.current_time())
        self.perform()

    async def close(self) -> None:
        """Say goodbye for at most a second, even when cancelled."""
        self.core.close()
        self.perform()
        with trio.move_on_after(CLOSE_S, shield=True):
            await self._is_free.wait()

    def perform(self) -> None:
        """Do and tell everything the core has for us. Never waits."""
        while outputs := self.core.take():
            for output in outputs:
                self._perform_one(output)
        self._clock.look()

    def _perform_one(self, output: Output) -> None:
        match output:
            case Send(data=data):
                if self._link is not None:
                    self._link.send(data)
            case Dial():
                self._is_free = trio.Event()
                self._has_dial.set()
            case Hangup(code=code, reason=reason):
                if self._link is not None:
                    self._link.hang_up(code, reason)
            case AskToken():
                self._has_token_request.set()
            case _:
                self._tell(output)

    # -------------------------------------------------------------------------------- tasks

    async def _run_connections(self) -> None:
        while True:
            await self._has_dial.wait()
            self._has_dial = trio.Event()
            if self.core.state is ConnectionState.CONNECTING:
                self._link = Link(self._target, self._open_stream, self._opened, self._received)
                closure = await self._link.run()
                self._link = None
                now = trio.current_time()
                self.core.closed(now, closure.code, closure.reason, after_s=closure.after_s)
                self.perform()
            self._is_free.set()

    def _opened(self) -> None:
        self.core.connect_succeeded()
        self.perform()

    def _received(self, frame: bytes) -> None:
        self.core.receive(frame, trio.current_time())
        self.perform()

    async def _fetch_tokens(self) -> None:
        while True:
            await self._has_token_request.wait()
            self._has_token_request = trio.Event()
            await self._fetch_token()
            self.perform()

    async def _fetch_token(self) -> None:
        assert self._token_source is not None
        try:
            found = self._token_source()
            token = await found if inspect.isawaitable(found) else found
        except Exception:  # noqa: BLE001 - isolation: the application's function may fail; it is asked again
            _log.warning("token_unavailable", exc_info=True)
            self.core.token_unavailable(trio.current_time())
            return
        if token is None:
            self.core.token_missing()
        else:
            self.core.token_supplied(trio.current_time(), token)
