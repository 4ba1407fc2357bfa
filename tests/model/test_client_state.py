"""The state side of the client's core: what traces do not show. Bounds, identity, what is told and kept."""

import random

import pytest

from syncd.client.connection import ClientClaim, ConnectionSettings
from syncd.client.core import ClientCore
from syncd.client.errors import ClientClosed, MutationRejected, QueueFull, RequestFailed
from syncd.client.facts import Hangup, Send
from syncd.client.facts_state import MutationOutcome, OutcomeStatus, ViewChanged, WatchEnded
from syncd.client.frames import decode_frame, encode
from syncd.client.local_tx import LocalTx
from syncd.client.state import MAX_PENDING
from syncd.client.tables import ConnectionState
from syncd.client.values import NOTHING, is_same
from syncd.client.watch import MAX_HAVE, Selection

ALL = Selection("orders")


class Driver:
    """A core and what it said in the last step."""

    def __init__(self, *, mutators=None, claims=(), max_frame_bytes=65_536, **settings):
        self.core = ClientCore(
            random.Random(1),
            lambda: "uid",
            mutators=mutators,
            claims=claims,
            settings=ConnectionSettings(**settings),
        )
        self.now = 0.0
        self.max_frame_bytes = max_frame_bytes
        self.messages, self.facts = [], []
        self.core.start(0)
        self.welcome()

    def take(self):
        outputs = self.core.take()
        frames = [output.data for output in outputs if isinstance(output, Send)]
        self.messages = [message for frame in frames for message in decode_frame(frame)]
        kinds = (ViewChanged, MutationOutcome, WatchEnded, Hangup)
        self.facts = [output for output in outputs if isinstance(output, kinds)]
        return self.facts

    def say(self, kind, body):
        self.core.receive(encode(kind, body), self.now)
        return self.take()

    def welcome(self, last_mid=0, client="c1", **more):
        self.core.connect_succeeded()
        self.take()
        self.hello = next((body for kind, body in self.messages if kind == "hello"), None)
        state = {"client": client, "last_mid": last_mid, "secret": "s", **more}
        body = {"session": "s", "clients": [state], "server_time_ms": 5000, "ping_ms": 25_000}
        return self.say("welcome", {**body, "max_frame_bytes": self.max_frame_bytes})

    def reconnect(self, **more):
        self.core.closed(self.now, 1006)
        self.core.wake(self.now)
        return self.welcome(**more)

    def watch(self, selection=ALL):
        watch = self.core.watch(selection)
        self.take()
        return watch

    def asked(self, kind="watch"):
        return [body for k, body in self.messages if k == kind][-1]

    def watched(self, entries, offset=100, channel="orders", **more):
        body = {"id": self.asked()["id"], "channel": channel, "recovered": False, "more": False}
        body |= {"position": {"epoch": "e", "offset": offset}, "unchanged": []}
        told = [{"key": k, "version": n, "value": v} for k, (n, v) in entries.items()]
        return self.say("watched", {**body, "entries": told, **more})

    def event(self, offset, key, value, **more):
        body = {"channel": "orders", "epoch": "e", "offset": offset, "key": key, "at_ms": 0}
        return self.say("event", {**body, "data": {"value": value}, **more})

    def mutate(self, name, args=None):
        made, _ = self.core.mutate(self.now, name, args)
        self.take()
        return made


def test_entries_that_did_not_change_keep_their_identity_over_rebase_and_settling():
    driver = Driver()
    watch = driver.watch()
    driver.watched({"a": (1, {"x": [1]}), "b": (2, {"y": 1})})
    driver.mutate("orders.patch", {"key": "b", "patch": {"z": 1}})
    before = driver.core.entries.items(watch)
    driver.event(101, "c", 1)
    driver.event(102, "b", {"y": 1, "z": 1}, by={"client": "c1", "mid": 1})
    driver.say("outcome", {"client": "c1", "mid": 1, "status": "ok", "positions": {}})
    after = driver.core.entries.items(watch)
    assert after["a"] is before["a"]
    assert after["b"] is before["b"], "the confirmed value is the same as the predicted one"


def test_a_mutator_cannot_change_what_is_shown_by_changing_what_it_read():
    def naughty(tx, args):
        tx.get("a")["x"].append(2)
        args.append(1)
        tx.get_many(["a"])["a"].clear()

    driver = Driver(mutators={"orders.naughty": naughty})
    watch = driver.watch()
    driver.watched({"a": (1, {"x": [1]})})
    driver.mutate("orders.naughty", {"args": []})
    assert driver.asked("mutate")["args"] == {"args": []}
    driver.event(101, "a", {"x": [3]})
    assert driver.core.entries.get(watch, "a") == {"x": [3]}


def test_arguments_are_what_they_were_when_the_mutation_was_made():
    driver = Driver()
    driver.core.closed(0, 1006)
    value = {"n": 1}
    driver.mutate("orders.put", {"key": "a", "value": value})
    value["n"] = 2
    driver.core.wake(0)
    driver.welcome()
    assert driver.asked("mutate")["args"]["value"] == {"n": 1}


def test_the_queue_is_bounded_and_refuses():
    driver = Driver()
    for _ in range(MAX_PENDING):
        driver.mutate("tidy")
    with pytest.raises(QueueFull):
        driver.mutate("tidy")
    assert len(driver.core.entries.pending) == MAX_PENDING


@pytest.mark.parametrize(
    ("name", "args", "error"),
    [
        ("n" * 161, None, ValueError),
        ("", None, ValueError),
        ("tidy", {"x": 2**53}, ValueError),
        ("tidy", {"x": float("nan")}, ValueError),
        ("tidy", {"x": object()}, TypeError),
        ("tidy", {"x": "y" * 70_000}, RequestFailed),
    ],
)
def test_what_cannot_be_sent_is_refused_and_uses_up_no_number(name, args, error):
    driver = Driver()
    with pytest.raises(error):
        driver.mutate(name, args)
    driver.mutate("tidy")
    assert driver.asked("mutate")["mid"] == 1


def test_the_end_tells_sent_from_unsent_and_refuses_more():
    driver = Driver()
    sent = driver.mutate("tidy")
    driver.core.closed(0, 1006)
    unsent = driver.mutate("tidy")
    driver.core.close()
    told = {f.id: f.status for f in driver.take() if isinstance(f, MutationOutcome)}
    assert told == {sent: OutcomeStatus.UNKNOWN, unsent: OutcomeStatus.UNSENT}
    with pytest.raises(ClientClosed):
        driver.mutate("tidy")


def test_an_outcome_that_waits_for_a_snapshot_is_told_as_it_is_at_the_end():
    driver = Driver()
    driver.watch()
    made = driver.mutate("orders.put", {"key": "a", "value": 1})
    positions = {"orders": {"epoch": "e", "offset": 5}}
    driver.say("outcome", {"client": "c1", "mid": 1, "status": "ok", "positions": positions})
    assert driver.facts == []
    driver.core.close()
    [told] = [f for f in driver.take() if isinstance(f, MutationOutcome)]
    assert (told.id, told.status) == (made, OutcomeStatus.OK)


def test_have_names_at_most_a_thousand_versions_and_fits_a_frame():
    driver = Driver()
    driver.watch()
    driver.watched({f"{n:0200}": (n + 1, n) for n in range(1500)}, offset=2000)
    driver.reconnect()
    versions = driver.asked()["have"]["versions"]
    assert 0 < len(versions) <= MAX_HAVE
    assert len(encode("watch", driver.asked())) < 65_536
    driver = Driver()
    driver.watch()
    driver.watched({str(n): (n + 1, n) for n in range(1500)}, offset=2000)
    driver.reconnect()
    assert len(driver.asked()["have"]["versions"]) == MAX_HAVE


def test_a_watch_ended_before_it_was_answered_is_ended_at_the_server_too():
    driver = Driver()
    watch = driver.watch(Selection("orders", frozenset(["eu/1"])))
    request = driver.asked()["id"]
    driver.core.unwatch(watch)
    driver.take()
    assert driver.messages == []
    body = {"id": request, "channel": "orders/eu", "position": {"epoch": "e", "offset": 1}}
    body |= {"recovered": False, "entries": [], "unchanged": [], "more": False}
    driver.say("watched", body)
    assert driver.asked("unwatch")["partition"] == "eu"
    assert driver.facts == []


def test_what_nobody_watches_is_forgotten_once_no_prediction_rests_on_it():
    driver = Driver()
    watch = driver.watch()
    driver.watched({"a": (1, 1)})
    driver.mutate("orders.incr", {"key": "a"})
    driver.core.unwatch(watch)
    driver.take()
    again = driver.watch()
    assert driver.asked()["have"]["versions"] == {"a": 1}
    driver.core.unwatch(again)
    driver.say("outcome", {"client": "c1", "mid": 1, "status": "ok", "positions": {}})
    driver.watch()
    assert "have" not in driver.asked()


def test_a_whole_watch_that_ends_leaves_the_keys_of_others_watched():
    driver = Driver()
    whole = driver.watch()
    driver.watched({"a": (1, 1), "b": (2, 2)})
    keys = driver.watch(Selection("orders", frozenset(["a"])))
    driver.watched({"a": (1, 1)})
    driver.core.unwatch(whole)
    driver.take()
    assert [kind for kind, _ in driver.messages] == ["unwatch", "watch"]
    assert driver.asked()["keys"] == ["a"]
    driver.watched({}, recovered=True, offset=100)
    assert driver.core.entries.items(keys) == {"a": 1}


def test_a_watch_the_server_refuses_ends():
    driver = Driver()
    watch = driver.watch()
    error = {"code": "permission_denied", "message": "no", "retryable": False}
    driver.say("error", {"id": driver.asked()["id"], **error})
    assert driver.facts == [WatchEnded(watch, "permission_denied", "no")]
    driver.reconnect()
    assert [kind for kind, _ in driver.messages] == []


def test_a_session_whose_client_is_forgotten_is_replaced_when_a_mutation_waits():
    driver = Driver()
    driver.say("reset", {"scope": "client", "client": "c1", "code": "client_unknown"})
    assert driver.core.state is ConnectionState.CONNECTED
    made = driver.mutate("tidy")
    assert any(isinstance(fact, Hangup) for fact in driver.facts)
    driver.reconnect(client="c2")
    assert "clients" not in driver.hello
    assert driver.asked("mutate")["mid"] == 1
    [told] = driver.say("outcome", {"client": "c2", "mid": 1, "status": "ok", "positions": {}})
    assert (told.id, told.client) == (made, "c2")


def test_a_reset_of_everything_leaves_sent_mutations_unknown():
    driver = Driver()
    made = driver.mutate("tidy")
    driver.say("reset", {"scope": "all", "code": "epoch_changed"})
    [told] = [fact for fact in driver.facts if isinstance(fact, MutationOutcome)]
    assert (told.id, told.status) == (made, OutcomeStatus.UNKNOWN)


def test_group_and_term_are_told_in_hello():
    driver = Driver(group="g", term=3)
    assert (driver.hello["group"], driver.hello["term"]) == ("g", 3)


def test_claims_are_told_in_hello_and_kept_in_order():
    driver = Driver(claims=[ClientClaim("c1", "s1")])
    assert driver.hello["clients"] == [{"client": "c1", "secret": "s1"}]
    assert driver.core.claim.client == "c1"


def test_a_second_run_knows_that_it_is_one_and_sees_the_same_clock():
    seen = []

    def look(tx):
        seen.append((tx.reason, tx.now_ms, tx.identity))
        tx.get("a")
        tx.publish("demo:a", 1)
        tx.invalidate("a")

    driver = Driver(mutators={"orders.look": look})
    driver.watch()
    driver.watched({"a": (1, 1)})
    driver.now = 2.0
    driver.mutate("orders.look")
    driver.now = 3.0
    driver.event(101, "a", 2)
    assert seen == [("optimistic", 7000, None), ("rebase", 7000, None)]


def test_a_mutator_of_no_collection_must_name_one():
    def rename(tx, key, collection="orders"):
        tx.put(key, 1, collection=collection)

    driver = Driver(mutators={"rename": rename})
    watch = driver.watch()
    driver.watched({})
    driver.mutate("rename", {"key": "k"})
    assert driver.core.entries.get(watch, "k") == 1
    with pytest.raises(LookupError):
        driver.mutate("rename", {"key": "k", "collection": None})


@pytest.mark.parametrize(
    ("entry", "arguments", "after"),
    [
        (NOTHING, {"by": 2}, 2),
        (5, {"by": -2}, 3),
        (5, {"by": 0.5}, 5.5),
        (NOTHING, {"field": "n"}, {"n": 1}),
        ({"n": None, "m": 1}, {"field": "n"}, {"n": 1, "m": 1}),
        ("text", {}, "not_a_number"),
        (True, {}, "not_a_number"),
        ("text", {"field": "n"}, "not_a_number"),
        ({"n": "text"}, {"field": "n"}, "not_a_number"),
        (2**53 - 1, {}, "out_of_range"),
    ],
)
def test_incr_does_what_the_server_does(entry, arguments, after):
    tx = LocalTx("orders", lambda _: (entry, 1, True), reason="optimistic", now_ms=0)
    if isinstance(after, str):
        with pytest.raises(Exception, match=after):
            tx.incr("k", **arguments)
    else:
        tx.incr("k", **arguments)
        assert is_same(tx.writes["orders", "k"], after)


def test_values_are_the_same_only_as_they_are_on_the_wire():
    values = [0, False, None, 0.0, -0.0, 1, 1.0, True, "", b"", [], {}, [0], [False], {"a": 0}]
    values += [{"a": 0.0}, {"a": 0, "b": 1}]
    for n, one in enumerate(values):
        for m, other in enumerate(values):
            assert is_same(one, other) == (n == m), (one, other)
    assert is_same({"a": 1, "b": [1]}, {"b": [1], "a": 1})


def test_a_rejection_on_the_first_run_counts_only_by_what_is_known():
    def picky(tx, key):
        if tx.get(key) is None:
            tx.reject("missing", "")

    driver = Driver(mutators={"orders.picky": picky})
    driver.watch(Selection("orders", frozenset(["a"])))
    driver.watched({})
    with pytest.raises(MutationRejected):
        driver.mutate("orders.picky", {"key": "a"})
    driver.mutate("orders.picky", {"key": "b"})
    assert driver.asked("mutate")["mid"] == 1
