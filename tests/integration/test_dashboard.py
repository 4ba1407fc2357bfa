"""The dashboard's door on a real node: no token, a token without the role, a foreign origin; and what its channel costs when nobody looks."""

import httpx
import pytest
import trio

from syncd.config import AuthSettings
from syncd.model.reserved import STATS_CHANNEL
from syncd.ports_operators import Target
from syncd.testing.plain_client import PlainClient
from syncd.testing.raw_client import request_head
from tests.integration.hostile.tokens import make
from tests.integration.nodes import MEMORY, make_config, publish, running, wait_for

SECRET = "a secret of at least thirty-two bytes"
ROUTES = [
    ("GET", "/api/admin/stats"),
    ("GET", "/api/admin/channels"),
    ("GET", "/api/admin/sessions"),
    ("GET", "/api/admin/sessions/x"),
    ("GET", "/api/admin/errors"),
    ("GET", "/api/audit"),
    ("GET", "/api/info"),
    ("GET", "/api/cache/config"),
    ("GET", "/api/rebuild"),
    ("POST", "/api/admin/session"),
    ("POST", "/api/disconnect"),
]


@pytest.fixture
def config(tmp_path):
    auth = AuthSettings(algorithms=("HS256",), hmac_secret=SECRET)
    return make_config(tmp_path, MEMORY, auth=auth)


def asking(node, token=None, **headers):
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    url = f"http://127.0.0.1:{node.addresses[0][1]}"
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=20)


async def greeted(node, token=None):
    client = await PlainClient.connect(node.addresses[0][1])
    await client.hello(**({} if token is None else {"token": token}))
    return client


async def test_the_page_is_open_and_tells_nothing(config):
    async with running(config) as (node, _), asking(node) as http:
        page = await http.get("/admin")
        assert page.status_code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert page.headers["x-frame-options"] == "DENY"
        assert node.version not in page.text


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        (None, 401, "unauthorized"),
        ("nonsense", 401, "unauthorized"),
        (make("another secret of thirty-two bytes!", roles=["admin"]), 401, "unauthorized"),
        (make(SECRET), 403, "permission_denied"),
        (make(SECRET, roles=["support", "administrator"]), 403, "permission_denied"),
    ],
    ids=["none", "nonsense", "forged", "no role", "another role"],
)
async def test_whoever_is_no_operator_is_refused_everywhere_and_learns_nothing(
    config, token, status, code
):
    async with running(config) as (node, _), asking(node, token) as http:
        for method, path in ROUTES:
            answer = await http.request(method, path, json={} if method == "POST" else None)
            assert answer.status_code == status, path
            assert answer.json()["error"]["code"] == code
            assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("token", [None, make(SECRET), make(SECRET, roles=["support"])])
async def test_the_nodes_channels_do_not_exist_for_whoever_is_no_operator(config, token):
    async with running(config) as (node, _):
        client = await greeted(node, token)
        for channel in (STATS_CHANNEL, "$node:other", "$rebuild:orders", "$audit:node"):
            told = await client.ask("subscribe", channel=channel)
            missing = await client.ask("subscribe", channel="nosuch:channel")
            assert told[0] == missing[0] == "error"
            assert told[1]["code"] == missing[1]["code"] == "permission_denied"
            assert told[1]["message"] == missing[1]["message"]
        assert node.broadcaster.num_subscribers(STATS_CHANNEL) == 0
        await client.aclose()


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"]
)
async def test_a_page_of_another_origin_reaches_neither_the_socket_nor_the_answers(config, origin):
    admin = make(SECRET, roles=["admin"])
    async with running(config) as (node, _):
        port = node.addresses[0][1]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(request_head("/ws", f"Origin: {origin}"))
            head = bytes(await stream.receive_some(4096))
        assert head.startswith(b"HTTP/1.1 403")
        async with asking(node, Origin=origin) as http:
            asked = {
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization",
            }
            before = await http.request("OPTIONS", "/api/admin/stats", headers=asked)
            assert before.status_code >= 400
            answers = [before, await http.get("/admin")]
        async with asking(node, admin, Origin=origin) as http:
            answers.append(await http.get("/api/admin/stats"))
        for answer in answers:
            assert not any(name.startswith("access-control-") for name in answer.headers)
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


async def test_an_operator_is_told_once_a_second_what_is_true(config):
    """The shown rate is what was really published, by the counters of the node itself."""
    async with running(config) as (node, connect), asking(node, "key-of-the-tests") as http:
        token = (await http.post("/api/admin/session")).json()["token"]
        operator, publisher = await greeted(node, token), await connect()
        kind, _ = await operator.ask("subscribe", channel=STATS_CHANNEL)
        assert kind == "subscribed"
        first = await sample(operator)
        await publish(publisher, "mem:a", 200)
        told, total = [await sample(operator)], 0.0
        while total < 200:
            total += told[-1]["sample"]["published_per_s"] * passed_s(first, told[-1])
            first = told[-1]
            told.append(await sample(operator))
        assert 200 <= round(total) <= 200 + len(told), "its own samples are published too"
        last = told[-1]
        assert last["sample"]["sessions"] == 2
        assert last["sample"]["age_ms"] > 0
        assert [actor["state"] for actor in last["actors"]] == ["ok"] * len(node.health())
        await operator.aclose()


def passed_s(before, after):
    return (after["sample"]["at_ms"] - before["sample"]["at_ms"]) / 1000


async def sample(client):
    while True:
        kind, body = await client.receive()
        if kind == "event" and body["channel"] == STATS_CHANNEL:
            return body["data"]


async def test_nothing_is_published_while_nobody_looks(config):
    async with running(config) as (node, _), asking(node, "key-of-the-tests") as http:

        async def columns():
            return (await http.get("/api/admin/stats")).json()["columns"]

        await wait_for(columns, lambda told: len(told["at_ms"]) >= 3)
        assert node.broadcaster.statistics().num_published == 0
        token = (await http.post("/api/admin/session")).json()["token"]
        operator = await greeted(node, token)
        await operator.ask("subscribe", channel=STATS_CHANNEL)
        await sample(operator)
        await operator.aclose()

        async def num_subscribers():
            return node.broadcaster.num_subscribers(STATS_CHANNEL)

        await wait_for(num_subscribers, lambda count: count == 0)
        published = node.broadcaster.statistics().num_published
        length = len((await columns())["at_ms"])
        await wait_for(columns, lambda told: len(told["at_ms"]) >= length + 2)
        assert node.broadcaster.statistics().num_published == published


async def test_sessions_are_counted_as_they_come_and_go(config):
    async with running(config) as (node, connect):
        clients = [await connect() for _ in range(5)]
        assert node.admin.gauges()["sessions"] == node.admin.statistics().num_sessions == 5
        await clients[0].aclose()
        target = Target(session=clients[1].session)
        node.admin.disconnect(target, reconnect=False, reason="")

        async def counted():
            return node.admin.gauges()["sessions"]

        await wait_for(counted, lambda count: count == 3)
        assert node.admin.statistics().num_sessions == 3
        (row, *_) = node.admin.sessions()
        assert node.admin.channels_of(row.session) == []
        assert node.admin.channels_of("nobody") is None
