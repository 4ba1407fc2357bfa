"""Large rebuilds of one collection, step by step: what the tests of each store's own bounds begin with."""

from syncd.ids import ChannelName
from syncd.ports_state import KeyName
from syncd.store.rebuilds import RebuildLease, ScannedRow, SwapPlan

ORDERS = ChannelName("orders")
PLAN = SwapPlan(
    at_ms=5,
    deletes_missing=True,
    max_events=1000,
    entry_record=lambda _key, value: value or b"-",
    whole_record=b"all",
)
NUM_ROWS = 6_000


def rows_of(numbers, value, tag="t", channel=ORDERS):
    return [ScannedRow(channel, KeyName(f"k{n:05}"), value, (tag,)) for n in numbers]


def acquire(store, job, now_ms=0, **kind):
    wanted = {"resumes": False, "fills": False, **kind}
    lease = store.rebuilds.acquire("orders", job, now_ms, lease_ms=100, **wanted)
    assert isinstance(lease, RebuildLease)
    return lease


def write(store, lease, rows, page_rows=500):
    for start in range(0, len(rows), page_rows):
        page = rows[start : start + page_rows]
        assert store.rebuilds.write_page(lease, page, page[-1].key, start + len(page))


def prepare(store, lease, plan=PLAN):
    while has_more := store.rebuilds.prepare(lease, plan, 0.0):
        pass
    assert has_more is False


def rebuild(store, job, rows, plan=PLAN, page_rows=500):
    lease = acquire(store, job)
    write(store, lease, rows, page_rows)
    prepare(store, lease, plan)
    return store.rebuilds.swap(lease, plan)


def sweep(store):
    while store.trim(0, 0.0).has_more:
        pass


def filled(store, page_rows=500):
    """Return a store with all rows, and nothing left to sweep."""
    rebuild(store, "first", rows_of(range(NUM_ROWS), b"old"), page_rows=page_rows)
    sweep(store)
    return store
