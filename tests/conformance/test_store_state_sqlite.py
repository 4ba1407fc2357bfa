"""What only a file can do for mutations: survive a kill, be copied, be full, come from an older syncd."""

import contextlib
import resource
import sqlite3

import attrs
import pytest

from syncd.errors import ConfigError, StoreUnavailable
from syncd.ids import ChannelName, Position
from syncd.ports_log import LogQuery
from syncd.ports_state import Committed, Entry, KnownOutcome
from syncd.store.base import CLIENT_USE_MS
from syncd.store.sqlite_file import APPLICATION_ID, MIGRATIONS, open_file

ORDERS = ChannelName("orders")

SCHEMA_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE channel (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL, top INTEGER NOT NULL,
    floor INTEGER NOT NULL, num_events INTEGER NOT NULL, is_latest INTEGER NOT NULL);
CREATE TABLE event (
    channel_id INTEGER NOT NULL, offset INTEGER NOT NULL, at_ms INTEGER NOT NULL, key TEXT,
    record BLOB NOT NULL, PRIMARY KEY (channel_id, offset)) WITHOUT ROWID;
CREATE TABLE latest (
    channel_id INTEGER NOT NULL, key BLOB NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (channel_id, key)) WITHOUT ROWID;
CREATE TABLE idempotency (
    identity TEXT NOT NULL, operation TEXT NOT NULL, key TEXT NOT NULL, hash BLOB NOT NULL,
    channel_id INTEGER NOT NULL, offset INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (identity, operation, key)) WITHOUT ROWID;
CREATE INDEX idempotency_at ON idempotency (at_ms);
"""
"""As the first syncd made it, which knew no mutations. Never changed: such files exist."""

SCHEMA_2 = (
    SCHEMA_1
    + """
CREATE TABLE entry (
    channel_id INTEGER NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, tags TEXT, value BLOB NOT NULL,
    PRIMARY KEY (channel_id, key)) WITHOUT ROWID;
CREATE TABLE tag (
    tag TEXT NOT NULL, channel TEXT NOT NULL, key TEXT NOT NULL,
    PRIMARY KEY (tag, channel, key)) WITHOUT ROWID;
CREATE TABLE client (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last INTEGER NOT NULL, at_ms INTEGER NOT NULL);
CREATE INDEX client_at ON client (at_ms);
CREATE TABLE outcome (
    client_id INTEGER NOT NULL, mid INTEGER NOT NULL, at_ms INTEGER NOT NULL, positions TEXT NOT NULL,
    outcome BLOB NOT NULL, PRIMARY KEY (client_id, mid)) WITHOUT ROWID;
CREATE INDEX outcome_at ON outcome (at_ms);
"""
)
"""With entries and clients, but neither counts, dirty keys nor keys of services. Never changed either."""

ROWS_1 = """
INSERT INTO meta VALUES ('node_secret', zeroblob(32)), ('epoch_seed', zeroblob(32));
INSERT INTO channel VALUES (1, 'demo:a', '0123456789abcdef', 2, 0, 2, 0), (2, 'orders', 'fedcba9876543210', 3, 3, 0, 0);
INSERT INTO event VALUES (1, 1, 5, NULL, x'01'), (1, 2, 6, 'k', x'02');
INSERT INTO idempotency VALUES ('user:a', 'publish', 'u', x'68', 1, 2, 6);
"""

ROWS_2 = (
    ROWS_1
    + """
INSERT INTO channel VALUES (3, 'orders/eu', '00000000000000aa', 1, 0, 0, 0);
INSERT INTO entry VALUES (2, 'a', 1, '["t"]', x'01'), (2, 'b', 3, NULL, x'02'), (3, 'c', 1, NULL, x'03');
INSERT INTO tag VALUES ('t', 'orders', 'a');
INSERT INTO client VALUES (1, 'c', 1, 7);
INSERT INTO outcome VALUES (1, 1, 7, '2 3', x'6f6b');
"""
)


def commit(store, *mutations):
    results = store.begin_commit(mutations)
    store.commit()
    return results


def make_old_file(path, number, schema, rows):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL;" + schema + rows)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.commit()


def tables(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: " ".join(sql.split()) for name, sql in found}


# ------------------------------------------------------------------------------------------------ older files


def test_a_file_without_mutations_is_copied_and_taken_over(
    make_sqlite, event, mutation, put, tmp_path
):
    make_old_file(tmp_path / "log.db", 1, SCHEMA_1, ROWS_1)
    store = make_sqlite()
    page = store.read(LogQuery(ChannelName("demo:a")))
    assert page.head.epoch == "0123456789abcdef"
    assert [(e.offset, e.at_ms, e.key, e.record) for e in page.events] == [
        (1, 5, None, b"\x01"),
        (2, 6, "k", b"\x02"),
    ]
    (again,) = store.begin([event("demo:a", uid="u")])
    assert (again.offset, again.is_duplicate) == (2, True)
    (result,) = store.begin_commit([mutation("c", 1, put("orders", "k", tags=["t"]))])
    store.commit()
    assert result == Committed([4], {ORDERS: Position("fedcba9876543210", 4)})
    assert store.count(ORDERS) == 1
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db.before-v5")) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute("SELECT count(*) FROM event").fetchone() == (2,)
        names = {row[0] for row in copy.execute("SELECT name FROM sqlite_master")}
    assert not names & {"entry", "tag", "client", "outcome"}


def test_a_file_without_dirty_keys_keeps_its_entries_counted_and_its_outcomes(
    make_sqlite, mutation, put, tmp_path
):
    make_old_file(tmp_path / "log.db", 2, SCHEMA_2, ROWS_2)
    store = make_sqlite()
    assert store.entries(ORDERS, ["a", "b"]) == [
        Entry("a", 1, b"\x01", ("t",)),
        Entry("b", 3, b"\x02"),
    ]
    counts = [store.count(ChannelName(name)) for name in ("orders", "orders/eu", "demo:a")]
    assert counts == [2, 1, 0]
    assert store.keys_by_tag("orders", "t", None, 10) == [("orders", "a")]
    assert store.dirty("orders", None, 10) == []
    again, after = commit(
        store,
        mutation("c", 1),
        mutation("c", 2, put("orders", "k", is_forwarded=True), reads=[("orders", "b", 3)]),
    )
    assert again == KnownOutcome(b"ok", {ORDERS: Position("fedcba9876543210", 3)})
    assert after.versions == [4]
    assert (store.count(ORDERS), len(store.dirty("orders", None, 10))) == (3, 1)
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db.before-v5")) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (2,)
        assert copy.execute("SELECT count(*) FROM entry").fetchone() == (3,)


def test_a_rebuild_that_was_under_way_before_generations_had_numbers_begins_anew(
    make_sqlite, mutation, put, tmp_path
):
    path = tmp_path / "log.db"
    connection = open_file(path, lock_wait_s=0.0, migrations=MIGRATIONS[:4])
    connection.execute(
        "INSERT INTO channel VALUES (7, 'orders', '00000000000000aa', 3, 0, 0, 0, 2)"
    )
    connection.execute(
        "INSERT INTO entry VALUES (7, 'a', 1, '[\"t\"]', x'01'), (7, 'b', 3, NULL, x'02')"
    )
    connection.execute("INSERT INTO tag VALUES ('t', 'orders', 'a')")
    connection.execute("INSERT INTO rebuild VALUES ('orders', 'j', 4, 9999, 1, 0, 'a', 1)")
    connection.execute("INSERT INTO generation VALUES ('orders', 'a', 0, NULL, x'09')")
    connection.close()
    store = make_sqlite()
    assert store.entries(ORDERS, ["a", "b"]) == [
        Entry("a", 1, b"\x01", ("t",)),
        Entry("b", 3, b"\x02"),
    ]
    assert store.keys_by_tag("orders", "t", None, 10) == [("orders", "a")]
    assert store.rebuilds.checkpoint("orders") is None
    lease = store.rebuilds.acquire("orders", "j", 0, lease_ms=9, resumes=True, fills=False)
    assert (lease.token, lease.after, lease.done) == (5, None, 0)
    commit(store, mutation("c", 1, put("orders", "a", b"new")))
    assert store.keys_by_tag("orders", "t", None, 10) == []
    assert store.entries(ORDERS, ["a", "b"]) == [Entry("a", 4, b"new"), Entry("b", 3, b"\x02")]


def test_a_migration_that_fails_halfway_leaves_the_old_file(tmp_path):
    path = tmp_path / "log.db"
    make_old_file(path, 2, SCHEMA_2, ROWS_2)
    before = tables(path)
    broken = (*MIGRATIONS[:2], (*MIGRATIONS[2], "INSERT INTO nothing VALUES (1)"))
    with pytest.raises(ConfigError):
        open_file(path, lock_wait_s=0.0, migrations=broken)
    assert tables(path) == before
    open_file(path, lock_wait_s=0.0).close()
    assert "dirty" in tables(path)


@pytest.mark.parametrize(("number", "schema"), [(1, SCHEMA_1), (2, SCHEMA_2)])
def test_former_migrations_still_make_what_former_syncds_made(tmp_path, number, schema):
    make_old_file(tmp_path / "old.db", number, schema, "")
    migrations = MIGRATIONS[:number]
    open_file(tmp_path / "new.db", lock_wait_s=0.0, migrations=migrations).close()
    old = tables(tmp_path / "old.db")
    assert old == tables(tmp_path / "new.db")
    assert len(old) == sum(map(len, migrations))


# ------------------------------------------------------------------------------------------------ survival


def test_what_was_committed_survives_a_kill_and_what_was_not_leaves_no_trace(
    make_sqlite, mutation, put, leave_by_kill
):
    store = make_sqlite()
    (first,) = commit(store, mutation("c", 1, put("orders", "k", b"1", ["t"]), outcome=b"ok"))
    store.begin_commit([mutation("c", 2, put("orders", "k", b"2")), mutation("d", 1)])
    survivor = make_sqlite(leave_by_kill())
    assert survivor.last_mids(["c", "d"]) == [1, 0]
    assert survivor.entries(ORDERS, ["k"]) == [Entry("k", 1, b"1", ("t",))]
    again, after = commit(
        survivor,
        mutation("c", 1, put("orders", "k", b"3")),
        mutation("c", 2, put("orders", "k", b"4"), reads=[("orders", "k", 1)]),
    )
    assert again == KnownOutcome(b"ok", first.positions)
    assert after.versions == [2]


def test_positions_of_outcomes_in_a_marked_copy_are_of_its_new_epochs(
    make_sqlite, mutation, put, copy_marked
):
    store = make_sqlite()
    (first,) = commit(store, mutation("c", 1, put("orders", "k")))
    store.close()
    copy = make_sqlite(copy_marked())
    (again,) = commit(copy, mutation("c", 1))
    epoch = copy.scan(ORDERS, None, 1, 1).position.epoch
    assert again.positions == {ORDERS: Position(epoch, 1)}
    assert epoch != first.positions[ORDERS].epoch


def test_a_commit_that_fails_decides_nothing_and_can_be_tried_again(
    make_sqlite, event, mutation, put, tmp_path
):
    store = make_sqlite()
    commit(store, mutation("c", 1, put("orders", "k", b"1")))
    group = [mutation("c", 2, put("orders", "k", bytes(100_000)), reads=[("orders", "k", 1)])]
    store.acknowledge("c", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "log.db-wal").stat().st_size
    store.begin([event("demo:a")])
    store.begin_commit(group)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(StoreUnavailable):
            store.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.last_mids(["c"]) == [1]
    assert store.entries(ORDERS, ["k"])[0].value == b"1"
    assert store.load(ChannelName("demo:a"), 0, 0).head.top == 0
    (result,) = commit(store, *group)
    assert result.versions == [2]
    (known,) = commit(store, mutation("c", 1))
    assert known.outcome is None


def test_a_full_database_in_the_middle_of_a_group_undoes_publications_too(
    make_sqlite, event, mutation, put
):
    store = make_sqlite()
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    store.begin([event("demo:a")])
    with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
        store.begin_commit([mutation("c", 1, put("orders", "k", bytes(100_000)))])
    assert store.load(ChannelName("demo:a"), 0, 0).head.top == 0
    assert store.last_mids(["c"]) == [0]


# ------------------------------------------------------------------------------------------------ rows


def count(store, table):
    return store._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_outcomes_of_a_busy_client_are_bounded_on_disk_without_trimming(make_sqlite, mutation):
    store = make_sqlite()
    for mid in range(1, 101):
        commit(store, mutation("c", mid))
        assert count(store, "outcome") <= 8 + 8 // 4 + 1
    commit(store, *[mutation("c", mid) for mid in range(101, 201)])
    commit(store, *[mutation("c", mid) for mid in range(201, 205)])
    assert count(store, "outcome") <= 8 + 8 // 4 + 1


def test_acknowledged_outcomes_leave_the_disk_with_a_transaction_or_a_slice(make_sqlite, mutation):
    store = make_sqlite()
    commit(store, *[mutation("c", mid) for mid in (1, 2, 3)])
    store.acknowledge("c", 1)
    assert count(store, "outcome") == 3
    commit(store, mutation("c", 1))
    assert count(store, "outcome") == 2
    store.acknowledge("c", 2)
    store.trim(0, 0.0)
    assert count(store, "outcome") == 1


def test_a_conflict_creates_neither_channel_nor_client(make_sqlite, mutation, put):
    store = make_sqlite()
    commit(
        store,
        mutation("c", 1, put("orders", "k"), reads=[("orders", "k", 5)]),
        mutation("d", 7, put("orders", "k")),
    )
    assert (count(store, "channel"), count(store, "client")) == (0, 0)


def test_a_forgotten_client_leaves_no_outcome_to_whoever_gets_its_row(
    make_sqlite, options, mutation
):
    store = make_sqlite(options=attrs.evolve(options, clients_s=1.0, outcomes_s=1e9))
    commit(store, mutation("c", 1), mutation("c", 2))
    store.trim(CLIENT_USE_MS + 1001, 1.0)
    assert (count(store, "client"), count(store, "outcome")) == (0, 0)
    commit(store, mutation("d", 1, outcome=b"d"))
    assert commit(store, mutation("d", 1))[0].outcome == b"d"


def test_forgetting_goes_on_over_slices_of_no_time(make_sqlite, mutation):
    store = make_sqlite()
    for client in range(40):
        commit(store, *[mutation(f"c{client}", mid) for mid in range(1, 9)])
    num_slices = 0
    while store.trim(10**9, 0.0).has_more:
        num_slices += 1
    assert num_slices > 2
    assert (count(store, "outcome"), count(store, "client")) == (0, 0)
    statistics = store.statistics()
    assert (statistics.num_outcomes_trimmed, statistics.num_clients_trimmed) == (320, 40)


def test_channels_beyond_the_cache_keep_their_entries(make_sqlite, options, mutation, put):
    store = make_sqlite(options=attrs.evolve(options, cached_channels=2))
    names = [f"orders/{n}" for n in range(5)]
    for mid in (1, 2):
        commit(
            store,
            mutation(
                "c", mid, *[put(n, "k") for n in names], reads=[(n, "k", mid - 1) for n in names]
            ),
        )
    assert [store.entries(ChannelName(n), ["k"])[0].version for n in names] == [2] * 5
    assert store.statistics().num_channels_cached == 2


def test_clients_and_entries_beyond_the_caches_are_looked_up_again(
    make_sqlite, options, mutation, put
):
    store = make_sqlite(options=attrs.evolve(options, cached_clients=2, cached_entries=2))
    versions = dict.fromkeys("abcde", 0)
    for mid in (1, 2, 3):
        for name in versions:
            write, read = put("orders", name), ("orders", name, versions[name])
            (result,) = commit(store, mutation(name, mid, write, reads=[read]))
            (versions[name],) = result.versions
    assert [*versions.values()] == [11, 12, 13, 14, 15]


def test_a_transaction_that_was_undone_leaves_no_client_and_no_version_behind(
    make_sqlite, mutation, put
):
    store = make_sqlite()
    commit(store, mutation("c", 1, put("orders", "k")))
    store.begin_commit([mutation("c", 2, put("orders", "k")), mutation("d", 1)])
    store.rollback()
    again = [mutation("c", 2, put("orders", "k"), reads=[("orders", "k", 1)]), mutation("d", 1)]
    assert [type(result) for result in commit(store, *again)] == [Committed, Committed]


def test_a_forgotten_client_begins_anew_without_a_restart(make_sqlite, options, mutation):
    store = make_sqlite(options=attrs.evolve(options, clients_s=1.0))
    commit(store, mutation("c", 1))
    store.trim(CLIENT_USE_MS + 1001, 1.0)
    assert type(commit(store, mutation("c", 1))[0]) is Committed
    assert (count(store, "client"), store.last_mids(["c"])) == (1, [1])
