"""What one subscribing link wants, what Redis has confirmed, and which topics owe a gap: decided without I/O.

Owner of: the wanted topics that this link serves, over all its connections. Called by `bus.link`, which reads and writes.

Invariant: every way for a message of a wanted topic to be lost (not yet subscribed, unsubscribed for a moment, a connection that ended)
leaves the topic in `_owed`; it leaves `_owed` only when it is told by `on_gap`, which is when all commands sent for it are answered and the
last of them subscribed. So a gap is told after the subscription is confirmed, and before any later message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from syncd.bus.commands import LinkLost, Verbs, chunks, pack

__all__ = ["Subscriptions"]

_TOPICS_A_COMMAND = 1000
"""Redis does nothing else while it works on one command."""


class Subscriptions:
    """The state of one subscribing link.

    Args:
        verbs: Which kind of pub/sub.
        on_messages: As of `BusEvents`.
        on_gap: As of `BusEvents`.
        slot_of: Of a topic, where one command may name topics of one slot only; None: of any.
    """

    def __init__(
        self,
        verbs: Verbs,
        on_messages: Callable[[list[tuple[bytes, bytes]]], None],
        on_gap: Callable[[Sequence[bytes]], None],
        slot_of: Callable[[bytes], int] | None = None,
    ) -> None:
        self._verbs = verbs
        self._on_messages, self._on_gap = on_messages, on_gap
        self._slot_of = slot_of
        self._confirmations = {verbs.subscribe.lower(): 1, verbs.unsubscribe.lower(): -1}
        self._is_open = False
        # Dicts in place of sets: their order is that of the calls, in every process.
        self._wanted: dict[bytes, None] = {}
        self._owed: dict[bytes, None] = {}
        self._changed: dict[bytes, None] = {}
        self._sent: dict[bytes, None] = {}
        """Topics whose last command on this connection subscribes."""
        self._unanswered: dict[bytes, int] = {}
        """Commands sent on this connection and not confirmed yet, by topic."""
        self.num_received = 0
        self.num_gaps = 0

    # ---------------------------------------------------------------- what is wanted

    @property
    def wanted(self) -> Sequence[bytes]:
        """In the order of `want`."""
        return list(self._wanted)

    @property
    def num_wanted(self) -> int:
        """Topics wanted."""
        return len(self._wanted)

    @property
    def num_subscribed(self) -> int:
        """Topics wanted, confirmed and with no gap owed."""
        return len(self._wanted) - len(self._owed)

    def want(self, topics: Iterable[bytes]) -> None:
        """Take them in with the next output; those not wanted before owe a gap."""
        for topic in topics:
            if topic not in self._wanted:
                self._wanted[topic] = self._owed[topic] = self._changed[topic] = None

    def unwant(self, topics: Iterable[bytes]) -> None:
        """Leave them out with the next output."""
        for topic in topics:
            if topic in self._wanted:
                del self._wanted[topic]
                self._owed.pop(topic, None)
                self._changed[topic] = None

    # ---------------------------------------------------------------- the connection

    def open(self) -> None:
        """A new connection is ready: all there is to subscribe is changed."""
        self._forget_connection()
        self._is_open = True
        self._changed = dict(self._wanted)

    def close(self) -> None:
        """The connection is over: whatever is wanted may lose messages from now on."""
        self._forget_connection()
        self._changed.clear()

    def _forget_connection(self) -> None:
        self._is_open = False
        self._sent.clear()
        self._unanswered.clear()
        self._owed = dict(self._wanted)

    def has_output(self) -> bool:
        """Whether `take_output` has anything to do."""
        return self._is_open and bool(self._changed)

    def take_output(self) -> bytes:
        """Return the commands for everything wanted and unwanted since the last call, batched.

        Topics that were unwanted and wanted again meanwhile need no command; their gap is told here.
        """
        if not self.has_output():
            return b""
        subscribe: list[bytes] = []
        unsubscribe: list[bytes] = []
        kept: list[bytes] = []
        for topic in self._changed:
            if topic not in self._wanted:
                if topic in self._sent:
                    unsubscribe.append(topic)
            elif topic not in self._sent:
                subscribe.append(topic)
            else:
                kept.append(topic)
        self._changed.clear()
        for topic in unsubscribe:
            del self._sent[topic]
        self._sent.update(dict.fromkeys(subscribe))
        for topic in (*unsubscribe, *subscribe):
            self._unanswered[topic] = self._unanswered.get(topic, 0) + 1
        output = self._packed(self._verbs.unsubscribe, unsubscribe)
        output += self._packed(self._verbs.subscribe, subscribe)
        self._settle(kept)
        return b"".join(output)

    def _packed(self, verb: bytes, topics: list[bytes]) -> list[bytes]:
        groups: Iterable[list[bytes]] = [topics]
        if self._slot_of is not None:
            by_slot: dict[int, list[bytes]] = {}
            for topic in topics:
                by_slot.setdefault(self._slot_of(topic), []).append(topic)
            groups = by_slot.values()
        return [
            pack(verb, *chunk) for group in groups for chunk in chunks(group, _TOPICS_A_COMMAND)
        ]

    def take_replies(self, replies: Iterable[Any]) -> int:
        """Take what one read brought: tell gaps of what it confirmed, then its messages.

        Returns:
            How many PINGs it answered.

        Raises:
            LinkLost: Redis refused, or took a topic away. Messages before that are told.
        """
        batch: list[tuple[bytes, bytes]] = []
        confirmed: list[bytes] = []
        append, message = batch.append, self._verbs.message
        num_pongs = 0
        try:
            for reply in replies:
                if type(reply) is list and reply[0] == message:
                    append((reply[1], reply[2]))
                elif self._is_pong(reply):
                    num_pongs += 1
                else:
                    confirmed.append(self._confirm(reply))
        finally:
            self._settle(confirmed)
            if batch:
                self.num_received += len(batch)
                self._on_messages(batch)
        return num_pongs

    def _is_pong(self, reply: Any) -> bool:
        # A connection without a subscription answers PING like any other; with one, by an array.
        return reply == b"PONG" or (type(reply) is list and reply[0] == b"pong")

    def _confirm(self, reply: Any) -> bytes:
        if type(reply) is not list or reply[0] not in self._confirmations:
            raise LinkLost(str(reply) if isinstance(reply, Exception) else "not an answer")
        topic: bytes = reply[1]
        left = self._unanswered.get(topic, 0) - 1
        if left < 0:
            # A slot that moves takes its subscribers away unasked.
            raise LinkLost("Redis took a subscription away")
        if left:
            self._unanswered[topic] = left
        else:
            del self._unanswered[topic]
        return topic

    def _settle(self, topics: Iterable[bytes]) -> None:
        """Tell the gaps that these topics owe, as far as they are subscribed and nothing is on its way for them."""
        told: dict[bytes, None] = {}
        for topic in topics:
            if topic in self._owed and topic in self._sent and topic not in self._unanswered:
                told[topic] = None
        for topic in told:
            del self._owed[topic]
        if told:
            self.num_gaps += len(told)
            self._on_gap(list(told))
