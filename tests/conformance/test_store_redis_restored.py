"""An older copy of what Redis had is brought back under living nodes: what they were told is not told again with other content.

The server keeps all (`appendfsync always`), so nothing but what the nodes know tells the copy from what it was.
"""

import time

import pytest

from syncd.errors import StoreUnavailable
from syncd.ids import Epoch, Position
from syncd.ports_state import KeyName, MutationCommit
from syncd.store.rebuilds import ScannedRow, SwapPlan
from tests.conformance.redis_lives import (
    A,
    append,
    back,
    copy_of,
    head,
    join,
    make_server,
    restart,
    restore,
)

__all__ = ["join", "make_server"]  # fixtures


def patiently(ask):
    """Ask until the link has found the server again."""
    for _ in range(200):
        try:
            return ask()
        except StoreUnavailable:
            time.sleep(0.05)  # noqa: TID251 - the link waits a while before it asks again
    raise AssertionError("it never came back")


def test_the_first_thing_a_node_writes_after_that_is_of_a_new_era(make_server, join, tmp_path):
    """Found by an audit: offsets 3 and 4 were told again in the epoch in which they had been told."""
    server = make_server("always")
    store = join(server)
    append(store, 2)
    copy = copy_of(server, tmp_path)
    told = append(store, 2)[-1]
    restore(server, copy)
    (again,) = patiently(lambda: append(store))
    assert again.epoch != told.epoch
    assert again.offset == 3


def test_a_node_that_has_looked_since_knows_it_without_having_written(make_server, join, tmp_path):
    server = make_server("always")
    writes, looks = join(server), join(server)
    append(writes, 2)
    copy = copy_of(server, tmp_path)
    told = append(writes)[0]
    looks.look()
    restore(server, copy)
    (again,) = patiently(lambda: append(looks))
    assert again.epoch != told.epoch
    assert back(writes).epoch == again.epoch, "a second era would reset all clients once more"
    assert append(writes)[0].offset == again.offset + 1


def test_a_node_that_has_not_written_nor_looked_since_is_told_by_what_its_rooms_heard(
    make_server, join, tmp_path
):
    server = make_server("always")
    writes, hears, hears_too = join(server), join(server), join(server)
    append(writes, 2)
    for store in (hears, hears_too):
        store.look()
    copy = copy_of(server, tmp_path)
    last = append(writes)[0]
    writes.close()
    told = Position(last.epoch, last.offset)
    restore(server, copy)
    assert back(hears).epoch == told.epoch
    (renewed,) = hears.heads([A], {A: told})
    assert renewed.epoch != told.epoch
    assert hears.heads([A], {A: told}) == [renewed]
    assert hears_too.heads([A], {A: told}) == [renewed], "once for all nodes"
    (again,) = append(hears_too)
    assert (again.epoch, again.offset) == (renewed.epoch, 3)


@pytest.mark.parametrize(("epoch", "offset"), [(None, 2), (None, 0), (Epoch("another"), 9)])
def test_what_the_log_has_or_is_of_another_epoch_changes_none(make_server, join, epoch, offset):
    store = join(make_server("always"))
    append(store, 2)
    before = head(store)
    told = Position(epoch or before.epoch, offset)
    assert store.heads([A], {A: told}) == [before]
    assert head(store) == before


def mutate(store):
    store.begin_commit([MutationCommit("c", 1, [], [], b"outcome", 5)])
    store.commit()


def swap(store, max_events):
    lease = store.rebuilds.acquire("wide:a", "j", 0, lease_ms=60_000, resumes=False, fills=False)
    assert store.rebuilds.write_page(lease, [ScannedRow(A, KeyName("k"), b"v")], "k", 1)

    def write():
        plan = SwapPlan(0, True, max_events, lambda *_: b"r", b"all")
        assert store.rebuilds.swap(lease, plan).num_changed == 1

    return write


@pytest.mark.parametrize(
    "prepare",
    [
        lambda store: lambda: mutate(store),
        lambda store: swap(store, 100),
        lambda store: swap(store, 0),
    ],
    ids=["a mutation without events", "a small swap", "a large swap"],
)
def test_it_is_found_whatever_was_written(make_server, join, tmp_path, prepare):
    server = make_server("always")
    store = join(server)
    append(store)
    write = prepare(store)
    store.look()
    copy = copy_of(server, tmp_path)
    before = head(store).epoch
    write()
    store.look()
    restore(server, copy)
    assert back(store).epoch != before


def test_a_restart_with_all_of_it_goes_on(make_server, join):
    server = make_server("always")
    store = join(server)
    append(store, 3)
    store.look()
    told = head(store)
    restart(server)
    assert back(store) == told


def test_without_a_living_node_it_is_not_found_until_the_operator_says_so(
    make_server, join, tmp_path
):
    """As docs/redis.md says."""
    server = make_server("always")
    store = join(server)
    append(store, 2)
    copy = copy_of(server, tmp_path)
    told = append(store)[0]
    store.close()
    restore(server, copy)
    server.ask("HDEL", "{syncd}:meta", "run")
    assert head(join(server)).epoch != told.epoch


def test_a_copy_that_is_said_to_be_one_begins_a_new_era_each_time_it_is_brought_back(
    make_server, join, tmp_path
):
    """As docs/redis.md says: prepared aside, under a node that lives. The second time the node knows of a later era than the copy's."""
    server, aside = make_server("always"), make_server("always")
    store = join(server)
    append(store, 2)
    restore(aside, copy_of(server, tmp_path))
    assert aside.ask("HDEL", "{syncd}:meta", "run") == 1
    aside.kill()
    told = [append(store, 2)[-1]]
    for _ in range(2):
        restore(server, aside.folder / "appendonlydir")
        back(store)
        told.append(append(store)[0])
    assert [each.offset for each in told] == [4, 3, 3]
    assert len({each.epoch for each in told}) == 3
