"""Who is present in one channel, rebuilt from `presence_state` and `presence_diff`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from syncd.client.facts import Member

__all__ = ["PresenceSet"]


class PresenceSet:
    """Members in order of arrival; a diff applies only on the `seq` just before its own."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._seq: int | None = None

    @property
    def members(self) -> tuple[Member, ...]:
        """All members, in order of arrival."""
        return tuple(self._members.values())

    def replace(self, seq: int, members: Iterable[Member]) -> None:
        """Take a whole state."""
        self._seq = seq
        self._members = {m.member: m for m in members}

    def forget(self) -> None:
        """Expect a new state; until it comes diffs mean nothing. The members stay, as the last that was known."""
        self._seq = None

    @property
    def is_known(self) -> bool:
        """Whether a state came since the last `forget`."""
        return self._seq is not None

    def apply(
        self, seq: int, joins: Sequence[Member], updates: Sequence[Member], leaves: Sequence[str]
    ) -> bool:
        """Apply a diff and return whether members changed.

        An old diff changes nothing. One that skips means that a state follows: until then diffs mean nothing.
        """
        if self._seq is None or seq <= self._seq:
            return False
        if seq != self._seq + 1:
            self.forget()
            return False
        self._seq = seq
        for member in leaves:
            self._members.pop(member, None)
        for member_ in (*joins, *updates):
            self._members[member_.member] = member_
        return True
