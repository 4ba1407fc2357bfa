"""A group is as good as its mutations one by one: same state, same outcomes, same log, whatever is missing, stale or refused."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.model.mutation_group import (
    Decided,
    Mutation,
    NeedsKeys,
    rerun_after,
)
from syncd.model.recording import MutatorTimedOut, Untimed
from syncd.ports import Identity
from syncd.ports_state import Committed, Conflict, EntryRead, KnownOutcome, OutOfOrder
from syncd.wire.merge_patch import apply_patch
from tests.examples import examples
from tests.model.committed_state import ANYBODY, Bench, event_of, outcome_of, rejection_of


def act(tx, steps: list):
    """A mutator that does what it is told."""
    return [STEPS[name](tx, *args) for name, *args in steps]


def _put(tx, key, n, size):
    tx.put(key, {"n": n, "text": "x" * size}, tags=[f"t{n}"])


def _reject_above(tx, key, n):
    if (tx.get(key) or {}).get("n", 0) > n:
        tx.reject("too_many", key)


STEPS = {
    "get": lambda tx, key: tx.get(key),
    "put": _put,
    "patch": lambda tx, key, n: tx.patch(key, {"m": n}),
    "unset": lambda tx, key: tx.patch(key, {"m": None}),
    "incr": lambda tx, key: tx.incr(key, field="n"),
    "delete": lambda tx, key: tx.delete(key),
    "copy": lambda tx, source, to: tx.put(to, tx.get(source) or {}),
    "reject_above": _reject_above,
    "fail": lambda tx: 1 / 0,
    "line": lambda tx, key, n: tx.put(f"eu/{key}", {"n": n}, collection="lines"),
    "publish": lambda tx, n: tx.publish("news:all", n),
}

_keys = st.sampled_from(["a", "b", "c", "d"])
_numbers = st.integers(0, 4)
_steps = st.one_of(
    st.tuples(st.sampled_from(["get", "incr", "delete", "unset"]), _keys),
    st.tuples(st.just("put"), _keys, _numbers, st.sampled_from([0, 400])),
    st.tuples(st.sampled_from(["patch", "reject_above", "line"]), _keys, _numbers),
    st.tuples(st.just("copy"), _keys, _keys),
    st.tuples(st.just("publish"), _numbers),
    st.sampled_from([("fail",)]),
).map(list)
_mutations = st.lists(
    st.tuples(st.sampled_from(["alice", "bob", "carol"]), st.lists(_steps, max_size=4)),
    min_size=1,
    max_size=8,
)
_places = st.sets(_keys.map(lambda key: ("orders", key)))


@pytest.fixture
def bench():
    return make_bench()


def make_bench():
    bench = Bench()
    bench.add(act)
    bench.state.seed("orders", "a", {"n": 1, "text": "x" * 400}, ("t1",))
    bench.state.seed("orders", "b", {"n": 2})
    bench.state.seed("orders", "c", {"n": 3, "text": "y" * 400})
    return bench


def asked(bench, mutations):
    return [
        bench.mutation("orders.act", {"steps": steps}, client=client) for client, steps in mutations
    ]


def one_by_one(bench, state, mutations):
    """The oracle: every mutation is run on what is committed, and committed, before the next."""
    outcomes = {}
    for mutation in mutations:
        group = bench.group(state)
        decided = group.run(mutation)
        (result,) = state.commit(group.commits)
        assert isinstance(result, Committed)
        outcomes[mutation.client, mutation.mid] = outcome_of(decided, result.positions)
    return outcomes


def replica(start, log):
    """What a watcher has who saw the state at `start` and then every event, and checks that patches fit."""
    entries = {place: (entry[0], msgpack.unpackb(entry[1])) for place, entry in start.items()}
    for channel, offset, record in log:
        event = event_of(_Told(channel, record), offset)
        place, data = (channel, event.get("key")), event["data"]
        if channel.startswith("news:"):
            continue
        if "patch" in data:
            version, value = entries[place]
            assert version == data["base"]
            entries[place] = (offset, apply_patch(value, data["patch"]))
        elif "value" in data:
            entries[place] = (offset, data["value"])
        else:
            del entries[place]
    return entries


class _Told:
    def __init__(self, channel, record):
        self.channel, self.record = channel, record


def assert_same(state, oracle):
    assert state.entries == oracle.entries
    assert state.tops == oracle.tops
    assert state.last == oracle.last


@given(_mutations)
def test_a_group_is_its_mutations_one_by_one(mutations):
    bench = make_bench()
    oracle, start = bench.state.fork(), dict(bench.state.entries)
    num_seeded = len(bench.state.log)
    group = bench.group()
    everything = asked(bench, mutations)
    decisions = [group.run(mutation) for mutation in everything]
    results = bench.state.commit(group.commits)
    assert all(isinstance(result, Committed) for result in results), "nothing is in anybody's way"
    outcomes = {
        (m.client, m.mid): outcome_of(decided, result.positions)
        for m, decided, result in zip(everything, decisions, results, strict=True)
    }
    assert outcomes == one_by_one(bench, oracle, everything)
    assert_same(bench.state, oracle)
    told = replica(start, bench.state.log[num_seeded:])
    assert {place: value for place, (_, value) in told.items()} == bench.state.values()


def run_to_the_end(bench, waiting):
    """What the cache-owner does: run, load what is missing, commit, refresh what was in conflict, run again."""
    state = bench.state
    order, outcomes, seen = [], {}, set()
    for _ in range(100):
        if not waiting:
            return order, outcomes, seen
        group = bench.group()
        held, loads = [], []
        for mutation in waiting:
            decision = group.run(mutation)
            if isinstance(decision, NeedsKeys):
                held.append(mutation)
                loads += decision.places
        results = state.commit(group.commits)
        again = rerun_after(group.decided, results)
        for decided, result in zip(group.decided, results, strict=True):
            seen.add(type(result))
            if isinstance(result, Committed):
                order.append(decided.mutation)
                outcomes[decided.mutation.client, decided.mutation.mid] = outcome_of(
                    decided, result.positions
                )
            elif isinstance(result, Conflict):
                state.stale.pop((result.read.channel, result.read.key), None)
        assert loads or not held, "who waits is told for what"
        state.absent -= set(loads)
        waiting = sorted([*again, *held], key=waiting.index)
    raise AssertionError("this never ends")


@pytest.mark.unmeasured
@settings(max_examples=examples(100))
@given(_mutations, _places, _places)
def test_whatever_is_missing_or_stale_the_result_is_some_order_one_by_one(mutations, absent, stale):
    bench = make_bench()
    bench.state.absent = set(absent)
    bench.state.stale = {place: (1, msgpack.packb({"n": 9}), ("t9",)) for place in stale}
    if ("orders", "a") in stale:
        # Of another life of the channel, with a version that no commit of this one reaches.
        bench.state.stale["orders", "a"] = (1_000, msgpack.packb({"n": 0}), ())
    oracle, start = bench.state.fork(), dict(bench.state.entries)
    num_seeded = len(bench.state.log)
    everything = asked(bench, mutations)
    order, outcomes, _ = run_to_the_end(bench, everything)
    for client in {mutation.client for mutation in everything}:
        mine = [m for m in everything if m.client == client]
        assert [m for m in order if m.client == client] == mine, "a client's own order stands"
    assert len(order) == len(everything)
    assert outcomes == one_by_one(bench, oracle, order)
    assert_same(bench.state, oracle)
    told = replica(start, bench.state.log[num_seeded:])
    assert {place: value for place, (_, value) in told.items()} == bench.state.values()


# ------------------------------------------------------------------ within a group


def test_each_sees_those_before_it_and_says_whose_write_it_saw(bench):
    group = bench.group()
    first, second = asked(bench, [("alice", [["incr", "b"]]), ("bob", [["incr", "b"]])])
    group.run(first)
    decided = group.run(second)
    assert outcome_of(decided)["value"] == [4]
    assert decided.commit.reads == [EntryRead("orders", "b", -1, written_by=0)]


def test_what_a_refused_mutation_wrote_is_seen_by_nobody(bench):
    group = bench.group()
    steps = [["incr", "b"], ["fail"]]
    for mutation in asked(bench, [("alice", steps), ("bob", [["get", "b"]])]):
        decided = group.run(mutation)
    assert outcome_of(decided)["value"] == [{"n": 2}]
    assert decided.commit.reads == [EntryRead("orders", "b", 2)]


def test_a_second_change_of_one_group_is_told_whole_for_want_of_a_base(bench):
    group = bench.group()
    for mutation in asked(bench, [("alice", [["patch", "a", 1]]), ("bob", [["patch", "a", 2]])]):
        decided = group.run(mutation)
    (write,) = decided.commit.writes
    assert event_of(write)["data"] == {"value": {"n": 1, "text": "x" * 400, "m": 2}}
    assert write.tags == ("t1",)


def test_who_waits_for_an_entry_holds_back_its_own_client_only(bench):
    bench.state.absent.add(("orders", "a"))
    group = bench.group()
    decisions = [
        group.run(mutation)
        for mutation in asked(
            bench,
            [("alice", [["get", "a"]]), ("alice", [["get", "b"]]), ("bob", [["get", "b"]])],
        )
    ]
    assert decisions[:2] == [NeedsKeys([("orders", "a")]), NeedsKeys([])]
    assert isinstance(decisions[2], Decided)
    assert group.decided == decisions[2:]
    assert group.commits == [decisions[2].commit]


def test_a_failure_that_may_pass_fails_the_clients_later_ones_too(bench):
    error = SyncdError(ErrorCode.STORE_UNAVAILABLE)
    bench.state.broken["orders", "a"] = error
    group = bench.group()
    decisions = [
        group.run(mutation)
        for mutation in asked(bench, [("alice", [["get", "a"]]), ("alice", [["get", "b"]])])
    ]
    assert decisions == [error, error]
    assert group.commits == []


def test_an_error_the_mutator_raises_on_purpose_counts_as_its_code_says(bench):
    def busy(tx):
        raise SyncdError(ErrorCode.OVERLOADED)

    def refuse(tx):
        raise SyncdError(ErrorCode.PERMISSION_DENIED, "Not you.")

    decision = bench.decide(busy)
    assert isinstance(decision, SyncdError)
    assert decision.code is ErrorCode.OVERLOADED
    body = outcome_of(bench.decide(refuse))
    assert body["error"] == {"code": "permission_denied", "message": "Not you."}


def test_an_unknown_mutator_and_bad_arguments_are_rejections_that_advance(bench):
    group = bench.group()
    unknown = group.run(bench.mutation("orders.nothing", {"x": 1}))
    bad = group.run(bench.mutation("orders.act", {"step": []}))
    assert [rejection_of(unknown), rejection_of(bad)] == ["unknown_mutator", "bad_arguments"]
    assert [type(result) for result in bench.state.commit(group.commits)] == [Committed] * 2
    assert bench.state.last == {"c": 2}


@pytest.mark.parametrize("code", ["permission_denied", "bad_source"])
def test_a_refusal_that_was_decided_before_says_why(bench, codes_toml, code):
    [mutation] = asked(bench, [("alice", [["incr", "b"]])])
    mutation.refusal = code
    decided = bench.group().run(mutation)
    assert rejection_of(decided) == code
    told = outcome_of(decided)["error"]["message"]
    assert told in {codes_toml[part].get(code, {}).get("text") for part in ("rejections", "errors")}


def test_a_rejection_stands_only_as_long_as_what_it_read(bench):
    decided = bench.group().run(*asked(bench, [("alice", [["reject_above", "b", 1]])]))
    assert rejection_of(decided) == "too_many"
    assert decided.commit.reads == [EntryRead("orders", "b", 2)]


@pytest.mark.parametrize("failure", [SystemExit(), GeneratorExit(), RecursionError(), KeyError()])
def test_whatever_a_mutator_raises_by_mistake_is_its_own_mutations_alone(bench, failure):
    def act(tx):
        tx.put("x", 1)
        raise failure

    decided = bench.decide(act)
    assert rejection_of(decided) == "mutator_failed"
    assert decided.failure is failure


def test_an_operators_interrupt_is_nobodys_rejection(bench):
    def act(tx):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.decide(act)


def test_a_mutator_that_takes_too_long_is_rejected(bench):
    class Keeper(Untimed):
        def call(self, run, /, *args, **arguments):
            run(*args, **arguments)
            raise MutatorTimedOut

    decided = bench.decide(lambda tx: tx.put("x", 1), keeper=Keeper())
    assert rejection_of(decided) == "mutator_timeout"
    assert isinstance(decided.failure, MutatorTimedOut)


def test_a_mutator_without_a_collection_names_one(bench):
    bench.add(lambda tx: tx.put("x", 1, collection="orders"), "named", collection=None)
    bench.add(lambda tx: tx.put("x", 1), "nameless", collection=None)
    group = bench.group()
    (write,) = group.run(bench.mutation("named")).commit.writes
    assert (write.channel, write.key) == ("orders", "x")
    assert rejection_of(group.run(bench.mutation("nameless"))) == "mutator_failed"


def test_a_mutation_of_a_service_is_told_without_author_and_has_its_outcome(bench):
    bench.mutators.add_built_in("orders")
    mutation = Mutation("svc:billing", 1, "orders.put", ["x", 1], Identity(service="billing"))
    decided = bench.group().run(mutation)
    assert "by" not in event_of(decided.commit.writes[0])
    assert outcome_of(decided) == {
        "client": "svc:billing",
        "mid": 1,
        "status": "ok",
        "positions": {},
    }


# ------------------------------------------------------------------ after the store's answer


def decided_of(*mids):
    return [Decided(Mutation(client, mid, "x", None, ANYBODY), None) for client, mid in mids]


def test_a_conflict_is_run_again_with_the_clients_later_ones():
    decided = decided_of(("alice", 1), ("bob", 1), ("alice", 2), ("bob", 2), ("alice", 3))
    conflict = Conflict(EntryRead("orders", "a", 1))
    results = [
        conflict, Committed([], {}), OutOfOrder(1), OutOfOrder(9), OutOfOrder(1),
    ]  # fmt: skip
    again = rerun_after(decided, results)
    assert [(m.client, m.mid) for m in again] == [("alice", 1), ("alice", 2), ("alice", 3)]


def test_everything_else_is_answered_as_it_is():
    decided = decided_of(("alice", 1), ("alice", 3), ("bob", 7))
    results = [KnownOutcome(None, {}), OutOfOrder(2), SyncdError(ErrorCode.STORE_UNAVAILABLE)]
    assert rerun_after(decided, results) == []


def test_who_read_what_did_not_take_effect_is_run_again(bench):
    """The write that the second one saw never was: it may not be acknowledged with it."""
    bench.state.stale["orders", "b"] = (1, msgpack.packb({"n": 40}), ())
    mutations = [("alice", [["incr", "b"]]), ("bob", [["copy", "b", "d"]])]
    _, outcomes, seen = run_to_the_end(bench, asked(bench, mutations))
    assert seen == {Conflict, Committed}
    assert outcomes["alice", 1]["value"] == [3]
    assert bench.state.values()["orders", "d"] == {"n": 3}


def test_a_resent_mutation_in_the_same_group_takes_effect_once(bench):
    (mutation,) = asked(bench, [("alice", [["incr", "b"]])])
    group = bench.group()
    group.run(mutation)
    group.run(mutation)
    first, second = bench.state.commit(group.commits)
    assert isinstance(first, Committed)
    assert second == KnownOutcome(group.commits[0].outcome, first.positions)
    assert bench.state.values()["orders", "b"] == {"n": 3}
