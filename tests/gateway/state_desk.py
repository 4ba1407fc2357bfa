"""An application for tests of the gateway: three collections, a few mutators, and what the cache-owner answers."""

from __future__ import annotations

from typing import Any

from syncd.codes import ErrorCode
from syncd.config import Config
from syncd.errors import SyncdError
from syncd.model.definitions import AppDefinition, CollectionDefinition
from syncd.model.definitions_check import app_in_force
from syncd.model.mutators import Mutators
from syncd.ports import Subscription
from syncd.ports_collections import AddClients, LastMids, WatchEntries
from tests.gateway.desk import EPOCH, Client, Desk

ANYONE = ("anyone",)
FAILED = SyncdError(ErrorCode.LOAD_FAILED)
"""What the cache-owner answers when a loader failed."""


def ship(tx: Any, order_id: str) -> None:
    """Never run here: the gateway only asks who may."""


def make_app() -> AppDefinition:
    """Orders for anyone; regions in partitions by claim; staff's own."""
    mutators = Mutators()
    mutators.add("ship", ship, collection="orders")
    mutators.add("put", ship, collection="own")
    mutators.add("audit", ship)
    collections = [
        CollectionDefinition("orders", read=ANYONE, mutate=ANYONE, write=ANYONE),
        CollectionDefinition(
            "regions", is_partitioned=True, read=("claim",), mutate=ANYONE, write=("claim",)
        ),
        CollectionDefinition("staff", read=("role:staff",), mutate=("role:staff",)),
        CollectionDefinition("own", read=ANYONE, mutate=("role:staff",), write=ANYONE),
    ]
    app = AppDefinition(
        collections={each.name: each for each in collections},
        mutators=mutators,
        mutate=("role:staff",),
    )
    return app_in_force(app, Config())


def state_desk(**changes: Any) -> Desk:
    """A desk with these collections."""
    return Desk(app=make_app(), **changes)


def asked(desk: Desk) -> Any:
    """The one command that the cache-owner got."""
    (command,) = desk.cache_owner.take()
    return command


def welcome(desk: Desk, client: Client, last_mids: list[int]) -> None:
    """Answer a hello with known clients as the cache-owner does."""
    command = asked(desk)
    assert isinstance(command, AddClients)
    command.done(LastMids(last_mids, ""))
    desk.turn()
    client.welcome = next(body for kind, body in client.heard() if kind == "welcome")


def comes_back(
    desk: Desk, claims: list[dict[str, str]], last_mids: list[int], **hello: Any
) -> Client:
    """A session of known clients, welcomed."""
    client = desk.dial()
    client.say("hello", v=1, clients=claims, **hello)
    welcome(desk, client, last_mids)
    return client


def live_watch(desk: Desk, client: Client, **what: Any) -> Subscription:
    """Watch, and answer as the cache-owner and the broadcaster do."""
    client.say("watch", id=next(client.ids), **what)
    command = asked(desk)
    assert isinstance(command, WatchEntries)
    subscription = command.subscription
    subscription.is_live, subscription.pending_id, subscription.epoch = True, None, EPOCH
    assert subscription.watch is not None
    subscription.watch.keys = None if command.keys is None else set(command.keys)
    return subscription
