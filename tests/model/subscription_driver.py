"""A client's core with one subscription, what the server may say to it, and what it said."""

import random

from syncd.client.core import ClientCore
from syncd.client.facts import (
    Marked,
    PresenceChanged,
    Received,
    Reset,
    Send,
    Subscribed,
    SubscriptionEnded,
)
from syncd.client.frames import decode_frame, encode
from syncd.client.tables import SubscriptionState
from tests.model import client_steps

CHANNEL = "demo:a"
WELCOME = {**client_steps.WELCOME, "max_frame_bytes": 65_536}


class Driver:
    """A core and what it said, sorted."""

    def __init__(self):
        self.core = ClientCore(random.Random(1), lambda: "uid")
        self.now = 0.0
        self.messages = []
        self.facts = []
        self.core.start(0)
        self.welcome()

    def welcome(self):
        self.core.connect_succeeded()
        self.say("welcome", WELCOME)

    def reconnect(self):
        self.core.closed(self.now, 1006)
        self.core.wake(self.now)
        self.welcome()

    def take(self):
        self.messages, self.facts = [], []
        for output in self.core.take():
            if isinstance(output, Send):
                self.messages += [m for m in decode_frame(output.data) if m[0] != "hello"]
            elif isinstance(
                output, Received | Marked | Reset | Subscribed | SubscriptionEnded | PresenceChanged
            ):
                self.facts.append(output)
        return self.facts

    def say(self, kind, body):
        self.core.receive(encode(kind, body), self.now)
        return self.take()

    def subscribe(self, position=None, **options):
        self.core.subscribe(CHANNEL, position, **options)
        self.take()

    @property
    def asked(self):
        """Body of the last subscribe among the messages of the last step."""
        return [body for kind, body in self.messages if kind == "subscribe"][-1]

    def answer(self, request, position, events=(), *, recovered=False, was_recovering=False):
        body = {"channel": CHANNEL, "position": position, "events": list(events)}
        body |= {"was_recovering": was_recovering, "recovered": recovered}
        if request is not None:
            body["id"] = request["id"]
        return self.say("subscribed", body)

    def event(self, offset, prev=None, epoch="e"):
        prev = offset - 1 if prev is None else prev
        return self.say("event", event(offset, prev, epoch))

    @property
    def subscription(self):
        return self.core.find_subscription(CHANNEL)


def event(offset, prev, epoch="e"):
    body = {"channel": CHANNEL, "epoch": epoch, "offset": offset, "data": offset, "at_ms": 1}
    return body if prev is None else {**body, "prev": prev}


def at(offset, epoch="e"):
    return {"epoch": epoch, "offset": offset}


def offsets(facts):
    return [f.event.position.offset for f in facts if isinstance(f, Received)]


def subscribed():
    """A driver whose subscription is live at offset 5."""
    driver = Driver()
    driver.subscribe()
    driver.answer(driver.asked, at(5))
    assert driver.subscription.state is SubscriptionState.SUBSCRIBED
    return driver
