"""What every store keeps of mutations in nobody's numbering: those of services, once per idempotency key."""

import attrs
import pytest

from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports_state import Committed, Conflict, Entry, KnownOutcome


def is_mismatch(answer):
    return isinstance(answer, SyncdError) and answer.code is ErrorCode.IDEMPOTENCY_MISMATCH


def test_a_mutation_without_client_and_key_takes_effect_each_time_and_numbers_nobody(
    log, service, put
):
    results = log.mutate(service(None, put("orders", "k", b"1")), service(None, put("orders", "k")))
    assert [r.versions for r in results] == [[1], [2]]
    assert log.entry("orders", "k") == Entry("k", 2, b"v")
    assert log.store.last_mids(["", "None"]) == [0, 0]
    counts = log.store.statistics()
    assert (counts.num_mutations, counts.num_resent) == (2, 0)
    log.trim(10**12)
    assert log.store.statistics().num_clients_trimmed == 0


@pytest.mark.parametrize("is_same_transaction", [True, False])
def test_the_same_key_with_the_same_request_answers_the_first_outcome_and_does_nothing(
    log, service, put, event, is_same_transaction
):
    first = service("u", put("orders", "k", b"1"), events=[event("demo:a")], outcome=b"first")
    again = service("u", put("orders", "k", b"2"), outcome=b"second")
    if is_same_transaction:
        done, known = log.mutate(first, again)
    else:
        (done,), (known,) = log.mutate(first), log.mutate(again)
    assert known == KnownOutcome(b"first", done.positions)
    assert set(known.positions) == {"orders", "demo:a"}
    assert log.entry("orders", "k") == Entry("k", 1, b"1")
    assert log.offsets("orders") == log.offsets("demo:a") == [1]
    counts = log.store.statistics()
    assert (counts.num_mutations, counts.num_resent, counts.num_mismatches) == (1, 1, 0)


@pytest.mark.parametrize("is_same_transaction", [True, False])
def test_a_key_used_for_another_request_is_refused_for_that_mutation_alone(
    log, service, put, is_same_transaction
):
    first = service("u", put("orders", "k", b"1"))
    others = [
        service("u", put("orders", "k", b"2"), request_hash=b"other"),
        service("v", put("orders", "k", b"3"), reads=[("orders", "k", 1)]),
    ]
    if is_same_transaction:
        _, refused, after = log.mutate(first, *others)
    else:
        log.mutate(first)
        refused, after = log.mutate(*others)
    assert is_mismatch(refused)
    assert after.versions == [2]
    assert log.store.statistics().num_mismatches == 1


def test_keys_are_of_one_identity_and_operation(log, service, put):
    same = put("orders", "k")
    results = log.mutate(
        service("u", same),
        service("u", same, who="service:b", request_hash=b"b"),
        service("u", same, operation="invalidate", request_hash=b"c"),
    )
    assert [r.versions for r in results] == [[1], [2], [3]]


def test_publications_and_mutations_have_keys_apart(log, service, put, event):
    (published,) = log.append(event("orders", uid="u", who="service:a"))
    (done,) = log.mutate(service("u", put("orders", "k"), operation="publish", request_hash=b"o"))
    (again,) = log.append(event("orders", uid="u", who="service:a"))
    assert (published.offset, done.versions) == (1, [2])
    assert (again.offset, again.is_duplicate) == (1, True)


def test_a_rejection_is_kept_under_its_key_and_a_conflict_is_not(log, service, put):
    rejected, conflict = log.mutate(
        service("no", outcome=b"rejected"), service("u", reads=[("orders", "k", 5)])
    )
    assert rejected == Committed([], {})
    assert isinstance(conflict, Conflict)
    again, now = log.mutate(
        service("no", put("orders", "k")), service("u", put("orders", "k"), request_hash=b"other")
    )
    assert again == KnownOutcome(b"rejected", {})
    assert now.versions == [1]


def test_a_client_is_known_by_its_numbers_and_its_key_is_not_looked_at(log, mutation, service, put):
    known = service("u").idempotency
    first, second = log.mutate(
        mutation("c", 1, put("orders", "k"), known=known),
        mutation("c", 2, put("orders", "k"), known=known),
    )
    assert (first.versions, second.versions) == ([1], [2])
    assert isinstance(log.mutate(service("u"))[0], Committed)


def test_a_rollback_forgets_the_keys_of_its_transaction(log, service, put):
    log.mutate(service("old", put("orders", "k")))
    log.mutate(service("u", put("orders", "k")), service("v"), commit=False)
    log.store.rollback()
    old, new = log.mutate(
        service("old"), service("u", put("orders", "k"), request_hash=b"another request")
    )
    assert isinstance(old, KnownOutcome)
    assert new.versions == [2]
    assert log.store.statistics().num_mutations == 2


def test_keys_are_kept_for_their_time_and_not_longer(log, service, put):
    log.mutate(service("a", put("orders", "k"), at_ms=1000), service("b", at_ms=2000))
    log.trim(101_000)
    assert log.store.statistics().num_idempotency_trimmed == 0
    log.trim(101_001)
    assert log.store.statistics().num_idempotency_trimmed == 1
    forgotten, known = log.mutate(service("a", request_hash=b"new"), service("b"))
    assert forgotten == Committed([], {})
    assert known == KnownOutcome(b"0", {})
    assert log.entry("orders", "k").version == 1


# ------------------------------------------------------------------------------------------------ in a file


def test_a_key_survives_a_kill_if_its_mutation_did(make_sqlite, service, put, leave_by_kill):
    store = make_sqlite()
    (done,) = store.begin_commit([service("u", put("orders", "k"), outcome=b"first")])
    store.commit()
    store.begin_commit([service("v", put("orders", "k"))])
    survivor = make_sqlite(leave_by_kill())
    known, lost = survivor.begin_commit([service("u"), service("v", put("orders", "k", b"again"))])
    assert known == KnownOutcome(b"first", done.positions)
    assert lost.versions == [2]
    survivor.commit()


def test_forgetting_keys_goes_on_over_slices_of_no_time(make_sqlite, options, service):
    store = make_sqlite(options=attrs.evolve(options, sweep_s=0.0))
    for start in range(0, 1000, 100):
        store.begin_commit([service(f"u{n}") for n in range(start, start + 100)])
        store.commit()
    num_slices = 1
    while store.trim(10**9, 0.0).has_more:
        num_slices += 1
    assert num_slices > 4
    assert store.statistics().num_idempotency_trimmed == 1000
    (again,) = store.begin_commit([service("u7", request_hash=b"new")])
    assert again == Committed([], {})


def test_positions_under_a_key_in_a_marked_copy_are_of_its_new_epochs(
    make_sqlite, service, put, copy_marked
):
    store = make_sqlite()
    (done,) = store.begin_commit([service("u", put("orders", "k"))])
    store.commit()
    store.close()
    copy = make_sqlite(copy_marked())
    (known,) = copy.begin_commit([service("u")])
    epoch = copy.scan(ChannelName("orders"), None, 1, 1).position.epoch
    assert known.positions == {"orders": Position(epoch, 1)}
    assert done.positions["orders"].epoch != epoch
