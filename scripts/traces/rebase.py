"""Scenes about predictions: folding, rebasing, refusing."""

from __future__ import annotations

from typing import Any

from scripts.traces.writer import Scene

__all__ = ["SCENES"]

OPEN = {"status": "open", "total": 10}
SHIPPED = {"status": "shipped", "total": 10, "carrier": "dhl"}
SHIP: Any = {"order_id": "7", "carrier": "dhl"}


def live(entries: Any = None, offset: int = 10) -> Scene:
    """Return a scene with a live watch of all orders."""
    scene = Scene()
    scene.open()
    scene.watch()
    scene.receive(scene.watched(offset, {"7": (5, OPEN)} if entries is None else entries))
    return scene


def a_prediction_shows_at_once_and_settles_with_its_outcome() -> Scene:
    """The event and the outcome come in one frame: one change, and the entry is never without the effect."""
    scene = live()
    scene.mutate("orders.ship", SHIP)
    scene.shows({"7": SHIPPED}, pending=["7"])
    scene.sent(("mutate", 1))
    scene.receive(scene.event(11, "7", by=1, value=SHIPPED), scene.outcome(1, 11))
    scene.shows({"7": SHIPPED}, pending=[])
    scene.told((1, "ok"))
    return scene


def an_event_one_frame_before_its_outcome_is_not_applied_twice() -> Scene:
    """An own event takes the place of the prediction at once: `incr` never counts twice."""
    scene = live({"n": (5, 3)})
    scene.mutate("orders.incr", {"key": "n", "by": 2})
    scene.shows({"n": 5}, pending=["n"])
    scene.receive(scene.event(11, "n", by=1, value=5))
    scene.shows({"n": 5}, pending=[])
    scene.told()
    scene.receive(scene.outcome(1, 11, value=5))
    scene.shows({"n": 5})
    scene.told((1, "ok"))
    return scene


def a_foreign_change_below_a_prediction_rebases_it() -> Scene:
    """The intent is run again, not the difference: what others changed in the same entry shows."""
    scene = live()
    scene.mutate("orders.ship", SHIP)
    scene.receive(scene.event(11, "7", value={"status": "open", "total": 99, "note": "big"}))
    scene.shows(
        {"7": {"status": "shipped", "total": 99, "note": "big", "carrier": "dhl"}}, pending=["7"]
    )
    done = {"status": "shipped", "total": 99, "note": "big", "carrier": "dhl"}
    scene.receive(scene.event(12, "7", by=1, value=done), scene.outcome(1, 12))
    scene.shows({"7": done}, pending=[])
    return scene


def counters_of_two_writers_add_up() -> Scene:
    """A foreign increment below two pending ones."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    scene.mutate("orders.incr", {"key": "n", "by": 10})
    scene.shows({"n": 11})
    scene.receive(scene.event(11, "n", by=("c9", 1), value=100))
    scene.shows({"n": 111})
    scene.receive(scene.event(12, "n", by=1, value=101), scene.outcome(1, 12, value=101))
    scene.shows({"n": 111}, pending=["n"])
    scene.receive(scene.event(13, "n", by=2, value=111), scene.outcome(2, 13, value=111))
    scene.shows({"n": 111}, pending=[])
    return scene


def a_foreign_change_elsewhere_leaves_a_prediction_alone() -> Scene:
    """Only the entry that changed is told."""
    scene = live({"7": (5, OPEN), "8": (6, OPEN)})
    scene.mutate("orders.ship", SHIP)
    scene.receive(scene.event(11, "8", value={"status": "lost"}))
    assert scene.steps[-1]["changes"] == {"1": ["8"]}
    return scene


def a_rejection_rolls_back_and_keeps_what_came_meanwhile() -> Scene:
    """A rollback is a new fold, not a stored copy: the second mutation stays."""
    scene = live({"7": (5, OPEN)})
    scene.mutate("orders.patch", {"key": "7", "patch": {"note": "a"}})
    scene.mutate("orders.patch", {"key": "7", "patch": {"flag": True}})
    scene.receive(scene.rejected(1, "not_allowed"))
    scene.shows({"7": {**OPEN, "flag": True}}, pending=["7"])
    scene.told((1, "rejected"))
    return scene


def a_rejection_of_one_that_another_rests_on() -> Scene:
    """The second is predicted anew without the first: there is nothing to ship."""
    scene = live({})
    scene.mutate("orders.open", {"order_id": "9", "total": 4})
    scene.mutate("orders.ship", {"order_id": "9", "carrier": "dhl"})
    scene.shows({"9": {"status": "shipped", "total": 4, "carrier": "dhl"}})
    scene.receive(scene.rejected(1, "not_allowed"))
    scene.shows({}, pending=[])
    scene.receive(scene.rejected(2, "unknown_order"))
    scene.told((2, "rejected"))
    return scene


def a_mutator_that_rejects_on_rebase_predicts_nothing_and_goes_on() -> Scene:
    """Somebody else shipped it first; the server has the last word."""
    scene = live()
    scene.mutate("orders.ship", SHIP)
    scene.receive(scene.event(11, "7", value={"status": "shipped", "total": 10, "carrier": "ups"}))
    scene.shows({"7": {"status": "shipped", "total": 10, "carrier": "ups"}}, pending=[])
    assert scene.steps[-1]["pending"] == [[1, 0, 1]]
    scene.receive(scene.rejected(1, "already_shipped"))
    scene.told((1, "rejected"))
    return scene


def a_mutator_that_raises_on_rebase_predicts_nothing_and_goes_on() -> Scene:
    """Faulty code at the client must not end the connection, nor stop those behind it."""
    scene = live()
    scene.mutate("orders.fragile", {"order_id": "7"})
    scene.mutate("orders.put", {"key": "8", "value": 1})
    scene.receive(scene.event(11, "7", value={"status": "gone"}))
    scene.shows({"7": {"status": "gone"}, "8": 1}, pending=["8"])
    scene.stays_connected()
    scene.lose()
    scene.open(last_mid=0)
    scene.sent(("mutate", 1), ("mutate", 2), "watch")
    return scene


def a_mutator_that_raises_at_first_is_not_queued() -> Scene:
    """Nothing is predicted, numbered or sent."""
    scene = live({"7": (5, {"status": "gone"})})
    scene.mutate("orders.fragile", {"order_id": "7"})
    scene.refused("RuntimeError")
    scene.sent()
    scene.mutate("orders.put", {"key": "8", "value": 1})
    scene.sent(("mutate", 1))
    return scene


def a_mutator_that_rejects_at_first_is_not_queued() -> Scene:
    """What it read is known to this client."""
    scene = live({"7": (5, SHIPPED)})
    scene.mutate("orders.ship", SHIP)
    scene.refused("already_shipped")
    scene.sent()
    return scene


def a_refusal_that_rests_on_unknown_entries_is_left_to_the_server() -> Scene:
    """Order 9 is not watched: that it is not there means nothing."""
    scene = Scene()
    scene.open()
    scene.watch(keys=["7"])
    scene.receive(scene.watched(10, {"7": (5, OPEN)}))
    scene.mutate("orders.ship", {"order_id": "9", "carrier": "dhl"})
    scene.sent(("mutate", 1))
    scene.receive(scene.outcome(1, 11))
    scene.told((1, "ok"))
    return scene


def a_built_in_that_cannot_be_predicted_is_sent() -> Scene:
    """`if_version` and what is no number are the server's to judge."""
    scene = live({"7": (5, "text")})
    scene.mutate("orders.incr", {"key": "7"})
    scene.mutate("orders.put", {"key": "7", "value": 1, "if_version": 99})
    scene.sent(("mutate", 2))
    scene.shows({"7": "text"}, pending=[])
    scene.receive(scene.rejected(1, "not_a_number"), scene.rejected(2, "version_mismatch"))
    scene.told((1, "rejected"), (2, "rejected"))
    return scene


def the_built_in_mutators_are_predicted() -> Scene:
    """put, patch, delete and incr, of an entry and of a field; arguments by name and by position."""
    scene = live({"7": (5, OPEN), "n": (6, 1)})
    scene.mutate("orders.put", ["8", {"a": [1, None]}])
    scene.mutate("orders.patch", {"key": "7", "patch": {"status": None, "x": {"y": 1}}})
    scene.mutate("orders.incr", ["n", 2.5])
    scene.mutate("orders.incr", {"key": "7", "by": 5, "field": "total"})
    scene.mutate("orders.incr", {"key": "7", "field": "visits"})
    scene.mutate("orders.delete", {"key": "8"})
    scene.shows({"7": {"total": 15, "x": {"y": 1}, "visits": 1}, "n": 3.5}, pending=["7", "n"])
    return scene


def a_mutation_without_a_local_mutator_is_sent_and_shows_when_it_is_done() -> Scene:
    """An unknown name, and one that is not to be predicted."""
    scene = live()
    scene.mutate("orders.silent", {"key": "7"})
    scene.mutate("tidy")
    scene.sent(("mutate", 2))
    scene.shows({"7": OPEN}, pending=[])
    scene.receive(scene.event(11, "7", by=1, value=1), scene.outcome(1, 11), scene.outcome(2))
    scene.shows({"7": 1})
    scene.told((1, "ok"), (2, "ok"))
    return scene


def the_server_may_compute_something_else() -> Scene:
    """What it made of the mutation replaces the prediction in one step."""
    scene = live()
    scene.mutate("orders.ship", SHIP)
    other = {**SHIPPED, "carrier": "cheapest"}
    scene.receive(scene.event(11, "7", by=1, value=other), scene.outcome(1, 11))
    scene.shows({"7": other}, pending=[])
    return scene


def a_mutation_over_two_entries_whose_events_come_in_two_frames() -> Scene:
    """What an own event shows is confirmed; the rest is predicted until its own event comes."""
    scene = live({"a": (5, {"total": 10}), "b": (6, {"total": 0})})
    scene.mutate("orders.move", {"source": "a", "target": "b", "amount": 10})
    scene.shows({"a": {"total": 0}, "b": {"total": 10}}, pending=["a", "b"])
    scene.receive(scene.event(11, "a", by=1, value={"total": 0}))
    scene.shows({"a": {"total": 0}, "b": {"total": 10}}, pending=["b"])
    scene.receive(scene.event(12, "b", by=1, value={"total": 10}), scene.outcome(1, 12))
    scene.shows({"a": {"total": 0}, "b": {"total": 10}}, pending=[])
    return scene


def what_others_change_shows_below_the_rest_of_a_mutation() -> Scene:
    """It is run again, and reads where it is confirmed what it read before: what is there now would be refused."""
    scene = live({"a": (5, {"total": 10}), "b": (6, {"total": 0})})
    scene.mutate("orders.move", {"source": "a", "target": "b", "amount": 10})
    scene.receive(scene.event(12, "a", by=1, value={"total": 0}))
    scene.receive(scene.event(11, "b", value={"total": 5}))
    scene.shows({"a": {"total": 0}, "b": {"total": 15}}, pending=["b"])
    scene.receive(scene.event(13, "b", by=1, value={"total": 15}), scene.outcome(1, 13))
    scene.shows({"a": {"total": 0}, "b": {"total": 15}}, pending=[])
    return scene


def the_rest_of_a_mutation_stands_where_it_cannot_be_run_again() -> Scene:
    """It took effect, so what its mutator finds now is not what the server's found."""
    scene = live({"a": (5, {"total": 10}), "b": (6, {"total": 0})})
    scene.mutate("orders.move", {"source": "a", "target": "b", "amount": 10})
    scene.receive(scene.event(12, "a", by=1, value={"total": 0}))
    scene.receive(scene.event(11, "b", value={"total": "none"}))
    scene.shows({"a": {"total": 0}, "b": {"total": 10}}, pending=["b"])
    scene.receive(scene.event(13, "b", by=1, value={"total": 10}), scene.outcome(1, 13))
    scene.shows({"a": {"total": 0}, "b": {"total": 10}}, pending=[])
    return scene


def an_own_event_says_that_earlier_mutations_are_decided_too() -> Scene:
    """The event of the second holds the effect of the first; the lag took the first one's own event away."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    scene.mutate("orders.incr", {"key": "n", "by": 10})
    scene.receive(scene.event(12, "n", by=2, value=11))
    scene.shows({"n": 11}, pending=[])
    scene.receive(scene.outcome(1, 11, value=1), scene.outcome(2, 12, value=11))
    scene.shows({"n": 11})
    scene.told((1, "ok"), (2, "ok"))
    return scene


SCENES = [
    an_own_event_says_that_earlier_mutations_are_decided_too,
    what_others_change_shows_below_the_rest_of_a_mutation,
    the_rest_of_a_mutation_stands_where_it_cannot_be_run_again,
    a_prediction_shows_at_once_and_settles_with_its_outcome,
    an_event_one_frame_before_its_outcome_is_not_applied_twice,
    a_foreign_change_below_a_prediction_rebases_it,
    counters_of_two_writers_add_up,
    a_foreign_change_elsewhere_leaves_a_prediction_alone,
    a_rejection_rolls_back_and_keeps_what_came_meanwhile,
    a_rejection_of_one_that_another_rests_on,
    a_mutator_that_rejects_on_rebase_predicts_nothing_and_goes_on,
    a_mutator_that_raises_on_rebase_predicts_nothing_and_goes_on,
    a_mutator_that_raises_at_first_is_not_queued,
    a_mutator_that_rejects_at_first_is_not_queued,
    a_refusal_that_rests_on_unknown_entries_is_left_to_the_server,
    a_built_in_that_cannot_be_predicted_is_sent,
    the_built_in_mutators_are_predicted,
    a_mutation_without_a_local_mutator_is_sent_and_shows_when_it_is_done,
    the_server_may_compute_something_else,
    a_mutation_over_two_entries_whose_events_come_in_two_frames,
]
