"""One channel's presence: who is there, who watches, and what the watchers were told last.

Owned by `presence_set`. Pure. Two truths are kept apart: a member's entries are what is so now, its `told` parts are what
`presence_state` of the current `seq` says. `commit` makes the second equal to the first and returns the difference.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import attrs
import msgpack

from syncd.ids import ChannelName
from syncd.model.presence_encode import (
    MemberParts,
    client_state,
    member_head,
    member_parts,
    presence_diff,
    presence_state,
)

__all__ = ["Entry", "Member", "PresenceChannel"]

S = TypeVar("S")
"""A session: whoever announces and watches. Hashable; nothing else is asked of it here."""


@attrs.define(eq=False)
class Entry(Generic[S]):
    """One client's state in one channel."""

    channel: PresenceChannel[S]
    member: Member[S]
    client: str
    state: bytes
    """Encoded `{client, state}`."""
    session: S | None
    """Who announced it last; None while it waits for its client to come back."""
    deadline: float | None = None
    """When it leaves, if its client does not come back."""
    peer: str | None = None
    """The node whose session announced it, in a cluster; None: one of ours. Kept by `presence_merged`, like the stamp."""
    stamp: int = 0
    """When it was announced, on the cluster's clock; 0: its node is gone, or there is no cluster."""


@attrs.define(eq=False)
class Member(Generic[S]):
    """One user, or one anonymous client: present while it has entries."""

    id: str
    user: str | None
    head: bytes
    entries: dict[str, Entry[S]] = attrs.field(factory=dict)
    """By client, in order of arrival."""
    told: MemberParts | None = None
    """As the watchers know it; None: not."""

    def parts(self) -> MemberParts | None:
        """Return the member as it is now; None when it left."""
        if not self.entries:
            return None
        return member_parts(self.head, [entry.state for entry in self.entries.values()])


@attrs.define(eq=False)
class PresenceChannel(Generic[S]):
    """Members and watchers of one channel."""

    name: ChannelName
    seq: int
    """Of the last diff."""
    num_members: int = 0
    entries: dict[str, Entry[S]] = attrs.field(factory=dict)
    """By client."""
    members: dict[str, Member[S]] = attrs.field(factory=dict)
    """In order of arrival; one without entries has left and that is not told yet."""
    live: dict[S, None] = attrs.field(factory=dict)
    """Watchers that have the state of `seq`."""
    waiting: dict[S, None] = attrs.field(factory=dict)
    """Watchers to be sent a state at the next chance."""
    stale: dict[S, None] = attrs.field(factory=dict)
    """Watchers that refused a message: sent a state when they are tried again."""
    has_window: bool = False
    """A diff is being gathered."""
    _changed: dict[str, Member[S]] = attrs.field(factory=dict)
    """Members that may differ from what was told."""
    _state_message: bytes | None = None

    # ------------------------------------------------------------------------------------------------ members

    def put(
        self, session: S | None, client: str, user: str | None, member_id: str, state: bytes
    ) -> Entry[S]:
        """Set a client's state; a client that was another member before is moved. No session: it is another node's."""
        encoded = client_state(client, state)
        member = self._member(member_id, user)
        entry = self.entries.get(client)
        if entry is not None and entry.member is not member:
            self.remove(entry)
            entry = None
        if entry is None:
            entry = self._add(session, client, member, encoded)
        elif entry.state != encoded:
            entry.state = encoded
            self._changed[member_id] = member
        entry.session = session
        entry.deadline = None
        return entry

    def remove(self, entry: Entry[S]) -> None:
        """Take a client's state out; its member goes with its last one."""
        member = entry.member
        entry.deadline = None
        del self.entries[entry.client]
        del member.entries[entry.client]
        self.num_members -= not member.entries
        self._changed[member.id] = member

    def _member(self, member_id: str, user: str | None) -> Member[S]:
        member = self.members.get(member_id)
        if member is None:
            member = Member(member_id, user, member_head(member_id, user))
            self.members[member_id] = member
        return member

    def _add(self, session: S | None, client: str, member: Member[S], encoded: bytes) -> Entry[S]:
        entry = Entry(self, member, client, encoded, session)
        self.num_members += not member.entries
        self.entries[client] = member.entries[client] = entry
        self._changed[member.id] = member
        return entry

    def decoded_members(self) -> list[dict[str, Any]]:
        """Return who is here now, told or not, as plain values, in order of arrival."""
        return [_decoded_member(member) for member in self.members.values() if member.entries]

    # ------------------------------------------------------------------------------------------------ watchers

    @property
    def has_watchers(self) -> bool:
        """Whether anybody wants to be told."""
        return bool(self.live or self.waiting or self.stale)

    @property
    def is_idle(self) -> bool:
        """Nobody is here, nobody watches: the channel can be forgotten."""
        return not (self.members or self.has_watchers)

    def drop_watcher(self, session: S) -> None:
        """Forget a watcher, whatever it waits for."""
        self.live.pop(session, None)
        self.waiting.pop(session, None)
        self.stale.pop(session, None)

    def admit_waiting(self) -> list[S]:
        """Make live all that wait for a state, and return them."""
        sessions = list(self.waiting)
        self.live.update(self.waiting)
        self.waiting.clear()
        return sessions

    # ------------------------------------------------------------------------------------------------ messages

    def commit(self) -> bytes | None:
        """Make what is so what was told; return the encoded diff, or None when nothing differs or nobody is live."""
        joins: list[MemberParts] = []
        updates: list[MemberParts] = []
        leaves: list[str] = []
        for member in self._changed.values():
            told, parts = member.told, member.parts()
            member.told = parts
            if parts is None:
                del self.members[member.id]
                if told is not None:
                    leaves.append(member.id)
            elif told is None:
                joins.append(parts)
            elif told != parts:
                updates.append(parts)
        self._changed.clear()
        if not (joins or updates or leaves):
            return None
        self.seq += 1
        self._state_message = None
        if not self.live:
            return None
        return presence_diff(self.name, self.seq, joins, updates, leaves)

    def state_message(self) -> bytes:
        """Return the encoded `presence_state` of `seq`, the same bytes until the next commit or `forget_message`."""
        message = self._state_message
        if message is None:
            told = [m.told for m in self.members.values() if m.told is not None]
            message = presence_state(self.name, self.seq, told)
            self._state_message = message
        return message

    def forget_message(self) -> None:
        """Release the encoded state: it may be large and is seldom wanted again."""
        self._state_message = None


def _decoded_member(member: Member[Any]) -> dict[str, Any]:
    decoded: dict[str, Any] = {"member": member.id}
    if member.user is not None:
        decoded["user"] = member.user
    decoded["states"] = [
        msgpack.unpackb(entry.state, strict_map_key=False) for entry in member.entries.values()
    ]
    return decoded
