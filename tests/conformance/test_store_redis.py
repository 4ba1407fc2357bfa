"""What the store on Redis keeps besides its contract: one step with what is told, nothing half done, no position with two contents."""

import contextlib
import itertools
import re
import shutil
import tempfile
import time
from pathlib import Path

import attrs
import pytest
import redis

from syncd.errors import ConfigError, StoreUnavailable, StoreUnreachable
from syncd.ids import ChannelName
from syncd.ports_log import Appended
from syncd.ports_state import Committed, EntryWrite, KeyName, KnownOutcome
from syncd.store.base import NODE_SECRET, StoreFailed
from syncd.store.loads import ClaimState, FinishedLoad
from syncd.store.rebuilds import ScannedRow, SwapPlan
from syncd.store.redis_batch import for_script
from syncd.store.redis_keys import BusEvent, RedisNames, decode_message
from syncd.store.redis_link import PAUSE_S
from syncd.store.redis_rights import CALLS, ON_KEYS, call, user_rules
from syncd.store.redis_scripts import META_GET
from syncd.store.redis_store import RedisStore
from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer

A, B = ChannelName("demo:a"), ChannelName("demo:b")
TIMEOUT_S = 0.5

pytestmark = pytest.mark.skipif(
    redis_executable() is None, reason="no redis-server (make test installs it)"
)

_prefixes = itertools.count()


@pytest.fixture
def make_server():
    """Start servers of the test's own."""
    with contextlib.ExitStack() as stack:

        def make(*options, **keywords):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-redis-"))
            return stack.enter_context(RedisServer(Path(folder) / "d", *options, **keywords))

        yield make


@pytest.fixture
def join(options):
    """Open a store on a server, as one node of those that share it."""
    opened = []

    def make(server, node="n1", prefix="own"):
        store = RedisStore(
            server.url, options, names=RedisNames(prefix), node=node, timeout_s=TIMEOUT_S
        )
        store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def append(store, *requests):
    results = store.begin(requests)
    store.commit()
    return results


def patiently(ask):
    """Ask until a server that has come back is asked again: the link pauses after a failure."""
    for _ in range(100):
        try:
            return ask()
        except StoreUnavailable as error:
            if error.is_unknown:
                raise
            time.sleep(PAUSE_S / 5)  # noqa: TID251 - no loop runs here; a condition, so often at most
    raise AssertionError("it did not come back")


def head(store, channel=A):
    return store.load(channel, 0, 0).head


# ------------------------------------------------------------------------------------------------ told in the same step


def test_each_channel_of_a_commit_is_told_once_as_it_lies_in_the_log(
    redis_server, join, event, mutation, put
):
    prefix = f"own{next(_prefixes)}"
    store = join(redis_server, node="me", prefix=prefix)
    names = RedisNames(prefix)
    with redis_server.client() as client, client.pubsub() as listener:
        listener.psubscribe(names.bus_pattern)
        assert listener.get_message(timeout=5)["type"] == "psubscribe"
        patch = attrs.evolve(put("orders", "k", b"v"), full=b"whole")
        store.begin([event(A, b"one", at_ms=7), event(B, b"two", key="k"), event(A, b"three")])
        store.begin_commit([mutation("c", 1, patch)])
        store.commit()
        told = [listener.get_message(timeout=5) for _ in range(3)]
    messages = {
        names.channel_of(each["channel"].decode()): decode_message(each["data"]) for each in told
    }
    assert {each.node for each in messages.values()} == {"me"}
    assert messages[A].epoch == head(store).epoch
    assert messages[A].events == [
        BusEvent(1, 7, None, b"one", None),
        BusEvent(2, 0, None, b"three", None),
    ]
    assert messages[B].events == [BusEvent(1, 0, "k", b"two", None)]
    assert messages["orders"].events == [BusEvent(1, 0, "k", b"r:v", b"whole")]


def test_nothing_is_told_of_what_was_not_written(redis_server, join, event):
    prefix = f"own{next(_prefixes)}"
    store = join(redis_server, prefix=prefix)
    append(store, event(A, uid="u"))
    with redis_server.client() as client, client.pubsub() as listener:
        listener.psubscribe(RedisNames(prefix).bus_pattern)
        assert listener.get_message(timeout=5)["type"] == "psubscribe"
        append(store, event(A, uid="u"))
        append(store, event(B))
        assert listener.get_message(timeout=5)["channel"].endswith(b":b:demo:b")


def test_two_nodes_share_everything_but_what_is_on_its_way(
    redis_server, join, event, mutation, put
):
    prefix = f"own{next(_prefixes)}"
    one, two = (join(redis_server, node=name, prefix=prefix) for name in ("1", "2"))
    one.begin([event(A)])
    (first,) = append(two, event(A))
    one.commit()
    assert first.offset == 1
    assert head(one) == head(two)
    assert head(two).top == 2
    one.begin_commit([mutation("c", 1, put("orders", "k"), outcome=b"done")])
    one.commit()
    known = two.begin_commit([mutation("c", 1, put("orders", "k"))])
    two.commit()
    assert [type(each) for each in known] == [KnownOutcome]
    assert known[0].outcome == b"done"


def test_what_another_node_changes_between_plan_and_swap_is_left_alone(
    redis_server, join, event, mutation, put
):
    prefix = f"own{next(_prefixes)}"
    one, two = (join(redis_server, node=name, prefix=prefix) for name in ("1", "2"))
    orders = ChannelName("orders")
    one.begin_commit([mutation(None, 0, *[put("orders", key, b"old") for key in "ab"])])
    one.commit()
    lease = one.rebuilds.acquire("orders", "j", 0, lease_ms=60_000, resumes=False, fills=False)
    rows = [ScannedRow(orders, KeyName(key), b"scanned") for key in "ac"]
    assert one.rebuilds.write_page(lease, rows, "c", 2)

    def record(key, value):
        if key == "a":
            changes = [put("orders", key, b"mine") for key in "abc"]
            two.begin_commit([mutation(None, 0, *changes)])
            two.commit()
        return b"r"

    plan = SwapPlan(0, True, 100, record, b"all")
    swapped = one.rebuilds.swap(lease, plan)
    assert (swapped.num_changed, swapped.writes, swapped.positions) == (0, [], {})
    found = one.entries(orders, [KeyName(key) for key in "abc"])
    assert [entry.value for entry in found] == [b"mine"] * 3


# ------------------------------------------------------------------------------------------------ refusals


def test_a_server_that_throws_keys_away_is_refused(make_server, join):
    server = make_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigError, match="noeviction"):
        join(server)


def least_rights():
    """Return the user's rights as docs/redis.md lists them."""
    (line,) = re.findall(
        r"^ACL SETUSER syncd (.*)$", Path("docs/redis.md").read_text(), re.MULTILINE
    )
    return line.split()


def test_the_rights_that_are_documented_are_those_that_doctor_asks_for():
    assert least_rights() == ["on", ">PASSWORD", *user_rules(RedisNames())]


def test_the_rights_are_those_of_the_commands_in_the_scripts():
    """`call` and `pcall` with a name; `publish` is one that the caller names."""
    text = "".join(path.read_text() for path in Path("syncd/store/lua").glob("*.lua"))
    used = re.findall(r"call\(\s*'([A-Z]+)'", text)
    assert {name.lower() for name in used} == {"time", *ON_KEYS}


def test_what_is_asked_for_is_whole(redis_server):
    """Redis 7.0.15 crashes when a script asks whether `SET` is allowed, without more; `DRYRUN` looks at the arguments."""
    for command in CALLS:
        words = call(command, "{x}:y")
        assert redis_server.ask("ACL", "DRYRUN", "default", *words) == b"OK", words


def test_the_rights_that_are_listed_are_enough_and_reach_nothing_else(
    make_server, options, event, mutation, put, delete
):
    server = make_server()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "syncd", *least_rights())
    url = f"unix://syncd:PASSWORD@{server.path}"
    store = RedisStore(url, options, node="n")
    store.open()
    append(store, event(A, uid="u", at_ms=1), event(ChannelName("tiny:a"), key="k"))
    append(store, event(ChannelName("tiny:a"), key="k"))
    orders = ChannelName("orders")
    writes = [put("orders", key, tags=["t"], is_forwarded=True) for key in "abc"]
    store.begin_commit([mutation("c", 1, *writes), mutation(None, 0, delete("orders", "c"))])
    store.commit()
    store.acknowledge("c", 1)
    store.acknowledge_forwarded(orders, KeyName("a"), 1)
    assert len(store.dirty("orders", None, 9)) == 2
    assert store.keys_by_tag("orders", "t", None, 9) == [("orders", "a"), ("orders", "b")]
    assert len(store.scan(orders, None, 9, 999).entries) == store.count(orders) == 2
    assert store.channels("orders", 9) == [orders]
    for max_events in (100, 0):
        job = f"job {max_events}"
        lease = store.rebuilds.acquire("orders", job, 0, lease_ms=9, resumes=True, fills=False)
        assert store.rebuilds.write_page(lease, [ScannedRow(orders, KeyName("z"), b"")], "z", 1)
        store.rebuilds.swap(lease, SwapPlan(0, True, max_events, lambda *_: b"r", b"all"))
    place = (orders, KeyName("z"))
    assert store.rebuilds.loads.claim([place], "n", 9.0, 1)[0].state is ClaimState.GRANTED
    for fresh_s in (9.0, 0.0):
        store.rebuilds.loads.finish("n", [FinishedLoad(place, fresh_s)])
        store.rebuilds.loads.claim([place], "n", 9.0, 1)
    assert store.rebuilds.hold("forward:orders", "n", 0, 9)
    assert store.rebuilds.hold("forward:orders", "n", 0, 0)
    (standing,) = store.rebuilds.standings(["orders"], 0)
    assert not store.rebuilds.revoke("orders", standing.job)
    store.trim(10**12, 1.0)
    store.meta_set("note", b"1")
    store.close()
    with redis.Redis.from_url(url) as client:
        for refused in (
            ("KEYS", "*"),
            ("GET", "other"),
            ("HGET", "other", "x"),
            ("PUBLISH", "other", "x"),
            ("CLIENT", "LIST"),
            ("CLIENT", "KILL", "TYPE", "normal"),
            ("CLIENT", "PAUSE", "1000"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*refused)


def test_nobody_there_at_the_start_is_told_apart_from_a_mistake(make_server, join):
    server = make_server()
    server.kill()
    with pytest.raises(StoreUnreachable, match=r"redis\.url"):
        join(server)


@pytest.mark.parametrize(
    ("rights", "password", "text"),
    [
        (["~*", "&*", "+@all"], "other", "does not let us in"),
        (["~*", "&*", "+@all", "-info"], "PASSWORD", "(?i)no permissions"),
        (["~*", "&*", "+@all", "-hget"], "PASSWORD", "can't run this command|ACL failure"),
        (["&*", "+@all"], "PASSWORD", "(?i)no permissions to access"),
    ],
)
def test_a_server_that_refuses_us_is_a_mistake_that_waiting_does_not_mend(
    make_server, options, rights, password, text
):
    server = make_server()
    server.ask("ACL", "SETUSER", "u", "on", ">PASSWORD", *rights)
    with pytest.raises(ConfigError, match=text) as raised:
        RedisStore(f"unix://u:{password}@{server.path}", options).open()
    assert not isinstance(raised.value, StoreUnreachable)


def test_a_password_that_is_missing_is_told_as_such(make_server, join):
    server = make_server()
    server.ask("CONFIG", "SET", "requirepass", "x")
    with pytest.raises(ConfigError, match="does not let us in"):
        join(server)


def test_scripts_that_the_server_has_forgotten_are_sent_again(redis_server, join, event):
    store = join(redis_server, prefix=f"own{next(_prefixes)}")
    append(store, event(A))
    with redis_server.client() as client:
        client.script_flush()
    assert append(store, event(A))[0].offset == 2


def test_a_log_without_its_channel_is_damage_and_nothing_is_written(redis_server, join, event):
    prefix = f"own{next(_prefixes)}"
    store = join(redis_server, prefix=prefix)
    append(store, event(A))
    with redis_server.client() as client:
        client.delete(f"{{{prefix}}}:c:{A}")
    store.begin([event(B), event(A)])
    with pytest.raises(StoreFailed, match="DAMAGED"):
        store.commit()
    assert head(store, B).top == 0


# ------------------------------------------------------------------------------------------------ lost answers


def test_a_connection_that_was_cut_while_idle_loses_nothing(redis_server, join, event):
    store = join(redis_server, prefix=f"own{next(_prefixes)}")
    append(store, event(A))
    with redis_server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert append(store, event(A))[0].offset == 2


def test_a_connection_is_looked_at_before_each_commit_and_no_more(
    redis_server, join, event, monkeypatch
):
    store = join(redis_server)
    append(store, event(A))
    looks = []
    connection = store._link.ready()
    can_read = connection.can_read
    monkeypatch.setattr(
        connection, "can_read", lambda timeout: looks.append(1) or can_read(timeout)
    )
    append(store, event(A))
    append(store, event(A))
    assert len(looks) == 2


def test_a_connection_dropped_since_it_was_looked_at_is_not_used(redis_server, join):
    store = join(redis_server)
    link, asked = store._link, for_script([store.era(), "x", False])
    old = link.ready()
    assert link.run(META_GET, asked, over=old) is None
    link.drop()
    assert link.run(META_GET, asked, over=old) is None
    assert not old.is_connected, "it would not have been greeted"


def test_a_commit_without_an_answer_is_unknown_and_told_when_it_is_sent_again(
    make_server, join, event, mutation, put
):
    server = make_server()
    store = join(server)
    change = mutation("c", 1, put("orders", "k"), outcome=b"first")
    with server.stopped():
        store.begin_commit([change])
        with pytest.raises(StoreUnavailable) as raised:
            store.commit()
        assert raised.value.is_unknown
        with pytest.raises(StoreUnavailable) as refused:
            head(store)
        assert not refused.value.is_unknown, "it pauses without asking"
    patiently(lambda: head(store))
    answers = store.begin_commit([change])
    store.commit()
    # It lay in the server's buffer, and took effect when that went on: or it did not. Once in any case.
    assert isinstance(answers[0], KnownOutcome | Committed)
    assert head(store, ChannelName("orders")).top == 1
    assert store.last_mids(["c"]) == [1]


# ------------------------------------------------------------------------------------------------ epochs


def restart(server, *, data=None):
    """Kill and start again, with nothing on disk or with that of a copy."""
    server.kill()
    if data is not None:
        server.forget()
        if data:
            shutil.copytree(data, server.folder)
    server.start()


def copied(server, folder):
    with server.client() as client:
        client.config_set("appendfsync", "always")
        client.set("written", 1)  # with it, everything before it
        client.config_set("appendfsync", "everysec")
    shutil.copytree(server.folder, folder, ignore=shutil.ignore_patterns("*.sock"))
    return folder


def test_a_server_that_comes_back_empty_has_other_epochs_and_the_living_nodes_secret(
    make_server, join, event
):
    server = make_server()
    store = join(server)
    (before,) = append(store, event(A))
    secret = store.meta_get(NODE_SECRET)
    restart(server, data="")
    (after,) = patiently(lambda: append(store, event(A)))
    assert after.offset == 1
    assert after.epoch != before.epoch
    assert store.meta_get(NODE_SECRET) == secret
    assert join(server, "n2").meta_get(NODE_SECRET) == secret


def test_a_server_emptied_under_its_connections_has_other_epochs(make_server, join, event):
    server = make_server()
    store = join(server)
    (before,) = append(store, event(A))
    with server.client() as client:
        client.flushall()
    (after,) = append(store, event(A))
    assert (after.offset, after.epoch == before.epoch) == (1, False)


def test_after_a_restart_that_may_have_lost_something_every_channel_begins_anew_at_its_top(
    make_server, join, event
):
    """Nobody can vouch for a log: who told the most of it may be dead."""
    server = make_server(appendfsync="everysec")
    store = join(server, "n1")
    (a,) = append(store, event(A))
    copied(server, server.folder.parent / "copy")
    restart(server)
    now = patiently(lambda: head(store))
    assert now.epoch != a.epoch
    assert (now.top, now.floor) == (1, 1)
    assert append(store, event(A))[0] == Appended(now.epoch, 2)


def test_a_server_that_keeps_every_write_begins_no_new_epochs(make_server, join, event):
    server = make_server(appendfsync="always")
    store, other = join(server, "n1"), join(server, "n2")
    (a,) = append(store, event(A))
    (b,) = append(other, event(B))
    other.close()
    restart(server)
    assert patiently(lambda: head(store)).epoch == a.epoch
    assert head(store, B).epoch == b.epoch
    assert (head(store, B).top, head(store, B).floor) == (1, 0)


def test_an_operator_can_begin_a_new_era_where_no_write_is_ever_lost(make_server, join, event):
    server = make_server(appendfsync="always")
    store = join(server)
    (a,) = append(store, event(A))
    store.close()
    with server.client() as client:
        client.hdel("{own}:meta", "run")
    fresh = join(server)
    assert head(fresh).epoch != a.epoch
    assert (head(fresh).top, head(fresh).floor) == (1, 1)


def test_entries_and_what_is_known_outlive_a_new_epoch(make_server, join, mutation, put):
    server = make_server(appendfsync="everysec")
    store = join(server)
    orders = ChannelName("orders")
    change = EntryWrite(orders, KeyName("k"), b"v", b"r", ("t",))
    store.begin_commit([mutation("c", 1, change, outcome=b"done")])
    store.commit()
    copied(server, server.folder.parent / "copy")
    store.close()
    restart(server)
    fresh = join(server, "n2")
    assert [e.value for e in fresh.entries(orders, [KeyName("k")])] == [b"v"]
    answers = fresh.begin_commit([mutation("c", 1), mutation("c", 2, change)])
    fresh.commit()
    assert answers[0].outcome == b"done"
    assert answers[1].versions == [2]
