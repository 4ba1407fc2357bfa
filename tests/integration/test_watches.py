"""Collections as the wire has them: real nodes, real sockets, and a client that only writes down what it is told (SPEC 17, 18)."""

import pytest

from tests.integration.watches_world import (
    View,
    everything,
    fill,
    many,
    mutate,
    open_world,
    put,
    spoil,
    token,
)

TIGHT = {
    "frame_bytes": 16_384,
    "outbox_bytes": 65_536,
    "recovery_bytes": 32_768,
    "send_buffer_bytes": 8192,
}


@pytest.fixture
async def world(tmp_path):
    async with open_world(tmp_path) as world:
        yield world


# ------------------------------------------------------------------------------------------------ snapshot and stream


async def test_a_large_snapshot_comes_in_pages_and_joins_what_is_written_meanwhile(world):
    author, client = await world.connect(), await world.connect()
    await fill(author, 700)
    view = View()
    answer = await view.watch(client, all=True)
    assert answer["more"] is True
    assert 0 < len(answer["entries"]) < 700
    await put(author, "k1", {"n": 1})
    await mutate(author, "orders.patch", key="k700", patch={"n": 2})
    await mutate(author, "orders.delete", key="k699")
    last = await put(author, "new", {"n": 3})
    await view.read_to(client, last["offset"])
    assert view.log.count("snapshot") >= 2
    values = view.values()
    assert len(values) == 700
    assert (values["k1"], values["k700"]["n"], values["new"]) == ({"n": 1}, 2, {"n": 3})
    assert "k699" not in values
    assert values == await everything(await world.connect())


async def test_keys_that_are_watched_are_told_and_others_are_not(world):
    author, client = await world.connect(), await world.connect()
    first = await put(author, "a", 1)
    view = View()
    answer = await view.watch(client, keys=["a", "b"])
    assert {e["key"]: e.get("value", "gone") for e in answer["entries"]} == {"a": 1, "b": "gone"}
    await put(author, "c", 1)
    last = await put(author, "b", 2)
    assert last["offset"] == first["offset"] + 2
    kind, event = await client.receive()
    assert (kind, event["key"], event["data"], event["offset"]) == (
        "event",
        "b",
        {"value": 2},
        last["offset"],
    )
    assert "prev" not in event
    # Widened: answered for what it asks, and the others go on.
    answer = await view.watch(client, keys=["c"])
    assert [entry["key"] for entry in answer["entries"]] == ["c"]
    await put(author, "c", 5)
    last = await put(author, "a", 6)
    await view.read_to(client, last["offset"])
    assert (view.entries["c"][1], view.entries["a"][1]) == (5, 6)


async def test_keys_that_are_given_up_are_told_no_more_and_a_watch_that_ended_not_at_all(world):
    author, client = await world.connect(), await world.connect()
    await View().watch(client, keys=["a", "b"])
    kind, body = await client.ask("unwatch", collection="orders", keys=["a"])
    assert kind == "ok", body
    await client.send("probe", nonce=1)
    await client.expect("pong")
    await put(author, "a", 1)
    await put(author, "b", 2)
    _, event = await client.expect("event")
    assert event["key"] == "b"
    assert (await client.ask("unwatch", collection="orders"))[0] == "ok"
    await put(author, "b", 3)
    await client.send("probe", nonce=1)
    assert (await client.receive())[0] == "pong"
    kind, body = await client.ask("unwatch", collection="orders")
    assert (kind, body["code"]) == ("error", "not_watched")


async def test_what_the_client_has_is_told_as_unchanged(world):
    author, client = await world.connect(), await world.connect()
    a, b = await put(author, "a", 1), await put(author, "b", 1)
    await put(author, "b", 2)
    have = {"epoch": a["epoch"], "versions": {"a": a["offset"], "b": b["offset"]}}
    answer = await View().watch(client, all=True, have=have)
    assert answer["unchanged"] == ["a"]
    assert [(entry["key"], entry["value"]) for entry in answer["entries"]] == [("b", 2)]
    have["epoch"] = "another"
    answer = await View().watch(await world.connect(), keys=["a"], have=have)
    assert answer["unchanged"] == []
    assert [entry["key"] for entry in answer["entries"]] == ["a"]


# ------------------------------------------------------------------------------------------------ recovery


@pytest.mark.parametrize("what", [{"all": True}, {"keys": ["k1", "k2"]}], ids=["all", "keys"])
async def test_a_client_that_comes_back_is_told_what_it_missed_up_to_the_end(world, what):
    author, client = await world.connect(), await world.connect()
    await fill(author, 3, size=10)
    view = View()
    await view.watch(client, **what)
    await client.aclose()
    await put(author, "k1", 1)
    await spoil(author, "orders", keys=["k2"])
    await mutate(author, "orders.delete", key="k2")
    last = await put(author, "k3", 3)
    client = await world.connect()
    answer = await view.watch(client, position=view.position, **what)
    assert answer["recovered"] is True
    await view.read_to(client, last["offset"])
    assert view.position == last
    assert view.log[-1] == ("event" if "all" in what else "mark"), "the last event says it, too"
    assert view.invalidations[0]["keys"] == ["k2"]
    assert view.entries["k1"][1] == 1
    assert view.entries["k2"][1] is None
    if "all" in what:
        assert view.values() == await everything(await world.connect())


@pytest.mark.parametrize("what", [{"all": True}, {"keys": ["k1"]}], ids=["all", "keys"])
async def test_a_position_that_the_history_does_not_reach_gets_a_snapshot(world, what):
    author, client = await world.connect(), await world.connect()
    await put(author, "k1", 0, "short")
    await put(author, "k2", 0, "short")
    view = View()
    await view.watch(client, collection="short", **what)
    await client.aclose()
    await mutate(author, "short.delete", key="k2")
    for number in range(20):
        last = await put(author, "k1", number, "short")
    client = await world.connect()
    answer = await view.watch(client, collection="short", position=view.position, **what)
    assert answer["recovered"] is False
    await view.read_to(client, last["offset"])
    assert view.values() == {"k1": 19}


async def test_a_position_of_another_epoch_gets_a_snapshot(world):
    author, client = await world.connect(), await world.connect()
    await put(author, "a", 1)
    answer = await View().watch(client, all=True, position={"epoch": "0" * 16, "offset": 1})
    assert answer["recovered"] is False
    assert [entry["key"] for entry in answer["entries"]] == ["a"]


# ------------------------------------------------------------------------------------------------ slow readers


async def test_a_slow_reader_is_told_whole_values_for_patches_that_it_missed(tmp_path):
    async with open_world(tmp_path, limits=TIGHT) as world:
        author, client = await world.connect(), await world.connect(receive_buffer_bytes=2048)
        await fill(author, 8, size=1000)
        view = View()
        await view.watch(client, all=True)
        last = await many(
            author,
            [
                ("orders.patch", {"key": f"k{n % 8 + 1}", "patch": {"n": n, "note": "x" * 400}})
                for n in range(400)
            ],
        )
        statistics = world.node.admin.statistics()
        assert statistics.num_conflated > 50
        assert statistics.num_lagged == 0
        await view.read_to(client, last["offset"])
        await view.read_to_mark(client)
        assert view.position == last
        assert view.values() == await everything(await world.connect())


async def test_a_reader_that_falls_behind_lags_watches_again_and_has_everything(tmp_path):
    async with open_world(tmp_path, limits=TIGHT) as world:
        author, client = await world.connect(), await world.connect(receive_buffer_bytes=2048)
        view = View()
        await view.watch(client, all=True)
        last = await fill(author, 200, size=2000)
        kind, body = "", {}
        while kind != "lagged":
            kind, body = await client.receive()
            view.take(kind, body)
        assert body["position"]["offset"] == view.position["offset"] < last["offset"]
        answer = await view.watch(client, all=True, position=view.position)
        assert answer["recovered"] is True
        await view.read_to(client, last["offset"])
        assert len(view.values()) == 200
        assert view.values() == await everything(await world.connect())


async def test_a_burst_of_invalidations_to_a_slow_reader_is_merged_and_nothing_is_lost(tmp_path):
    async with open_world(tmp_path, limits=TIGHT) as world:
        author, client = await world.connect(), await world.connect(receive_buffer_bytes=2048)
        view = View()
        await view.watch(client, all=True)
        await fill(author, 20, size=2000)
        keys = [f"key{number}" for number in range(900)]
        await many(author, [("spoil", {"collection": "orders", "keys": [key]}) for key in keys])
        last = await put(author, "last", 1)
        assert world.node.admin.statistics().num_lagged == 0
        await view.read_to(client, last["offset"])
        assert len(view.invalidations) < 800
        assert {key for body in view.invalidations for key in body["keys"]} == set(keys)


# ------------------------------------------------------------------------------------------------ invalidations


async def test_invalidations_are_told_live_by_what_they_name(world):
    author, client = await world.connect(), await world.connect()
    narrow = await world.connect()
    await put(author, "a", 1)
    await View().watch(client, all=True)
    await View().watch(narrow, keys=["b"])
    await spoil(author, "orders", keys=["a"])
    await spoil(author, "orders", tags=["t"])
    await spoil(author, "orders", everything=True)
    bodies = [(await client.expect("invalidate"))[1] for _ in range(3)]
    assert [body.get("keys") or body.get("tags") or body["all"] for body in bodies] == [
        ["a"],
        ["t"],
        True,
    ]
    assert [body["offset"] for body in bodies] == [2, 3, 4]
    assert "tags" in (await narrow.expect("invalidate"))[1], "a is not what it watches"


# ------------------------------------------------------------------------------------------------ permission


async def test_who_loses_the_right_to_read_is_told_so_and_hears_no_more(world):
    author = await world.connect()
    client = await world.connect(token=token("ann", roles=("staff",)))
    await View().watch(client, collection="staff", all=True)
    await client.send("auth", id=5, token=token("ann"))
    _, body = await client.expect("unsubscribed")
    assert (body["channel"], body["code"]) == ("staff", "revoked")
    assert await client.receive() == ("ok", {"id": 5})
    await put(author, "a", 1, "staff")
    await client.send("watch", id=6, collection="staff", all=True)
    kind, body = await client.receive()
    assert (kind, body["code"]) == ("error", "permission_denied")


@pytest.mark.parametrize(
    ("collection", "mine", "theirs", "claims"),
    [
        ("regions", "eu", "us", [{"channels": ("regions/eu",)}, {"channels": ("regions/us",)}]),
        ("drafts", "ann", "ben", [{}, {}]),
    ],
)
async def test_nothing_is_learnt_of_a_partition_that_one_may_not_see(
    world, collection, mine, theirs, claims
):
    ann = await world.connect(token=token("ann", **claims[0]))
    ben = await world.connect(token=token("ben", **claims[1]))
    await put(ben, f"{theirs}/1", "secret", collection)
    await View().watch(ann, collection=collection, partition=mine)
    answers = []
    for partition, name in [(theirs, "1"), (theirs, "none"), ("nowhere", "1")]:
        key = f"{partition}/{name}"
        for kind, body in [
            ("watch", {"partition": partition}),
            ("watch", {"keys": [key]}),
            ("read", {"keys": [key]}),
        ]:
            answer, told = await ann.ask(kind, collection=collection, **body)
            answers.append((answer, told["code"], told["message"]))
        for call in (
            {"name": f"{collection}.put", "value": 1},
            {"name": f"{collection}.patch", "patch": {}, "if_version": 1},
            {"name": f"{collection}.delete", "if_version": 99},
            {"name": f"{collection}.incr"},
        ):
            args = {**call, "key": key}
            outcome = await mutate(ann, args.pop("name"), **args)
            answers.append(("rejected", outcome["error"]["code"], outcome["status"]))
    assert {answer[1] for answer in answers} == {"permission_denied"}
    assert answers[:7] == answers[7:14] == answers[14:], "what is there looks like what is not"
    await put(ben, f"{theirs}/2", "secret", collection)
    await spoil(ben, collection, keys=[f"{theirs}/1"])
    last = await put(ann, f"{mine}/1", "own", collection)
    assert last["offset"] == 1, "others' changes do not show in the offsets"
    await ann.send("probe", nonce=1)
    while (message := await ann.receive())[0] != "pong":
        assert message[0] in ("event", "outcome")
        assert theirs not in str(message)
    _, body = await ben.ask("read", collection=collection, keys=[f"{theirs}/1"])
    assert body["entries"][0]["value"] == "secret"
