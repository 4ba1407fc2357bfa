"""The way of commands from the gateway to one actor: gathered in a round, handed over as one batch, parked while there is no room.

Owner of: each actor's batch of this round, and the batches that found its mailbox full. While one is parked the sessions whose commands
it holds are not read, so what can be parked is bounded by what they sent in one round (policy: BLOCK). A session's commands to one actor
keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from syncd.errors import ActorStopped, MailboxFull, SyncdError
from syncd.gateway.connection import Connection
from syncd.gateway.pages import PageAsker
from syncd.ports import SubscribeChannel, Subscription
from syncd.ports_collections import AddClients, MutateState, ReadEntries, WatchEntries

__all__ = ["Lane", "ParkedBatch", "refuse_all", "senders"]


class Handle(Protocol):
    """The actor at the end of a lane."""

    def submit_nowait(self, commands: Sequence[Any], size_bytes: int) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""

    async def submit(self, commands: Sequence[Any], size_bytes: int) -> None:
        """Hand over, waiting for room."""


class ParkedBatch:
    """Commands that found a mailbox full, and the connections that must not be read meanwhile."""

    __slots__ = ("commands", "connections", "size_bytes")

    def __init__(self, commands: list[Any], size_bytes: int) -> None:
        self.commands = commands
        self.size_bytes = size_bytes
        self.connections = senders(commands)


class Lane(list[Any]):
    """This round's commands for one actor, and what waits behind a full mailbox.

    A list, because appending to it is on the way of every publication.
    """

    __slots__ = ("_handle", "_on_parked", "parked", "size_bytes")

    def __init__(
        self, handle: Callable[[], Handle], on_parked: Callable[[Lane, ParkedBatch], None]
    ) -> None:
        """Begin empty.

        Args:
            handle: Returns the actor's handle; asked anew each time.
            on_parked: Called with each batch that finds no room.
        """
        super().__init__()
        self._handle = handle
        self._on_parked = on_parked
        self.size_bytes = 0
        """Of what this round's commands carry."""
        self.parked: list[ParkedBatch] = []
        """In order; the first one is handed over next."""

    @property
    def handle(self) -> Handle:
        """The actor."""
        return self._handle()

    def hand_over(self) -> None:
        """Give the actor what there is, in one batch, or park it; never waits."""
        commands, size = self[:], self.size_bytes
        self.clear()
        self.size_bytes = 0
        try:
            if self.parked:
                raise MailboxFull  # an older batch goes first
            self._handle().submit_nowait(commands, size)
        except MailboxFull:
            batch = ParkedBatch(commands, size)
            self.parked.append(batch)
            self._on_parked(self, batch)
        except ActorStopped as error:
            refuse_all(commands, error)

    def holds(self, connection: Connection) -> bool:
        """Whether commands of this connection are parked."""
        return any(connection in batch.connections for batch in self.parked)


def senders(commands: Iterable[object]) -> set[Connection]:
    """Connections whose commands these are (those of HTTP have none)."""
    found: set[Connection] = set()
    for command in commands:
        session = _sender(command)
        if isinstance(session, Connection):
            found.add(session)
    return found


def _sender(command: object) -> object:
    if isinstance(command, AddClients | ReadEntries):
        return getattr(getattr(command.done, "__self__", None), "connection", None)
    subscription = getattr(command, "subscription", None)
    if isinstance(subscription, Subscription):
        return subscription.session
    asker = getattr(command, "asker", None) or getattr(command, "session", None)
    return asker.connection if isinstance(asker, PageAsker) else asker


def refuse_all(commands: Iterable[object], error: SyncdError) -> None:
    """Answer every session's command with the error."""
    for command in commands:
        if isinstance(command, AddClients | ReadEntries):
            command.done(error)
        elif isinstance(command, MutateState):
            command.asker.refuse_mutation(command.client, command.mid, error)
        elif isinstance(command, WatchEntries):
            command.subscription.session.fail_watch(command.subscription, command.request_id, error)
        elif isinstance(command, SubscribeChannel):
            if command.subscription.pending_id is not None:
                session = command.subscription.session
                session.reply_error(command.subscription.pending_id, error)
        else:
            request_id = getattr(command, "request_id", None)
            asker = getattr(command, "asker", None) or getattr(command, "session", None)
            if request_id is not None and isinstance(asker, Connection | PageAsker):
                asker.reply_error(request_id, error)
