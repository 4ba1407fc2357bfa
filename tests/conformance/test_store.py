"""What every store keeps, whatever it is made of."""

import re

import pytest

from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.ids import ChannelName
from syncd.ports_log import Appended
from syncd.store.base import NODE_SECRET


def test_offsets_of_a_channel_are_dense_from_one(log, event):
    results = log.append(event("demo:a"), event("demo:b"), event("demo:a"))
    results += log.append(event("demo:a"))
    assert [r.offset for r in results] == [1, 1, 2, 3]
    assert log.offsets("demo:a") == [1, 2, 3]
    assert log.head("demo:a").top == 3


def test_epochs_are_sixteen_hex_digits_and_differ_between_channels(log, event):
    a, b = log.append(event("demo:a"), event("demo:b"))
    assert re.fullmatch("[0-9a-f]{16}", a.epoch)
    assert a.epoch != b.epoch


def test_the_epoch_told_before_the_first_event_is_the_one_that_stays(log, event):
    before = log.head("demo:a")
    (result,) = log.append(event("demo:a"))
    assert (before.top, before.floor) == (0, 0)
    assert before.epoch == result.epoch == log.head("demo:a").epoch


def test_an_event_is_read_as_it_was_written(log, event):
    log.append(event("demo:a", b"\x00\xff", key="ключ", at_ms=2**40))
    (stored,) = log.page("demo:a").events
    assert (stored.offset, stored.at_ms, stored.key, stored.record) == (
        1,
        2**40,
        "ключ",
        b"\x00\xff",
    )


def test_a_rollback_leaves_nothing_behind(log, event):
    log.append(event("demo:a"))
    log.append(
        event("demo:a", uid="u"), event("demo:new"), event("latest:k", key="k"), commit=False
    )
    log.store.rollback()
    assert log.head("demo:a").top == 1
    assert log.head("demo:new").top == 0
    assert log.offsets("latest:k") == []
    assert log.store.statistics().num_events_written == 1
    results = log.append(event("demo:a", uid="u"), event("demo:new"))
    assert [(r.offset, r.is_duplicate) for r in results] == [(2, False), (1, False)]


def test_a_rollback_brings_back_what_a_latest_channel_superseded(log, event):
    for key in "abc":
        log.append(event("tiny:a", key=key))
    log.append(event("tiny:a", key="b"), event("tiny:a", key="d"), commit=False)
    log.store.rollback()
    assert log.offsets("tiny:a") == [1, 2, 3]
    assert log.head("tiny:a").floor == 0
    log.append(event("tiny:a", key="b"))
    assert log.offsets("tiny:a") == [1, 3, 4]


def test_a_rollback_without_a_transaction_does_nothing(log, event):
    log.append(event("demo:a"))
    log.store.rollback()
    assert log.offsets("demo:a") == [1]


def test_a_request_that_cannot_be_stored_undoes_its_transaction(log, event):
    bad = event("demo:a")
    bad.idempotency = object()
    with pytest.raises(AttributeError):
        log.store.begin([event("demo:a", uid="u"), bad])
    assert log.head("demo:a").top == 0
    assert [r.offset for r in log.append(event("demo:a", uid="u"))] == [1]


# ------------------------------------------------------------------------------------------------ idempotency


def test_a_known_key_answers_its_first_position_and_writes_nothing(log, event):
    (first,) = log.append(event("demo:a", uid="u"))
    log.append(event("demo:a"))
    (again,) = log.append(event("demo:a", uid="u"))
    assert again == Appended(first.epoch, 1, is_duplicate=True)
    assert log.head("demo:a").top == 2
    assert log.store.statistics().num_duplicates == 1


def test_duplicates_inside_one_batch_see_each_other(log, event):
    results = log.append(event("demo:a", uid="u"), event("demo:a"), event("demo:a", uid="u"))
    assert [(r.offset, r.is_duplicate) for r in results] == [(1, False), (2, False), (1, True)]
    assert log.offsets("demo:a") == [1, 2]


def test_a_key_used_for_another_request_fails_that_request_alone(log, event):
    log.append(event("demo:a", uid="u"))
    results = log.append(
        event("demo:a", uid="v"),
        event("demo:a", uid="u", request_hash=b"other"),
        event("demo:a", uid="v", request_hash=b"other"),
        event("demo:a"),
    )
    assert [getattr(r, "offset", None) for r in results] == [2, None, None, 3]
    for refused in (results[1], results[2]):
        assert isinstance(refused, SyncdError)
        assert refused.code is ErrorCode.IDEMPOTENCY_MISMATCH
    assert log.store.statistics().num_mismatches == 2


def test_keys_of_different_speakers_have_nothing_in_common(log, event):
    results = log.append(
        event("demo:a", uid="u", who="user:a"), event("demo:a", uid="u", who="user:b")
    )
    assert [r.offset for r in results] == [1, 2]


def test_a_key_is_kept_for_its_time_and_forgotten_after_it(log, event):
    log.append(event("demo:a", uid="u", at_ms=1_000_000))
    log.trim(1_000_000 + 100_000)
    assert log.append(event("demo:a", uid="u"))[0].is_duplicate
    log.trim(1_000_000 + 100_001)
    assert not log.append(event("demo:a", uid="u"))[0].is_duplicate
    assert log.store.statistics().num_idempotency_trimmed == 1


def test_a_key_outlives_its_event(log, event):
    (first,) = log.append(event("small:a", uid="u"))
    log.append(*[event("small:a") for _ in range(20)])
    log.trim()
    assert log.append(event("small:a", uid="u"))[0] == Appended(first.epoch, 1, is_duplicate=True)


# ------------------------------------------------------------------------------------------------ reading


def test_a_slice_excludes_after_and_includes_upto(log, event):
    log.append(*[event("demo:a") for _ in range(6)])
    assert log.offsets("demo:a", after=2, upto=4) == [3, 4]
    assert log.offsets("demo:a", after=6) == []
    assert log.offsets("demo:a", after=99) == []


def test_a_reversed_slice_descends_from_before(log, event):
    log.append(*[event("demo:a") for _ in range(6)])
    assert log.offsets("demo:a", reverse=True) == [6, 5, 4, 3, 2, 1]
    assert log.offsets("demo:a", reverse=True, before=4) == [3, 2, 1]
    assert log.offsets("demo:a", reverse=True, before=4, after=1) == [3, 2]
    assert log.offsets("demo:a", before=4) == [1, 2, 3]


@pytest.mark.parametrize(
    ("limit", "max_bytes", "expected", "is_complete"),
    [
        (3, 100, [1, 2, 3], True),
        (2, 100, [1, 2], False),
        (3, 20, [1, 2], False),
        (3, 19, [1], False),
        (3, 30, [1, 2, 3], True),
        (3, 1, [1], False),
    ],
)
def test_a_page_ends_at_the_first_bound_but_holds_one_event(
    log, event, limit, max_bytes, expected, is_complete
):
    log.append(*[event("demo:a", b"0123456789") for _ in range(3)])
    page = log.page("demo:a", limit=limit, max_bytes=max_bytes)
    assert [e.offset for e in page.events] == expected
    assert page.is_complete is is_complete


def test_an_unwritten_channel_reads_empty_and_complete(log):
    page = log.page("demo:none")
    assert (page.events, page.is_complete, page.head.top) == ([], True, 0)


@pytest.mark.parametrize(
    ("events", "size", "expected"), [(2, 100, [4, 5]), (9, 25, [4, 5]), (9, 9, []), (0, 100, [])]
)
def test_a_tail_is_the_newest_events_within_both_bounds(log, event, events, size, expected):
    log.append(*[event("demo:a", b"0123456789") for _ in range(5)])
    loaded = log.store.load("demo:a", events, size)
    assert [e.offset for e in loaded.tail] == expected
    assert loaded.head == log.head("demo:a")


# ------------------------------------------------------------------------------------------------ retention


def test_a_stream_is_held_to_its_size_before_it_is_trimmed(log, event):
    log.append(*[event("small:a") for _ in range(8)])
    assert log.head("small:a").floor == 3
    assert log.offsets("small:a") == [4, 5, 6, 7, 8]
    assert [e.offset for e in log.store.load("small:a", 99, 999).tail] == [4, 5, 6, 7, 8]


def test_a_position_at_the_floor_gets_all_that_came_after_it(log, event):
    log.append(*[event("small:a") for _ in range(300)])
    log.trim()
    head = log.head("small:a")
    assert (head.floor, head.top) == (295, 300)
    assert log.offsets("small:a", after=head.floor) == [296, 297, 298, 299, 300]
    assert log.offsets("small:a", after=0) == [296, 297, 298, 299, 300]


def test_events_past_their_age_are_trimmed_from_the_front(log, event):
    log.append(*[event("wide:a", at_ms=1000 * n) for n in range(100)])
    log.trim(60_000 + 50_000)
    assert log.head("wide:a").floor == 50
    assert log.offsets("wide:a", limit=1) == [51]
    assert log.store.statistics().num_events_trimmed == 50


def test_a_stream_trimmed_empty_keeps_its_epoch_and_top(log, event):
    (first,) = log.append(event("wide:a", at_ms=0))
    log.trim(10**9)
    head = log.head("wide:a")
    assert (head.epoch, head.top, head.floor) == (first.epoch, 1, 1)
    assert log.append(event("wide:a", at_ms=10**9))[0] == Appended(first.epoch, 2)


def test_trimming_by_age_stops_at_the_first_event_that_is_young(log, event):
    log.append(event("wide:a", at_ms=0), event("wide:a", at_ms=10**9), event("wide:a", at_ms=0))
    log.trim(10**6)
    assert log.offsets("wide:a") == [2, 3]


def test_a_trim_without_work_changes_nothing(log, event):
    log.append(event("demo:a"))
    report = log.store.trim(0, 1.0)
    assert (report.num_events, report.num_idempotency) == (0, 0)
    assert log.offsets("demo:a") == [1]


def test_a_slice_of_trimming_without_time_still_gets_on(log, event):
    for n in range(200):
        log.append(*[event(f"wide:{n}", at_ms=0) for _ in range(3)])
    num_slices = 1
    while log.store.trim(10**9, 0.0).has_more:
        num_slices += 1
        assert num_slices < 2000
    assert num_slices > 1
    assert all(log.head(f"wide:{n}").floor == 3 for n in range(200))


# ------------------------------------------------------------------------------------------------ latest


def test_a_latest_channel_keeps_one_event_a_key(log, event):
    log.append(
        *[event("latest:a", key=k, record=k.encode()) for k in "abab"], event("latest:a", key="c")
    )
    assert log.offsets("latest:a") == [3, 4, 5]
    assert log.head("latest:a").floor == 0


def test_superseding_does_not_move_the_floor_and_evicting_does(log, event):
    for key in "abc":
        log.append(event("tiny:a", key=key))
    log.append(event("tiny:a", key="a"))
    assert log.head("tiny:a").floor == 0
    log.append(event("tiny:a", key="d"))
    assert log.head("tiny:a").floor == 2
    assert [e.key for e in log.page("tiny:a").events] == ["c", "a", "d"]


def test_an_evicted_key_may_come_back(log, event):
    for key in "abcda":
        log.append(event("tiny:a", key=key))
    assert [e.key for e in log.page("tiny:a").events] == ["c", "d", "a"]
    log.append(event("tiny:a", key="a"))
    assert [(e.key, e.offset) for e in log.page("tiny:a").events] == [("c", 3), ("d", 4), ("a", 6)]


def test_events_without_a_key_supersede_each_other_and_no_key(log, event):
    for key in (None, "", "0", None, "k"):
        log.append(event("latest:a", key=key))
    assert [(e.offset, e.key) for e in log.page("latest:a").events] == [
        (2, ""),
        (3, "0"),
        (4, None),
        (5, "k"),
    ]


def test_keys_past_their_age_are_evicted_oldest_first(log, event):
    log.append(*[event("latest:a", key=k, at_ms=n * 1000) for n, k in enumerate("abca")])
    log.trim(60_000 + 2000)
    assert [e.key for e in log.page("latest:a").events] == ["c", "a"]
    assert log.head("latest:a").floor == 2
    log.append(event("latest:a", key="b", at_ms=10**6))
    assert [e.key for e in log.page("latest:a").events] == ["c", "a", "b"]


# ------------------------------------------------------------------------------------------------ meta


def test_the_node_secret_is_there_from_the_start(log):
    secret = log.store.meta_get(NODE_SECRET)
    assert len(secret) == 32
    assert log.store.meta_get(NODE_SECRET) == secret


def test_meta_values_are_kept_and_replaced(log):
    assert log.store.meta_get("k") is None
    log.store.meta_set("k", b"1")
    log.store.meta_set("k", b"2")
    log.store.probe()
    assert log.store.meta_get("k") == b"2"


def test_several_channels_are_loaded_as_each_for_itself(log, event):
    names = [ChannelName(f"wide:{letter}") for letter in "abc"]
    for number, name in enumerate(names):
        log.append(*[event(name, b"%d" % n) for n in range(3 * number)])
    log.append(event("tiny:x", b"1", key="k"), event("tiny:x", b"2", key="k"))
    wanted = [(names[0], 5, 100), (names[1], 5, 100), (names[2], 2, 100), (names[2], 5, 3)]
    wanted += [(ChannelName("tiny:x"), 5, 2**30), (ChannelName("wide:never"), 5, 100)]
    loaded = log.store.load_many(wanted)
    assert [(each.head, list(each.tail)) for each in loaded] == [
        (one.head, list(one.tail)) for one in (log.store.load(*each) for each in wanted)
    ]
    assert [len(each.tail) for each in loaded] == [0, 3, 2, 3, 1, 0]
