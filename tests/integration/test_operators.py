"""Operators of a real node: who is one, what they alone may see and do, and that it is written down."""

import contextlib
import time

import httpx
import pytest

from syncd.app import App
from syncd.config import AuthSettings, HistoryKind
from syncd.http.keys import WRONG_KEYS_BURST
from syncd.model.tokens import TokenClaims, make_token
from syncd.testing.plain_client import Closed, PlainClient
from tests.integration.nodes import make_config, namespace, running

SECRET = "correct horse battery staple, at length"
KEY = "key-of-the-tests"
OPERATORS_ROUTES = [
    ("POST", "/api/admin/session", None),
    ("GET", "/api/audit", None),
    ("GET", "/api/info", None),
    ("GET", "/api/channels", None),
    ("GET", "/api/cache/stats", None),
    ("GET", "/api/rebuild", None),
    ("POST", "/api/rebuild", {"collection": "orders"}),
    ("POST", "/api/rebuild", {"collection": "nope"}),
    ("DELETE", "/api/rebuild/nope", None),
    ("GET", "/api/rebuild/nope", None),
    ("POST", "/api/cache/clear", {}),
    ("POST", "/api/disconnect", {"user": "bob"}),
    ("POST", "/api/unsubscribe", {"user": "bob", "channel": "log:a"}),
    ("POST", "/api/revoke", {"user": "bob"}),
    ("POST", "/api/backup", {"path": "/nowhere/at/all"}),
    ("POST", "/api/invalidate", {"collection": "orders", "all": True}),
]
BACKEND_ROUTES = [
    ("POST", "/api/publish", {"channel": "log:a", "data": 1}),
    ("POST", "/api/mutate", {"name": "orders.put", "args": ["a", 1]}),
    ("GET", "/api/history?channel=log:a", None),
    ("GET", "/api/entries?collection=orders&key=a", None),
    ("GET", "/metrics", None),
]


def token(user, *roles, now_s=None):
    return make_token(TokenClaims(user, roles=roles), SECRET, now_s=now_s or time.time())


def make_app(authorizer=None):
    app = App()
    orders = app.collection("orders", read="anyone", write="anyone")

    @orders.scanner()
    async def scan(after):
        if after is None:
            yield "a", 1

    if authorizer is not None:
        app.authorizer(authorizer)
    return app


class Asking:
    def __init__(self, node):
        self.port = node.addresses[0][1]
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    async def ask(self, method, path, body=None, *, bearer=KEY):
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        answer = await self.client.request(method, path, json=body, headers=headers)
        is_json = answer.headers["Content-Type"] == "application/json"
        told = answer.json() if is_json else answer.text
        error = told.get("error") if is_json else None
        code = error["code"] if isinstance(error, dict) else None
        return answer.status_code, code, told


@contextlib.asynccontextmanager
async def node_of(folder, app=None):
    auth = AuthSettings(algorithms=("HS256",), hmac_secret=SECRET)
    config = make_config(folder, namespace("log", HistoryKind.DURABLE), auth=auth)
    async with running(config, app=app or make_app()) as (node, _connect):
        asking = Asking(node)
        async with asking.client:
            yield node, asking


@contextlib.asynccontextmanager
async def session(asking, bearer):
    client = await PlainClient.connect(asking.port)
    try:
        await client.hello(**({} if bearer is None else {"token": bearer}))
        yield client
    finally:
        await client.aclose()


async def subscribed(client, channel):
    kind, body = await client.ask("subscribe", channel=channel)
    return body["code"] if kind == "error" else kind


async def test_operators_routes_take_an_api_key_or_a_token_of_the_admin_role_alone(tmp_path):
    async with node_of(tmp_path) as (_node, asking):
        for method, path, body in OPERATORS_ROUTES:
            for bearer in (KEY, token("ann", "admin")):
                status, code, _ = await asking.ask(method, path, body, bearer=bearer)
                nowhere = path.endswith("nope") or "backup" in path
                expected = (200, 400) if nowhere else (200, 409)
                if body == {"collection": "nope"}:
                    expected = (403,)
                assert status in expected, (path, status, code)
        seen = set()
        for method, path, body in OPERATORS_ROUTES:
            status, code, told = await asking.ask(method, path, body, bearer=token("eve", "ops"))
            assert (status, code) == (403, "permission_denied"), path
            seen.add(str(told))
        assert len(seen) == 1


async def test_what_backends_do_takes_no_token_whatever_its_role(tmp_path):
    async with node_of(tmp_path) as (_node, asking):
        for method, path, body in BACKEND_ROUTES:
            assert (await asking.ask(method, path, body))[0] == 200, path
            for bearer in (token("ann", "admin"), None):
                status, code, _ = await asking.ask(method, path, body, bearer=bearer)
                assert (status, code) == (401, "unauthorized"), path


async def test_bad_tokens_are_guesses_and_good_ones_without_the_role_are_not(tmp_path):
    async with node_of(tmp_path) as (_node, asking):
        for _ in range(WRONG_KEYS_BURST + 2):
            answer = await asking.ask("GET", "/api/audit", bearer=token("bob"))
            assert answer[:2] == (403, "permission_denied")
        forged = token("ann", "admin")[:-4] + "AAAA"
        codes = [
            (await asking.ask("GET", "/api/audit", bearer=forged))[1]
            for _ in range(WRONG_KEYS_BURST + 1)
        ]
        assert codes[0] == "unauthorized"
        assert codes[-1] == "rate_limited"


async def test_the_token_of_a_page_is_an_admin_for_hello_and_for_operators_routes(tmp_path):
    async with node_of(tmp_path) as (_node, asking):
        _, _, told = await asking.ask("POST", "/api/admin/session")
        assert set(told) == {"token", "expires_at_ms"}
        status, _, renewed = await asking.ask("POST", "/api/admin/session", bearer=told["token"])
        assert status == 200
        assert (await asking.ask("GET", "/api/audit", bearer=renewed["token"]))[0] == 200
        async with session(asking, renewed["token"]) as client:
            assert await subscribed(client, "$rebuild:orders") == "subscribed"
        assert (await asking.ask("POST", "/api/revoke", {"user": "test"}))[0] == 200
        status, code, _ = await asking.ask("GET", "/api/audit", bearer=renewed["token"])
        assert (status, code) == (401, "unauthorized")
        with pytest.raises(Closed):
            async with session(asking, renewed["token"]):
                pass


@pytest.mark.parametrize("channel", ["$rebuild:orders", "$node:all", "$audit:node"])
async def test_the_nodes_own_channels_are_for_admins_and_are_not_there_for_others(
    tmp_path, channel
):
    async with node_of(tmp_path) as (_node, asking):
        async with session(asking, token("ann", "admin")) as client:
            assert await subscribed(client, channel) == "subscribed"
            kind, body = await client.ask("publish", channel=channel, data=1)
            assert (kind, body["code"]) == ("error", "permission_denied")
        for bearer in (None, token("bob", "editor")):
            async with session(asking, bearer) as client:
                answers = []
                for name in (channel, "$nothing:here", "nowhere:a"):
                    for kind, body in (
                        ("subscribe", {}),
                        ("publish", {"data": 1}),
                        ("history", {"limit": 5}),
                    ):
                        answer = await client.ask(kind, channel=name, **body)
                        del answer[1]["id"]
                        answers.append(answer)
                assert all(answer == answers[0] for answer in answers)
                assert answers[0][1]["code"] == "permission_denied"
        status, code, _ = await asking.ask("POST", "/api/publish", {"channel": channel, "data": 1})
        assert (status, code) == (403, "permission_denied")


async def test_an_authorizer_is_not_asked_about_the_nodes_own_channels(tmp_path):
    asked = []

    def authorizer(identity, action, target):
        asked.append(target)
        return True

    async with node_of(tmp_path, make_app(authorizer)) as (_node, asking):
        async with session(asking, token("bob")) as client:
            assert await subscribed(client, "$rebuild:orders") == "permission_denied"
            kind, body = await client.ask("publish", channel="$rebuild:orders", data=1)
            assert (kind, body["code"]) == ("error", "permission_denied")
        async with session(asking, token("ann", "admin")) as client:
            assert await subscribed(client, "$rebuild:orders") == "subscribed"
    assert asked == []


async def test_a_mutator_cannot_publish_in_the_nodes_own_channels(tmp_path):
    app = make_app()

    @app.mutator
    def lie(tx):
        tx.publish("$rebuild:orders", {"state": "done"})

    async with node_of(tmp_path, app) as (_node, asking):
        _, _, told = await asking.ask("POST", "/api/mutate", {"name": "lie"})
        assert told["status"] == "rejected"


async def test_what_operators_did_is_told_newest_first_live_and_after_a_restart(tmp_path):
    ann = token("ann", "admin")
    async with node_of(tmp_path) as (_node, asking):
        async with session(asking, ann) as client:
            assert await subscribed(client, "$audit:node") == "subscribed"
            await asking.ask("POST", "/api/disconnect", {"user": "bob"})
            kind, event = await client.receive()
            assert (kind, event["name"]) == ("event", "disconnect")
            assert event["data"]["who"] == "service:test"
            await asking.ask("POST", "/api/cache/clear", {"collection": "orders"}, bearer=ann)
            await asking.ask("POST", "/api/backup", {"path": "/nowhere/at/all"}, bearer=ann)
            # Told here when they are stored, which the answers do not wait for: a node that stops before that forgets them.
            names = [(await client.receive())[1]["name"] for _ in range(2)]
            assert names == ["cache_clear", "backup"]
        _, _, before = await asking.ask("GET", "/api/audit")
        _, _, one = await asking.ask("GET", "/api/audit?limit=1")
    told = [(e["who"], e["what"], e["outcome"]) for e in before["entries"]]
    assert told == [
        ("user:ann", "backup", "bad_request"),
        ("user:ann", "cache_clear", "ok"),
        ("service:test", "disconnect", "ok"),
    ]
    assert one["entries"] == before["entries"][:1]
    assert before["entries"][2]["details"] == {
        "user": "bob",
        "num_sessions": 0,
        "nodes_answered": 1,
        "nodes": 1,
    }
    async with node_of(tmp_path) as (_node, asking):
        _, _, after = await asking.ask("GET", "/api/audit")
    assert after == before
