"""What Redis had is lost, in whole or at the end: nothing that was told is told again with other content, and nobody goes on with what is gone."""

import itertools
import threading
import time

import msgpack

from syncd.errors import StoreUnavailable
from syncd.ports_state import (
    Committed,
    Conflict,
    EntryRead,
    EntryWrite,
    KeyName,
    KnownOutcome,
    MutationCommit,
    OutOfOrder,
)
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_link import RedisLink
from tests.conformance.redis_lives import (
    RECORD,
    A,
    append,
    back,
    commit,
    copy_of,
    dirty_write,
    head,
    join,
    make_server,
    restart,
    restore,
)

__all__ = ["join", "make_server"]  # fixtures


def test_a_node_that_knows_little_does_not_let_an_epoch_go_on(make_server, join):
    """Found by the chaos run: it vouched for what it knew, and gave offsets away that another node had told of."""
    server = make_server("everysec")
    knows_all, knows_little = join(server), join(server)
    (first,) = append(knows_all)
    assert head(knows_little).top == 1
    append(knows_all, 20)
    told = head(knows_all)
    restart(server, num_lost_bytes=600)
    assert back(knows_little).epoch != told.epoch
    (again,) = append(knows_little)
    assert (again.epoch, again.offset) != (first.epoch, 21)
    assert again.epoch != told.epoch
    assert back(knows_all).epoch == again.epoch


def test_what_an_era_had_that_is_over_goes_with_its_age(make_server, join):
    """It went with the channel's next event, and a channel that nobody wrote to any more kept it for ever."""
    server = make_server("everysec")
    store = join(server)
    append(store, 20)
    log = f"{RedisNames().tag}:l:{A}"
    restart(server)
    assert back(store).floor == 20
    store.trim(5 + 59_000, 1.0)
    assert server.ask("EXISTS", log) == 1
    store.trim(5 + 61_000, 1.0)
    assert server.ask("EXISTS", log) == 0
    assert [result.offset for result in append(store)] == [21]


def test_the_same_copy_brought_back_twice_is_found_twice(make_server, join, tmp_path):
    """The era that the node had come to was begun after the copy: the copy's own was taken for another, and went on."""
    server = make_server("always")
    store = join(server)
    append(store, 2)
    copy = copy_of(server, tmp_path)
    epochs = {append(store, 2)[-1].epoch}
    for number in (1, 2):
        restore(server, copy)
        back(store)
        epochs.add(append(store, 5)[-1].epoch)
        assert len(epochs) == number + 1


def test_an_era_that_was_lost_is_not_begun_again(make_server, join):
    """The end that is lost may hold the beginning of an era: the next one has another name all the same."""
    server = make_server("everysec")
    store = join(server)
    append(store, 20)
    restart(server)
    (path,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    before = path.stat().st_size
    epoch = back(store).epoch
    append(store)
    restart(server, num_lost_bytes=path.stat().st_size - before)
    assert back(store).epoch != epoch


def test_a_server_that_keeps_every_write_begins_no_new_epochs(make_server, join):
    server = make_server("always")
    store = join(server)
    append(store, 3)
    told = head(store)
    restart(server)
    assert back(store) == told


def test_what_was_read_in_another_epoch_is_a_conflict(make_server, join):
    """Versions compare within an epoch only: the same number is another change in another life."""
    store = join(make_server(None))
    write = EntryWrite(A, KeyName("k"), b"\x01", RECORD)
    made = commit(store, 1, writes=[write])
    assert isinstance(made, Committed)
    read = EntryRead(A, KeyName("k"), made.versions[0])
    assert isinstance(commit(store, 2, [read], epochs={A: "another"}), Conflict)
    assert isinstance(commit(store, 2, [read], epochs={A: head(store).epoch}), Committed)


def test_an_acknowledgement_of_another_life_drops_no_outcome(make_server, join):
    server = make_server(None)
    stays, other = join(server), join(server)
    commit(stays, 1)
    stays.acknowledge("c", 1)
    restart(server)
    back(other)
    assert isinstance(commit(other, 1), Committed)
    back(stays)
    write = MutationCommit("d", 1, [], [], b"\x01", 5)
    stays.begin_commit([write])
    stays.commit()
    assert commit(other, 1) == KnownOutcome(msgpack.packb(1), {})


def test_what_was_acknowledged_before_another_life_began_is_forgotten_whoever_finds_that_out(
    make_server, join
):
    """Found by reading: the transaction that met the new life had noted before what to tell of the old one."""
    server = make_server(None)
    stays, other = join(server), join(server)
    commit(stays, 1, writes=[dirty_write()])
    took = head(stays)
    stays.acknowledge("c", 1)
    stays.acknowledge_forwarded(A, KeyName("k"), took.top, took.epoch)
    restart(server)
    back(other)
    commit(other, 1, writes=[dirty_write()])
    (dirty,) = other.dirty("wide:a", None, 9)
    assert dirty.version == took.top
    stays.begin_commit([MutationCommit("d", 1, [], [], b"\x01", 5)])
    stays.commit()
    assert commit(other, 1).outcome == msgpack.packb(1)
    assert other.dirty("wide:a", None, 9) == [dirty]


def test_an_acknowledgement_counts_in_the_life_in_which_its_session_began(make_server, join):
    """A session that outlived it tells numbers that others have by now: their outcomes are still wanted."""
    server = make_server(None)
    store = join(server)
    told = store.era()
    restart(server)
    back(store)
    commit(store, 1)
    store.acknowledge("c", 1, told)
    commit(store, 2)
    assert commit(store, 1) == KnownOutcome(msgpack.packb(1), {})
    store.acknowledge("c", 1, store.era())
    commit(store, 3)
    assert commit(store, 1) == KnownOutcome(None, {})


def test_what_an_application_took_in_another_life_leaves_a_key_dirty(make_server, join):
    """The same version is that of another change by now, of which the application has not heard."""
    server = make_server(None)
    store = join(server)
    commit(store, 1, writes=[dirty_write()])
    took = head(store).epoch
    restart(server)
    back(store)
    commit(store, 1, writes=[dirty_write()])
    (dirty,) = store.dirty("wide:a", None, 9)
    store.acknowledge_forwarded(A, KeyName("k"), dirty.version, took)
    assert store.look_up(A, [KeyName("k")], with_dirty=True).dirty == {"k": dirty.version}
    assert store.dirty("wide:a", None, 9) == [dirty]
    store.acknowledge_forwarded(A, KeyName("k"), dirty.version, head(store).epoch)
    assert store.dirty("wide:a", None, 9) == []


def test_a_number_of_another_life_stands_for_no_mutation(make_server, join):
    """Found by the simulation: what waited on one node was run again after its client had numbered it anew on another."""
    server = make_server(None)
    store = join(server)
    commit(store, 1)
    told = store.era()
    assert isinstance(commit(store, 2, era=told), Committed)
    restart(server)
    back(store)
    assert store.last_mids(["c"]) == [0]
    assert commit(store, 1, era=told) == OutOfOrder(0)
    assert isinstance(commit(store, 1, era=store.era()), Committed)
    assert commit(store, 1, era=told) == OutOfOrder(0), "not the outcome of another either"


def test_a_server_that_still_reads_its_file_is_not_taken_for_one_that_keeps_none(make_server, join):
    """While it loads, `INFO` says `aof_enabled:0`; asked then, and told the era a moment later, a node began new epochs for nothing."""
    server = make_server("always", "--key-load-delay", "20")
    append(
        join(server), 20_000
    )  # some tenths of a second between two looks at its clients, and four of them
    server.kill()
    starting = threading.Thread(target=server.start)
    starting.start()
    clock = itertools.count().__next__  # every pause is over
    link = RedisLink(server.url, RedisNames(), timeout_s=3.0, greet=lambda: None, clock=clock)
    num_refused = num_known = 0
    while starting.is_alive() or not num_known:
        try:
            assert link.info().keeps_all
            num_known += 1
        except StoreUnavailable as error:
            num_refused += "reads its file" in error.message
        time.sleep(0.01)  # noqa: TID251 - another process goes on
    starting.join()
    link.close()
    assert num_refused
