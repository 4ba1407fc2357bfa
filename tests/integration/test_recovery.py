"""RECOVER: what a position is worth, and how what was missed arrives."""

import pytest
import trio

from syncd.config import HistoryKind, Mode
from syncd.testing.crowd import read_log
from syncd.testing.history import History
from tests.integration.nodes import (
    DURABLE,
    EPHEMERAL,
    LATEST,
    LATEST_DURABLE,
    MEMORY,
    make_config,
    namespace,
    publish,
    read_until,
    running,
    subscribe,
    wait_for,
)

KINDS = [DURABLE, MEMORY]


def channel_of(kind):
    return f"{kind.name}:c"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_position_within_retention_brings_exactly_what_was_missed(tmp_path, kind):
    history = History()
    async with running(make_config(tmp_path, kind)) as (_node, connect):
        publisher, observer = await connect(), history.observer("a", channel_of(kind))
        client = await connect()
        await subscribe(client, observer)
        await publish(publisher, observer.channel, 3)
        await read_until(client, observer, 3)
        await client.aclose()
        observer.disconnected()
        await publish(publisher, observer.channel, 5)
        client = await connect()
        answer = await subscribe(client, observer)
        assert (answer["was_recovering"], answer["recovered"]) == (True, True)
        assert [event["offset"] for event in answer["events"]] == [4, 5, 6, 7, 8]
        await publish(publisher, observer.channel, 1)
        await read_until(client, observer, 9)
    assert history.violations == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "position",
    [
        pytest.param(lambda top: {**top, "epoch": "0123456789abcdef"}, id="other epoch"),
        pytest.param(lambda top: {**top, "offset": top["offset"] + 1}, id="ahead"),
        pytest.param(lambda top: {**top, "offset": 2**53 - 1}, id="far ahead"),
        pytest.param(lambda top: {**top, "epoch": ""}, id="empty epoch"),
    ],
)
async def test_a_position_that_means_nothing_is_not_recovered(tmp_path, kind, position):
    history = History()
    async with running(make_config(tmp_path, kind)) as (_node, connect):
        client, observer = await connect(), history.observer("a", channel_of(kind))
        top = await publish(client, observer.channel, 3)
        answer = await subscribe(client, observer, position=position(top))
        assert (answer["was_recovering"], answer["recovered"]) == (True, False)
        assert answer["position"] == top
        assert answer["events"] == []
        await publish(client, observer.channel, 1)
    assert history.violations == []


async def test_behind_by_more_than_a_memory_channel_keeps_is_not_recovered(tmp_path):
    kind = namespace("mem", HistoryKind.MEMORY, history_size=10)
    async with running(make_config(tmp_path, kind)) as (_node, connect):
        client = await connect()
        first = await publish(client, "mem:c", 1)
        await publish(client, "mem:c", 11)
        lost = await subscribe(client, History().observer("a", "mem:c"), position=first)
        assert (lost["was_recovering"], lost["recovered"], lost["events"]) == (True, False, [])
        other = await connect()
        kept = await subscribe(
            other, History().observer("a", "mem:c"), position={**first, "offset": 2}
        )
        assert kept["recovered"]
        assert [event["offset"] for event in kept["events"]] == list(range(3, 13))


async def test_behind_by_more_than_the_log_keeps_is_not_recovered(tmp_path):
    kind = namespace("log", HistoryKind.DURABLE, history_size=10)
    async with running(make_config(tmp_path, kind)) as (_node, connect):
        client = await connect()
        first = await publish(client, "log:c", 1)
        await publish(client, "log:c", 40)

        async def floor():
            _, body = await client.ask("history", channel="log:c", limit=1)
            return body["events"][0]["offset"]

        await wait_for(floor, lambda offset: offset > 1)
        answer = await subscribe(await connect(), History().observer("a", "log:c"), position=first)
        assert (answer["was_recovering"], answer["recovered"]) == (True, False)


async def test_further_behind_than_the_limit_is_not_recovered(tmp_path):
    config = make_config(tmp_path, MEMORY, limits={"recovery_events": 5})
    async with running(config) as (_node, connect):
        client = await connect()
        first = await publish(client, "mem:c", 1)
        await publish(client, "mem:c", 6)
        answer = await subscribe(client, History().observer("a", "mem:c"), position=first)
        assert not answer["recovered"]
        second = {**first, "offset": 2}
        answer = await subscribe(await connect(), History().observer("a", "mem:c"), position=second)
        assert answer["recovered"]


async def test_after_a_restart_a_memory_channel_has_a_new_epoch_and_a_durable_one_goes_on(tmp_path):
    history = History()
    config = make_config(tmp_path, MEMORY, DURABLE)
    memory, durable = history.observer("a", "mem:c"), history.observer("a", "log:c")
    epochs = []
    for life in range(2):
        async with running(config) as (_node, connect):
            client = await connect()
            answers = [await subscribe(client, observer) for observer in (memory, durable)]
            epochs.append([answer["position"]["epoch"] for answer in answers])
            assert [answer["recovered"] for answer in answers] == [False, life == 1]
            assert [answer["was_recovering"] for answer in answers] == [life == 1] * 2
            for observer in (memory, durable):
                await publish(client, observer.channel, 3)
        for observer in (memory, durable):
            observer.disconnected()
    assert epochs[0][0] != epochs[1][0]
    assert epochs[0][1] == epochs[1][1]
    assert history.violations == []


@pytest.mark.parametrize("receive_buffer_bytes", [0, 4096], ids=["fast", "slow"])
@pytest.mark.parametrize("driver", ["epoll", "stream"])
@pytest.mark.parametrize("size", [2_000, 20_000], ids=["in memory", "in the log"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_large_recovery_comes_in_pages_with_nothing_missing_while_others_publish(
    tmp_path, kind, size, driver, receive_buffer_bytes
):
    history = History()
    async with running(make_config(tmp_path, kind, driver=driver)) as (_node, connect):
        publisher, observer = await connect(), history.observer("a", channel_of(kind))
        client = await connect()
        await subscribe(client, observer)
        await publish(publisher, observer.channel, 1)
        await read_until(client, observer, 1)
        await client.aclose()
        observer.disconnected()
        num_missed = 300
        await publish(publisher, observer.channel, num_missed, size=size)
        client = await connect(receive_buffer_bytes=receive_buffer_bytes)
        top = num_missed + 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, publisher, observer.channel, 50)
            with trio.fail_after(20):
                answer = await subscribe(client, observer)
                assert answer["recovered"]
                assert 0 < len(answer["events"]) < num_missed
                await read_until(client, observer, top + 50)
        assert observer.num_lagged == 0
    assert observer.offsets == list(range(1, top + 51))
    assert history.violations == []


async def test_a_recovery_overtaken_by_trimming_lags_and_is_then_told_so(tmp_path):
    kind = namespace("log", HistoryKind.DURABLE, history_size=1200)
    limits = {"recovery_bytes": 65_536, "send_buffer_bytes": 8192}
    history = History()
    async with running(make_config(tmp_path, kind, limits=limits)) as (_node, connect):
        publisher, observer = await connect(), history.observer("a", "log:c")
        first = await publish(publisher, "log:c", 1)
        await publish(publisher, "log:c", 1100, size=2000)
        client = await connect(receive_buffer_bytes=4096)
        observer.epoch, observer.offset = first["epoch"], first["offset"]
        await client.send("subscribe", id=1, channel="log:c", position=first)
        await publish(publisher, "log:c", 1250, size=2000)

        async def floor():
            _, body = await publisher.ask("history", channel="log:c", limit=1)
            return body["events"][0]["offset"]

        await wait_for(floor, lambda offset: offset > 1000)
        with trio.fail_after(20):
            while observer.num_lagged == 0:
                kind_, body = await client.receive()
                observer.take(kind_, body)
        assert observer.num_recovered == 1
        assert 1 < observer.offset < 1000
        answer = await subscribe(client, observer)
        assert (answer["was_recovering"], answer["recovered"]) == (True, False)
        await publish(publisher, "log:c", 1)
        await read_until(client, observer, answer["position"]["offset"] + 1)
    assert history.violations == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_who_comes_during_a_burst_misses_and_doubles_nothing(tmp_path, kind):
    history = History()
    channel = channel_of(kind)
    async with running(make_config(tmp_path, kind)) as (_node, connect):

        async def come_and_go(observer):
            for _ in range(8):
                client = await connect()
                await subscribe(client, observer)
                await read_until(client, observer, observer.offset + 5)
                await client.aclose()
                observer.disconnected()

        observers = [history.observer(f"o{index}", channel) for index in range(10)]
        publishers = [await connect() for _ in range(4)]
        async with trio.open_nursery() as nursery:

            async def burst(client):
                while True:
                    await publish(client, channel, 1)

            for client in publishers:
                nursery.start_soon(burst, client)
            async with trio.open_nursery() as visitors:
                for observer in observers:
                    visitors.start_soon(come_and_go, observer)
            nursery.cancel_scope.cancel("seen enough")
    assert history.violations == []
    assert {observer.num_recovered for observer in observers} == {7}


async def test_who_comes_between_two_events_of_one_tick_gets_the_second_alone(tmp_path):
    history = History()
    async with running(make_config(tmp_path, MEMORY)) as (_node, connect):
        first, client = await connect(), await connect()
        watching, observer = history.observer("w", "mem:c"), history.observer("a", "mem:c")
        await subscribe(first, watching)
        place = {"channel": "mem:c"}
        await client.send_many(
            ("publish", {"id": 1, "data": 1, **place}),
            ("publish", {"id": 2, "data": 2, **place}),
            ("subscribe", {"id": 3, **place}),
            ("publish", {"id": 4, "data": 3, **place}),
            ("publish", {"id": 5, "data": 4, **place}),
        )
        with trio.fail_after(10):
            while observer.offset < 4:
                observer.take(*await client.receive())
        await read_until(first, watching, 4)
        await publish(client, "mem:c", 1)
        await read_until(first, watching, 5)
        await read_until(client, observer, 5)
        assert observer.offsets == [3, 4, 5]
    assert history.violations == []


# ------------------------------------------------------------------------------------------------ latest, ephemeral


@pytest.mark.parametrize("kind", [LATEST, LATEST_DURABLE], ids=lambda kind: kind.name)
async def test_a_latest_channel_gives_its_state_and_recovers_what_changed(tmp_path, kind):
    history = History()
    channel = channel_of(kind)
    async with running(make_config(tmp_path, kind)) as (_node, connect):
        publisher = await connect()
        for number, key in enumerate("abacab"):
            top = await publish(publisher, channel, 1, key=key, first=number)
        observer = history.observer("a", channel, is_latest=True)
        client = await connect()
        answer = await subscribe(client, observer)
        assert [(e["key"], e["offset"]) for e in answer["events"]] == [("c", 4), ("a", 5), ("b", 6)]
        assert not any("prev" in event for event in answer["events"])
        assert answer["position"] == top
        await client.aclose()
        observer.disconnected()
        for number, key in enumerate("ada"):
            await publish(publisher, channel, 1, key=key, first=10 + number)
        answer = await subscribe(await connect(), observer)
        assert answer["recovered"]
        assert [(e["key"], e["data"]["n"]) for e in answer["events"]] == [("d", 11), ("a", 12)]
        lost = history.observer("b", channel, is_latest=True)
        answer = await subscribe(await connect(), lost, position={**top, "epoch": "other"})
        assert (answer["was_recovering"], answer["recovered"]) == (True, False)
        assert [event["key"] for event in answer["events"]] == ["c", "b", "d", "a"]
    assert history.violations == []


async def test_the_state_of_a_durable_latest_channel_outlives_the_node(tmp_path):
    config = make_config(tmp_path, LATEST_DURABLE)
    async with running(config) as (_node, connect):
        client = await connect()
        for number, key in enumerate("abcab"):
            top = await publish(client, "kept:c", 1, key=key, first=number)
    async with running(config) as (_node, connect):
        observer = History().observer("a", "kept:c", is_latest=True)
        answer = await subscribe(await connect(), observer)
        assert [(e["key"], e["data"]["n"]) for e in answer["events"]] == [
            ("c", 2),
            ("a", 3),
            ("b", 4),
        ]
        assert answer["position"] == top


async def test_an_ephemeral_channel_has_no_position_and_forgets(tmp_path):
    async with running(make_config(tmp_path, EPHEMERAL)) as (_node, connect):
        publisher, client = await connect(), await connect()
        assert await publish(publisher, "live:c") is None
        kind, answer = await client.ask("subscribe", channel="live:c")
        assert kind == "subscribed"
        assert "position" not in answer
        assert answer["events"] == []
        await publish(publisher, "live:c", first=5)
        _, event = await client.expect("event")
        assert event["data"] == {"n": 5}
        assert {"epoch", "offset", "prev"}.isdisjoint(event)
        kind, answer = await client.ask("history", channel="live:c", limit=1)
        assert (kind, answer["code"]) in {
            ("error", "not_supported"),
            ("error", "permission_denied"),
        }


# ------------------------------------------------------------------------------------------------ history


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_history_pages_forwards_and_backwards(tmp_path, kind):
    channel = channel_of(kind)
    async with running(make_config(tmp_path, kind)) as (node, connect):
        client = await connect()
        top = await publish(client, channel, 25)
        epoch = top["epoch"]
        port = node.addresses[0][1]
        assert (await read_log(port, channel, limit=7))[0] == epoch
        _, events = await read_log(port, channel, limit=7)
        assert [event["data"]["n"] for event in events] == list(range(25))
        assert [event["offset"] for event in events] == list(range(1, 26))

        async def offsets(**body):
            answer, fields = await client.ask("history", channel=channel, **body)
            assert answer == "ok", fields
            assert fields["position"] == top
            return [event["offset"] for event in fields["events"]]

        assert await offsets(limit=0) == []
        assert await offsets(limit=3) == [1, 2, 3]
        assert await offsets(limit=3, reverse=True) == [25, 24, 23]
        assert await offsets(limit=3, since={"epoch": epoch, "offset": 10}) == [11, 12, 13]
        before = {"epoch": epoch, "offset": 10}
        assert await offsets(limit=3, since=before, reverse=True) == [9, 8, 7]
        assert await offsets(limit=9, since={"epoch": epoch, "offset": 3}, reverse=True) == [2, 1]
        assert await offsets(limit=9, since=top) == []
        for wrong in ({"epoch": "other", "offset": 1}, {"epoch": epoch, "offset": 27}):
            answer, fields = await client.ask("history", channel=channel, limit=1, since=wrong)
            assert (answer, fields["code"]) == ("error", "unrecoverable_position")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_page_of_history_is_cut_by_bytes_and_goes_on_where_it_ended(tmp_path, kind):
    config = make_config(tmp_path, kind, limits={"recovery_bytes": 65_536})
    channel = channel_of(kind)
    async with running(config) as (node, connect):
        client = await connect()
        await publish(client, channel, 20, size=10_000)
        _, page = await client.ask("history", channel=channel, limit=1000)
        assert 0 < len(page["events"]) < 20
        _, page = await client.ask("history", channel=channel, limit=1000, reverse=True)
        assert page["events"][0]["offset"] == 20
        assert 0 < len(page["events"]) < 20
        _, events = await read_log(node.addresses[0][1], channel, limit=1000)
        assert [event["data"]["n"] for event in events] == list(range(20))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_history_after_a_trimmed_position_is_refused_and_says_so(tmp_path, kind):
    kind = namespace(kind.name, kind.history, history_size=5)
    channel = channel_of(kind)
    async with running(make_config(tmp_path, kind)) as (_node, connect):
        client = await connect()
        first = await publish(client, channel, 1)
        await publish(client, channel, 20)

        async def ask():
            return await client.ask("history", channel=channel, limit=1000, since=first)

        _, fields = await wait_for(ask, lambda answer: answer[0] == "error")
        assert fields["code"] == "unrecoverable_position"
        _, fields = await client.ask("history", channel=channel, limit=1000)
        assert fields["events"][-1]["offset"] == 21
        assert len(fields["events"]) < 20


async def test_the_same_uid_on_a_memory_channel_counts_once_in_a_life(tmp_path):
    async with running(make_config(tmp_path, MEMORY)) as (_node, connect):
        client = await connect()
        request = {"channel": "mem:c", "data": 1, "uid": "u"}
        _, first = await client.ask("publish", **request)
        _, again = await client.ask("publish", **request)
        assert again["position"] == first["position"]
        kind, other = await client.ask("publish", channel="mem:c", data=2, uid="u")
        assert (kind, other["code"]) == ("error", "idempotency_mismatch")
        _, answer = await client.ask("history", channel="mem:c", limit=10)
        assert len(answer["events"]) == 1


async def test_a_latest_position_older_than_what_is_kept_brings_the_whole_state(tmp_path):
    kind = namespace("now", HistoryKind.MEMORY, Mode.LATEST, history_size=3)
    async with running(make_config(tmp_path, kind)) as (_node, connect):
        client = await connect()
        first = await publish(client, "now:c", 1, key="k0")
        for number in range(1, 6):
            await publish(client, "now:c", 1, key=f"k{number}", first=number)
        observer = History().observer("a", "now:c", is_latest=True)
        answer = await subscribe(await connect(), observer, position=first)
        assert (answer["was_recovering"], answer["recovered"]) == (True, False)
        assert [event["key"] for event in answer["events"]] == ["k3", "k4", "k5"]
