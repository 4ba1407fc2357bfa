"""What every store keeps of collections and mutations, whatever it is made of."""

import pytest

from syncd.ids import ChannelName, Position
from syncd.ports_log import Appended
from syncd.ports_state import (
    Committed,
    Conflict,
    Entry,
    EntryRead,
    KeyName,
    KnownOutcome,
    OutOfOrder,
)
from syncd.store.base import CLIENT_USE_MS

UNKNOWN = KnownOutcome(None, {})


def position(log, channel, offset):
    return {ChannelName(channel): Position(log.head(channel).epoch, offset)}


# ------------------------------------------------------------------------------------------------ effects


def test_a_write_becomes_an_entry_whose_version_is_the_offset_of_its_event(log, mutation, put):
    (result,) = log.mutate(mutation("c", 1, put("orders", "k", b"v", ["t"]), at_ms=7))
    assert result == Committed([1], position(log, "orders", 1))
    assert log.entry("orders", "k") == Entry("k", 1, b"v", ("t",))
    (event,) = log.page("orders").events
    assert (event.offset, event.at_ms, event.key, event.record) == (1, 7, "k", b"r:v")
    assert log.store.last_mids(["c", "d"]) == [1, 0]


def test_writes_to_one_channel_take_consecutive_offsets_and_the_last_of_a_key_stays(
    log, mutation, put, delete
):
    (result,) = log.mutate(
        mutation(
            "c",
            1,
            put("orders", "k", b"1"),
            put("orders/eu", "k", b"2"),
            put("orders", "gone"),
            put("orders", "k", b"3"),
            delete("orders", "gone"),
        )
    )
    assert result.versions == [1, 1, 2, 3, 4]
    assert result.positions == position(log, "orders", 4) | position(log, "orders/eu", 1)
    assert log.entry("orders", "k") == Entry("k", 3, b"3")
    assert log.entry("orders/eu", "k") == Entry("k", 1, b"2")
    assert log.entry("orders", "gone") is None
    assert log.offsets("orders") == [1, 2, 3, 4]


def test_a_deleted_entry_is_absent_and_comes_back_with_a_higher_version(log, mutation, put, delete):
    log.mutate(mutation("c", 1, put("orders", "k")))
    log.mutate(mutation("c", 2, delete("orders", "k")))
    assert log.entry("orders", "k") is None
    (again,) = log.mutate(mutation("c", 3, put("orders", "k"), reads=[("orders", "k", 0)]))
    assert again.versions == [3]


def test_events_without_an_entry_follow_the_writes_and_are_told(log, mutation, put, event):
    (result,) = log.mutate(
        mutation("c", 1, put("orders", "k"), events=[event("demo:a", b"x"), event("orders")])
    )
    epoch, other = log.head("demo:a").epoch, log.head("orders").epoch
    assert result.appended == [Appended(epoch, 1), Appended(other, 2)]
    assert result.positions == position(log, "orders", 2) | position(log, "demo:a", 1)
    assert [e.record for e in log.page("demo:a").events] == [b"x"]


def test_a_rejection_stores_its_outcome_advances_last_and_writes_no_event(log, mutation):
    assert log.mutate(mutation("c", 1, outcome=b"no")) == [Committed([], {})]
    assert log.store.last_mids(["c"]) == [1]
    assert log.mutate(mutation("c", 1)) == [KnownOutcome(b"no", {})]


def test_statistics_count_what_was_decided(log, mutation, put):
    log.mutate(
        mutation("c", 1, put("orders", "k")),
        mutation("c", 1),
        mutation("c", 2, reads=[("orders", "k", 9)]),
    )
    counts = log.store.statistics()
    assert (counts.num_mutations, counts.num_resent, counts.num_conflicts) == (1, 1, 1)
    assert counts.num_events_written == 1


# ------------------------------------------------------------------------------------------------ once


def test_a_resent_mutation_answers_its_first_outcome_and_does_nothing(log, mutation, put):
    first, again = log.mutate(
        mutation("c", 1, put("orders", "k", b"1"), outcome=b"first"),
        mutation("c", 1, put("orders", "k", b"2"), outcome=b"second"),
    )
    known = KnownOutcome(b"first", first.positions)
    assert again == known
    assert log.mutate(mutation("c", 1, put("orders", "k", b"3"))) == [known]
    assert log.entry("orders", "k") == Entry("k", 1, b"1")
    assert log.offsets("orders") == [1]


def test_a_skipped_mutation_is_told_what_is_expected_and_leaves_no_trace(log, mutation, put):
    skipped, first, third = log.mutate(
        mutation("c", 2, put("new", "k")),
        mutation("c", 1),
        mutation("c", 3, put("new", "k")),
    )
    assert (skipped, third) == (OutOfOrder(1), OutOfOrder(2))
    assert isinstance(first, Committed)
    assert log.head("new").top == 0
    assert log.store.last_mids(["c"]) == [1]


def test_numbers_below_one_are_known_and_have_no_outcome(log, mutation):
    assert log.mutate(mutation("c", 0), mutation("c", -1)) == [UNKNOWN, UNKNOWN]
    assert log.store.last_mids(["c"]) == [0]


@pytest.mark.parametrize(("present", "read"), [(0, 1), (1, 0), (1, 2)])
def test_a_read_that_is_not_true_any_more_is_a_conflict_and_leaves_no_trace(
    log, mutation, put, present, read
):
    for mid in range(1, present + 1):
        log.mutate(mutation("setup", mid, put("orders", "k", b"old")))
    refused, after = log.mutate(
        mutation("c", 1, put("orders", "k", b"new"), reads=[("orders", "k", read)]),
        mutation("c", 1, outcome=b"rejected instead"),
    )
    assert refused == Conflict(EntryRead(ChannelName("orders"), "k", read))
    assert isinstance(after, Committed)
    assert log.head("orders").top == present
    assert (log.entry("orders", "k") is None) == (present == 0)


def test_a_rejection_on_what_is_not_true_any_more_is_a_conflict_too(log, mutation, put):
    log.mutate(mutation("a", 1, put("orders", "k")))
    (result,) = log.mutate(mutation("c", 1, reads=[("orders", "k", 0)]))
    assert isinstance(result, Conflict)
    assert log.store.last_mids(["c"]) == [0]


def test_each_mutation_of_a_group_sees_those_before_it(log, mutation, put, delete):
    results = log.mutate(
        mutation("a", 1, put("orders", "k"), reads=[("orders", "k", 0)]),
        mutation("b", 1, put("orders", "k"), reads=[("orders", "k", 1)]),
        mutation("c", 1, put("orders", "k"), reads=[("orders", "k", 1)]),
        mutation("b", 2, delete("orders", "k"), reads=[("orders", "k", 2)]),
        mutation("d", 1, put("orders", "k"), reads=[("orders", "k", 0)]),
    )
    assert [type(r).__name__ for r in results] == [
        "Committed",
        "Committed",
        "Conflict",
        "Committed",
        "Committed",
    ]
    assert log.entry("orders", "k").version == 4


# ------------------------------------------------------------------------------------------------ transactions


def test_a_rollback_of_mutations_leaves_nothing_behind(log, mutation, put, delete):
    log.mutate(mutation("c", 1, put("orders", "k", b"1", ["old"])))
    log.mutate(
        mutation("c", 2, delete("orders", "k")),
        mutation("c", 3, put("orders", "k", b"2", ["new"])),
        mutation("d", 1, put("fresh", "k", b"3", ["new"])),
        commit=False,
    )
    log.store.rollback()
    assert log.store.last_mids(["c", "d"]) == [1, 0]
    assert log.entry("orders", "k") == Entry("k", 1, b"1", ("old",))
    assert log.scan("fresh").entries == []
    assert (log.tagged("orders", "old"), log.tagged("fresh", "new")) == ([("orders", "k")], [])
    assert log.head("orders").top == 1
    assert log.store.statistics().num_mutations == 1
    assert isinstance(log.mutate(mutation("c", 2))[0], Committed)
    log.trim(10**12)
    assert log.store.statistics().num_clients_trimmed == 1


def test_publications_and_mutations_share_a_transaction_in_any_order(log, mutation, put, event):
    first = log.append(event("orders", uid="u"), commit=False)
    second = log.mutate(mutation("c", 1, put("orders", "k")), commit=False)
    third = log.append(event("orders"), event("orders", uid="u"), commit=False)
    fourth = log.mutate(
        mutation("c", 2, put("orders", "k"), reads=[("orders", "k", 2)]), commit=False
    )
    log.store.commit()
    assert [r.offset for r in (*first, *third)] == [1, 3, 1]
    assert (second[0].versions, fourth[0].versions) == ([2], [4])
    assert log.offsets("orders") == [1, 2, 3, 4]
    log.append(event("orders"), commit=False)
    log.mutate(mutation("c", 3, put("orders", "k")), commit=False)
    log.store.rollback()
    assert (log.head("orders").top, log.store.last_mids(["c"])) == (4, [2])


def test_a_mutation_that_cannot_be_stored_undoes_its_transaction(log, mutation, put, event):
    bad = mutation("c", 2, put("orders", "k"))
    bad.writes.append(object())
    log.append(event("demo:a"), commit=False)
    with pytest.raises(AttributeError):
        log.store.begin_commit([mutation("c", 1, put("orders", "k")), bad])
    assert log.store.last_mids(["c"]) == [0]
    assert log.entry("orders", "k") is None
    assert (log.head("demo:a").top, log.head("orders").top) == (0, 0)
    log.mutate(mutation("c", 1, put("orders", "k")))
    assert log.entry("orders", "k").version == 1


# ------------------------------------------------------------------------------------------------ outcomes


def test_an_acknowledged_outcome_is_unknown_and_its_mutation_stays_decided(log, mutation, put):
    log.mutate(*[mutation("c", mid, put("orders", "k")) for mid in (1, 2, 3)])
    log.store.acknowledge("c", 2)
    log.store.acknowledge("c", 1)
    log.store.acknowledge("nobody", 5)
    answers = log.mutate(*[mutation("c", mid) for mid in (1, 2, 3)])
    assert [a.outcome for a in answers] == [None, None, b"3"]
    assert log.store.last_mids(["c"]) == [3]


def test_an_acknowledgement_outlives_the_transaction_that_was_undone(log, mutation):
    log.mutate(mutation("c", 1))
    log.store.acknowledge("c", 1)
    log.mutate(mutation("d", 1), commit=False)
    log.store.rollback()
    assert log.mutate(mutation("c", 1)) == [UNKNOWN]


def test_an_acknowledgement_of_the_future_drops_nothing_that_comes_later(log, mutation):
    log.mutate(mutation("c", 1))
    log.store.acknowledge("c", 1000)
    log.mutate(mutation("c", 2))
    assert [a.outcome for a in log.mutate(mutation("c", 1), mutation("c", 2))] == [None, b"2"]


@pytest.mark.parametrize("last", [29, 30, 31])
def test_only_the_newest_outcomes_of_a_client_are_answered(log, mutation, last):
    for mid in range(1, last + 1):
        log.mutate(mutation("c", mid))
    answers = log.mutate(*[mutation("c", mid) for mid in range(1, last + 1)])
    kept = [b"%d" % mid for mid in range(last - 7, last + 1)]
    assert [a.outcome for a in answers] == [None] * (last - 8) + kept


def test_outcomes_of_a_busy_client_are_bounded_without_trimming(log, mutation):
    for mid in range(1, 101):
        log.mutate(mutation("c", mid))
    log.trim(10**12)
    assert 8 <= log.store.statistics().num_outcomes_trimmed <= 8 + 8 // 4 + 1


def test_outcomes_past_their_age_are_unknown_and_younger_ones_stay(log, mutation):
    log.mutate(mutation("c", 1, at_ms=1000), mutation("c", 2, at_ms=2000))
    log.trim(101_000)
    assert log.store.statistics().num_outcomes_trimmed == 0
    log.trim(101_001)
    assert log.store.statistics().num_outcomes_trimmed == 1
    assert [a.outcome for a in log.mutate(mutation("c", 1), mutation("c", 2))] == [None, b"2"]


def test_a_client_is_forgotten_long_after_its_last_mutation(log, mutation):
    hour = CLIENT_USE_MS
    log.mutate(mutation("c", 1, at_ms=0), mutation("d", 1, at_ms=0))
    log.mutate(mutation("c", 2, at_ms=hour - 1), mutation("d", 2, at_ms=hour))
    log.trim(10_000_000 + hour)
    assert log.store.last_mids(["c", "d"]) == [2, 2]
    log.trim(10_000_000 + hour + 1)
    assert log.store.last_mids(["c", "d"]) == [0, 2]
    assert log.store.statistics().num_clients_trimmed == 1
    assert isinstance(log.mutate(mutation("c", 1))[0], Committed)


def test_trimming_the_log_takes_no_entry_away(log, mutation, put):
    log.mutate(mutation("c", 1, put("small:a", "k")))
    for mid in range(2, 300):
        log.mutate(mutation("c", mid, put("small:a", "other")))
    log.trim(10**9)
    assert log.entry("small:a", "k").version == 1
    assert log.head("small:a").floor >= 294


# ------------------------------------------------------------------------------------------------ reading


def test_entries_come_in_the_order_asked_without_those_that_are_not_there(log, mutation, put):
    log.mutate(mutation("c", 1, put("orders", "a", b"1"), put("orders", "b", b"2")))
    found = log.store.entries(ChannelName("orders"), ["b", "none", "a"])
    assert [(e.key, e.value) for e in found] == [("b", b"2"), ("a", b"1")]
    assert log.store.entries(ChannelName("never"), ["a"]) == []


def test_many_entries_come_in_the_order_asked_as_often_as_asked(log, mutation, put):
    keys = [f"{n:03}" for n in range(300)]
    log.mutate(mutation("c", 1, *[put("orders", key, key.encode()) for key in keys[::2]]))
    asked = [*reversed(keys), *keys[:70], "000", "000"]
    found = log.store.entries(ChannelName("orders"), asked)
    assert [e.key for e in found] == [key for key in asked if int(key) % 2 == 0]
    assert all(e.value == e.key.encode() for e in found)


def test_a_scan_goes_by_code_points_in_pages_as_of_a_position(log, mutation, put):
    keys = ["", "A", "a", "a/b", "a0", "é", "я", "\uffff", "\U0001f600"]
    writes = [put("orders", key) for key in reversed(keys)]
    log.mutate(mutation("c", 1, *writes, put("order", "x"), put("orders/eu", "x")))
    whole = log.scan("orders")
    assert [e.key for e in whole.entries] == keys
    assert whole.is_complete
    assert whole.position == Position(log.head("orders").epoch, len(keys))
    assert [e.key for e in log.scan("orders", after="a", limit=2).entries] == ["a/b", "a0"]
    assert [e.key for e in log.scan("orders", after="b").entries] == keys[5:]
    assert log.scan("orders", after="").entries == whole.entries[1:]
    last = log.scan("orders", after="\U0001f600")
    assert (last.entries, last.is_complete) == ([], True)


def test_a_scan_is_bounded_in_entries_and_bytes_but_gives_at_least_one(log, mutation, put):
    log.mutate(mutation("c", 1, *[put("orders", key, bytes(10)) for key in "abcd"]))

    def keys(**bounds):
        page = log.scan("orders", **bounds)
        return "".join(e.key for e in page.entries), page.is_complete

    assert keys(limit=4) == ("abcd", True)
    assert keys(limit=3) == ("abc", False)
    assert keys(max_bytes=29) == ("ab", False)
    assert keys(max_bytes=30) == ("abc", False)
    assert keys(max_bytes=40) == ("abcd", True)
    assert keys(max_bytes=1) == ("a", False)
    assert keys(after="c", max_bytes=1) == ("d", True)


def test_a_scan_of_a_channel_never_written_tells_the_epoch_it_will_have(log, mutation, put):
    page = log.scan("orders")
    assert (page.position.offset, page.entries, page.is_complete) == (0, [], True)
    log.mutate(mutation("c", 1, put("orders", "k")))
    assert log.scan("orders").position.epoch == page.position.epoch


def test_tags_are_those_of_the_last_write(log, mutation, put, delete):
    log.mutate(mutation("c", 1, put("orders", "k", tags=["a", "b", "a"])))
    assert log.entry("orders", "k").tags == ("a", "b", "a")
    assert log.tagged("orders", "a") == [("orders", "k")]
    log.mutate(mutation("c", 2, put("orders", "k", tags=["b", "ц"])))
    assert [log.tagged("orders", t) for t in "abц"] == [[], [("orders", "k")], [("orders", "k")]]
    log.mutate(mutation("c", 3, delete("orders", "k")))
    assert [log.tagged("orders", t) for t in "abц"] == [[], [], []]


def test_tags_may_be_any_text(log, mutation, put):
    tags = ["", '", "', "[", '"', "\\", "a, b", "цена", "\n", "\U0001f600"]
    for mid, some in enumerate([*[[tag] for tag in tags], tags, tags[:1] * 2], 1):
        log.mutate(mutation("c", mid, put("orders", "k", tags=some)))
        assert log.entry("orders", "k").tags == tuple(some)
    log.mutate(mutation("d", 1, put("orders", "k", tags=tags)))
    assert [log.tagged("orders", tag) for tag in tags] == [[("orders", "k")]] * len(tags)


def test_a_tag_covers_the_collection_and_its_partitions_and_nothing_beside(log, mutation, put):
    channels = ["orders", "orders-old", "orders!", "orders/a", "orders/b/c", "orders0", "order"]
    keys = ["", "1", "2"]
    log.mutate(mutation("c", 1, *[put(c, k, tags=["t"]) for c in channels for k in keys]))
    inside = [(c, k) for c in ("orders", "orders/a", "orders/b/c") for k in keys]
    assert log.tagged("orders", "t") == inside
    assert log.tagged("orders", "t", limit=4) == inside[:4]
    for index, after in enumerate(inside):
        assert log.tagged("orders", "t", after=after, limit=3) == inside[index + 1 : index + 4]
    assert log.tagged("orders", "t", after=("orders-old", "1")) == inside[3:]
    assert log.tagged("orders", "t", after=("orders", "9")) == inside[3:]
    assert log.tagged("none", "t") == log.tagged("orders", "u") == []


# ------------------------------------------------------------------------------------------------ counting


def test_entries_are_counted_as_they_come_and_go(log, mutation, put, delete):
    assert log.store.count("orders") == 0
    log.mutate(
        mutation("c", 1, put("orders", "a"), put("orders", "a"), put("orders", "b")),
        mutation("c", 2, delete("orders", "b"), delete("orders", "b"), delete("orders", "never")),
        mutation("c", 3, put("orders/eu", "a"), put("orders", "b"), put("orders", "c")),
    )
    assert [log.store.count(name) for name in ("orders", "orders/eu", "order")] == [3, 1, 0]
    log.mutate(mutation("c", 4, delete("orders", "a"), put("orders", "d")), commit=False)
    log.store.rollback()
    assert log.store.count("orders") == 3
    log.mutate(mutation("c", 4, delete("orders", "a"), delete("orders", "b")))
    assert log.store.count("orders") == 1


def test_a_scan_tells_of_the_same_moment_which_mutations_it_holds(log, mutation, put):
    log.mutate(mutation("c", 1, put("orders", "a")), mutation("c", 2, put("orders", "b")))
    log.mutate(mutation("d", 1))
    page, mids = log.store.scan_for(("d", "c", "nobody"), ChannelName("orders"), None, 1, 10**6)
    assert [entry.key for entry in page.entries] == ["a"]
    assert page.position == log.scan("orders").position
    assert not page.is_complete
    assert mids == [1, 2, 0]


def test_entries_are_looked_up_of_the_same_moment_as_the_mutations_that_they_hold(
    log, mutation, put
):
    log.mutate(mutation("c", 1, put("orders", "a")), mutation("c", 2, put("orders", "b")))
    log.mutate(mutation("d", 1))
    keys = [KeyName(key) for key in ("b", "never", "a")]
    found = log.store.look_up(ChannelName("orders"), keys, clients=("d", "c", "nobody"))
    assert [entry.key for entry in found.entries] == ["b", "a"]
    assert found.position == log.scan("orders").position
    assert found.mids == [1, 2, 0]
    assert log.store.look_up(ChannelName("orders"), keys).mids == []


def test_the_heads_of_several_channels_are_those_of_each(log, mutation, put):
    log.mutate(mutation("c", 1, put("orders", "a"), put("orders", "a"), put("prices", "a")))
    names = [ChannelName(name) for name in ("prices", "never", "orders")]
    assert log.store.heads(names) == [log.head(name) for name in names]
    assert [head.top for head in log.store.heads(names)] == [1, 0, 2]
    assert log.store.heads([]) == []
