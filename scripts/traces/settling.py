"""Scenes about predictions that wait for a watch: lags, snapshots older and newer than outcomes."""

from __future__ import annotations

from scripts.traces.rebase import live
from scripts.traces.watching import lagged
from scripts.traces.writer import Scene

__all__ = ["SCENES"]


def an_outcome_between_lag_and_snapshot_keeps_the_prediction() -> Scene:
    """The event went with the lag; the effect shows from the prediction until the snapshot has it."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    lagged(scene)
    scene.receive(scene.outcome(1, 11, value=1))
    scene.shows({"n": 1}, pending=["n"])
    scene.told()
    scene.receive(scene.watched(11, {"n": (11, 1)}, decided=1, more=True))
    scene.shows({"n": 1}, pending=[])
    scene.told()
    scene.receive(scene.page(decided=1))
    scene.shows({"n": 1}, pending=[])
    scene.told((1, "ok"))
    return scene


def an_event_before_the_lag_and_the_outcome_after_it() -> Scene:
    """The entry is confirmed; the outcome is told once the watch is whole again."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    scene.receive(scene.event(11, "n", by=1, value=1), ["lagged", {"channel": "orders"}])
    scene.shows({"n": 1})
    scene.receive(scene.outcome(1, 11, value=1))
    scene.told()
    scene.receive(scene.watched(11, recovered=True))
    scene.shows({"n": 1})
    scene.told((1, "ok"))
    return scene


def a_snapshot_older_than_the_outcome_keeps_the_prediction() -> Scene:
    """It is complete, but not up to where the effect is."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    lagged(scene)
    scene.receive(scene.outcome(1, 11, value=1))
    scene.receive(scene.watched(10, {"n": (5, 0)}))
    scene.shows({"n": 1}, pending=["n"])
    scene.receive(scene.event(11, "n", by=1, value=1))
    scene.shows({"n": 1}, pending=[])
    scene.told((1, "ok"))
    return scene


def a_snapshot_takes_the_place_of_a_prediction_made_blind() -> Scene:
    """What was predicted before the entry was known would hide it; the snapshot was asked for after the decision and holds both."""
    scene = Scene()
    scene.open()
    scene.mutate("orders.incr", {"key": "n"})
    scene.mutate("orders.put", {"key": "p", "value": "mine"})
    scene.mutate("orders.incr", {"key": "n"})
    scene.lose()
    scene.watch()
    scene.open(last_mid=2)
    scene.shows(None)
    scene.receive(scene.watched(12, {"n": (11, 8), "p": (12, "theirs")}))
    scene.shows({"n": 9, "p": "theirs"}, pending=["n"])
    scene.receive(scene.outcome(1, 10, value=7), scene.outcome(2, 9))
    scene.shows({"n": 9, "p": "theirs"}, pending=["n"])
    scene.told((1, "ok"), (2, "ok"))
    return scene


def an_outcome_before_a_snapshot_without_its_effect() -> Scene:
    """The snapshot is older than the outcome: the mutation is predicted anew over it, until the watch has told its effect."""
    scene = Scene()
    scene.open()
    scene.watch()
    scene.mutate("orders.incr", {"key": "n"})
    scene.receive(scene.outcome(1, 12, value=8))
    scene.told()
    scene.receive(scene.watched(10, {"n": (10, 6)}))
    scene.shows({"n": 7}, pending=["n"])
    scene.receive(scene.event(11, "n", value=7))
    scene.shows({"n": 8}, pending=["n"])
    scene.receive(scene.event(12, "n", by=1, value=8))
    scene.shows({"n": 8}, pending=[])
    scene.told((1, "ok"))
    return scene


def a_second_snapshot_ahead_of_the_events_of_the_first_watch() -> Scene:
    """It holds what was decided and not told yet, and says so: the prediction goes at once, the outcome comes with its events."""
    scene = live({"n": (5, 0)})
    scene.watch(keys=["n"])
    scene.mutate("orders.incr", {"key": "n"})
    scene.mutate("orders.incr", {"key": "n"})
    scene.receive(scene.watched(12, {"n": (12, 2)}, decided=1))
    scene.shows({"n": 3}, pending=["n"])
    scene.shows({"n": 3}, pending=["n"], watch=2)
    scene.told()
    scene.receive(scene.event(11, "n", by=1, value=1), scene.outcome(1, 11, value=1))
    scene.shows({"n": 3}, pending=["n"], watch=2)
    scene.told((1, "ok"))
    scene.receive(scene.event(12, "n", value=2))
    scene.receive(scene.event(13, "n", by=2, value=3), scene.outcome(2, 13, value=3))
    scene.shows({"n": 3}, pending=[])
    scene.told((2, "ok"))
    return scene


def each_page_says_what_it_is_as_of() -> Scene:
    """Between two pages a mutation was decided: one holds it, the other does not, until its event comes."""
    scene = live({"a": (1, 0), "z": (2, 0)})
    lagged(scene)
    scene.mutate("orders.incr", {"key": "a"})
    scene.mutate("orders.incr", {"key": "z"})
    scene.receive(scene.watched(2, {"a": (1, 0)}, decided=0, more=True))
    scene.shows({"a": 1, "z": 1}, pending=["a", "z"])
    scene.receive(scene.page({"z": (12, 1)}, decided=2))
    scene.shows({"a": 1, "z": 1}, pending=["a"])
    scene.receive(scene.event(11, "a", by=1, value=1), scene.event(12, "z", by=2, value=1))
    scene.shows({"a": 1, "z": 1}, pending=[])
    scene.told()
    scene.receive(scene.outcome(1, 11, value=1), scene.outcome(2, 12, value=1))
    scene.told((1, "ok"), (2, "ok"))
    return scene


def a_snapshot_that_lacks_what_was_put_and_deleted() -> Scene:
    """Somebody deleted it since: the prediction would bring it back until the outcome comes."""
    scene = live({})
    scene.mutate("orders.put", {"key": "n", "value": 1})
    scene.shows({"n": 1}, pending=["n"])
    lagged(scene)
    scene.receive(scene.watched(20, decided=1))
    scene.shows({})
    scene.told()
    scene.receive(scene.outcome(1, 11))
    scene.told((1, "ok"))
    return scene


def a_snapshot_of_a_new_epoch_says_what_it_is_as_of() -> Scene:
    """What the old entries held is of no account once the new ones are shown."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    scene.receive(scene.event(6, "n", by=1, value=1))
    scene.shows({"n": 1}, pending=[])
    scene.receive(["reset", {"scope": "channel", "channel": "orders", "code": "new_epoch"}])
    scene.epoch = "e2"
    scene.receive(scene.watched(3, {"n": (3, 0)}, decided=0))
    scene.shows({"n": 1}, pending=["n"])
    scene.receive(scene.event(4, "n", by=1, value=1), scene.outcome(1, 4, value=1))
    scene.shows({"n": 1}, pending=[])
    scene.told((1, "ok"))
    return scene


def an_outcome_waits_only_for_watches_that_were_not_complete() -> Scene:
    """The first watch had told everything before it; nothing would tell it where the second one ends."""
    scene = Scene()
    scene.open()
    scene.watch(keys=["a"])
    scene.receive(scene.watched(5, {"a": (5, 1)}))
    scene.watch(keys=["b"])
    scene.mutate("orders.put", {"key": "b", "value": 2})
    scene.receive(scene.outcome(1, 9))
    scene.told()
    scene.receive(scene.watched(9, {"b": (9, 2)}, decided=1))
    scene.shows({"a": 1}, pending=[])
    scene.shows({"b": 2}, pending=[], watch=2)
    scene.told((1, "ok"))
    return scene


def a_watch_that_was_not_answered_before_a_lag_is_asked_for_again() -> Scene:
    """The server may never answer it, and what waits for it would wait for ever."""
    scene = live({"n": (5, 0)})
    scene.watch(keys=["m"])
    scene.receive(["lagged", {"channel": "orders", "position": scene.at(10)}])
    scene.sent("watch", "watch")
    scene.receive(scene.watched(10, watch=1, recovered=True))
    scene.receive(scene.watched(11, {"m": (11, 1)}, watch=2))
    scene.shows({"m": 1}, watch=2)
    return scene


def a_watch_that_is_answered_behind_a_lag_after_all() -> Scene:
    """It was asked for once more; whichever answer comes first counts, because the events behind it rest on it."""
    scene = live({"n": (5, 0)})
    scene.watch(keys=["m"])
    early = scene.watched(12, {"m": (12, 1)}, decided=1)
    scene.mutate("orders.incr", {"key": "m"})
    scene.receive(["lagged", {"channel": "orders", "position": scene.at(10)}])
    scene.receive(early, scene.event(13, "m", value=5))
    scene.shows({"m": 5}, pending=[], watch=2)
    scene.receive(scene.watched(10, watch=1, recovered=True))
    scene.receive(scene.watched(13, {"m": (13, 5)}, watch=2, decided=1))
    scene.receive(scene.event(12, "m", by=1, value=1), scene.outcome(1, 12, value=1))
    scene.shows({"m": 5}, pending=[], watch=2)
    return scene


def a_page_for_a_watch_that_is_gone() -> Scene:
    """What comes behind it rests on it, for the other watches of its channel as well."""
    scene = live({"n": (5, 0)})
    scene.watch(keys=["m"])
    early = scene.watched(12, {"m": (12, 1)}, decided=1)
    scene.mutate("orders.incr", {"key": "m"})
    scene.receive(["lagged", {"channel": "orders", "position": scene.at(10)}])
    scene.unwatch(2)
    scene.receive(scene.outcome(1, 12, value=1), early, scene.event(13, "m", value=5))
    scene.shows({"n": 0, "m": 5}, pending=[])
    scene.receive(scene.watched(13, {"n": (5, 0), "m": (13, 5)}, watch=1, decided=1))
    scene.shows({"n": 0, "m": 5}, pending=[])
    scene.told((1, "ok"))
    return scene


def an_own_event_that_a_newer_one_follows() -> Scene:
    """It is told even to a slow client, whom others' changes of the entry skip: only it says whose change the newer one holds."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    scene.receive(scene.event(11, "n", by=1, value=1))
    scene.receive(scene.event(14, "n", by=("c9", 4), value=101))
    scene.shows({"n": 101}, pending=[])
    scene.receive(scene.outcome(1, 11, value=1))
    scene.told((1, "ok"))
    return scene


def an_outcome_before_the_events_that_a_watch_missed() -> Scene:
    """The watch goes on from its position; a mark says where the missed events end, and before it the position decides."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    scene.lose()
    scene.open(last_mid=1)
    scene.receive(scene.watched(10, recovered=True), scene.outcome(1, 12, value=1))
    scene.shows({"n": 1}, pending=["n"])
    scene.told()
    scene.receive(scene.event(11, "x", value=0))
    scene.shows({"n": 1, "x": 0}, pending=["n"])
    scene.receive(scene.event(12, "n", by=1, value=1))
    scene.shows({"n": 1, "x": 0}, pending=[])
    scene.told((1, "ok"))
    return scene


def an_outcome_for_a_channel_nobody_watches_settles_at_once() -> Scene:
    """There is nothing to wait for."""
    scene = live()
    scene.mutate("bills.put", {"key": "1", "value": 1})
    scene.receive(scene.outcome(1, positions={"bills": scene.at(3)}))
    scene.told((1, "ok"))
    return scene


def a_watch_that_has_begun_holds_an_outcome_too() -> Scene:
    """Its first snapshot is not there when the outcome comes."""
    scene = Scene()
    scene.open()
    scene.mutate("orders.put", {"key": "a", "value": 1})
    scene.watch()
    scene.receive(scene.outcome(1, 5))
    scene.told()
    scene.receive(scene.watched(5, {"a": (5, 1)}))
    scene.told((1, "ok"))
    scene.shows({"a": 1}, pending=[])
    return scene


SCENES = [
    an_outcome_between_lag_and_snapshot_keeps_the_prediction,
    an_event_before_the_lag_and_the_outcome_after_it,
    a_snapshot_older_than_the_outcome_keeps_the_prediction,
    a_snapshot_takes_the_place_of_a_prediction_made_blind,
    an_outcome_before_a_snapshot_without_its_effect,
    a_second_snapshot_ahead_of_the_events_of_the_first_watch,
    each_page_says_what_it_is_as_of,
    a_snapshot_that_lacks_what_was_put_and_deleted,
    a_snapshot_of_a_new_epoch_says_what_it_is_as_of,
    an_outcome_waits_only_for_watches_that_were_not_complete,
    a_watch_that_was_not_answered_before_a_lag_is_asked_for_again,
    a_watch_that_is_answered_behind_a_lag_after_all,
    a_page_for_a_watch_that_is_gone,
    an_own_event_that_a_newer_one_follows,
    an_outcome_before_the_events_that_a_watch_missed,
    an_outcome_for_a_channel_nobody_watches_settles_at_once,
    a_watch_that_has_begun_holds_an_outcome_too,
]
