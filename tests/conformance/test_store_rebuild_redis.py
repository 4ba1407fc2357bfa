"""Rebuilds in Redis alone: no script grows with the collection, for nobody is answered while one runs, and nothing is left behind."""

import contextlib
import functools
import math
import random
import socket

import attrs
import pytest

from syncd.errors import StoreUnavailable
from syncd.ports_state import EntryWrite, KeyName, MutationCommit
from syncd.store import redis_preparing, redis_rebuild
from syncd.store.base import Retention
from syncd.store.loads import ClaimState, FinishedLoad
from syncd.store.preparing import MAX_LATE
from tests.conformance import rebuild_steps
from tests.conformance.conftest import Asked
from tests.conformance.rebuild_play import Play
from tests.conformance.rebuild_steps import NUM_ROWS, ORDERS, PLAN, acquire, prepare, rows_of, sweep

KEEP = attrs.evolve(PLAN, deletes_missing=False)
AMONG = attrs.evolve(PLAN, among=[(ORDERS, KeyName(f"k{n:05}")) for n in range(NUM_ROWS) if n % 5])
MOST_WORDS = 5_000
"""That one script may say to Redis: for 200 rows with a tag some 3,000. One that walked all rows would say three each at least."""
WALKS = {"HGETALL", "HKEYS", "HVALS", "SMEMBERS", "ZRANGE", "KEYS", "SCAN", "DEL", "COPY"}


PAGE_ROWS = 1_000
write = functools.partial(rebuild_steps.write, page_rows=PAGE_ROWS)
rebuild = functools.partial(rebuild_steps.rebuild, page_rows=PAGE_ROWS)


def touch(store, numbers, value=b"mine", *, tags=("mine",), is_forwarded=False):
    for start in range(0, len(numbers), 200):
        writes = [
            EntryWrite(ORDERS, KeyName(f"k{n:05}"), value, b"r", tags, is_forwarded)
            for n in numbers[start : start + 200]
        ]
        store.begin_commit([MutationCommit(None, 0, [], writes, b"", 0)])
        store.commit()


def tag_of(store):
    return store._link._key.removesuffix(":meta")


def names_of(store, client):
    """The kinds of keys that lie in the server, without what every store has."""
    prefix = tag_of(store) + ":"
    return {name.decode()[len(prefix) :].partition(":")[0] for name in client.keys(prefix + "*")}


def tagged(store, tag):
    return [key for _, key in store.keys_by_tag("orders", tag, None, 10_000)]


@pytest.fixture
def filled(make_redis):
    return rebuild_steps.filled(make_redis(), PAGE_ROWS)


# ------------------------------------------------------------------------------------------------ how long others wait


class Overheard:
    """What a server's scripts say to it, as `MONITOR` tells it: lines by script."""

    def __init__(self, server):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(server.path))
        self._socket.sendall(b"MONITOR\r\n")
        self._file = self._socket.makefile("rb")
        assert self._file.readline() == b"+OK\r\n"
        self._server = server

    def close(self):
        self._file.close()
        self._socket.close()

    def scripts(self):
        """Return the words of each command of each script that ran until now."""
        with self._server.client() as client:
            client.echo("that is all")
        scripts = []
        while b'"that is all"' not in (line := self._file.readline()):
            _, _, said = line.partition(b"] ")
            if said.startswith(b'"EVAL'):
                scripts.append([])
            elif b" lua] " in line:
                # A quote within a word is escaped.
                scripts[-1].append(said.rstrip()[1:-1].split(b'" "'))
        return scripts


@pytest.fixture
def overheard(redis_server):
    with contextlib.closing(Overheard(redis_server)) as found:
        yield found


def check(scripts):
    """Hold each script to what it may say, and to commands whose work is told by their words."""
    longest = 0
    for commands in scripts:
        longest = max(longest, sum(map(len, commands)))
        for command, *words in commands:
            name = command.decode().upper()
            assert name not in WALKS
            assert name not in {"ZRANGEBYLEX", "ZRANGEBYSCORE"} or b"LIMIT" in words
    assert 0 < longest < MOST_WORDS
    return longest


@pytest.mark.parametrize("plan", [PLAN, KEEP, AMONG])
@pytest.mark.parametrize("value", [b"new", b"old"])
def test_no_script_of_a_rebuild_grows_with_the_collection(filled, overheard, plan, value):
    """Others wait for each: once the swap alone wrote every row, for seconds."""
    touch(filled, range(1, 2_000), is_forwarded=True)
    overheard.scripts()
    lease = acquire(filled, "j", is_partial=plan is AMONG)
    write(filled, lease, rows_of(range(0, NUM_ROWS, 3), value))
    touch(filled, range(2_000, 4_000))
    prepare(filled, lease, plan)
    assert len(tagged(filled, "t")) == NUM_ROWS - 3_999
    touch(filled, range(4_000, 4_000 + MAX_LATE))
    swapped = filled.rebuilds.swap(lease, plan)
    assert (swapped.num_changed > 600) == (value == b"new" or plan.deletes_missing)
    sweep(filled)
    assert check(overheard.scripts()) > 1_000, "it hears them"


def test_no_script_that_ends_or_resumes_a_rebuild_grows_with_the_collection(filled, overheard):
    overheard.scripts()
    first = acquire(filled, "one")
    write(filled, first, rows_of(range(NUM_ROWS), b"new"))
    filled.rebuilds.release(first, keeps_generation=True)
    second = acquire(filled, "two", resumes=True)
    assert second.done == NUM_ROWS
    touch(filled, range(3_000))
    prepare(filled, second)
    filled.rebuilds.release(second, keeps_generation=False)
    third = acquire(filled, "three")
    write(filled, third, rows_of(range(NUM_ROWS), b"newer"))
    assert filled.rebuilds.revoke("orders", "three")
    sweep(filled)
    check(overheard.scripts())


def test_the_swap_of_a_large_generation_says_little(filled, overheard):
    lease = acquire(filled, "j")
    write(filled, lease, rows_of(range(NUM_ROWS), b"new"))
    prepare(filled, lease)
    overheard.scripts()
    assert filled.rebuilds.swap(lease, PLAN).num_changed == NUM_ROWS
    assert check(overheard.scripts()) < 120


# ------------------------------------------------------------------------------------------------ nothing is left, nothing is lost


@pytest.mark.parametrize("end", ["swap", "each", "nothing new", "drop", "revoke", "begin anew"])
def test_what_nobody_is_served_is_swept(filled, redis_server, end):
    with redis_server.client() as client:
        before = names_of(filled, client) | {"ages", "l"}
        changed = NUM_ROWS if end != "each" else 500
        value = b"old" if end == "nothing new" else b"new"
        lease = acquire(filled, "j")
        rows = rows_of(range(changed), value, "u" if value == b"new" else "t")
        write(filled, lease, rows + rows_of(range(changed, NUM_ROWS), b"old"))
        touch(filled, range(20), tags=("t",))
        prepare(filled, lease)
        if end == "drop":
            filled.rebuilds.release(lease, keeps_generation=False)
        elif end == "revoke":
            filled.rebuilds.revoke("orders", "j")
        elif end == "begin anew":
            filled.rebuilds.release(lease, keeps_generation=True)
            again = acquire(filled, "k")
            filled.rebuilds.release(again, keeps_generation=False)
        else:
            filled.rebuilds.swap(lease, PLAN)
        found = filled.scan(ORDERS, None, 10_000, 10**9).entries
        expected = {tag: [e.key for e in found if tag in e.tags] for tag in ("t", "u")}
        assert {tag: tagged(filled, tag) for tag in ("t", "u")} == expected
        for _ in range(4):
            filled.trim(0, 0.0)
        sweep(filled)
        assert filled.scan(ORDERS, None, 10_000, 10**9).entries == found
        assert {tag: tagged(filled, tag) for tag in ("t", "u")} == expected
        places = {tag: client.zcard(f"{tag_of(filled)}:t:{tag}") for tag in expected}
        assert places == {tag: len(keys) for tag, keys in expected.items()}
        assert names_of(filled, client) <= before
        assert filled.count(ORDERS) == NUM_ROWS


def test_a_sweep_leaves_the_tags_of_rows_that_the_next_rebuild_has_scanned(filled):
    """Their places are one set: who is served now, who may be next, and who was."""
    dropped = acquire(filled, "one")
    write(filled, dropped, rows_of(range(NUM_ROWS), b"new", "u"))
    filled.rebuilds.release(dropped, keeps_generation=False)
    lease = acquire(filled, "two")
    write(filled, lease, rows_of(range(3_000), b"newer", "u"))
    sweep(filled)
    assert tagged(filled, "u") == []
    prepare(filled, lease)
    filled.rebuilds.swap(lease, PLAN)
    assert len(tagged(filled, "u")) == 3_000
    sweep(filled)
    assert len(tagged(filled, "u")) == 3_000
    assert tagged(filled, "t") == []


def test_what_others_change_between_the_last_step_and_the_swap_wins_however_much_it_is(
    make_redis, options
):
    changes = []

    def retention_of(channel):
        if changes and channel == ORDERS:  # it is asked for when the swap is about to be sent
            changes.pop()()
        return Retention(size=1000, age_s=math.inf)

    store = make_redis(options=attrs.evolve(options, retention_of=retention_of))
    other = make_redis(node="other")
    rebuild(store, "first", rows_of(range(NUM_ROWS), b"old"))
    lease = acquire(store, "j")
    write(store, lease, rows_of(range(NUM_ROWS), b"new"))
    prepare(store, lease)
    changes += [lambda: touch(other, range(10)), lambda: touch(other, range(5 * MAX_LATE))]
    swapped = store.rebuilds.swap(lease, PLAN)
    assert swapped.num_changed == NUM_ROWS - 5 * MAX_LATE
    found = store.scan(ORDERS, None, 10_000, 10**9).entries
    assert [e.value for e in found] == [b"mine"] * 500 + [b"new"] * (NUM_ROWS - 500)
    assert len(tagged(store, "mine")) == 500


def test_a_page_that_comes_after_a_crash_does_not_undo_what_was_copied(make_redis):
    """The job that goes on scans a page again whose rows were changed and copied by the one that died."""
    store, other = make_redis(), make_redis(node="other")
    rebuild(store, "first", rows_of(range(2_000), b"old"))
    lease = acquire(store, "j")
    write(store, lease, rows_of(range(2_000), b"new"))
    touch(store, range(300))
    prepare(store, lease)
    taken = other.rebuilds.acquire(
        "orders", "j", 100, lease_ms=9, resumes=False, fills=False, takes_over=lease.token
    )
    assert taken.done == 2_000
    assert other.rebuilds.write_page(taken, rows_of(range(200, 2_100), b"new"), "k02099", 2_100)
    assert other.rebuilds.swap(taken, PLAN).num_changed == 1_800
    found = other.scan(ORDERS, None, 10_000, 10**9).entries
    assert [e.value for e in found] == [b"mine"] * 300 + [b"new"] * 1_800


def test_a_rebuild_that_died_while_it_was_prepared_with_what_it_keeps_begins_anew(filled):
    """What is kept could not be told from what was scanned: the job that resumes it may delete what is missing."""
    lease = acquire(filled, "j")
    write(filled, lease, rows_of(range(2_000), b"new"))
    for _ in range(5):
        assert filled.rebuilds.prepare(lease, KEEP, 0.0)
    again = acquire(filled, "k", 200, resumes=True)
    assert (again.after, again.done) == (None, 0)
    write(filled, again, rows_of(range(1_500), b"newer"))
    assert filled.rebuilds.swap(again, PLAN).num_changed == NUM_ROWS
    assert filled.count(ORDERS) == 1_500


def test_a_step_that_failed_is_not_taken_for_done(filled, redis_server):
    """Redis was full in the middle of it: what was found until then is not all there is."""
    lease = acquire(filled, "j")
    write(filled, lease, rows_of(range(2_500), b"new"))
    assert filled.rebuilds.prepare(lease, PLAN, 0.0)
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable):
            prepare(filled, lease)
        client.config_set("maxmemory", 0)
    prepare(filled, lease)
    assert filled.rebuilds.swap(lease, PLAN).num_changed == NUM_ROWS
    assert filled.count(ORDERS) == 2_500


def test_a_rebuild_whose_rows_redis_has_lost_goes_no_further_and_is_resumed(filled, redis_server):
    """The end of its data is gone: a swap would delete what these rows were."""
    lease = acquire(filled, "j")
    write(filled, lease, rows_of(range(2_000), b"new"))
    with redis_server.client() as client:
        row = f"{tag_of(filled)}:r:orders"
        client.hset(row, mapping={"after": "k00999", "done": 1_000})
    page = rows_of(range(2_000, 2_100), b"new")
    assert not filled.rebuilds.write_page(lease, page, "k02099", 2_100)
    assert filled.rebuilds.prepare(lease, PLAN, 1.0) is None
    assert filled.rebuilds.swap(lease, PLAN) is None
    assert filled.count(ORDERS) == NUM_ROWS
    assert filled.rebuilds.release(lease, keeps_generation=True)
    again = acquire(filled, "k", resumes=True)
    assert (again.after, again.done) == ("k00999", 1_000)


def test_a_rebuild_that_a_node_of_an_older_version_left_begins_anew(filled, redis_server):
    lease = acquire(filled, "j")
    filled.rebuilds.release(lease, keeps_generation=True)
    tag = tag_of(filled)
    with redis_server.client() as client:
        client.hdel(f"{tag}:r:orders", "generation", "marked")
        client.hset(f"{tag}:r:orders", mapping={"after": "k00500", "done": 501, "fills": "false"})
        client.hset(f"{tag}:rr:orders", mapping={"orders\0k00001": "\x90new"})
        client.zadd(f"{tag}:rs:orders", {"orders\0k00001": 0})
        again = acquire(filled, "k", resumes=True)
        assert (again.after, again.done) == (None, 0)
        assert not client.exists(f"{tag}:rr:orders", f"{tag}:rs:orders")


def test_a_load_is_told_the_version_that_all_others_see(filled):
    place = (ORDERS, KeyName("k00001"))
    loads = filled.rebuilds.loads
    assert loads.claim([place], "n", 9.0, 1)[0].state is ClaimState.GRANTED
    loads.finish("n", [FinishedLoad(place, None)])
    (claim,) = loads.claim([place], "m", 9.0, 1)
    assert claim.state is ClaimState.LOADED
    assert claim.entry.version == filled.entries(*[ORDERS, [place[1]]])[0].version > 0


# ------------------------------------------------------------------------------------------------ any order


@pytest.fixture
def tiny_steps(monkeypatch):
    """Every step does as little as it can, so that anything may come between."""
    for name in ("_KEYS_A_STEP", "_ROWS_A_STEP", "_CHANNELS_A_STEP", "MAX_LATE"):
        monkeypatch.setattr(redis_preparing, name, 1)
    monkeypatch.setattr(redis_rebuild, "MAX_LATE", 1)
    monkeypatch.setattr(redis_rebuild, "MAX_ROWS", 1)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_between_the_steps_no_key_is_lost_resurrected_or_seen_early(
    seed, tiny_steps, make_redis, mutation, put, delete
):
    chance, nodes = random.Random(seed), [make_redis(node=name) for name in "abc"]

    def move(_):
        return chance.choice(nodes)

    Play(Asked(nodes[0]), chance, mutation, put, delete, move).run(120)
