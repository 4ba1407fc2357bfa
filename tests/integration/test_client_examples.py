"""The examples run as they stand, against a real node."""

import importlib.util
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import trio

from syncd.backend import AsyncPublisher
from syncd.client import open_client
from syncd.config import Address, Config
from syncd.server import open_node

KEY = "examples-key"
CONFIG = attrs.evolve(Config(), listen=Address(port=0), db=":memory:", api_keys={"test": KEY})
EXAMPLES = sorted(Path("examples").rglob("*.py"))


@pytest.fixture
async def url(monkeypatch):
    async with open_node(CONFIG) as node:
        url = f"http://127.0.0.1:{node.addresses[0][1]}"
        monkeypatch.setenv("SYNCD_URL", url)
        monkeypatch.setenv("SYNCD_API_KEY", KEY)
        yield url


def load(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def next_item(subscription):
    with trio.fail_after(10):
        return await anext(subscription)


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_every_example_compiles_and_says_how_to_run_it(path):
    source = path.read_text()
    compile(source, str(path), "exec")
    assert source.startswith('"""')


async def test_the_flask_example_announces_an_order_after_its_commit(url, tmp_path, monkeypatch):
    monkeypatch.setenv("ORDERS_DB", str(tmp_path / "orders.db"))
    module = load("examples/flask/app.py")

    def post(status):
        with module.app.test_client() as browser:
            return browser.post("/orders/7", json={"status": status})

    async with open_client(url) as client, client.subscribe("demo:orders") as subscription:
        answer = await trio.to_thread.run_sync(post, "paid")
        assert answer.get_json() == {"id": 7, "status": "paid", "version": 1}
        event = await next_item(subscription)
        assert (event.name, event.data) == ("order_updated", {"id": 7, "status": "paid"})
    module.publisher.close()


async def test_the_fastapi_example_passes_the_idempotency_key_on(url):
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    module = load("examples/fastapi/app.py")
    async with AsyncPublisher(url, KEY) as publisher:
        module.app.dependency_overrides[module.get_publisher] = lambda: publisher
        transport = httpx.ASGITransport(module.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as browser:
            for _ in range(2):
                answer = await browser.post(
                    "/rooms/lobby/messages",
                    json={"text": "hello"},
                    headers={"Idempotency-Key": "k1"},
                )
                assert answer.json() == {"offset": 1}


async def test_the_django_example_publishes_after_the_commit_and_not_after_a_rollback(url):
    django = pytest.importorskip("django")
    conf = pytest.importorskip("django.conf")
    databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    if not conf.settings.configured:
        conf.settings.configure(SYNCD_URL=url, SYNCD_API_KEY=KEY, DATABASES=databases)
        django.setup()
    module = load("examples/django/announce.py")
    from django.db import connection, transaction  # noqa: PLC0415 - after the settings

    def work():
        with transaction.atomic():
            module.publish_on_commit("demo:orders", 1, name="kept")
        with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
            module.publish_on_commit("demo:orders", 2, name="undone")
            raise ZeroDivisionError
        connection.close()
        module.publisher().close()

    await trio.to_thread.run_sync(work)
    async with AsyncPublisher(url, KEY) as publisher:
        page = await publisher.history("demo:orders")
    assert [event.name for event in page.events] == ["kept"]


async def test_the_worker_handles_every_event_once_over_its_own_restarts(url, tmp_path):
    worker = load("examples/python_client/worker.py")
    path = str(tmp_path / "worker.db")

    def handled():
        db = sqlite3.connect(path)
        try:
            return [json.loads(data) for (data,) in db.execute("SELECT data FROM handled")]
        except sqlite3.OperationalError:
            return []
        finally:
            db.close()

    async def publish(*values):
        async with AsyncPublisher(url, KEY) as publisher:
            for value in values:
                await publisher.publish("demo:orders", value)

    async def run_until(count, *values):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.main, path)
            await trio.sleep(0.2)
            await publish(*values)
            with trio.fail_after(10):
                while len(handled()) < count:  # noqa: ASYNC110 - another process's file, so to speak
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()

    await run_until(2, 1, 2)
    await publish(3, 4)
    await run_until(5, 5)
    assert handled() == [1, 2, 3, 4, 5]


async def test_two_people_meet_in_the_room(url, capsys, monkeypatch):
    room = load("examples/python_client/room.py")
    gate = trio.Event()

    class Keyboard:
        """Writes a line, then holds on until the line was seen."""

        def __init__(self):
            self._lines = ["hello\n"]

        def readline(self):
            if self._lines:
                return self._lines.pop()
            trio.from_thread.run(gate.wait)
            return ""

    monkeypatch.setattr("sys.stdin", Keyboard())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(room.main, "ann")
        async with AsyncPublisher(url, KEY) as publisher:
            with trio.fail_after(10):
                while not (await publisher.presence("demo:room")).members:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                await publisher.publish("demo:room", {"from": "bob", "text": "hi"})
                shown = ""
                while not ("bob: hi" in shown and "here: ann" in shown):
                    await trio.sleep(0.02)
                    shown += capsys.readouterr().out
        gate.set()
    async with AsyncPublisher(url, KEY) as publisher:
        data = [event.data for event in (await publisher.history("demo:room")).events]
    assert {"from": "ann", "text": "hello"} in data


def test_importing_the_publisher_needs_neither_trio_nor_the_client():
    code = "import sys, syncd.backend; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert {"trio", "trio_websocket", "syncd.client"} & set(done.stdout.split()) == set()
