"""The HTTP API through Quart's test client: what each route does, and what it refuses."""

import base64
import json

import msgpack
import pytest
import trio

from syncd.actors.kit import Health
from syncd.codes import ErrorCode
from syncd.errors import MailboxFull, RequestRejected, StoreUnavailable
from syncd.http.failures import STATUS
from syncd.ports_operators import Target
from tests.integration.http_fakes import EPOCH, KEY, World, make_config


@pytest.fixture
def world():
    return World(make_config())


def alone(num_sessions):
    """What an operator's order comes to without a cluster."""
    return {"num_sessions": num_sessions, "nodes_answered": 1, "nodes": 1}


def decoded(world, index=-1):
    return msgpack.unpackb(world.broadcaster.commands[index].data)


# ------------------------------------------------------------------------------------------------ publish


async def test_a_publication_reaches_the_broadcaster_and_its_position_the_caller(world):
    body = {"channel": "demo:a", "data": {"x": [1, None, "é"]}, "name": "n", "key": "k"}
    assert await world.ask("POST", "/api/publish", body) == (
        200,
        {"position": {"epoch": EPOCH, "offset": 1}},
    )
    command = world.broadcaster.commands[0]
    assert (command.channel, command.name, command.key, command.client) == (
        "demo:a",
        "n",
        "k",
        None,
    )
    assert decoded(world) == {"x": [1, None, "é"]}
    assert command.idempotency is None


async def test_null_is_data_and_an_ephemeral_channel_has_no_position(world):
    answer = await world.ask("POST", "/api/publish", {"channel": "live:a", "data": None})
    assert answer == (200, {"position": None})
    assert decoded(world) is None


async def test_base64_data_is_published_as_binary(world):
    body = {"channel": "demo:a", "data_base64": base64.b64encode(b"\x00\xff").decode()}
    assert (await world.ask("POST", "/api/publish", body))[0] == 200
    assert decoded(world) == b"\x00\xff"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"channel": "demo:a"}, 400, "bad_request"),
        ({"channel": "demo:a", "data": 1, "data_base64": "AA=="}, 400, "bad_request"),
        ({"channel": "demo:a", "data_base64": "AA"}, 400, "bad_request"),
        ({"channel": "demo:a", "data_base64": "A_-="}, 400, "bad_request"),
        ({"channel": "demo:a", "data_base64": "é"}, 400, "bad_request"),
        ({"channel": "demo:a", "data_base64": 7}, 400, "bad_request"),
        ({"channel": "demo:a", "data": 1, "dta": 2}, 400, "bad_request"),
        ({"data": 1}, 400, "bad_request"),
        ({"channel": 7, "data": 1}, 400, "bad_request"),
        ({"channel": "demo", "data": 1}, 400, "bad_channel"),
        ({"channel": "demo:../x", "data": 1}, 400, "bad_channel"),
        ({"channel": "dem\u043e:x", "data": 1}, 400, "bad_channel"),
        ({"channel": "nope:x", "data": 1}, 403, "permission_denied"),
        ({"channel": "demo:a", "data": 1, "name": "n" * 129}, 400, "bad_request"),
        ({"channel": "demo:a", "data": 1, "key": "k" * 256}, 400, "bad_request"),
        ({"channel": "demo:a", "data": 1, "uid": "u" * 129}, 400, "bad_request"),
        ({"channel": "demo:a", "data": 1, "uid": ""}, 400, "bad_request"),
        ({"channel": "demo:a", "data": 1, "name": 3}, 400, "bad_request"),
        ({"channel": "demo:a", "data": "x" * 1000}, 413, "too_large"),
        ({"channel": "demo:a", "data_base64": "AAAA" * 400}, 413, "too_large"),
    ],
)
async def test_a_wrong_publication_is_refused_with_its_code(world, body, status, code):
    answer_status, answer = await world.ask("POST", "/api/publish", body)
    assert (answer_status, answer["error"]["code"]) == (status, code)
    assert set(answer["error"]) == {"code", "message", "retryable"}
    assert world.broadcaster.commands == []


async def test_the_brokers_refusal_is_told_with_its_code_and_when_to_retry(world):
    world.broadcaster.refusal = StoreUnavailable(after_ms=1500)
    response = await world.respond("POST", "/api/publish", {"channel": "demo:a", "data": 1})
    answer = json.loads(await response.get_data())
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "2"
    assert answer["error"]["code"] == "store_unavailable"
    assert (answer["error"]["retryable"], answer["error"]["after_ms"]) == (True, 1500)


async def test_a_publication_that_finds_no_room_is_overloaded_after_the_requests_time(
    world, autojump_clock
):
    world.broadcaster.is_full = True
    start = trio.current_time()
    status, answer = await world.ask("POST", "/api/publish", {"channel": "demo:a", "data": 1})
    assert (status, answer["error"]["code"]) == (503, "overloaded")
    assert trio.current_time() - start == pytest.approx(30.0)


async def test_a_publication_that_is_never_answered_is_a_504_that_may_be_repeated(
    world, autojump_clock
):
    world.broadcaster.is_silent = True
    status, answer = await world.ask("POST", "/api/publish", {"channel": "demo:a", "data": 1})
    assert (status, answer["error"]["code"]) == (504, "store_unavailable")
    assert answer["error"]["retryable"] is True
    assert "Idempotency-Key" in answer["error"]["message"]


async def test_a_crash_of_ours_is_told_as_a_code_without_its_story(world):
    """A62: no error text holds paths, SQL, secrets or stack frames."""
    world.broadcaster.crash = RuntimeError("/srv/secret.db: SELECT password")
    status, answer = await world.ask("POST", "/api/publish", {"channel": "demo:a", "data": 1})
    assert (status, answer["error"]["code"]) == (500, "internal_error")
    text = json.dumps(answer)
    assert not any(word in text for word in ("secret", "SELECT", "RuntimeError", "Traceback"))


# ------------------------------------------------------------------------------------------------ once


async def test_the_header_and_the_uid_make_the_same_key_of_the_service(world):
    body = {"channel": "demo:a", "data": {"b": 1, "a": 2}}
    first = await world.ask("POST", "/api/publish", body, Idempotency_Key="k1")
    again = await world.ask("POST", "/api/publish", {**body, "uid": "k1"})
    shuffled = {"data": {"a": 2, "b": 1}, "channel": "demo:a"}
    third = await world.ask("POST", "/api/publish", shuffled, Idempotency_Key="k1")
    assert first == again == third == (200, {"position": {"epoch": EPOCH, "offset": 1}})
    key = world.broadcaster.commands[0].idempotency
    assert (key.identity, key.operation, key.key) == ("service:billing", "publish", "k1")
    assert len(key.request_hash) == 32


async def test_another_request_under_the_same_key_is_refused(world):
    await world.ask("POST", "/api/publish", {"channel": "demo:a", "data": 1}, Idempotency_Key="k")
    for other in ({"data": 2}, {"data": 1, "name": "n"}, {"data_base64": "AA=="}, {"data": None}):
        status, answer = await world.ask(
            "POST", "/api/publish", {"channel": "demo:a", **other}, Idempotency_Key="k"
        )
        assert (status, answer["error"]["code"]) == (422, "idempotency_mismatch")


async def test_keys_of_two_services_are_two_keys(world):
    body = {"channel": "demo:a", "data": 1, "uid": "k"}
    await world.ask("POST", "/api/publish", body)
    _, answer = await world.ask("POST", "/api/publish", body, key="key-of-other")
    assert answer["position"]["offset"] == 2


@pytest.mark.parametrize("key", ["", "x" * 129, "tab\there"])
async def test_a_malformed_idempotency_key_is_refused(world, key):
    body = {"channel": "demo:a", "data": 1}
    status, _ = await world.ask("POST", "/api/publish", body, Idempotency_Key=key)
    assert status == 400


async def test_a_header_and_a_uid_that_differ_are_refused(world):
    body = {"channel": "demo:a", "data": 1, "uid": "a"}
    assert (await world.ask("POST", "/api/publish", body, Idempotency_Key="b"))[0] == 400


# ------------------------------------------------------------------------------------------------ batch


def publication(data, **more):
    return {"publish": {"channel": "demo:a", "data": data, **more}}


async def test_a_batch_is_answered_command_by_command_in_order(world):
    commands = [
        publication(1),
        {"publish": {"channel": "bad", "data": 1}},
        {"delete": {}},
        7,
        {"publish": 7},
        publication(2),
        {"publish": {"channel": "live:a", "data": 1}},
    ]
    status, answer = await world.ask("POST", "/api/batch", {"commands": commands})
    told = [item["ok"] if "ok" in item else item["error"]["code"] for item in answer["results"]]
    assert status == 200
    assert told == [
        {"position": {"epoch": EPOCH, "offset": 1}},
        "bad_channel",
        "bad_request",
        "bad_request",
        "bad_request",
        {"position": {"epoch": EPOCH, "offset": 2}},
        {"position": None},
    ]


async def test_a_thousand_commands_go_in_order_and_in_pieces_one_more_is_refused(world):
    commands = [publication(n) for n in range(1000)]
    status, answer = await world.ask("POST", "/api/batch", {"commands": commands})
    offsets = [item["ok"]["position"]["offset"] for item in answer["results"]]
    assert (status, offsets) == (200, list(range(1, 1001)))
    assert max(world.broadcaster.batches) <= 100
    status, answer = await world.ask(
        "POST", "/api/batch", {"commands": [*commands, publication(0)]}
    )
    assert (status, answer["error"]["code"]) == (400, "limit_exceeded")


async def test_an_empty_batch_has_no_results(world):
    assert await world.ask("POST", "/api/batch", {"commands": []}) == (200, {"results": []})


@pytest.mark.parametrize("body", [{}, {"commands": {}}, {"commands": [], "x": 1}])
async def test_a_batch_of_the_wrong_shape_is_refused_whole(world, body):
    assert (await world.ask("POST", "/api/batch", body))[0] == 400


async def test_the_header_gives_each_command_of_a_batch_a_key_of_its_own(world):
    batch = {"commands": [publication(1), publication(1), publication(1, uid="mine")]}
    first = await world.ask("POST", "/api/batch", batch, Idempotency_Key="b")
    again = await world.ask("POST", "/api/batch", batch, Idempotency_Key="b")
    keys = [command.idempotency.key for command in world.broadcaster.commands]
    assert keys == ["b/0", "b/1", "mine"] * 2
    assert first == again
    assert len(world.broadcaster.logs["demo:a"]) == 3


async def test_a_batch_key_leaves_room_for_its_numbers(world):
    batch = {"commands": [publication(1)]}
    assert (await world.ask("POST", "/api/batch", batch, Idempotency_Key="b" * 120))[0] == 200
    assert (await world.ask("POST", "/api/batch", batch, Idempotency_Key="b" * 121))[0] == 400


async def test_a_batch_never_answered_tells_so_for_each_command_not_answered(world, autojump_clock):
    world.broadcaster.is_silent = True
    status, answer = await world.ask(
        "POST", "/api/batch", {"commands": [publication(1), {"publish": {}}]}
    )
    codes = [item["error"]["code"] for item in answer["results"]]
    assert (status, codes) == (200, ["store_unavailable", "bad_request"])


async def test_a_batch_that_finds_no_room_tells_so_for_each_command(world, autojump_clock):
    world.broadcaster.is_full = True
    _, answer = await world.ask("POST", "/api/batch", {"commands": [publication(1)] * 150})
    assert {item["error"]["code"] for item in answer["results"]} == {"overloaded"}
    assert len(answer["results"]) == 150


async def test_a_batch_refused_by_the_broker_tells_so_for_each_command(world):
    world.broadcaster.refusal = MailboxFull()
    _, answer = await world.ask("POST", "/api/batch", {"commands": [publication(1)] * 3})
    assert [item["error"]["code"] for item in answer["results"]] == ["overloaded"] * 3


# ------------------------------------------------------------------------------------------------ history


async def test_history_tells_events_in_order_with_binary_data_named(world):
    for body in ({"data": {"n": 1}, "name": "x", "key": "k"}, {"data_base64": "AAEC"}):
        await world.ask("POST", "/api/publish", {"channel": "demo:a", **body})
    status, answer = await world.ask("GET", "/api/history?channel=demo:a")
    common = {"channel": "demo:a", "epoch": EPOCH, "at_ms": 1000}
    assert status == 200
    assert answer == {
        "channel": "demo:a",
        "position": {"epoch": EPOCH, "offset": 2},
        "events": [
            {**common, "prev": 0, "offset": 1, "data": {"n": 1}, "name": "x", "key": "k"},
            {**common, "prev": 1, "offset": 2, "data": {"$base64": "AAEC"}},
        ],
    }


async def test_history_passes_limit_since_and_reverse(world):
    for n in range(5):
        await world.ask("POST", "/api/publish", {"channel": "demo:a", "data": n})
    query = f"channel=demo:a&since_epoch={EPOCH}&since_offset=2&limit=2"
    _, answer = await world.ask("GET", f"/api/history?{query}")
    assert [event["data"] for event in answer["events"]] == [2, 3]
    _, answer = await world.ask("GET", "/api/history?channel=demo:a&reverse=true&limit=3")
    assert [event["data"] for event in answer["events"]] == [4, 3, 2]
    _, answer = await world.ask("GET", "/api/history?channel=demo:a&limit=0")
    assert answer["events"] == []


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "bad_request"),
        ("channel=x", 400, "bad_channel"),
        ("channel=nope:x", 403, "permission_denied"),
        ("channel=live:x", 400, "not_supported"),
        ("channel=demo:a&limit=1001", 400, "bad_request"),
        ("channel=demo:a&limit=-1", 400, "bad_request"),
        ("channel=demo:a&limit=1e3", 400, "bad_request"),
        ("channel=demo:a&limit=%D9%A1", 400, "bad_request"),
        ("channel=demo:a&limit=" + "9" * 5000, 400, "bad_request"),
        ("channel=demo:a&since_epoch=a", 400, "bad_request"),
        ("channel=demo:a&since_offset=1", 400, "bad_request"),
        ("channel=demo:a&since_epoch=&since_offset=1", 400, "bad_request"),
        ("channel=demo:a&since_epoch=a&since_offset=9007199254740992", 400, "bad_request"),
        ("channel=demo:a&reverse=maybe", 400, "bad_request"),
    ],
)
async def test_a_wrong_history_query_is_refused_with_its_code(world, query, status, code):
    answer_status, answer = await world.ask("GET", f"/api/history?{query}")
    assert (answer_status, answer["error"]["code"]) == (status, code)


async def test_history_never_answered_is_a_504(world, autojump_clock):
    world.broadcaster.is_silent = True
    assert (await world.ask("GET", "/api/history?channel=demo:a"))[0] == 504


# ------------------------------------------------------------------------------------------------ channels, presence


async def test_channels_are_listed_by_prefix_and_limit(world):
    for name in ("demo:a", "demo:b", "demo:c"):
        await world.ask("POST", "/api/publish", {"channel": name, "data": 1})
    row = {"num_subscribers": 1, "position": {"epoch": EPOCH, "offset": 1}}
    assert await world.ask("GET", "/api/channels?prefix=demo:b") == (
        200,
        {"channels": [{"channel": "demo:b", **row}], "is_complete": True},
    )
    _, answer = await world.ask("GET", "/api/channels?limit=2")
    assert [item["channel"] for item in answer["channels"]] == ["demo:a", "demo:b"]
    assert answer["is_complete"] is False


async def test_presence_lists_members_and_counts_those_left_out(world):
    states = [{"client": "c", "state": {"face": b"\x01"}}]
    world.presence.members["demo:a"] = [
        {"member": name, "user": name, "states": states} for name in ("ada", "bob")
    ]
    status, answer = await world.ask("GET", "/api/presence?channel=demo:a&limit=1")
    shown = {"client": "c", "state": {"face": {"$base64": "AQ=="}}}
    assert (status, answer) == (
        200,
        {
            "channel": "demo:a",
            "num_members": 2,
            "members": [{"member": "ada", "user": "ada", "states": [shown]}],
        },
    )


async def test_presence_is_refused_where_there_is_none_and_fails_in_time(world, autojump_clock):
    status, answer = await world.ask("GET", "/api/presence?channel=live:a")
    assert (status, answer["error"]["code"]) == (400, "not_supported")
    world.presence.failure = RequestRejected(ErrorCode.INTERNAL_ERROR)
    assert (await world.ask("GET", "/api/presence?channel=demo:a"))[0] == 500
    world.presence.is_silent = True
    assert (await world.ask("GET", "/api/presence?channel=demo:a"))[0] == 504


# ------------------------------------------------------------------------------------------------ sessions


async def test_disconnect_names_sessions_and_whether_they_come_back(world):
    body = {"user": "ada", "reconnect": True, "reason": "moved"}
    assert await world.ask("POST", "/api/disconnect", body) == (200, alone(2))
    await world.ask("POST", "/api/disconnect", {"session": "s", "client": "c", "token_id": "t"})
    assert world.gateway.calls == [
        ("disconnect", Target(user="ada"), True, "moved"),
        ("disconnect", Target(session="s", client="c", token_id="t"), False, ""),
    ]


async def test_unsubscribe_names_sessions_and_a_channel(world):
    body = {"user": "bob", "channel": "demo:a"}
    assert await world.ask("POST", "/api/unsubscribe", body) == (200, alone(1))
    assert world.gateway.calls == [("unsubscribe", Target(user="bob"), "demo:a")]


async def test_revoke_names_a_user_or_token_and_an_end(world):
    body = {"user": "bob", "until_ms": 1_800_000_000_500}
    assert await world.ask("POST", "/api/revoke", body) == (200, alone(1))
    await world.ask("POST", "/api/revoke", {"token_id": "t"})
    assert world.gateway.calls == [
        ("revoke", Target(user="bob"), 1_800_000_000.5),
        ("revoke", Target(token_id="t"), 1_700_086_400.0),
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("disconnect", {}),
        ("disconnect", {"user": ""}),
        ("disconnect", {"user": "a", "session": ""}),
        ("disconnect", {"user": 7}),
        ("disconnect", {"user": "a", "reconnect": 1}),
        ("disconnect", {"user": "a", "reason": "r" * 121}),
        ("disconnect", {"user": "a", "everyone": True}),
        ("unsubscribe", {"channel": "demo:a"}),
        ("unsubscribe", {"user": "a"}),
        ("revoke", {}),
        ("revoke", {"session": "s"}),
        ("revoke", {"user": "a", "until_ms": -1}),
        ("revoke", {"user": "a", "until_ms": 1.5}),
        ("revoke", {"user": "a", "until_ms": True}),
    ],
)
async def test_a_wrong_target_touches_nobody(world, path, body):
    assert (await world.ask("POST", f"/api/{path}", body))[0] == 400
    assert world.gateway.calls == []


# ------------------------------------------------------------------------------------------------ health, info


async def test_a_node_not_ready_says_why_with_503_and_lives(world):
    assert (await world.ask("GET", "/health/ready", key=None))[0] == 200
    world.node.reasons = ["store: restarting"]
    world.node.actors[1].state = Health.RESTARTING
    world.node.actors[1].num_restarts = 2
    world.node.actors[1].last_error = "OSError"
    status, answer = await world.ask("GET", "/health/ready", key=None)
    assert (status, answer["status"], answer["reasons"]) == (
        503,
        "not_ready",
        ["store: restarting"],
    )
    assert answer["actors"][1] == {
        "name": "store",
        "state": "restarting",
        "num_restarts": 2,
        "last_error": "OSError",
    }
    assert await world.ask("GET", "/health/live", key=None) == (200, {"status": "ok"})


async def test_info_tells_counts_and_namespaces_and_no_secret(world):
    status, answer = await world.ask("GET", "/api/info")
    assert (status, answer["version"], answer["uptime_s"]) == (200, "9.9.9", 12.5)
    assert answer["gateway"]["num_deliveries"] == 13
    assert answer["namespaces"]["live"]["history"] == "none"
    assert KEY not in json.dumps(answer)


def test_every_code_has_a_status():
    assert set(STATUS) == set(ErrorCode)
