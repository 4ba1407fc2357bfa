"""The backend publishers: what they send, what they make of every answer, when they try again."""

import json
import math

import anyio
import httpx
import pytest

from syncd.backend import (
    AsyncPublisher,
    BackendError,
    Position,
    Publication,
    Publisher,
    Refused,
    Unauthorized,
    Unreachable,
)
from syncd.backend.attempts import RetryPolicy
from syncd.backend.calls import value_from_json

OK = {"position": {"epoch": "e", "offset": 3}}


class Api:
    """Answers in turn; keeps what was asked and how long was waited."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.waits = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        if isinstance(body, str):
            return httpx.Response(status, text=body)
        return httpx.Response(status, json=body)

    def publisher(self, **options):
        http = httpx.Client(transport=httpx.MockTransport(self), base_url="http://node")
        return Publisher("http://node", "key", http=http, sleep=self.waits.append, **options)

    @property
    def bodies(self):
        return [json.loads(request.content) for request in self.requests]

    @property
    def keys(self):
        return [request.headers.get("idempotency-key") for request in self.requests]


def error(code, *, retryable=False, **more):
    return {"error": {"code": code, "message": "m", "retryable": retryable, **more}}


# ---------------------------------------------------------------- one answer


def test_a_publication_says_what_it_must_and_nothing_more():
    api = Api((200, OK))
    position = api.publisher().publish("demo:a", {"n": None}, name="note")
    assert position == Position("e", 3)
    assert api.bodies == [{"channel": "demo:a", "data": {"n": None}, "name": "note"}]
    assert api.requests[0].url.path == "/api/publish"
    assert len(api.keys[0]) >= 16


def test_bytes_go_out_as_base64():
    api = Api((200, OK))
    api.publisher().publish("demo:a", b"\x00\xff")
    assert api.bodies == [{"channel": "demo:a", "data_base64": "AP8="}]


def test_an_ephemeral_publication_has_no_position():
    assert Api((200, {"position": None})).publisher().publish("live:a", 1) is None


def test_every_publication_has_a_key_of_its_own_unless_one_is_given():
    api = Api((200, OK), (200, OK), (200, OK))
    publisher = api.publisher()
    publisher.publish("demo:a", 1)
    publisher.publish("demo:a", 1)
    publisher.publish("demo:a", 1, uid="order-7")
    assert api.keys[0] != api.keys[1]
    assert api.keys[2] == "order-7"


def test_a_batch_has_an_outcome_for_each_in_order():
    results = [{"ok": OK}, error("too_large"), {"ok": {"position": None}}]
    api = Api((200, {"results": results}))
    publications = [
        Publication("demo:a", 1),
        Publication("demo:a", "x"),
        Publication("live:a", b""),
    ]
    first, second, third = api.publisher().batch(publications, key="job-1")
    assert (first, third) == (Position("e", 3), None)
    assert isinstance(second, Refused)
    assert second.code == "too_large"
    assert api.keys == ["job-1"]
    assert api.bodies[0]["commands"][2] == {"publish": {"channel": "live:a", "data_base64": ""}}


def test_session_calls_name_whom_they_mean():
    api = Api(*[(200, {"num_sessions": 2})] * 3)
    publisher = api.publisher()
    assert publisher.disconnect(user="ann", reconnect=True, reason="moved") == 2
    assert publisher.unsubscribe("demo:a", session="s1") == 2
    assert publisher.revoke(user="ann", until_ms=9) == 2
    assert api.bodies == [
        {"user": "ann", "reconnect": True, "reason": "moved"},
        {"session": "s1", "channel": "demo:a"},
        {"user": "ann", "until_ms": 9},
    ]


def test_reads_are_understood():
    event = {"channel": "demo:a", "epoch": "e", "prev": 2, "offset": 3, "at_ms": 5}
    event |= {"data": {"$base64": "AP8="}, "by": {"client": "c"}, "name": "n"}
    member = {"member": "ann", "user": "ann", "states": [{"client": "c", "state": 1}]}
    channel = {"channel": "demo:a", "num_subscribers": 1, "position": None}
    api = Api(
        (200, {"channel": "demo:a", "events": [event], **OK}),
        (200, {"channel": "demo:a", "num_members": 4, "members": [member]}),
        (200, {"channels": [channel], "is_complete": True}),
        (200, {"version": "1"}),
    )
    publisher = api.publisher()
    page = publisher.history("demo:a", since=Position("e", 2), limit=7, reverse=True)
    assert (page.events[0].data, page.events[0].by) == (b"\x00\xff", "c")
    assert page.events[0].position == page.position == Position("e", 3)
    expected = {"channel": "demo:a", "limit": "7", "since_epoch": "e", "since_offset": "2"}
    assert dict(api.requests[0].url.params) == {**expected, "reverse": "true"}
    members = publisher.presence("demo:a")
    assert (members.num_members, members.members[0].states) == (4, (("c", 1),))
    assert publisher.channels("demo:")[0].num_subscribers == 1
    assert publisher.info() == {"version": "1"}
    assert api.keys == [None] * 4


def test_values_json_cannot_hold_are_restored():
    shown = {
        "a": [{"$base64": "AA=="}],
        "b": {"$float": "Infinity"},
        "c": {"$escape": {"$base64": "x"}},
    }
    assert value_from_json(shown) == {"a": [b"\x00"], "b": math.inf, "c": {"$base64": "x"}}
    assert math.isnan(value_from_json({"$float": "NaN"}))
    assert value_from_json({"$base64": "AA==", "more": 1}) == {"$base64": "AA==", "more": 1}


# ---------------------------------------------------------------- trying again


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut off"),
        (500, error("internal_error", retryable=True)),
        (503, error("overloaded", retryable=True)),
        (504, error("store_unavailable", retryable=True)),
        (429, error("rate_limited", retryable=True)),
        (502, "<html>Bad gateway</html>"),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again_under_the_same_key(trouble):
    api = Api(trouble, trouble, (200, OK))
    assert api.publisher().publish("demo:a", 1) == Position("e", 3)
    assert len(set(api.keys)) == 1
    assert len(api.waits) == 2
    assert api.bodies[0] == api.bodies[2]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((401, error("unauthorized")), Unauthorized),
        ((403, error("permission_denied")), Refused),
        ((400, error("bad_request")), Refused),
        ((422, error("idempotency_mismatch")), Refused),
        ((404, "not found"), Unreachable),
        ((200, "hello"), Unreachable),
        ((200, {"unexpected": 1}), Unreachable),
        ((200, []), Unreachable),
    ],
    ids=str,
)
def test_what_will_not_pass_is_told_at_once(answer, kind):
    api = Api(answer)
    with pytest.raises(kind) as caught:
        api.publisher().publish("demo:a", 1)
    assert isinstance(caught.value, BackendError)
    assert api.waits == []


def test_attempts_end():
    api = Api(*[httpx.ConnectError("refused")] * 4)
    with pytest.raises(Unreachable, match="refused"):
        api.publisher().publish("demo:a", 1)
    assert len(api.requests) == 4
    api = Api(*[(503, error("overloaded", retryable=True, after_ms=50))] * 2)
    with pytest.raises(Refused) as caught:
        api.publisher(retry=RetryPolicy(max_attempts=2)).publish("demo:a", 1)
    assert (caught.value.code, caught.value.status, caught.value.after_ms) == (
        "overloaded",
        503,
        50,
    )


def test_waits_grow_and_keep_to_what_the_server_asked_within_reason():
    def busy(after_ms):
        return (503, error("overloaded", retryable=True, after_ms=after_ms))

    api = Api(busy(0), busy(3000), busy(3_600_000), (200, OK))
    api.publisher().publish("demo:a", 1)
    first, second, third = api.waits
    assert 0.1 <= first <= 0.2
    assert 3.2 <= second <= 3.4
    assert third == 10.0


# ---------------------------------------------------------------- addresses and life


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8400", "http://h:8400"),
        ("ws://h:8400/ws", "http://h:8400"),
        ("wss://h/", "https://h"),
        ("https://h/sync", "https://h/sync"),
    ],
)
def test_a_websocket_url_of_the_node_will_do(url, base):
    with Publisher(url, "key") as publisher:
        assert str(publisher._http.base_url).rstrip("/") == base
        assert publisher._http.headers["authorization"] == "Bearer key"


@pytest.mark.parametrize("url", ["", "h:8400", "ftp://h"])
def test_what_is_no_url_is_refused_at_once(url):
    with pytest.raises(ValueError, match="http://HOST"):
        Publisher(url)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_publisher_does_the_same_on_both_event_loops(backend):
    api = Api((503, error("overloaded", retryable=True)), (200, OK), (200, {"num_sessions": 1}))

    async def main():
        http = httpx.AsyncClient(transport=httpx.MockTransport(api), base_url="http://node")
        policy = RetryPolicy(first_wait_s=0.001)
        async with http, AsyncPublisher("http://node", "key", http=http, retry=policy) as publisher:
            return await publisher.publish("demo:a", 1), await publisher.disconnect(user="ann")

    assert anyio.run(main, backend=backend) == (Position("e", 3), 1)
    assert len(set(api.keys[:2])) == 1


def test_both_publishers_offer_the_same_methods():
    def public(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Publisher) - {"close"} == public(AsyncPublisher) - {"aclose"}
