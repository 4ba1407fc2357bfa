"""A cluster of model nodes on a lossy bus and a virtual clock: real rooms and real presence sets, without Trio.

Each node has a watcher in every channel whose view is kept by the client's rules: a state, then diffs without a gap in `seq`. The truth is what
clients did. A link between two nodes delays and loses, and keeps the order of what it brings.
"""

from __future__ import annotations

import collections
import random
from collections.abc import Callable, Iterable, Sequence

import attrs
import msgpack

from syncd.actors.bridge.cluster import ClusterRoom
from syncd.errors import MailboxFull
from syncd.ids import ChannelName
from syncd.model.presence_merged import MergedPresence
from syncd.model.presence_set import Delivery, PresenceSettings
from syncd.ports_cluster import (
    ClusterTiming,
    NodeLoad,
    PeerChanges,
    PeerClaims,
    PeerCommand,
    PeerFact,
    PeerGone,
    PresenceKey,
    RestampPresence,
    Revoked,
)
from syncd.ports_operators import Target

ROOMS = [ChannelName(f"demo:{number}") for number in range(3)]
SETTINGS = PresenceSettings(grace_s=15.0, diff_s=0.1, max_members=1000, max_channels=100)
TIMING = ClusterTiming()
WALL_S = 1_800_000_000.0
STEP_S = 0.1


@attrs.define(eq=False)
class Told:
    """What one watcher was told, and what it believes."""

    seq: dict[ChannelName, int] = attrs.field(factory=dict)
    members: dict[PresenceKey, object] = attrs.field(factory=dict)
    """State by channel and member."""
    joins: list[tuple[float, PresenceKey]] = attrs.field(factory=list)
    leaves: list[tuple[float, PresenceKey]] = attrs.field(factory=list)

    def take(self, message: bytes, now: float) -> None:
        kind, body = msgpack.unpackb(message)
        channel = ChannelName(body["channel"])
        if kind == "presence_state":
            assert not [key for key in self.members if key[0] == channel], "a second state"
            joins, leaves = body["members"], []
        else:
            assert body["seq"] == self.seq[channel] + 1, "a diff is missing"
            joins, leaves = body["joins"] + body["updates"], body["leaves"]
        self.seq[channel] = body["seq"]
        for member in joins:
            key = (channel, member["member"])
            if key not in self.members:
                self.joins.append((now, key))
            self.members[key] = member["states"][-1]["state"]
        for name in leaves:
            del self.members[channel, name]  # KeyError: told to leave twice
            self.leaves.append((now, (channel, name)))


class FakeSessions:
    """What the room does to the sessions of a node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.by_client: dict[str, tuple[str, int]] = {}
        """Session and since when."""
        self.revocations: dict[str, float] = {}
        self.group_terms: dict[tuple[str | None, str], int] = {}
        self.disconnected: list[Target] = []

    def disconnect(self, target: Target, *, reconnect: bool, reason: str) -> int:
        self.disconnected.append(target)
        return len(self.by_client)

    def unsubscribe(self, target: Target, channel: ChannelName) -> int:
        return 0

    def revoke(self, target: Target, *, until_s: float | None) -> int:
        assert until_s is not None
        assert target.user is not None
        self.revocations[target.user] = until_s
        return 1

    def take_away(self, client: str, stamp: int) -> int | None:
        held = self.by_client.get(client)
        if held is None:
            return None
        if held[1] >= stamp:
            return held[1]
        del self.by_client[client]
        self.node.presence.release_client(held[0], client, self.node.world.now)
        self.node.presence.session_gone(held[0], self.node.world.now)
        return None

    def raise_term(self, user: str | None, group: str, term: int) -> int:
        known = self.group_terms.get((user, group), 0)
        if known:
            self.group_terms[user, group] = max(known, term)
        return known

    def terms(self) -> Iterable[tuple[str | None, str, int]]:
        return [(*key, term) for key, term in self.group_terms.items()]

    def revoked(self) -> Iterable[Revoked]:
        return [Revoked(until, user) for user, until in self.revocations.items()]

    def add_revoked(self, revoked: Iterable[Revoked]) -> int:
        for each in revoked:
            assert each.user is not None
            self.revocations[each.user] = max(each.until_s, self.revocations.get(each.user, 0.0))
        return 0

    def statistics(self) -> object:
        raise NotImplementedError


class Node:
    """One node: the room, the set, the sessions, a watcher everywhere."""

    def __init__(self, world: World, name: str, skew_s: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.is_up = True
        self.stalled_until = 0.0
        self.waiting: list[bytes] = []
        """Heard while it stood still."""
        self.commands: list[PeerCommand] = []
        """On their way to the presence actor."""
        self.is_full = False
        self.facts: list[tuple[PeerFact, str]] = []
        self.room = ClusterRoom(
            name,
            publish=lambda payload: world.publish(self, payload),
            clock=lambda: world.now,
            wall_s=lambda: WALL_S + world.now + skew_s,
            chance=world.chance.random,
            timing=TIMING,
            on_fact=lambda fact, node: self.facts.append((fact, node)),
        )
        self.sessions = FakeSessions(self)
        load = NodeLoad("1", name, 1, 1, 0.0, 0.0, 0)
        self.room.connect(self._submit, self.sessions, lambda: load)  # type: ignore[arg-type] - the statistics are not asked
        self.told = Told()
        self._start_presence(0)

    def _start_presence(self, first_seq: int) -> None:
        self.presence: MergedPresence[str] = MergedPresence(
            SETTINGS,
            node=self.name,
            next_stamp=self.room.next_stamp,
            orphan_s=TIMING.orphan_s,
            first_seq=first_seq,
        )
        for channel in ROOMS:
            self.presence.watch("watcher", channel)

    def _submit(self, commands: Sequence[PeerCommand], _size_bytes: int) -> None:
        if self.is_full:
            raise MailboxFull
        self.commands.extend(commands)

    def step(self) -> None:
        """One turn of the actors."""
        world = self.world
        if world.now < self.stalled_until:
            return
        heard, self.waiting = self.waiting, []
        self.room.heard(heard)
        if round(world.now / STEP_S) % 3 == 0:
            self.room.tick(world.now)
        commands, self.commands = self.commands, []
        for command in commands:
            self._obey(command)
        deliveries = self.presence.advance(world.now)
        self.tell()
        for delivery in deliveries:
            self._deliver(delivery)

    def _deliver(self, delivery: Delivery[str]) -> None:
        assert delivery.sessions == ["watcher"]
        self.told.take(delivery.message, self.world.now)

    def _obey(self, command: PeerCommand) -> None:
        presence, now = self.presence, self.world.now
        match command:
            case PeerChanges():
                presence.peer_changed(command.node, command.changes, now)
            case PeerClaims():
                presence.keep_only(command.node, command.keys, now)
            case PeerGone():
                presence.peer_gone(command.node, now, is_clean=command.is_clean)
            case RestampPresence():
                presence.restamp()

    def tell(self) -> None:
        """As the actor does at the end of each slice."""
        self.presence.taken.clear()
        if self.presence.own_changes:
            changes, self.presence.own_changes = self.presence.own_changes, {}
            self.room.told(changes)

    def crash_presence(self, states: dict[PresenceKey, tuple[str, bytes]]) -> None:
        """The presence actor crashes; the gateway announces living sessions again."""
        seq = self.presence.top_seq + 1
        self.told = Told()
        self._start_presence(seq)
        self.commands.clear()
        self.room.presence_anew()
        for (channel, client), (session, state) in states.items():
            self.presence.announce(session, channel, client, None, state, self.world.now)

    def members(self) -> dict[PresenceKey, object]:
        return {
            (channel, member["member"]): member["states"][-1]["state"]
            for channel in ROOMS
            for member in self.presence.members(channel)
        }


class World:
    """Nodes, links and time."""

    def __init__(self, seed: int, *, loss: float = 0.0, delay_s: float = 0.05) -> None:
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.loss = loss
        self.delay_s = delay_s
        self.nodes: dict[str, Node] = {}
        self.links: dict[tuple[str, str], collections.deque[tuple[float, bytes]]] = {}
        self.brought_at: dict[tuple[str, str], float] = {}
        self.drop: Callable[[Node, Node, bytes], bool] | None = None
        self._num_nodes = 0

    def start(self, skew_s: float = 0.0) -> Node:
        """Start a node, with a name of its own."""
        self._num_nodes += 1
        node = Node(self, f"n{self._num_nodes}", skew_s)
        self.nodes[node.name] = node
        node.room.link(is_up=True)
        node.room.gap()
        return node

    def kill(self, node: Node) -> None:
        """As `kill -9`: what it said is still under way."""
        del self.nodes[node.name]

    def stop(self, node: Node) -> None:
        """As SIGTERM, when its sessions were sent away."""
        node.tell()
        node.room.leave()
        del self.nodes[node.name]

    def cut(self, node: Node) -> None:
        """It loses its link to the bus, with what is under way to it."""
        node.is_up = False
        node.room.link(is_up=False)
        for (_, to), link in self.links.items():
            if to == node.name:
                link.clear()

    def mend(self, node: Node) -> None:
        node.is_up = True
        node.room.link(is_up=True)
        node.room.gap()

    def publish(self, sender: Node, payload: bytes) -> bool:
        if not sender.is_up:
            return False
        for receiver in self.nodes.values():
            if receiver is sender or not receiver.is_up:
                continue
            if self._is_lost(sender, receiver, payload):
                continue
            key = (sender.name, receiver.name)
            link = self.links.setdefault(key, collections.deque())
            at = self.now + self.chance.random() * self.delay_s
            link.append((max(at, link[-1][0] if link else 0.0), payload))
        return True

    def _is_lost(self, sender: Node, receiver: Node, payload: bytes) -> bool:
        if self.drop is not None and self.drop(sender, receiver, payload):
            return True
        key = (sender.name, receiver.name)
        is_due = self.now - self.brought_at.get(key, self.now) > TIMING.dead_s - 2 * TIMING.beat_s
        if not is_due and self.chance.random() < self.loss:
            self.brought_at.setdefault(key, self.now)
            return True
        self.brought_at[key] = self.now  # a bus that loses everything for 15 s is a cut, not a loss
        return False

    def step(self) -> None:
        self.now += STEP_S
        for (_, name), link in self.links.items():
            receiver = self.nodes.get(name)
            while link and link[0][0] <= self.now:
                payload = link.popleft()[1]
                if receiver is not None and receiver.is_up:
                    receiver.waiting.append(payload)
        for node in list(self.nodes.values()):
            node.step()

    def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / STEP_S)):
            self.step()


@attrs.define(eq=False)
class Person:
    """A client that may be anywhere, once."""

    world: World
    client: str
    node: Node | None = None
    session: str = ""
    states: dict[ChannelName, str] = attrs.field(factory=dict)
    """What it announced; it announces this again where it comes back."""
    num_sessions: int = 0

    def connect(self, node: Node) -> None:
        """Say hello, and what it announced before."""
        self.num_sessions += 1
        self.node, self.session = node, f"{self.client}/{self.num_sessions}"
        older = node.sessions.by_client.get(self.client)
        if older is not None:  # a session that nobody has found dead yet: the gateway ends it
            for channel in ROOMS:
                node.presence.leave(
                    older[0], channel, self.client, self.world.now, is_own_only=True
                )
        node.sessions.by_client[self.client] = (
            self.session,
            node.room.took_over([self.client]),
        )
        for channel, state in self.states.items():
            self.announce(channel, state)

    def announce(self, channel: ChannelName, state: str) -> None:
        assert self.node is not None
        self.states[channel] = state
        packed = msgpack.packb(state)
        self.node.presence.announce(
            self.session, channel, self.client, None, packed, self.world.now
        )
        self.node.tell()

    def leave(self, channel: ChannelName) -> None:
        assert self.node is not None
        self.states.pop(channel, None)
        self.node.presence.leave(self.session, channel, self.client, self.world.now)
        self.node.tell()

    def vanish(self) -> None:
        """The connection ends, and its node sees it."""
        node, self.node = self.node, None
        if node is None or node.name not in self.world.nodes:
            return
        held = node.sessions.by_client.get(self.client)
        if held is not None and held[0] == self.session:
            del node.sessions.by_client[self.client]
        node.presence.session_gone(self.session, self.world.now)

    def desert(self) -> Node | None:
        """The connection ends, and its node does not see it yet. Returns the node."""
        node, self.node = self.node, None
        return node
