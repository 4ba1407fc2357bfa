"""Somebody at a client: does random things with it, and holds what it tells against the truth."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import trio

from syncd.client.facts import (
    Complaint,
    Fact,
    HistoryPage,
    Marked,
    Received,
    Reset,
    Settled,
    StateChanged,
    Subscribed,
    SubscriptionEnded,
)
from syncd.client.facts_state import Invalidated, MutationOutcome, ViewChanged, WatchEnded
from syncd.client.tables import ConnectionState, SubscriptionState
from syncd.ids import ChannelName, Position
from syncd.testing.simulation.clerk import Clerk
from syncd.testing.simulation.plan import CHANNELS
from syncd.testing.simulation.shell import Body, Shell
from syncd.testing.simulation.views import View, Wire

if TYPE_CHECKING:
    from syncd.testing.simulation.world import World

__all__ = ["User"]

MAX_OPEN_REQUESTS = 30


class User:
    """One client's user."""

    def __init__(self, world: World, shell: Shell, rng: random.Random) -> None:
        self.shell = shell
        self._world = world
        self._rng = rng
        self._num_published = 0
        self._publishing: dict[int, tuple[str, str]] = {}
        """Channel and uid by request id."""
        self._reading: dict[int, str] = {}
        self.views: dict[str, View] = {}
        self._focus: str | None = None
        """What all acts of a flurry are about."""
        self._held: set[str] = set()
        self._sent: set[str] = set()
        """Uids that went out at least once."""
        self._wire = Wire(shell.name, world.breaches, world.ledger)
        self.clerk = Clerk(world, shell, rng)
        shell.on_connected = self._connected
        shell.on_step = self.clerk.check_shown
        shell.on_sent = self._message_sent
        shell.on_heard = self._message_heard
        self._acts = {
            self.publish: 6,
            self.clerk.mutate: 7,
            self.clerk.watch: 1.5,
            self.clerk.unwatch: 0.7,
            self.clerk.read: 1,
            self.subscribe: 4,
            self.unsubscribe: 2,
            self.hold: 0.5,
            self.release: 1,
            self.read_history: 1,
            self.lose_connection: 0.3,
            self.take_time: 0.3,
            self.wake: 0.5,
        }

    # -------------------------------------------------------------------------------- what it does

    async def act(self) -> None:
        """Do things until cancelled."""
        acts, weights = list(self._acts), list(self._acts.values())
        for channel in self._rng.sample(CHANNELS, 3):
            self._subscribe(channel)
        self.clerk.watch()
        while True:
            await trio.sleep(self._rng.expovariate(1 / self._world.plan.think_s))
            in_one_frame = self._rng.choice((1, 1, 1, 6))
            self._focus = self._rng.choice(CHANNELS) if in_one_frame > 1 else None
            for act in self._rng.choices(acts, weights, k=in_one_frame):
                act()
            self.shell.perform()

    def _pick_channel(self) -> str:
        return self._focus or self._rng.choice(CHANNELS)

    def publish(self) -> None:
        """Publish one event, or a few at once."""
        for _ in range(self._rng.choice((1, 1, 1, 5))):
            if len(self._publishing) >= MAX_OPEN_REQUESTS:
                return
            channel = self._pick_channel()
            self._num_published += 1
            uid = f"{self.shell.name}-{self._num_published}"
            data = {"uid": uid, "pad": "x" * self._rng.choice((0, 0, 200))}
            key = None if self._rng.random() < 0.2 else f"k{self._rng.randint(1, 6)}"
            request_id = self.shell.core.publish(ChannelName(channel), data, key=key, uid=uid)
            self._publishing[request_id] = (channel, uid)

    def subscribe(self) -> None:
        """Subscribe to something it is not subscribed to."""
        channel = self._pick_channel()
        if channel not in self.views:
            self._subscribe(channel)

    def _subscribe(self, channel: str) -> None:
        world = self._world
        namespace = world.config.namespaces[channel.partition(":")[0]]
        self.views[channel] = View(
            self.shell.name,
            channel,
            channel.startswith(("top:", "hot:")),
            min(namespace.history_size, world.plan.recovery_events),
            world.truth,
            world.breaches,
        )
        self.shell.core.subscribe(ChannelName(channel))

    def unsubscribe(self) -> None:
        """Lose interest."""
        channel = self._pick_channel()
        if self.views.pop(channel, None) is not None:
            self._held.discard(channel)
            self.shell.core.unsubscribe(ChannelName(channel))

    def hold(self) -> None:
        """The application is behind."""
        if self.views:
            channel = self._rng.choice(sorted(self.views))
            self._held.add(channel)
            self.shell.core.hold(ChannelName(channel))

    def release(self) -> None:
        """The application has caught up."""
        for channel in sorted(self._held):
            self.shell.core.release(ChannelName(channel))
        self._held.clear()

    def read_history(self) -> None:
        """Ask for what was."""
        if len(self._reading) < MAX_OPEN_REQUESTS:
            channel = self._rng.choice(CHANNELS)
            self._reading[self.shell.core.history(ChannelName(channel), limit=20)] = channel

    def lose_connection(self) -> None:
        """The tab's network changes."""
        link = self.shell.link
        if link is not None:
            self._world.counts["own cuts"] += 1
            link.cut()

    def take_time(self) -> None:
        """Read slowly from now on, or fast again."""
        self.shell.slow_s = 0.0 if self.shell.slow_s else self._rng.choice((0.05, 0.5, 2.0))

    def wake(self) -> None:
        """The network is back, it seems."""
        self.shell.core.wake(trio.current_time())

    def calm_down(self) -> None:
        """Do nothing more but listen."""
        self.shell.slow_s = 0.0
        self.release()
        self.shell.core.wake(trio.current_time())
        self.shell.perform()

    # -------------------------------------------------------------------------------- what it learns

    def _connected(self, shell: Shell) -> None:
        world = self._world
        self._wire = Wire(f"{shell.name} ({shell.num_dials})", world.breaches, world.ledger)

    def _message_sent(self, _shell: Shell, kind: str, body: Body) -> None:
        self._wire.sent(kind, body)
        if kind == "mutate":
            sent = f"mutation {body['mid']}"
            self._world.counts["mutations resent"] += sent in self._sent
            self._sent.add(sent)
        if kind == "publish":
            uid = str(body["uid"])
            self._world.counts["resends"] += uid in self._sent
            self._sent.add(uid)

    def _message_heard(self, _shell: Shell, kind: str, body: Body) -> None:
        self._wire.heard(kind, body)

    def take(self, fact: Fact) -> None:
        """Take what the core tells."""
        world = self._world
        match fact:
            case Received(event=event):
                self._view_fact(event.channel, fact)
            case Marked() | Subscribed() | Reset():
                self._view_fact(fact.channel, fact)
            case MutationOutcome() | ViewChanged() | Invalidated() | WatchEnded():
                self.clerk.take(fact)
            case Settled():
                self._settled(fact)
            case SubscriptionEnded():
                world.breaches.add("RECOVER", f"{self.shell.name}: {fact}")
            case Complaint():
                world.breaches.add("PROTOCOL", f"{self.shell.name}: {fact}")
            case StateChanged(state=ConnectionState.FAILED):
                world.breaches.add("PROTOCOL", f"{self.shell.name}: {fact}")
            case _:
                pass

    def _view_fact(self, channel: str, fact: Marked | Subscribed | Reset | Received) -> None:
        view = self.views.get(channel)
        if view is None:
            self._world.breaches.add("RECOVER", f"{self.shell.name} is not subscribed: {fact}")
        else:
            view.take(fact)

    def _settled(self, fact: Settled) -> None:
        truth, breaches = self._world.truth, self._world.breaches
        if self.clerk.answered(fact.request_id, fact.result, fact.error):
            return
        if fact.request_id in self._reading:
            channel = self._reading.pop(fact.request_id)
            if isinstance(fact.result, HistoryPage):
                self._check_page(channel, fact.result)
            else:
                breaches.add("PROTOCOL", f"{self.shell.name} asked for history: {fact.error}")
            return
        channel, uid = self._publishing.pop(fact.request_id)
        if isinstance(fact.result, Position):
            self._world.counts["acknowledged"] += 1
            position = fact.result
            truth.acknowledged(self.shell.name, channel, uid, position.epoch, position.offset)
        else:
            breaches.add("ONCE", f"{uid} was answered {fact.error or fact.result}")

    def _check_page(self, channel: str, page: HistoryPage) -> None:
        last: int | None = None
        for event in page.events:
            position = event.position
            assert position is not None
            if last is not None and position.offset != last + 1 and channel[:3] in ("log", "mem"):
                self._world.breaches.add(
                    "ORDER", f"history of {channel} skips to {position} after {last}"
                )
            last = position.offset
            body: dict[str, Any] = {"name": event.name, "data": event.data}
            body |= {"key": event.key, "at_ms": event.at_ms}
            self._world.truth.told(self.shell.name, channel, position.epoch, position.offset, body)

    # -------------------------------------------------------------------------------- the end

    def is_content(self) -> bool:
        """Whether nothing is asked and unanswered, and every subscription is live."""
        if self._publishing or self._reading or not self.clerk.is_content():
            return False
        for channel in self.views:
            subscription = self.shell.core.find_subscription(channel)
            if subscription is None or subscription.state is not SubscriptionState.SUBSCRIBED:
                return False
        return True

    def what_waits(self) -> str:
        """Say what keeps it from being content."""
        core = self.shell.core
        states = {
            channel: subscription.state.value
            for channel in self.views
            if (subscription := core.find_subscription(channel)) is not None
        }
        return (
            f"{self.shell.name} is {core.state.value}, {states}, waits for"
            f" {sorted(self._publishing.values())} and history of {sorted(self._reading.values())};"
            f" {self.clerk.what_waits()}"
        )
