"""Rebuilds in the file alone: nothing that others wait for grows with the collection, and nothing is left behind."""

import contextlib
import sqlite3

import attrs
import pytest

from syncd.errors import StoreUnavailable
from tests.conformance import rebuild_steps
from tests.conformance.rebuild_steps import (
    NUM_ROWS,
    ORDERS,
    PLAN,
    acquire,
    prepare,
    rebuild,
    rows_of,
    sweep,
    write,
)

MOST_WRITTEN = 1_500
"""Rows that one transaction writes, of whatever table: a slice of 500 entries with their tags, or 500 old ones deleted."""


def counts(store):
    """How many rows of rebuilds, and of what they write, lie in the file."""
    tables = ("entry", "tag", "touched", "changed", "generation")
    with contextlib.closing(sqlite3.connect(store)) as file:
        return {
            table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables
        }


@pytest.fixture
def filled(make_sqlite):
    return rebuild_steps.filled(make_sqlite())


class Written:
    """Counts the rows that each transaction writes."""

    def __init__(self, store):
        self.connection = store._connection
        self.most = 0
        self.before = self.connection.total_changes

    def end(self):
        now = self.connection.total_changes
        self.most, self.before = max(self.most, now - self.before), now


@pytest.mark.parametrize("deletes_missing", [True, False])
def test_no_transaction_of_a_rebuild_grows_with_the_collection(
    filled, mutation, put, deletes_missing
):
    """Others wait for each: once the swap alone wrote every row, for a second."""
    plan = attrs.evolve(PLAN, deletes_missing=deletes_missing)
    lease = acquire(filled, "j")
    write(filled, lease, rows_of(range(0, NUM_ROWS, 2), b"new"))
    for start in range(0, NUM_ROWS, 400):
        changes = [put("orders", f"k{n:05}", b"mine") for n in range(start, start + 100)]
        filled.begin_commit([mutation(None, 0, *changes)])
        filled.commit()
    written = Written(filled)
    while filled.rebuilds.prepare(lease, plan, 0.0):
        written.end()
    written.end()
    changes = [put("orders", f"k{n:05}", b"late") for n in range(50)]
    filled.begin_commit([mutation(None, 0, *changes)])
    filled.commit()
    written.before = filled._connection.total_changes
    swapped = filled.rebuilds.swap(lease, plan)
    written.end()
    assert swapped.num_changed > NUM_ROWS / 4
    while filled.trim(0, 0.0).has_more:
        written.end()
    assert 0 < written.most < MOST_WRITTEN
    found = filled.entries(ORDERS, ["k00049", "k00050", "k00100", "k00101"])
    expected = [b"late", b"mine", b"new", b"old"][: 4 if not deletes_missing else 3]
    assert [entry.value for entry in found] == expected


@pytest.mark.parametrize("end", ["swap", "drop", "nothing new"])
def test_what_nobody_is_served_is_deleted_also_after_a_kill(
    filled, mutation, put, make_sqlite, leave_by_kill, tmp_path, end
):
    value = b"old" if end == "nothing new" else b"new"
    lease = acquire(filled, "j")
    write(filled, lease, rows_of(range(NUM_ROWS), value))
    if end != "nothing new":
        filled.begin_commit([mutation(None, 0, put("orders", "k00001", b"mine", ["t"]))])
        filled.commit()
    if end == "drop":
        filled.rebuilds.release(lease, keeps_generation=False)
    else:
        prepare(filled, lease, PLAN)
        filled.rebuilds.swap(lease, PLAN)
    for _ in range(4):
        filled.trim(0, 0.0)
    survivor = make_sqlite(leave_by_kill())
    before = survivor.scan(ORDERS, None, 10_000, 10**9)
    sweep(survivor)
    assert survivor.scan(ORDERS, None, 10_000, 10**9) == before
    assert len(survivor.keys_by_tag("orders", "t", None, 10_000)) == NUM_ROWS
    survivor.close()
    left = counts(survivor._path)
    assert left == {"entry": NUM_ROWS, "tag": NUM_ROWS, "touched": 0, "changed": 0, "generation": 0}


def test_events_from_before_a_swap_are_deleted_also_after_a_kill(
    make_sqlite, mutation, put, leave_by_kill
):
    store = make_sqlite()
    for number in range(600):
        store.begin_commit([mutation(None, 0, put("orders", f"k{number:05}"))])
        store.commit()
    rebuild(store, "j", rows_of(range(2000), b"new"))
    survivor = make_sqlite(leave_by_kill())
    sweep(survivor)
    survivor.close()
    with contextlib.closing(sqlite3.connect(survivor._path)) as file:
        assert file.execute("SELECT count(*) FROM event").fetchone() == (0,)
        assert file.execute("SELECT top, floor, num_events FROM channel").fetchone() == (
            601,
            601,
            0,
        )


def test_a_rebuild_that_died_while_it_was_prepared_with_what_it_keeps_begins_anew(
    filled, make_sqlite, leave_by_kill
):
    """What is kept could not be told from what was scanned: the job that resumes it may delete what is missing."""
    kept = attrs.evolve(PLAN, deletes_missing=False)
    lease = acquire(filled, "j")
    write(filled, lease, rows_of(range(2000), b"new"))
    for _ in range(5):
        assert filled.rebuilds.prepare(lease, kept, 0.0)
    survivor = make_sqlite(leave_by_kill())
    again = survivor.rebuilds.acquire("orders", "k", 200, lease_ms=9, resumes=True, fills=False)
    assert (again.after, again.done) == (None, 0)
    write(survivor, again, rows_of(range(1500), b"newer"))
    swapped = survivor.rebuilds.swap(again, PLAN)
    assert swapped.num_changed == NUM_ROWS
    assert survivor.count(ORDERS) == 1500


def test_a_rebuild_that_died_while_it_was_prepared_is_resumed(filled, make_sqlite, leave_by_kill):
    lease = acquire(filled, "j")
    write(filled, lease, rows_of(range(2000), b"new"))
    for _ in range(3):
        assert filled.rebuilds.prepare(lease, PLAN, 0.0)
    survivor = make_sqlite(leave_by_kill())
    again = survivor.rebuilds.acquire("orders", "k", 200, lease_ms=9, resumes=True, fills=False)
    assert (again.after, again.done) == ("k01999", 2000)
    write(survivor, again, rows_of(range(2000, 2100), b"new"))
    prepare(survivor, again, PLAN)
    assert survivor.rebuilds.swap(again, PLAN).num_changed == NUM_ROWS
    assert survivor.count(ORDERS) == 2100


def test_a_transaction_that_is_undone_leaves_what_is_counted_as_it_was(filled, mutation, put):
    lease = acquire(filled, "j")
    write(filled, lease, rows_of(range(3000), b"new"))
    filled.begin_commit([mutation(None, 0, put("orders/eu", "1"), put("orders", "k00001"))])
    filled.rollback()
    filled._connection.execute(
        "CREATE TEMP TRIGGER full BEFORE INSERT ON entry WHEN new.key = 'k03400'"
        " BEGIN SELECT raise(ABORT, 'full'); END"
    )
    with pytest.raises((StoreUnavailable, sqlite3.IntegrityError)):
        filled.rebuilds.write_page(lease, rows_of(range(3000, 3500), b"new"), "k03499", 3500)
    filled._connection.execute("DROP TRIGGER full")
    write(filled, lease, rows_of(range(2900, 3500), b"new"))
    prepare(filled, lease, PLAN)
    assert filled.rebuilds.swap(lease, PLAN).num_changed == NUM_ROWS
    assert filled.count(ORDERS) == 3500
    assert filled.channels("orders", 10) == [ORDERS]
