"""What every store makes of reads that saw an earlier mutation of their group (`EntryRead.written_by`)."""

import pytest

from syncd.ids import ChannelName
from syncd.ports_state import Committed, Conflict, EntryRead


def test_a_read_of_what_the_group_wrote_stands_if_that_took_effect(log, mutation, put, delete):
    log.mutate(mutation("z", 1, put("orders", "old"), put("orders", "gone")))
    results = log.mutate(
        mutation(
            "a", 1, put("orders", "new"), put("orders", "old", b"2"), delete("orders", "gone")
        ),
        mutation("b", 1, reads=[("orders", "new", -1, 0), ("orders", "old", -1, 0)]),
        mutation("c", 1, put("orders", "gone"), reads=[("orders", "gone", -1, 0)]),
        mutation("d", 1, reads=[("orders", "gone", -1, 2), ("orders", "new", -1, 0)]),
    )
    assert [type(r) for r in results] == [Committed] * 4
    assert log.entry("orders", "gone").version == 6


@pytest.mark.parametrize("reason", ["conflict", "resent", "skipped", "wrote another key"])
def test_a_read_of_what_did_not_take_effect_is_a_conflict(log, mutation, put, reason):
    log.mutate(mutation("z", 1, put("orders", "k")), mutation("known", 1))
    first = {
        "conflict": mutation("a", 1, put("orders", "k"), reads=[("orders", "k", 9)]),
        "resent": mutation("known", 1, put("orders", "k")),
        "skipped": mutation("a", 7, put("orders", "k")),
        "wrote another key": mutation("a", 1, put("orders", "other"), put("orders/eu", "k")),
    }[reason]
    _, second, third = log.mutate(
        first,
        mutation("b", 1, put("orders", "k", b"2"), reads=[("orders", "k", -1, 0)]),
        mutation("c", 1, reads=[("orders", "k", -1, 1)]),
    )
    assert second == Conflict(EntryRead(ChannelName("orders"), "k", -1, 0))
    assert third == Conflict(EntryRead(ChannelName("orders"), "k", -1, 1))
    assert log.entry("orders", "k").version == 1


def test_a_read_of_what_was_overwritten_in_the_group_is_a_conflict(log, mutation, put, delete):
    results = log.mutate(
        mutation("a", 1, put("orders", "k")),
        mutation("b", 1, delete("orders", "k")),
        mutation("c", 1, reads=[("orders", "k", -1, 0)]),
        mutation("d", 1, reads=[("orders", "k", -1, 1)]),
    )
    assert [type(r) for r in results] == [Committed, Committed, Conflict, Committed]


@pytest.mark.parametrize("index", [-2, -1, 0, 1, 2, 5])
def test_a_read_of_what_the_group_did_not_write_is_a_conflict(log, mutation, put, index):
    log.mutate(mutation("z", 1, put("orders", "k")), mutation("z", 2, put("orders", "k")))
    log.mutate(mutation("z", 3, put("orders", "k")), commit=False)
    (result,) = log.mutate(
        mutation("a", 1, put("orders", "k"), reads=[("orders", "k", -1, index)]),
    )
    assert isinstance(result, Conflict)


def test_each_group_of_a_transaction_counts_from_its_own_first_mutation(log, mutation, put):
    log.mutate(mutation("a", 1, put("orders", "x")), mutation("b", 1), commit=False)
    results = log.mutate(
        mutation("c", 1, put("orders", "y")),
        mutation("d", 1, reads=[("orders", "y", -1, 0)]),
        mutation("e", 1, reads=[("orders", "x", -1, 0)]),
        mutation("f", 1, reads=[("orders", "x", 1)]),
    )
    assert [type(r) for r in results] == [Committed, Committed, Conflict, Committed]


def test_a_read_of_a_version_that_no_entry_has_is_a_conflict(log, mutation):
    (result,) = log.mutate(mutation("a", 1, reads=[("orders", "k", -1)]))
    assert isinstance(result, Conflict)
