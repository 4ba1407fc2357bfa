"""Steps that tests of one broadcaster begin with, and what they read of a session's notes."""

from syncd.ids import ChannelName
from syncd.ports import SubscribeChannel, Subscription


def datas(session):
    """The data of every event a session was sent."""
    return [body["data"] for kind, body in session.notes if kind == "event"]


def kinds(session):
    return [kind for kind, _ in session.notes]


def last(session):
    return session.notes[-1]


def error_of(session):
    kind, body = last(session)
    assert kind == "error", session.notes
    return body["code"]


async def durable_subscriber(world, channel="dur:a", since=None):
    session = world.session()
    world.subscribe(session, channel, since)
    await world.quiet()
    return session


async def published(world, channel, count, **options):
    """Publish numbers and let them arrive."""
    author = world.session()
    for number in range(count):
        world.publish(author, channel, number, **options)
    await world.quiet()
    return author


def crowd(world, count, channel, *, since=None):
    """Subscriptions that are live already, of one session each."""
    session = world.session()
    found = []
    for _ in range(count):
        subscription = Subscription(session, ChannelName(channel), since=since)
        found.append(subscription)
        subscription.pending_id = 0
        world.submit(SubscribeChannel(subscription))
    return session, found
