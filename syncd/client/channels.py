"""All subscriptions of a client and everything the server says about channels. Pure.

Owned by `ClientCore`, which lends it the means to speak.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from syncd.client.errors import RequestFailed
from syncd.client.facts import Fact, Output, PresenceChanged, SubscriptionEnded
from syncd.client.frames import (
    Body,
    event_from_body,
    members_from_list,
    position_from_body,
    position_to_wire,
)
from syncd.client.subscription import Answer, SubscriptionCore
from syncd.client.tables import SubscriptionInput, SubscriptionState
from syncd.codes import ErrorCode
from syncd.ids import ChannelName, Position

__all__ = ["ChannelTable"]


class ChannelTable:
    """One `SubscriptionCore` a channel.

    Args:
        rng: Source of jitter.
        request: Send a message of this type and body under a fresh id, and return the id.
        tell: Queue an output.
    """

    def __init__(
        self,
        rng: random.Random,
        request: Callable[[str, Body], int],
        tell: Callable[[Output], None],
    ) -> None:
        self._rng = rng
        self._request = request
        self._tell_one = tell
        self._subscriptions: dict[str, SubscriptionCore] = {}
        self._is_online = False
        self.handlers: dict[str, Callable[[Body, float], None]] = {
            "event": self._on_event,
            "subscribed": self._on_subscribed,
            "unsubscribed": self._on_unsubscribed,
            "mark": self._on_mark,
            "lagged": self._on_lagged,
            "presence_state": self._on_presence_state,
            "presence_diff": self._on_presence_diff,
        }

    def find(self, channel: str) -> SubscriptionCore | None:
        """Return the subscription of a channel."""
        return self._subscriptions.get(channel)

    # -------------------------------------------------------------------------------- connection and time

    def went_online(self) -> None:
        """A session is there: ask for everything."""
        self._is_online = True
        for subscription in self._subscriptions.values():
            self._pursue(subscription)

    def went_offline(self) -> None:
        """The session is gone."""
        self._is_online = False
        for subscription in self._subscriptions.values():
            subscription.went_offline()

    def end_all(self) -> None:
        """The client is over; the application learns that elsewhere."""
        self._is_online = False
        for subscription in self._subscriptions.values():
            subscription.step(SubscriptionInput.END)
        self._subscriptions.clear()

    def retries(self) -> Iterator[float]:
        """Yield the times at which `tick` has something to do."""
        for subscription in self._subscriptions.values():
            if subscription.retry_at is not None:
                yield subscription.retry_at

    def tick(self, now: float) -> None:
        """Ask again for what was put off until now."""
        for subscription in self._subscriptions.values():
            if subscription.retry_at is not None and subscription.retry_at <= now:
                subscription.retry_at = None
                self._pursue(subscription)

    # -------------------------------------------------------------------------------- the application asks

    def subscribe(self, channel: ChannelName, position: Position | None, *, presence: bool) -> None:
        """Subscribe, or begin anew from another position."""
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            subscription = SubscriptionCore(
                channel, self._rng, position=position, has_presence=presence
            )
            self._subscriptions[channel] = subscription
        else:
            subscription.restart(position, has_presence=presence)
        self._pursue(subscription)

    def watch_presence(self, channel: ChannelName) -> None:
        """Add presence to a subscription that is there."""
        subscription = self._subscriptions[channel]
        if not subscription.has_presence:
            subscription.request_presence(has_presence=True)
            self._pursue(subscription)

    def unsubscribe(self, channel: ChannelName) -> None:
        """End a subscription."""
        subscription = self._subscriptions.pop(channel, None)
        if subscription is not None:
            subscription.step(SubscriptionInput.END)
            self._withdraw(subscription)

    def hold(self, channel: ChannelName) -> None:
        """Tell the server to stop for now."""
        subscription = self._subscriptions.get(channel)
        if subscription is not None and subscription.step(SubscriptionInput.HOLD):
            subscription.retry_at = None
            self._withdraw(subscription)

    def release(self, channel: ChannelName) -> None:
        """Go on where `hold` stopped."""
        subscription = self._subscriptions.get(channel)
        if subscription is not None and subscription.step(SubscriptionInput.RELEASE):
            self._pursue(subscription)

    def _pursue(self, subscription: SubscriptionCore) -> None:
        """Ask the server for a subscription that wants to be asked for."""
        if not self._is_online or not subscription.is_wanting:
            return
        self._withdraw(subscription)
        body: Body = {"channel": subscription.channel}
        body["position"] = position_to_wire(subscription.position)
        body["presence"] = subscription.has_presence or None
        subscription.asked(self._request("subscribe", body))

    def _withdraw(self, subscription: SubscriptionCore) -> None:
        """End what the server may still hold; a refusal would change nothing, so nobody waits for the answer."""
        if subscription.is_known_to_server and self._is_online:
            self._request("unsubscribe", {"channel": subscription.channel})
        subscription.is_known_to_server = False

    # -------------------------------------------------------------------------------- the server speaks

    def refused(self, request_id: int, error: RequestFailed, now: float) -> bool:
        """Take an error; return whether it answered a `subscribe`."""
        for subscription in self._subscriptions.values():
            if subscription.request_id == request_id:
                self._refused(subscription, error, now)
                return True
        return False

    def _refused(self, subscription: SubscriptionCore, error: RequestFailed, now: float) -> None:
        is_known = error.code == ErrorCode.ALREADY_SUBSCRIBED.value
        if error.retryable or is_known:
            subscription.postponed(now, (error.after_ms or 0) / 1000, is_known=is_known)
        elif subscription.state is SubscriptionState.SUBSCRIBING:
            self._end(subscription, error.code, error.message)

    def _end(self, subscription: SubscriptionCore, code: str, reason: str) -> None:
        subscription.step(SubscriptionInput.END)
        del self._subscriptions[subscription.channel]
        self._tell_one(SubscriptionEnded(subscription.channel, code, reason))

    def _tell(self, subscription: SubscriptionCore, facts: list[Fact]) -> None:
        for fact in facts:
            self._tell_one(fact)
        self._pursue(subscription)

    def _on_event(self, body: Body, now: float) -> None:
        subscription = self._subscriptions.get(body["channel"])
        if subscription is not None:
            event = event_from_body(body)
            self._tell(subscription, subscription.received(event, body.get("prev"), now))

    def _on_subscribed(self, body: Body, _now: float) -> None:
        subscription = self._subscriptions.get(body["channel"])
        if subscription is not None:
            answer = Answer(
                body.get("id"),
                position_from_body(body),
                body["was_recovering"],
                body["recovered"],
                list(map(event_from_body, body["events"])),
            )
            self._tell(subscription, subscription.answered(answer))

    def _on_unsubscribed(self, body: Body, _now: float) -> None:
        subscription = self._subscriptions.get(body["channel"])
        if subscription is not None:
            self._end(subscription, body["code"], body["reason"])

    def _on_mark(self, body: Body, now: float) -> None:
        subscription = self._subscriptions.get(body["channel"])
        position = position_from_body(body)
        if subscription is not None and position is not None:
            self._tell(subscription, subscription.marked(position, now))

    def _on_lagged(self, body: Body, now: float) -> None:
        subscription = self._subscriptions.get(body["channel"])
        if subscription is not None:
            self._tell(subscription, subscription.lagged(now))

    def reset(self, channel: str | None, now: float) -> None:
        """Ask again for one channel or all: the answers tell whether anything was missed."""
        for subscription in list(self._subscriptions.values()):
            if channel in (None, subscription.channel):
                self._tell(subscription, subscription.found_gap(now))

    def _on_presence_state(self, body: Body, _now: float) -> None:
        subscription = self._subscriptions.get(body["channel"])
        if subscription is not None and subscription.has_presence:
            subscription.presence.replace(body["seq"], members_from_list(body["members"]))
            self._tell_members(subscription)

    def _on_presence_diff(self, body: Body, _now: float) -> None:
        subscription = self._subscriptions.get(body["channel"])
        if subscription is None or not subscription.has_presence:
            return
        joins, updates = members_from_list(body["joins"]), members_from_list(body["updates"])
        if subscription.presence.apply(body["seq"], joins, updates, body["leaves"]):
            self._tell_members(subscription)

    def _tell_members(self, subscription: SubscriptionCore) -> None:
        members = subscription.presence.members
        self._tell_one(PresenceChanged(subscription.channel, members))
