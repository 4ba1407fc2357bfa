"""Which channels this node hears of, and for whose sake. Owned by the bridge; its rooms of interest are held by others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from syncd.ids import ChannelName

__all__ = ["Interest", "Interests"]


class Interests:
    """All that is wanted, by whoever wants it."""

    def __init__(self) -> None:
        self.want: Callable[[Iterable[bytes]], None] = lambda _topics: None
        self.unwant: Callable[[Iterable[bytes]], None] = lambda _topics: None
        """The bus's. Set when there is one."""
        self._by_topic: dict[bytes, tuple[ChannelName, set[Interest]]] = {}

    def topics(self) -> list[bytes]:
        """Return everything wanted now."""
        return list(self._by_topic)

    def channel(self, topic: bytes) -> ChannelName | None:
        """Return the channel that a topic tells of, if it is wanted still."""
        found = self._by_topic.get(topic)
        return None if found is None else found[0]

    def holders(self, topic: bytes) -> set[Interest]:
        """Return who wants a topic."""
        found = self._by_topic.get(topic)
        return set() if found is None else found[1]

    def add(self, topic: bytes, channel: ChannelName, holder: Interest) -> None:
        """Somebody wants a topic."""
        found = self._by_topic.get(topic)
        if found is None:
            self._by_topic[topic] = (channel, {holder})
            self.want((topic,))
        else:
            found[1].add(holder)

    def remove(self, topics: Iterable[bytes], holder: Interest) -> None:
        """Somebody wants them no more."""
        gone = []
        for topic in topics:
            found = self._by_topic.get(topic)
            if found is None:
                continue
            found[1].discard(holder)
            if not found[1]:
                del self._by_topic[topic]
                gone.append(topic)
        if gone:
            self.unwant(gone)


class Interest:
    """What one room of the node wants to hear of. Implements `InterestHandle`."""

    def __init__(
        self,
        interests: Interests,
        topic_of: Callable[[ChannelName, bool], bytes],
        check: Callable[[Interest, ChannelName], None],
    ) -> None:
        """Want nothing.

        Args:
            topic_of: Name of a channel's topic; True: of an ephemeral one.
            check: Has a channel looked at, because it was wanted by another before.
        """
        self._interests = interests
        self._topic_of = topic_of
        self._check = check
        self._topics: dict[ChannelName, bytes] = {}

    def enter(self, channel: ChannelName, *, is_ephemeral: bool = False) -> None:
        """See `InterestHandle.enter`."""
        if channel in self._topics:
            return
        topic = self._topics[channel] = self._topic_of(channel, is_ephemeral)
        is_heard = bool(self._interests.holders(topic))
        self._interests.add(topic, channel, self)
        if is_heard and not is_ephemeral:
            self._check(self, channel)  # no gap will be told: it is subscribed

    def leave(self, channel: ChannelName) -> None:
        """See `InterestHandle.leave`."""
        topic = self._topics.pop(channel, None)
        if topic is not None:
            self._interests.remove((topic,), self)

    def leave_all(self) -> None:
        """See `InterestHandle.leave_all`."""
        topics, self._topics = self._topics, {}
        self._interests.remove(topics.values(), self)
