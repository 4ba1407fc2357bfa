"""Every HTTP answer tells an id, the caller's own if it is a plain one, and what is logged of a request carries it."""

import http.client
import json

import pytest
import structlog
import trio

from syncd.app import App
from syncd.logs import begin_request, request_id
from tests.integration.http_fakes import World
from tests.integration.http_fakes import make_config as make_http_config
from tests.integration.nodes import make_config, running


@pytest.fixture
def lines():
    """Log lines as they are written, contexts merged."""
    told = []

    def note(_logger, _method, event):
        told.append(event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, note], cache_logger_on_first_use=False
    )
    yield told
    structlog.configure(**before)


@pytest.mark.parametrize("given", ["a", "req-7.x:y/z+w=", "9" * 64, "4f2a9c01-d7be-6a53"])
async def test_a_plain_id_is_echoed(given):
    response = await World(make_http_config()).respond("GET", "/api/info", X_Request_Id=given)
    assert response.headers.getlist("X-Request-Id") == [given]


@pytest.mark.parametrize("given", ["", " ", "9" * 65, "a b", "é", 'a"b', "<script>", "a,b"])
async def test_any_other_is_replaced(given):
    response = await World(make_http_config()).respond("GET", "/api/info", X_Request_Id=given)
    (told,) = response.headers.getlist("X-Request-Id")
    assert len(told) == 16
    assert set(told) <= set("0123456789abcdef")


async def test_each_request_has_its_own_whatever_becomes_of_it():
    world = World(make_http_config())
    told = set()
    for path, key in (("/api/info", None), ("/api/info", "wrong"), ("/nowhere", None), ("/", None)):
        told.add((await world.respond("GET", path, key=key)).headers["X-Request-Id"])
    assert len(told) == 4


async def test_a_crash_is_logged_with_the_id_the_caller_was_told(lines):
    world = World(make_http_config())
    world.broadcaster.crash = RuntimeError("planted")
    body = {"channel": "demo:a", "data": 1}
    response = await world.respond("POST", "/api/publish", body, X_Request_Id="mine-1")
    assert response.status_code == 500
    assert [(e["event"], e["request_id"]) for e in lines] == [("http_handler_failed", "mine-1")]


def failing_app():
    app = App()

    @app.collection("boxes", mutate="anyone").mutator("fail")
    def fail(tx, key):
        raise RuntimeError("planted")

    return app


async def test_a_mutator_that_fails_is_logged_with_the_session_or_the_request_that_called_it(
    tmp_path, lines
):
    async with running(make_config(tmp_path), app=failing_app()) as (node, connect):
        client = await connect()
        await client.send("mutate", mid=1, name="boxes.fail", args=["k"])
        await client.expect("outcome")
        await trio.to_thread.run_sync(mutate_over_http, node.addresses[0][1], "key-of-the-tests")
    failed = [line for line in lines if line["event"] == "mutator_failed"]
    assert [line.get("session") for line in failed] == [client.session, None]
    assert [line.get("request_id") for line in failed] == [None, "mine-2"]


def mutate_over_http(port, key):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "mine-2"}
    headers["Content-Type"] = "application/json"
    body = json.dumps({"name": "boxes.fail", "args": ["k"]})
    connection.request("POST", "/api/mutate", body, headers)
    answer = connection.getresponse()
    assert (answer.status, answer.headers["X-Request-Id"]) == (200, "mine-2"), answer.read()
    connection.close()


async def test_ids_of_requests_at_once_do_not_mix():
    found = {}

    async def serve(name):
        begin_request(name)
        await trio.lowlevel.checkpoint()
        found[name] = request_id()

    async with trio.open_nursery() as nursery:
        for name in "abcdef":
            nursery.start_soon(serve, name)
    assert found == {name: name for name in "abcdef"}
    assert request_id() is None
