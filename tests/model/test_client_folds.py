"""What is predicted is what running all pending mutations anew would make of the entries, though few are run."""

import collections

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from syncd.client.frames import encode
from syncd.client.local_tx import LocalRejected
from syncd.client.pending import Pending, Predictions
from syncd.client.values import NOTHING
from tests.examples import examples
from tests.model.scratch_fold import scratch_fold
from tests.model.test_client_state import Driver

pytestmark = pytest.mark.unmeasured

KEYS = ["a", "b", "c", "d"]


def number(tx, key):
    return tx.get(key) or 0


def move(tx, key, other):
    """Rest on one entry and change another."""
    tx.put(other, (number(tx, key) + 1) % 5)


def choosy(tx, key, other):
    """Change one entry, then refuse or raise by what is in the other."""
    tx.incr(key)
    if number(tx, other) % 3 == 1:
        tx.reject("odd", "")
    if number(tx, other) % 3 == 2:
        raise RuntimeError


def wander(tx, key, other):
    """Change an entry that hangs on what is in another, and take one away."""
    at = KEYS[number(tx, key) % len(KEYS)]
    if at == other:
        tx.delete(other)
    else:
        tx.incr(at, 2)


def versioned(tx, key, other):
    """Rest on a version, and let each second value be as it was."""
    tx.put(other, (tx.version(key) or 0) // 2 % 2)


def look(tx, key, other):
    tx.get_many([key, other])


def settled(tx, key, other):
    """Make the same of whatever is there."""
    tx.get(key)
    tx.put(other, 1)


MUTATORS = {f"t.{run.__name__}": run for run in (move, choosy, wander, versioned, look, settled)}


class ManyFolds(RuleBasedStateMachine):
    """Mutations of two clients over four entries: confirmed, refused and settled in any order, some steps between two folds."""

    def __init__(self):
        super().__init__()
        self.confirmed = collections.defaultdict(lambda: (NOTHING, 0, True))
        self.held_upto = collections.defaultdict(lambda: [0, 0])
        self.mids = [0, 0]
        self.num_made = self.version = 0
        self.changed, self.seen, self.is_all = set(), set(), False
        self.runs = collections.Counter()
        mutators = {name: self.counted(run) for name, run in MUTATORS.items()}
        self.predictions = Predictions(
            {**mutators, "t.unpredicted": None}, lambda place: self.confirmed[place], self.held
        )
        self.last = {}

    def counted(self, run):
        def counting(tx, **args):
            self.runs[args["n"]] += 1
            return run(tx, args["key"], args["other"])

        return counting

    def held(self, pending):
        return {p for p in pending.touched if self.held_upto[p][pending.slot] >= pending.mid}

    def choose(self, choice):
        return list(self.predictions.pending.values())[choice % len(self.predictions.pending)]

    def has_pending(self):
        return bool(self.predictions.pending)

    @rule(
        name=st.sampled_from([*MUTATORS, "t.unpredicted"]),
        key=st.sampled_from(KEYS),
        other=st.sampled_from(KEYS),
        slot=st.integers(0, 1),
    )
    def a_mutation_is_made(self, name, key, other, slot):
        args = {"key": key, "other": other, "n": self.num_made + 1}
        pending = Pending(self.num_made + 1, slot, self.mids[slot] + 1, name, args, 0)
        try:
            self.predictions.add(pending)
        except (LocalRejected, RuntimeError):
            return
        self.num_made += 1
        self.mids[slot] += 1

    @rule(key=st.sampled_from(KEYS), value=st.integers(0, 4) | st.just(NOTHING))
    def another_changes_an_entry(self, key, value):
        self.version += 1
        self.confirmed["t", key] = value, 0 if value is NOTHING else self.version, True
        self.changed.add(("t", key))

    @precondition(has_pending)
    @rule(choice=st.integers(0, 20), as_predicted=st.booleans(), value=st.integers(0, 4))
    def an_effect_is_told(self, choice, as_predicted, value):
        pending = self.choose(choice)
        for place in sorted(pending.writes)[:1]:
            made = pending.writes[place]
            self.another_changes_an_entry(place[1], made if as_predicted else value)
            self.holds(place, pending)

    def holds(self, place, pending):
        upto = self.held_upto[place]
        upto[pending.slot] = max(upto[pending.slot], pending.mid)
        self.seen.add(place)

    @precondition(has_pending)
    @rule(choice=st.integers(0, 20), key=st.sampled_from(KEYS))
    def an_entry_holds_what_became_of_a_mutation_as_it_is(self, choice, key):
        self.holds(("t", key), self.choose(choice))

    @precondition(has_pending)
    @rule(choice=st.integers(0, 20))
    def a_snapshot_holds_what_became_of_a_mutation(self, choice):
        pending = self.choose(choice)
        for key in KEYS:
            self.holds(("t", key), pending)
        self.seen.clear()
        self.is_all = True

    @precondition(has_pending)
    @rule(choice=st.integers(0, 20))
    def a_mutation_is_settled(self, choice):
        self.predictions.drop(self.choose(choice))

    @rule()
    def what_was_seen_means_nothing_any_more(self):
        self.held_upto.clear()
        self.seen.clear()
        self.predictions.doubt()
        self.is_all = True

    @rule()
    def all_is_folded(self):
        self.runs.clear()
        told = self.predictions.fold(self.changed, self.seen, is_all=self.is_all)
        self.changed, self.seen, self.is_all = set(), set(), False
        assert all(times == 1 for times in self.runs.values()), "each is run once a fold"
        now = {}
        for key in KEYS:
            if predicted := self.predictions.predicted(("t", key)):
                now["t", key] = predicted.value, predicted.ids
        assert now == scratch_fold(self.predictions)
        places = {("t", key) for key in KEYS}
        assert told == {place for place in places if now.get(place) != self.last.get(place)}
        self.last = now

    def teardown(self):
        self.all_is_folded()
        while self.predictions.pending:
            self.a_mutation_is_settled(1)
            self.all_is_folded()
        assert self.last == {}


TestManyFolds = ManyFolds.TestCase
TestManyFolds.settings = settings(max_examples=examples(300), stateful_step_count=40, deadline=None)


# ------------------------------------------------------------ what a frame costs


class Counting:
    """A driver with pending mutations of which each run is counted."""

    def __init__(self, keys):
        self.num_runs = 0
        self.driver = Driver(mutators={"orders.add": self.add})
        self.driver.watch()
        self.driver.watched({key: (n + 1, 0) for n, key in enumerate(sorted(set(keys)))})
        for key in keys:
            self.driver.mutate("orders.add", {"key": key})
        self.values = dict.fromkeys(keys, 0)
        self.keys = keys
        self.num_runs = 0

    def add(self, tx, key):
        self.num_runs += 1
        tx.put(key, tx.get(key) + 1)

    def confirm(self, mid):
        """Tell of an effect and its outcome, in two frames."""
        key = self.keys[mid - 1]
        self.values[key] += 1
        by = {"client": "c1", "mid": mid}
        self.driver.event(100 + mid, key, self.values[key], by=by)
        self.driver.say("outcome", {**by, "status": "ok", "positions": {}})


def test_what_is_confirmed_as_predicted_has_at_most_one_run_again():
    counting = Counting(["a"] * 50)
    for mid in range(1, 51):
        counting.confirm(mid)
    assert counting.num_runs == 49
    assert not counting.driver.core.entries.pending


def test_what_is_confirmed_elsewhere_has_nothing_run_again():
    counting = Counting([f"k{n}" for n in range(50)])
    for mid in range(1, 51):
        counting.confirm(mid)
    counting.driver.event(200, "other", 1)
    assert counting.num_runs == 0


def test_a_rejection_has_those_run_again_that_were_made_over_it():
    counting = Counting(["a", "b"] * 25)
    body = {"client": "c1", "mid": 41, "status": "rejected", "error": {"code": "no"}}
    counting.driver.say("outcome", {**body, "positions": {}})
    assert counting.num_runs == 4
    watch = next(iter(counting.driver.core.entries.watches))
    assert counting.driver.core.entries.items(watch.id) == {"a": 24, "b": 25}


def test_many_outcomes_in_one_frame_have_each_run_again_once():
    counting = Counting(["a"] * 50)
    error = {"code": "no"}
    for mid in range(1, 41):
        body = {"client": "c1", "mid": mid, "status": "rejected", "error": error}
        counting.driver.core.receive(encode("outcome", {**body, "positions": {}}), 0.0)
    counting.driver.take()
    assert counting.num_runs == 10
