"""The cache-owner tells entries with the position they are as of, page by page, and over a crash."""

import attrs
import msgpack
import pytest
import trio

from syncd.app import App
from syncd.ids import Position
from syncd.ports import Identity, Subscription, Watch
from syncd.ports_collections import ResumeWatches, SnapshotDrained, WatchEntries
from tests.actors.cache_world import Asker, running


@attrs.define(eq=False)
class Session:
    """One connection: keeps what it is sent."""

    clients: tuple = ("c1",)
    identity: Identity = attrs.field(factory=Identity)
    sent: list = attrs.field(factory=list)
    paging: list = attrs.field(factory=list)

    def send_event(self, channel, message):
        self.sent.append(msgpack.unpackb(message))

    def page_when_drained(self, subscription):
        self.paging.append(subscription)

    def reply_error(self, request_id, error):
        self.sent.append(["error", {"id": request_id, "code": error.code.value}])

    def fail_watch(self, subscription, request_id, error):
        self.reply_error(request_id, error)

    def lag(self, subscription):
        subscription.is_closed = True
        self.sent.append(["lagged", {"channel": subscription.channel}])


def app_of(**options):
    app = App()
    items = app.collection("items", **options)

    @items.mutator
    def put(tx, key: str, value: str):
        tx.put(key, value)

    return app


async def filled(world, count, size=10):
    asker = Asker()
    for mid in range(1, count + 1):
        await world.mutate(asker, mid, "items.put", [f"k{mid:04}", "x" * size])


def watch(world, session, request_id=1, keys=None, subscription=None, **more):
    if subscription is None:
        subscription = Subscription(session, "items", pending_id=request_id, watch=Watch(None))
    world.owner.submit_nowait(
        [WatchEntries(subscription, request_id, "items", "items", keys, **more)], 0
    )
    return subscription


def prelude(join):
    kind, body = msgpack.unpackb(join.prelude)
    assert kind == "watched"
    return body


async def test_a_watch_of_keys_goes_on_from_the_position_its_entries_are_as_of(autojump_clock):
    async with running(app_of()) as world:
        await filled(world, 3)
        watch(world, Session(), keys=["k0001", "k0009"])
        await trio.sleep(1)
        (join,) = world.listener.joins
        body = prelude(join)
        assert join.since.offset == 3
        assert body["position"] == {"epoch": join.since.epoch, "offset": 3}
        assert body["entries"] == [
            {"key": "k0001", "version": 1, "value": "x" * 10},
            {"key": "k0009", "version": 3, "deleted": True},
        ]
        assert body["more"] is False


async def test_entries_that_the_client_has_are_not_told_again(autojump_clock):
    async with running(app_of()) as world:
        await filled(world, 3)
        epoch = world.listener.events[0].epoch
        have = {"k0001": 1, "k0002": 1}
        watch(world, Session(), keys=["k0001", "k0002"], have_epoch=epoch, have=have)
        await trio.sleep(1)
        body = prelude(world.listener.joins[0])
        assert body["unchanged"] == ["k0001"]
        assert [entry["key"] for entry in body["entries"]] == ["k0002"]


async def test_versions_of_another_epoch_count_for_nothing(autojump_clock):
    async with running(app_of()) as world:
        await filled(world, 1)
        watch(world, Session(), keys=["k0001"], have_epoch="another", have={"k0001": 1})
        await trio.sleep(1)
        assert prelude(world.listener.joins[0])["unchanged"] == []


async def test_a_position_is_handed_on_and_a_lost_one_becomes_a_snapshot(autojump_clock):
    async with running(app_of()) as world:
        await filled(world, 2)
        position = Position(world.listener.events[0].epoch, 1)
        watch(world, Session(), position=position)
        await trio.sleep(1)
        (join,) = world.listener.joins
        assert join.since == position
        assert prelude(join)["recovered"] is True
        join.on_lost()
        await trio.sleep(1)
        body = prelude(world.listener.joins[1])
        assert body["recovered"] is False
        assert [entry["key"] for entry in body["entries"]] == ["k0001", "k0002"]


@pytest.mark.parametrize("is_volatile", [False, True])
async def test_a_large_snapshot_comes_in_pages_as_the_session_drains(autojump_clock, is_volatile):
    async with running(app_of(volatile=is_volatile)) as world:
        await filled(world, 20, size=50_000)
        session = Session()
        subscription = watch(world, session)
        await trio.sleep(1)
        first = prelude(world.listener.joins[0])
        assert first["more"] is True
        assert world.listener.joins[0].has_more, "the broadcaster asks for room, behind `watched`"
        assert session.sent == [], "one page is under way, and it is not drained"
        told = [entry["key"] for entry in first["entries"]]
        while session.paging:
            session.paging.clear()
            world.owner.submit_nowait([SnapshotDrained([subscription])], 0)
            await trio.sleep(1)
        for kind, body in session.sent:
            assert kind == "snapshot"
            told += [entry["key"] for entry in body["entries"]]
        assert told == [f"k{number:04}" for number in range(1, 21)]
        assert [body["more"] for _, body in session.sent][-1] is False
        assert subscription.watch.snapshot_id is None


async def test_a_snapshot_goes_on_after_a_crash_of_the_cache_owner(autojump_clock):
    async with running(app_of()) as world:
        await filled(world, 20, size=50_000)
        session = Session()
        subscription = watch(world, session)
        await trio.sleep(1)
        told = [entry["key"] for entry in prelude(world.listener.joins[0])["entries"]]
        await world.crash()
        world.owner.submit_nowait([ResumeWatches([subscription])], 0)
        await trio.sleep(1)
        session.paging.pop(0)
        while session.paging:
            session.paging.clear()
            world.owner.submit_nowait([SnapshotDrained([subscription])], 0)
            await trio.sleep(1)
        for _kind, body in session.sent:
            told += [entry["key"] for entry in body["entries"]]
        assert told == [f"k{number:04}" for number in range(1, 21)]


@pytest.mark.parametrize("keys", [["k0001", "k0002"], None], ids=["keys", "whole"])
@pytest.mark.parametrize("has_crashed", [False, True])
async def test_a_page_says_which_mutations_of_its_session_it_is_as_of(
    autojump_clock, keys, has_crashed
):
    async with running(app_of()) as world:
        await filled(world, 2)
        await world.mutate(Asker(), 1, "items.put", ["k0001", "y"], client="c2")
        await world.mutate(Asker(), 1, "items.put", ["k0001", "z"], client="c3")
        await world.mutate(Asker(), 3, "items.nonsense", client="c1")
        if has_crashed:
            await world.crash()
        watch(world, Session(clients=("c1", "c2")), keys=keys)
        await trio.sleep(1)
        assert prelude(world.listener.joins[0])["decided"] == {"c1": 3, "c2": 1}


async def test_each_page_is_as_of_its_own_moment(autojump_clock):
    async with running(app_of()) as world:
        await filled(world, 20, size=50_000)
        session = Session()
        subscription = watch(world, session)
        await trio.sleep(1)
        assert prelude(world.listener.joins[0])["decided"] == {"c1": 20}
        await world.mutate(Asker(), 21, "items.put", ["k0020", "new"])
        while session.paging:
            session.paging.clear()
            world.owner.submit_nowait([SnapshotDrained([subscription])], 0)
            await trio.sleep(1)
        last = session.sent[-1][1]
        assert last["decided"] == {"c1": 21}
        assert last["entries"][-1] == {"key": "k0020", "version": 21, "value": "new"}


@pytest.mark.parametrize("change", ["put", "remove"])
async def test_what_changes_while_the_rest_of_a_page_is_loaded_is_told_as_it_is_in_the_end(
    autojump_clock, change
):
    app, may_load = App(), trio.Event()
    items = app.collection("items")

    @items.loader
    async def load(key):
        await may_load.wait()
        return "loaded"

    @items.mutator
    def put(tx, key: str, value: str):
        tx.put(key, value)

    @items.mutator
    def remove(tx, key: str):
        tx.delete(key)

    async with running(app) as world:
        await world.mutate(Asker(), 1, "items.put", ["a", "old"])
        watch(world, Session(), keys=["a", "b"])
        await trio.sleep(1)
        assert world.listener.joins == []
        args = ["a", "new"] if change == "put" else ["a"]
        await world.mutate(Asker(), 2, f"items.{change}", args)
        may_load.set()
        await trio.sleep(1)
        body = prelude(world.listener.joins[0])
        told = {entry["key"]: entry.get("value") for entry in body["entries"]}
        assert told == {"a": "new" if change == "put" else None, "b": "loaded"}
        assert body["decided"] == {"c1": 2}


async def test_a_request_for_what_is_not_known_yet_waits_and_is_then_told_behind(autojump_clock):
    async with running(app_of()) as world:
        await filled(world, 1)
        epoch = world.listener.events[0].epoch
        session = Session()
        began = trio.current_time()
        watch(world, session, keys=["k0001"], after={"items": Position(epoch, 5)})
        await trio.sleep(4)
        assert session.sent == [["error", {"id": 1, "code": "behind"}]]
        assert trio.current_time() - began < 5
        watch(world, session, 2, keys=["k0001"], after={"items": Position(epoch, 2)})
        await trio.sleep(1)
        await world.mutate(Asker(), 2, "items.put", ["k0001", "y"])
        await trio.sleep(1)
        assert prelude(world.listener.joins[-1])["entries"][0]["value"] == "y"


async def test_a_position_of_another_epoch_asks_for_nothing(autojump_clock):
    async with running(app_of()) as world:
        await filled(world, 1)
        began = trio.current_time()
        watch(world, Session(), keys=["k0001"], after={"items": Position("another", 5)})
        await trio.sleep(0.1)
        assert prelude(world.listener.joins[0])["entries"][0]["key"] == "k0001"
        assert trio.current_time() - began < 1


async def test_entries_that_may_be_old_are_loaded_anew_when_all_are_watched(autojump_clock):
    values = {"a": 1, "b": 1}
    app = App()
    items = app.collection("items", ttl=600, jitter=0.0)

    @items.loader
    async def load(key):
        return values[key]

    async with running(app) as world:
        await world.read("items", "a", "b")
        values.update(a=2, b=2)
        await world.invalidate("items", "a")
        watch(world, Session())
        await trio.sleep(5)
        told = [each for each in world.listener.data("items") if "value" in each[1]]
        assert told[2:] == [("a", {"value": 2})], "b is fresh"
