"""APPLY and SETTLE from the client's side, whatever the network and the server do to it.

A `ModelServer` and two `ClientCore`s; messages wait until Hypothesis delivers them, pages of snapshots until it lets them go,
connections break, watches lag, epochs change.
"""

import itertools
import random

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syncd.client.core import ClientCore
from syncd.client.errors import MutationRejected
from syncd.client.facts import Dial, Hangup, Send
from syncd.client.facts_state import MutationOutcome, OutcomeStatus, ViewChanged, WatchEnded
from syncd.client.tables import ConnectionState
from syncd.client.values import NOTHING
from syncd.client.watch import Selection
from syncd.codes import ErrorCode
from syncd.testing.model_server import ModelServer
from tests.examples import examples
from tests.model.scratch_fold import scratch_fold

pytestmark = pytest.mark.unmeasured

KEYS = ["a", "b", "c", "d"]
PARTS = ["eu/a", "eu/b", "us/a"]
PAD = "p" * 40
SELECTIONS = [
    Selection("things"),
    Selection("things", frozenset(["a", "b"])),
    Selection("parts", partition="eu"),
    Selection("parts", frozenset(["eu/a"])),
]


def add(tx, key, mark):
    """Add a mark to an entry that keeps all marks ever added: what SETTLE is seen by."""
    entry = tx.get(key) or {"marks": {}, "pad": PAD}
    entry["marks"][mark] = entry["marks"].get(mark, 0) + 1
    tx.put(key, entry)


def add_to_all(tx, mark):
    """Change several entries at once."""
    for key in KEYS[:3]:
        add(tx, key, mark)


def choosy(tx, key, mark):
    """Refuse where there is no entry."""
    if tx.get(key) is None:
        tx.reject("nothing_there", "")
    add(tx, key, mark)


def moody(tx, key, mark):
    """Raise at the client alone, at every run after the first."""
    if tx.reason == "rebase":
        raise RuntimeError
    add(tx, key, mark)


MUTATORS = {
    "things.add": add,
    "things.add_to_all": add_to_all,
    "things.choosy": choosy,
    "things.moody": moody,
    "parts.add": add,
}


class Side:
    """One client, its link, and what its application sees."""

    def __init__(self, server, seed):
        self.server = server
        self.core = ClientCore(random.Random(seed), lambda: "uid", mutators=MUTATORS)
        self.session = None
        self.to_client, self.to_server = [], []
        self.outcomes, self.made = {}, {}
        self.views = {}
        """Watch to what its application keeps by obeying changes alone."""
        self.now = 0.0
        self.core.start(0.0)
        self.perform()

    def perform(self):
        for output in self.core.take():
            match output:
                case Dial():
                    self.session = self.server.connect()
                    self.to_client, self.to_server = [], []
                    self.core.connect_succeeded()
                    self.perform()
                case Send(data=data):
                    self.to_server.append(data)
                case Hangup():
                    self.lose()
                case ViewChanged(watch=watch, keys=keys):
                    self.renew(watch, keys)
                case WatchEnded():
                    raise AssertionError(output)
                case MutationOutcome(id=mutation_id):
                    assert mutation_id not in self.outcomes, "told twice"
                    self.outcomes[mutation_id] = output
                    self.check_effect(mutation_id)

    def renew(self, watch, keys):
        view = self.views[watch]
        for key in keys:
            value = self.core.entries.get(watch, key)
            if value is NOTHING:
                view.pop(key, None)
            else:
                view[key] = value

    def lose(self):
        if self.session is not None:
            self.session.gone()
            self.session = None
            self.to_client, self.to_server = [], []
            self.core.closed(self.now, 1006)
            self.perform()

    def server_reads(self):
        if self.session is not None:
            for frame in self.to_server:
                self.session.receive(frame)
            self.to_server.clear()

    def client_reads(self, count):
        if self.session is None:
            return
        self.to_client += self.session.outgoing
        self.session.outgoing.clear()
        taken, self.to_client = self.to_client[:count], self.to_client[count:]
        session = self.session
        for message in taken:
            if self.session is session:
                self.core.receive(message, self.now)
                self.perform()
                self.check()

    def come_back(self):
        """Lose the connection, and have the next one greeted and asked."""
        self.lose()
        self.now = max(self.now, min(self.core.next_deadline(), self.now + 20))
        self.core.tick(self.now)
        self.perform()
        for _ in range(2):
            self.server_reads()
            self.client_reads(1)
        self.server_reads()

    def mutate(self, name, args, marked):
        try:
            made, _ = self.core.mutate(self.now, name, args)
        except (MutationRejected, RuntimeError):
            return
        self.made[made] = (name, args.get("mark"), marked)
        self.perform()

    def marks(self, watch, key):
        value = self.core.entries.get(watch, key)
        return {} if value is NOTHING else value["marks"]

    def check_effect(self, mutation_id):
        """An outcome `ok` is told when the effect is there, unless another mutation took the entry away."""
        name, mark, keys = self.made[mutation_id]
        if self.outcomes[mutation_id].status is not OutcomeStatus.OK or name.endswith("moody"):
            return
        for watch in self.core.entries.watches:
            for key in keys:
                if not (watch.is_shown and watch.selection.covers(key)):
                    continue
                if watch.selection.collection == name.split(".")[0]:
                    assert mark in self.marks(watch.id, key), "told before it is shown"

    def check(self):
        """SETTLE: until it is decided, a prediction is shown, once and no more than once."""
        for mutation_id, (name, mark, keys) in self.made.items():
            if name.endswith(("moody", "choosy")):
                continue
            outcome = self.outcomes.get(mutation_id)
            if outcome is not None and outcome.status is not OutcomeStatus.OK:
                continue
            for watch in self.core.entries.watches:
                if watch.selection.collection != name.split(".")[0] or not watch.is_shown:
                    continue
                for key in filter(watch.selection.covers, keys):
                    assert self.marks(watch.id, key).get(mark) == 1, (mutation_id, key)

    def check_fold(self):
        """What is predicted is what all that is pending would make of what is confirmed, if it were run anew."""
        predictions = self.core.entries._predictions
        names = {pending.name for pending in predictions.pending.values()}
        if predictions._is_unsure or "things.moody" in names:
            return
        places = [("things", key) for key in [*KEYS, "e"]] + [("parts", key) for key in PARTS]
        predicted = {place: predictions.predicted(place) for place in places}
        made = {place: (it.value, it.ids) for place, it in predicted.items() if it is not None}
        assert made == scratch_fold(predictions)

    def has_quiet(self):
        return (
            self.core.state is ConnectionState.CONNECTED
            and not self.core.entries.pending
            and all(watch.is_live for watch in self.core.entries.watches)
            and not (self.to_client or self.to_server or self.session.outgoing)
            and not self.session.state.pages
        )


class TwoClientsAndServer(RuleBasedStateMachine):
    @initialize(
        tells_patches=st.booleans(),
        tells_top=st.booleans(),
        page_size=st.sampled_from([1, 2, 1000]),
    )
    def begin(self, tells_patches, tells_top, page_size):
        self.server = ModelServer()
        state = self.server.state
        state.partitioned.add("parts")
        state.mutators = MUTATORS
        state.tells_patches, state.tells_top, state.page_size = tells_patches, tells_top, page_size
        self.marks = (f"m{n}" for n in itertools.count())
        for key in KEYS[:2]:
            state.write("things", key, {"marks": {}, "pad": PAD})
        self.sides = [Side(self.server, 1), Side(self.server, 2)]
        for side in self.sides:
            side.views[side.core.watch(SELECTIONS[0])] = {}
        self.all_moves()

    def all_moves(self):
        for side in self.sides * 4:
            side.server_reads()
            while side.session is not None and side.session.state.next_page():
                pass
            side.client_reads(1000)

    # ------------------------------------------------------------ what happens

    sides_ = st.integers(0, 1)

    @rule(n=sides_, key=st.sampled_from(KEYS), what=st.sampled_from(["add", "choosy", "moody"]))
    def a_client_adds(self, n, key, what):
        mark = next(self.marks)
        self.sides[n].mutate(f"things.{what}", {"key": key, "mark": mark}, [key])

    @rule(n=sides_)
    def a_client_adds_to_several(self, n):
        self.sides[n].mutate("things.add_to_all", {"mark": next(self.marks)}, KEYS[:3])

    @rule(n=sides_, key=st.sampled_from(PARTS))
    def a_client_adds_to_a_partition(self, n, key):
        self.sides[n].mutate("parts.add", {"key": key, "mark": next(self.marks)}, [key])

    @rule(key=st.sampled_from(KEYS))
    def a_backend_adds(self, key):
        old = self.server.state.value(("things", key))
        marks = {} if old is NOTHING else old["marks"]
        marks = {**marks, next(self.marks): 1}
        self.server.state.write("things", key, {"marks": marks, "pad": PAD})

    @rule(times=st.integers(1, 3))
    def an_entry_comes_and_goes(self, times):
        for _ in range(times):
            self.server.state.write("things", "e", {"marks": {}, "pad": PAD})
            self.server.state.write("things", "e", NOTHING)

    @rule()
    def an_entry_stays(self):
        self.server.state.write("things", "e", {"marks": {}, "pad": PAD})

    @rule(n=sides_, selection=st.sampled_from(SELECTIONS))
    def an_application_watches(self, n, selection):
        side = self.sides[n]
        if len(side.core.entries.watches) < 4:
            side.views[side.core.watch(selection)] = {}
            side.perform()

    @rule(n=sides_, choice=st.integers(0, 3))
    def an_application_stops_watching(self, n, choice):
        side = self.sides[n]
        watches = list(side.core.entries.watches)
        if 0 < choice < len(watches):
            side.core.unwatch(watches[choice].id)
            del side.views[watches[choice].id]
            side.perform()

    @rule(n=sides_)
    def the_server_reads(self, n):
        self.sides[n].server_reads()

    @rule(n=sides_, count=st.integers(1, 6))
    def a_client_reads(self, n, count):
        self.sides[n].client_reads(count)

    @rule(n=sides_)
    def a_page_follows(self, n):
        if self.sides[n].session is not None:
            self.sides[n].session.state.next_page()

    @rule()
    def everything_moves(self):
        self.all_moves()

    @rule(n=sides_)
    def a_connection_breaks(self, n):
        self.sides[n].lose()

    @rule(
        n=sides_,
        key=st.sampled_from(KEYS),
        fate=st.sampled_from(["keep", "trim", "epoch"]),
        does_hear=st.booleans(),
        count=st.integers(0, 8),
    )
    def an_outcome_is_lost_on_its_way(self, n, key, fate, does_hear, count):
        """What was sent is decided, or not; the connection breaks, and the next one tells of both out of step."""
        side = self.sides[n]
        mark = next(self.marks)
        side.mutate("things.add", {"key": key, "mark": mark}, [key])
        if does_hear:
            side.server_reads()
        if fate == "trim":
            self.the_past_is_trimmed("things")
        if fate == "epoch":
            self.an_epoch_changes("things")
        side.come_back()
        side.client_reads(count)

    @rule(n=sides_, key=st.sampled_from(KEYS), count=st.integers(0, 8))
    def an_outcome_comes_amid_a_lag(self, n, key, count):
        side = self.sides[n]
        side.mutate("things.add", {"key": key, "mark": next(self.marks)}, [key])
        side.server_reads()
        self.an_entry_comes_and_goes(1)
        self.server.state.lag("things")
        side.client_reads(count)
        side.server_reads()

    @rule(seconds=st.floats(0.1, 30.0))
    def time_passes(self, seconds):
        for side in self.sides:
            side.now += seconds
            side.core.tick(side.now)
            side.perform()

    @rule(name=st.sampled_from(["things", "parts/eu"]))
    def a_channel_lags(self, name):
        self.server.state.lag(name)

    @rule(name=st.sampled_from(["things", "parts/eu"]))
    def the_past_is_trimmed(self, name):
        if name in self.server.state.channels:
            self.server.state.trim(name)

    @rule(name=st.sampled_from(["things", "parts/eu"]))
    def an_epoch_changes(self, name):
        if name in self.server.state.channels:
            self.server.state.change_epoch(name)
            for side in self.sides:
                side.lose()

    @rule(code=st.sampled_from([ErrorCode.OVERLOADED, ErrorCode.STORE_UNAVAILABLE]))
    def the_next_mutation_fails_for_now(self, code):
        self.server.state.failures.append((code, 100))

    @rule()
    def the_next_watch_fails_for_now(self):
        self.server.state.failed_watches.append((ErrorCode.LOAD_TIMEOUT, 100))

    # ------------------------------------------------------------ what holds

    @invariant()
    def a_prediction_is_shown_until_it_is_decided(self):
        for side in getattr(self, "sides", ()):
            side.check()
            side.check_fold()

    @invariant()
    def who_obeys_changes_sees_what_the_view_holds(self):
        for side in getattr(self, "sides", ()):
            for watch, kept in side.views.items():
                assert kept == side.core.entries.items(watch)

    @invariant()
    def nothing_takes_effect_twice(self):
        if hasattr(self, "server"):
            assert all(times == 1 for times in self.server.state.num_runs.values())

    @precondition(lambda self: hasattr(self, "sides"))
    @rule()
    def all_comes_to_rest(self):
        self.settle()

    def settle(self):
        for _ in range(300):
            self.all_moves()
            for name in self.server.state.channels:
                self.server.state.mark(name)
            self.all_moves()
            if all(side.has_quiet() for side in self.sides):
                break
            for side in self.sides:
                deadline = side.core.next_deadline()
                side.now = max(side.now, min(deadline, side.now + 20))
                side.core.tick(side.now)
                side.perform()
        assert all(side.has_quiet() for side in self.sides)
        for side in self.sides:
            assert side.made.keys() == side.outcomes.keys()
            for watch in side.core.entries.watches:
                assert side.core.entries.items(watch.id) == self.truth(watch.selection)

    def truth(self, selection):
        channels = self.server.state.channels.values()
        return {
            key: value
            for channel in channels
            if channel.collection == selection.collection
            for key, (_, value) in channel.entries.items()
            if selection.covers(key)
        }

    def teardown(self):
        if hasattr(self, "sides"):
            self.settle()


TestTwoClientsAndServer = TwoClientsAndServer.TestCase
TestTwoClientsAndServer.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
