"""A backup made under load, restored elsewhere, is the log up to the offset it states; and begins new epochs."""

import json
import sqlite3
import tempfile
import threading
from pathlib import Path

import attrs
import pytest
import trio

from syncd.codes import ErrorCode
from syncd.config import Config
from syncd.errors import ConfigError, RequestRejected
from syncd.node_parts import store_options
from syncd.store.sqlite import SqliteStore
from syncd.store.sqlite_backup import restore_file
from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from tests.integration.cli_server import Server
from tests.integration.nodes import DURABLE, make_config, publish, running

CHANNEL = "demo:load"


def rows(path):
    """The log of the channel: offset to record."""
    with sqlite3.connect(path) as connection:
        query = "SELECT offset, record FROM event JOIN channel ON id = channel_id WHERE name = ?"
        found = dict(connection.execute(query, (CHANNEL,)))
    connection.close()
    return found


@pytest.fixture
def server(tmp_path):
    running_server = Server(tmp_path)
    running_server.start()
    yield running_server
    running_server.kill()


class Load:
    """Publishes batches over and over in a thread; counts what was acknowledged."""

    def __init__(self, server):
        self.server, self.acknowledged = server, 0
        self._is_over, self._thread = threading.Event(), threading.Thread(target=self._run)
        self.has_begun = threading.Event()

    def __enter__(self):
        self._thread.start()
        assert self.has_begun.wait(30)
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    def _run(self):
        from syncd.backend import Publisher  # noqa: PLC0415

        with Publisher(self.server.url, "cli-test-key") as publisher:
            while not self._is_over.is_set():
                position = publisher.publish(CHANNEL, {"fill": "x" * 2000})
                self.acknowledged = position.offset
                if self.acknowledged >= 50:
                    self.has_begun.set()


@pytest.mark.process
@pytest.mark.slow
def test_a_backup_under_load_restored_elsewhere_is_the_log_up_to_the_stated_offset(
    server, tmp_path
):
    copy, elsewhere = tmp_path / "copy.db", tmp_path / "elsewhere" / "syncd.db"
    elsewhere.parent.mkdir()
    with Load(server) as load:
        least = load.acknowledged
        told = server.run("backup", str(copy))
        assert told.returncode == 0, told.stderr
        most_at_end = load.acknowledged + 1
    stated = json.loads(told.stdout)["positions"][CHANNEL]
    assert least <= stated["offset"] <= most_at_end
    assert copy.stat().st_mode & 0o777 == 0o600
    server.kill()
    original = rows(tmp_path / "x.db")
    assert len(original) > stated["offset"], "the load went on after the copy"
    restored = server.run("restore", str(copy), "--db", str(elsewhere))
    assert restored.returncode == 0, restored.stderr
    expected = {offset: record for offset, record in original.items() if offset <= stated["offset"]}
    assert rows(elsewhere) == expected
    assert set(expected) == set(range(1, stated["offset"] + 1))
    store = SqliteStore(elsewhere, store_options(Config()))
    store.open()
    head = store.load(CHANNEL, 1, 1000).head
    store.close()
    assert head.top == stated["offset"]
    assert head.epoch != stated["epoch"], "two logs must never be taken for one"
    again = server.run("restore", str(copy), "--db", str(elsewhere))
    assert (again.returncode, "already" in again.stderr) == (2, True)


async def test_a_copy_of_many_steps_has_what_was_committed_between_them(tmp_path, monkeypatch):
    monkeypatch.setattr("syncd.store.sqlite_backup.PAGES_A_STEP", 1)
    async with running(make_config(tmp_path, DURABLE)) as (node, connect):
        client = await connect()
        await publish(client, "log:a", 100, size=2000)
        async with trio.open_nursery() as nursery:

            async def load():
                await publish(client, "log:a", 60, size=2000)

            nursery.start_soon(load)
            report = await node.backup(tmp_path / "copy.db")
            during = report.positions["log:a"].offset
        assert during > 100, "nothing was committed between two steps: the test says nothing"
    back = restore_file(tmp_path / "copy.db", tmp_path / "back.db")
    assert back.positions["log:a"].offset == during
    with sqlite3.connect(tmp_path / "back.db") as connection:
        assert connection.execute("SELECT count(*) FROM event").fetchone()[0] == during
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()


async def test_a_cancelled_backup_leaves_nothing_and_the_next_one_works(tmp_path, monkeypatch):
    monkeypatch.setattr("syncd.store.sqlite_backup.PAGES_A_STEP", 1)
    async with running(make_config(tmp_path, DURABLE)) as (node, connect):
        await publish(await connect(), "log:a", 100, size=2000)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.backup, tmp_path / "copy.db")
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel("the test")
        assert not list(tmp_path.glob("copy.db*"))
        await node.backup(tmp_path / "copy.db")
        with pytest.raises(RequestRejected, match="already"):
            await node.backup(tmp_path / "copy.db")


async def test_restoring_leaves_nothing_beside_the_backup_and_takes_no_file_in_use(tmp_path):
    """A backup may lie where nobody may write, under any name."""
    copies = tmp_path / "copies"
    copies.mkdir()
    copy = copies / "monday 100%? #1.db"
    async with running(make_config(tmp_path, DURABLE)) as (node, connect):
        await publish(await connect(), "log:a", 3)
        await node.backup(copy)
        [in_use] = tmp_path.glob("*.db")
        with pytest.raises(ConfigError, match="locked"):
            restore_file(in_use, tmp_path / "stolen.db")
    for source in (copy, in_use):
        back = restore_file(source, tmp_path / f"back of {source.name}")
        assert back.positions["log:a"].offset == 3
    assert list(copies.iterdir()) == [copy]
    assert not (tmp_path / "stolen.db").exists()


@pytest.mark.process
@pytest.mark.skipif(redis_executable() is None, reason="no redis-server here")
async def test_a_node_on_redis_says_where_its_data_are_and_how_they_are_copied(tmp_path):
    """Found by an audit: it called Redis a store in memory."""
    with tempfile.TemporaryDirectory(prefix="syncd-") as folder, RedisServer(Path(folder)) as redis:
        async with running(make_config(tmp_path, redis=redis.url)) as (node, _connect):
            with pytest.raises(RequestRejected, match=r"in Redis: .*docs/redis\.md#backup") as told:
                await node.backup(tmp_path / "copy.db")
    assert told.value.code is ErrorCode.NOT_SUPPORTED


def test_the_page_that_the_refusal_names_has_that_section():
    assert "\n## Backup\n" in Path("docs/redis.md").read_text()


async def test_a_store_in_memory_is_refused_as_such(tmp_path):
    async with running(attrs.evolve(make_config(tmp_path), db=":memory:")) as (node, _connect):
        with pytest.raises(RequestRejected, match="in memory"):
            await node.backup(tmp_path / "copy.db")
