"""What a mutator sees and does through `tx`, and what becomes of it: reads, writes, events, outcome."""

import msgpack
import pytest

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.model.mutation_group import Decided, NeedsKeys
from syncd.model.recording import MAX_WRITES, Invalidation
from syncd.ports import Identity
from syncd.ports_state import EntryRead
from tests.model.committed_state import NOW_MS, Bench, event_of, outcome_of, rejection_of


@pytest.fixture
def bench():
    bench = Bench()
    bench.state.seed("orders", "a", {"status": "new", "items": [1, 2]}, ("red",))
    bench.state.seed("orders", "n", 5)
    bench.state.seed("lines/eu", "eu/1", {"qty": 1})
    return bench


# ------------------------------------------------------------------ reading


def test_what_get_returns_is_a_copy(bench):
    def act(tx):
        tx.get("a")["items"].append(3)
        return tx.get("a")["items"]

    assert outcome_of(bench.decide(act))["value"] == [1, 2]


def test_a_read_is_recorded_once_with_the_version_seen(bench):
    def act(tx):
        tx.get("a")
        tx.get("a")
        tx.get("none")

    decided = bench.decide(act)
    assert decided.commit.reads == [EntryRead("orders", "a", 1), EntryRead("orders", "none", 0)]


def test_a_mutation_reads_its_own_writes(bench):
    def act(tx):
        tx.put("x", {"n": 1})
        tx.patch("x", {"m": 2})
        seen = [tx.get("x")]
        tx.delete("x")
        return [*seen, tx.get("x"), tx.get("a") is not None]

    decided = bench.decide(act)
    assert outcome_of(decided)["value"] == [{"n": 1, "m": 2}, None, True]
    assert decided.commit.writes == []


def test_get_or_reject_reads_like_a_sentence(bench):
    def act(tx):
        return tx.get("none") or tx.reject("unknown_order", "No such order.")

    body = outcome_of(bench.decide(act))
    assert body["error"] == {"code": "unknown_order", "message": "No such order."}


def test_an_entry_that_is_not_in_memory_ends_the_run_and_is_named(bench):
    bench.state.absent.add(("orders", "a"))
    decision = bench.decide(lambda tx: tx.get("a"))
    assert decision == NeedsKeys([("orders", "a")])


@pytest.mark.parametrize("is_rejecting", [False, True])
def test_a_mutator_cannot_swallow_that_an_entry_is_missing(bench, is_rejecting):
    bench.state.absent.add(("orders", "a"))

    def act(tx):
        try:
            tx.get("a")
        except BaseException:  # noqa: BLE001 - the point
            tx.put("x", 1)
        if is_rejecting:
            tx.reject("anyway")

    assert bench.decide(act) == NeedsKeys([("orders", "a")])


def test_get_many_names_all_that_is_missing_at_once(bench):
    bench.state.absent |= {("orders", "a"), ("orders", "n")}
    decision = bench.decide(lambda tx: tx.get_many(["a", "none", "n", "a"]))
    assert decision == NeedsKeys([("orders", "a"), ("orders", "n")])


def test_get_many_returns_what_there_is_in_order(bench):
    def act(tx):
        return [*tx.get_many(["n", "none", "a"])]

    assert outcome_of(bench.decide(act))["value"] == ["n", "a"]


def test_a_source_that_fails_for_now_advances_nothing(bench):
    error = SyncdError(ErrorCode.STORE_UNAVAILABLE)
    bench.state.broken["orders", "a"] = error
    assert bench.decide(lambda tx: tx.get("a")) is error


def test_a_source_that_fails_for_good_refuses_the_mutation(bench):
    bench.state.broken["orders", "a"] = SyncdError(ErrorCode.TOO_LARGE)
    assert rejection_of(bench.decide(lambda tx: tx.get("a"))) == "too_large"


def test_version_tells_what_a_client_may_have_seen(bench):
    def act(tx):
        versions = [tx.version("a"), tx.version("n"), tx.version("none")]
        tx.put("a", 1)
        tx.delete("n")
        return [*versions, tx.version("a"), tx.version("n")]

    assert outcome_of(bench.decide(act))["value"] == [1, 2, 0, None, 0]


# ------------------------------------------------------------------ writing


def test_writes_of_one_entry_become_one_in_the_order_of_first_change(bench):
    def act(tx):
        tx.put("x", 1)
        tx.put("y", 1)
        tx.put("x", 2)

    writes = bench.decide(act).commit.writes
    assert [(w.key, msgpack.unpackb(w.value)) for w in writes] == [("x", 2), ("y", 1)]


def test_a_put_needs_to_know_nothing(bench):
    bench.state.absent.add(("orders", "a"))
    decided = bench.decide(lambda tx: tx.put("a", "v" * 1000))
    assert decided.commit.reads == []
    assert event_of(decided.commit.writes[0])["data"] == {"value": "v" * 1000}


def test_put_sets_the_tags_and_patch_keeps_them(bench):
    def act(tx):
        tx.put("x", 1, tags=["blue", "blue", "round"])
        tx.patch("a", {"status": "old"})

    x, a = bench.decide(act).commit.writes
    assert x.tags == ("blue", "round")
    assert a.tags == ("red",)
    (a,) = bench.decide(lambda tx: tx.patch("a", {}, tags=["green"])).commit.writes
    assert a.tags == ("green",)
    (a,) = bench.decide(lambda tx: tx.put("a", 1)).commit.writes
    assert a.tags == ()


def test_a_patch_keeps_the_tags_of_its_own_mutation(bench):
    def act(tx):
        tx.put("x", {}, tags=["blue"])
        tx.patch("x", {"n": 1})

    assert bench.decide(act).commit.writes[0].tags == ("blue",)


def test_a_patch_merges_and_none_removes(bench):
    def act(tx):
        tx.patch("a", {"status": None, "more": {"deep": 1}})
        tx.patch("none", {"n": 1})
        return [tx.get("a"), tx.get("none")]

    value = outcome_of(bench.decide(act))["value"]
    assert value == [{"items": [1, 2], "more": {"deep": 1}}, {"n": 1}]


def test_delete_tells_whether_there_was_something(bench):
    def act(tx):
        tx.put("x", 1)
        return [tx.delete(key) for key in ("a", "a", "none", "x", "x")]

    decided = bench.decide(act)
    assert outcome_of(decided)["value"] == [True, False, False, True, False]
    (write,) = decided.commit.writes
    assert (write.key, write.value) == ("a", None)


@pytest.mark.parametrize(
    ("key", "field", "by", "total"),
    [
        ("n", None, 1, 6),
        ("n", None, -7, -2),
        ("n", None, 0.5, 5.5),
        ("none", None, 3, 3),
        ("none", "count", 3, 3),
        ("a", "count", 2, 2),
    ],
)
def test_incr_adds_to_a_number_or_to_nothing(bench, key, field, by, total):
    def act(tx):
        return [tx.incr(key, by, field=field), tx.get(key)]

    returned, kept = outcome_of(bench.decide(act))["value"]
    assert returned == total
    assert (kept if field is None else kept[field]) == total


@pytest.mark.parametrize(
    ("key", "field", "by", "code"),
    [
        ("a", None, 1, "not_a_number"),
        ("a", "status", 1, "not_a_number"),
        ("n", "count", 1, "not_a_number"),
        ("n", None, 2**53 - 1, "out_of_range"),
        ("n", None, float("inf"), "out_of_range"),
    ],
)
def test_incr_refuses_what_makes_no_number(bench, key, field, by, code):
    assert rejection_of(bench.decide(lambda tx: tx.incr(key, by, field=field))) == code


def test_incr_keeps_tags_and_other_fields(bench):
    (write,) = bench.decide(lambda tx: tx.incr("a", field="count")).commit.writes
    assert write.tags == ("red",)
    assert msgpack.unpackb(write.value) == {"status": "new", "items": [1, 2], "count": 1}


@pytest.mark.parametrize(
    ("key", "collection"),
    [
        ("", "orders"),
        ("x" * 256, "orders"),
        ("é" * 128, "orders"),
        ("a\nb", "orders"),
        ("a\x7f", "orders"),
        (5, "orders"),
        (None, "orders"),
        ("eu", "lines"),
        ("eu/", "lines"),
        ("/1", "lines"),
        ("e u/1", "lines"),
        ("ü/1", "lines"),
    ],
)
def test_a_key_that_is_none_is_refused(bench, key, collection):
    for act in (
        lambda tx: tx.get(key, collection=collection),
        lambda tx: tx.put(key, 1, collection=collection),
        lambda tx: tx.delete(key, collection=collection),
    ):
        assert rejection_of(bench.decide(act)) == "bad_key"


def test_a_partition_is_a_channel_of_its_own(bench):
    def act(tx):
        tx.incr("eu/1", field="qty", collection="lines")
        tx.put("us/1/x", 1, collection="lines")

    decided = bench.decide(act)
    assert [(w.channel, w.key) for w in decided.commit.writes] == [
        ("lines/eu", "eu/1"),
        ("lines/us", "us/1/x"),
    ]
    assert decided.commit.reads == [EntryRead("lines/eu", "eu/1", 1)]


def test_a_value_beyond_the_collections_limit_is_refused(bench):
    limit = bench.collections["orders"].max_value_bytes
    text = "x" * (limit - 3)
    assert isinstance(bench.decide(lambda tx: tx.put("x", text)), Decided)
    assert outcome_of(bench.decide(lambda tx: tx.put("x", text)))["status"] == "ok"
    assert rejection_of(bench.decide(lambda tx: tx.put("x", text + "x"))) == "too_large"
    assert rejection_of(bench.decide(lambda tx: tx.patch("a", {"x": text}))) == "too_large"


@pytest.mark.parametrize(
    "act",
    [
        lambda tx: tx.put("x", object()),
        lambda tx: tx.put("x", (1, 2)),
        lambda tx: tx.put("x", {1: 2}),
        lambda tx: tx.put("x", float("nan")),
        lambda tx: tx.put("x", 2**53),
        lambda tx: tx.put("x", "\ud800"),
        lambda tx: tx.put("x", 1, tags="red"),
        lambda tx: tx.put("x", 1, tags=[""]),
        lambda tx: tx.put("x", 1, tags=[str(n) for n in range(33)]),
        lambda tx: tx.put("x", 1, collection="nowhere"),
        lambda tx: tx.patch("x", [1]),
        lambda tx: tx.incr("n", True),
        lambda tx: tx.incr("n", 1, field=2),
        lambda tx: tx.reject(""),
        lambda tx: tx.reject(7),
        lambda tx: tx.reject("x" * 65),
        lambda tx: tx.invalidate(),
        lambda tx: tx.invalidate("a", tags=["red"]),
        lambda tx: [tx.put(str(n), 1) for n in range(MAX_WRITES + 1)] and None,
        lambda tx: tx.nonsense(),
        lambda tx: object(),
        lambda tx: "x" * 70_000,
        lambda tx: [tx.put("x", "x" * 9000) for _ in range(1000)] and None,
    ],
)
def test_a_mutators_mistake_is_a_rejection_that_tells_nothing_inside(bench, act):
    decided = bench.decide(act)
    assert rejection_of(decided) == "mutator_failed"
    assert outcome_of(decided)["error"]["message"] == "The server failed to do this."
    assert isinstance(decided.failure, Exception)


def test_a_null_value_is_an_entry(bench):
    (write,) = bench.decide(lambda tx: tx.put("x", None)).commit.writes
    assert event_of(write)["data"] == {"value": None}


def test_a_long_rejection_is_cut(bench):
    body = outcome_of(bench.decide(lambda tx: tx.reject("no", "x" * 1000)))
    assert body["error"]["message"] == "x" * 500


# ------------------------------------------------------------------ events


def test_a_write_is_told_with_key_author_mutation_and_time(bench):
    (write,) = bench.decide(lambda tx: tx.put("x", [1])).commit.writes
    assert event_of(write, offset=7) == {
        "channel": "orders",
        "epoch": "e",
        "prev": 6,
        "offset": 7,
        "data": {"value": [1]},
        "at_ms": NOW_MS,
        "key": "x",
        "by": {"client": "c", "mid": 1},
    }


def test_a_backend_is_not_told_as_author(bench):
    service = Identity(service="billing")
    decided = bench.decide(lambda tx: tx.put("x", 1), identity=service)
    assert "by" not in event_of(decided.commit.writes[0])


def test_a_deletion_is_told_as_such(bench):
    (write,) = bench.decide(lambda tx: tx.delete("a")).commit.writes
    assert event_of(write)["data"] == {"deleted": True}


def test_a_short_patch_of_a_long_value_is_told_as_the_patch_on_its_base(bench):
    bench.state.seed("orders", "long", {"text": "x" * 500, "n": 1})
    (write,) = bench.decide(lambda tx: tx.patch("long", {"n": 2})).commit.writes
    assert event_of(write)["data"] == {"patch": {"n": 2}, "base": 3}
    assert msgpack.unpackb(write.value) == {"text": "x" * 500, "n": 2}


def test_a_long_value_put_anew_is_told_by_what_changed(bench):
    bench.state.seed("orders", "long", {"text": "x" * 500, "n": 1})
    decided = bench.decide(lambda tx: tx.put("long", {"text": "x" * 500, "m": 2}))
    (write,) = decided.commit.writes
    assert event_of(write)["data"] == {"patch": {"n": None, "m": 2}, "base": 3}
    assert decided.commit.reads == [EntryRead("orders", "long", 3)], "the patch needs its base"


@pytest.mark.parametrize(
    "act",
    [
        lambda tx: tx.put("long", {"text": "y" * 500}),
        lambda tx: tx.put("long", {"text": "x" * 500, "n": None}),
        lambda tx: tx.put("other", {"text": "x" * 500}),
        lambda tx: tx.patch("other", {"text": "x" * 500}),
        lambda tx: tx.patch("a", {"status": "x"}),
        lambda tx: tx.patch("long", {"text": "y" * 500}),
        lambda tx: [tx.put("none", {"text": "x" * 500}), tx.patch("none", {"n": 1})],
    ],
)
def test_where_a_patch_saves_nothing_or_cannot_be_the_value_is_told(bench, act):
    bench.state.seed("orders", "long", {"text": "x" * 500, "n": 1})
    (write,) = bench.decide(act).commit.writes
    assert event_of(write)["data"] == {"value": msgpack.unpackb(write.value)}


def test_several_changes_of_one_entry_are_told_as_one_patch_on_what_was_committed(bench):
    bench.state.seed("orders", "long", {"text": "x" * 500, "n": 1})

    def act(tx):
        tx.patch("long", {"n": 2})
        tx.patch("long", {"m": 3})

    (write,) = bench.decide(act).commit.writes
    assert event_of(write)["data"] == {"patch": {"n": 2, "m": 3}, "base": 3}


# ------------------------------------------------------------------ the rest


def test_identity_and_time_are_given(bench):
    alice = Identity(user="alice")
    decided = bench.decide(lambda tx: [tx.identity.user, tx.now_ms], identity=alice)
    assert outcome_of(decided)["value"] == ["alice", NOW_MS]


def test_what_is_published_goes_with_the_commit_where_there_is_a_log(bench):
    bench.logged["news:live"] = False

    def act(tx):
        tx.publish("news:all", {"n": 1}, name="shipped", key="a")
        tx.publish("news:live", [1])

    decided = bench.decide(act)
    (event,) = decided.commit.events
    assert (event.channel, event.at_ms, event.key) == ("news:all", NOW_MS, "a")
    assert event_of(event)["data"] == {"n": 1}
    assert event_of(event)["name"] == "shipped"
    (publication,) = decided.publications
    assert (publication.channel, publication.data) == ("news:live", b"\x91\x01")


def test_a_rejection_takes_back_what_was_published_invalidated_and_written(bench):
    def act(tx):
        tx.publish("news:all", 1)
        tx.invalidate("a")
        tx.put("a", 1)
        tx.reject("no")

    decided = bench.decide(act)
    assert rejection_of(decided) == "no"
    assert decided.commit.events == decided.invalidations == decided.publications == []


def test_publishing_where_one_may_not_is_refused_with_that_code(bench):
    bench.logged["news:all"] = RequestRejected(ErrorCode.NOT_SUPPORTED)
    assert rejection_of(bench.decide(lambda tx: tx.publish("news:all", 1))) == "not_supported"
    assert rejection_of(bench.decide(lambda tx: tx.publish("nonsense", 1))) == "bad_channel"


def test_invalidations_are_kept_for_after_the_commit(bench):
    def act(tx):
        tx.invalidate("a", "b")
        tx.invalidate(tags=["red"], collection="lines")
        tx.invalidate(everything=True)

    assert bench.decide(act).invalidations == [
        Invalidation("orders", keys=("a", "b")),
        Invalidation("lines", tags=("red",)),
        Invalidation("orders", is_all=True),
    ]
