"""Scenes about numbers, resending, answers and identity."""

from __future__ import annotations

from typing import Any

from scripts.traces.rebase import OPEN, live
from scripts.traces.writer import Scene

__all__ = ["SCENES"]

PUT: Any = {"key": "8", "value": 1}


def put(scene: Scene, key: str) -> None:
    """Make a simple mutation."""
    scene.mutate("orders.put", {"key": key, "value": key})


def _missing(expect: int) -> list[Any]:
    return ["out_of_order", {"client": "c1", "expect": expect}]


def _error(mid: int, code: str, *, retryable: bool, after_ms: int | None = None) -> list[Any]:
    body = {"client": "c1", "mid": mid, "code": code, "message": "no", "retryable": retryable}
    return ["error", body if after_ms is None else {**body, "after_ms": after_ms}]


def mutations_made_offline_are_sent_in_order_before_the_watches() -> Scene:
    """Outcomes of what was decided then come before the snapshots that hold the effect."""
    scene = Scene()
    scene.watch()
    put(scene, "a")
    put(scene, "b")
    scene.sent()
    scene.open()
    scene.sent(("mutate", 1), ("mutate", 2), "watch")
    scene.shows(None)
    scene.receive(scene.watched(10, {}))
    scene.shows({"a": "a", "b": "b"}, pending=["a", "b"])
    return scene


def what_was_not_decided_is_sent_again_under_the_same_number() -> Scene:
    """The server never saw it."""
    scene = live()
    put(scene, "a")
    scene.lose()
    scene.open(last_mid=0)
    scene.sent(("mutate", 1), "watch")
    scene.receive(scene.watched(10, recovered=True))
    scene.shows({"7": OPEN, "a": "a"}, pending=["a"])
    scene.receive(scene.event(11, "a", by=1, value="a"), scene.outcome(1, 11))
    scene.shows({"7": OPEN, "a": "a"}, pending=[])
    return scene


def what_was_decided_unheard_is_sent_for_its_outcome() -> Scene:
    """`last_mid` says that 1 is decided, not how: it may have been rejected."""
    scene = live()
    put(scene, "a")
    put(scene, "b")
    scene.lose()
    scene.open(last_mid=1)
    scene.sent(("mutate", 1), ("mutate", 2), "watch")
    scene.receive(scene.rejected(1, "not_allowed"))
    scene.told((1, "rejected"))
    scene.shows({"7": OPEN, "b": "b"}, pending=["b"])
    return scene


def an_increment_decided_unheard_is_not_shown_twice() -> Scene:
    """The snapshot was asked for after the decision and holds it: nothing is predicted over it, and the outcome is waited for."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    scene.lose()
    scene.open(last_mid=1)
    scene.receive(scene.watched(11, {"n": (11, 1)}))
    scene.shows({"n": 1}, pending=[])
    scene.receive(scene.outcome(1, 11, value=1))
    scene.shows({"n": 1}, pending=[])
    scene.told((1, "ok"))
    return scene


def what_has_its_outcome_is_not_sent_again() -> Scene:
    """Only the second is."""
    scene = live()
    put(scene, "a")
    put(scene, "b")
    scene.receive(scene.event(11, "a", by=1, value="a"), scene.outcome(1, 11))
    scene.lose()
    scene.open(last_mid=1)
    scene.sent(("mutate", 2), "watch")
    return scene


def a_second_outcome_changes_nothing() -> Scene:
    """It is told once, and acknowledged again."""
    scene = live()
    put(scene, "a")
    scene.receive(scene.event(11, "a", by=1, value="a"), scene.outcome(1, 11))
    scene.told((1, "ok"))
    scene.receive(scene.outcome(1, 11))
    scene.told()
    scene.time(1)
    scene.sent("mutate_ack")
    return scene


def out_of_order_sends_again_from_the_first_undecided() -> Scene:
    """The server lacks 1; echoes for 2 and 3 that follow at once are not obeyed one by one."""
    scene = live()
    for key in "abc":
        put(scene, key)
    scene.time(2)
    scene.receive(_missing(1))
    scene.sent(("mutate", 1), ("mutate", 2), ("mutate", 3))
    scene.receive(_missing(1))
    scene.sent()
    scene.time(3)
    scene.sent(("mutate", 1), ("mutate", 2), ("mutate", 3))
    return scene


def an_out_of_order_older_than_outcomes_changes_no_number() -> Scene:
    """It went another way than the outcomes and comes behind them; a mutation with a new number would take another's outcome."""
    scene = live()
    for key in "abc":
        put(scene, key)
    scene.time(2)
    scene.receive(scene.outcome(1, 11), scene.outcome(2, 12), _missing(2))
    scene.sent(("mutate", 3))
    scene.told((1, "ok"), (2, "ok"))
    scene.receive(scene.outcome(3, 13))
    scene.told((3, "ok"))
    put(scene, "d")
    scene.sent(("mutate", 4))
    return scene


def a_server_that_goes_on_expecting_what_it_decided_is_greeted_anew() -> Scene:
    """It may have lost state; the next welcome says so, and what is pending takes the numbers that are free there."""
    scene = live()
    for key in "abc":
        put(scene, key)
    scene.receive(scene.outcome(1, 11), scene.outcome(2, 12))
    for _ in range(3):
        scene.time(20)
        scene.receive(_missing(1))
    assert scene.steps[-1]["hangs_up"]
    scene.lose(1000)
    scene.open(last_mid=0)
    assert [[p.id, p.mid] for p in scene.core.entries.pending] == [[3, 1]]
    return scene


def a_retryable_error_is_waited_out_and_everything_behind_it_sent_again() -> Scene:
    """Nothing advanced; the out_of_order answers to those behind it mean the same thing."""
    scene = live()
    put(scene, "a")
    put(scene, "b")
    scene.receive(
        _error(1, "store_unavailable", retryable=True, after_ms=5000),
        ["out_of_order", {"client": "c1", "expect": 1}],
    )
    scene.sent()
    put(scene, "c")
    scene.sent()
    scene.time(4.9)
    scene.sent()
    scene.time(1)
    scene.sent(("mutate", 1), ("mutate", 2), ("mutate", 3))
    scene.shows({"7": OPEN, "a": "a", "b": "b", "c": "c"}, pending=["a", "b", "c"])
    return scene


def a_stale_term_stops_the_sending_until_the_next_session() -> Scene:
    """Not decided, and not for this session to send; predictions stay."""
    scene = live()
    put(scene, "a")
    scene.receive(_error(1, "stale_term", retryable=False))
    put(scene, "b")
    scene.sent()
    scene.lose()
    scene.open()
    scene.sent(("mutate", 1), ("mutate", 2), "watch")
    return scene


def a_mutation_the_server_will_never_take_does_not_block_the_others() -> Scene:
    """It is rejected; those behind it move up by one."""
    scene = live()
    put(scene, "a")
    put(scene, "b")
    scene.receive(_error(1, "bad_request", retryable=False))
    scene.told((1, "rejected"))
    scene.sent(("mutate", 1))
    assert scene.steps[-1]["pending"] == [[2, 0, 1]]
    scene.shows({"7": OPEN, "b": "b"}, pending=["b"])
    return scene


def outcomes_are_acknowledged_once_a_second() -> Scene:
    """One message for all of them."""
    scene = live()
    put(scene, "a")
    put(scene, "b")
    scene.receive(scene.rejected(1, "no"))
    scene.receive(scene.rejected(2, "no"))
    scene.time(0.5)
    scene.sent()
    scene.time(0.6)
    scene.sent("mutate_ack")
    return scene


def every_hundredth_outcome_is_acknowledged_at_once() -> Scene:
    """Up to the first that is missing."""
    scene = live({})
    for _ in range(101):
        scene.mutate("tidy")
    scene.receive(*(scene.outcome(mid) for mid in range(1, 101)))
    scene.sent("mutate_ack")
    return scene


def an_unknown_outcome_drops_the_prediction() -> Scene:
    """The server no longer keeps how it was decided."""
    scene = live()
    put(scene, "a")
    scene.lose()
    scene.open(last_mid=1)
    scene.receive(scene.outcome(1, status="unknown"))
    scene.told((1, "unknown"))
    scene.shows({"7": OPEN}, pending=[])
    return scene


def a_mutation_that_is_too_large_is_refused_before_it_is_queued() -> Scene:
    """Sent, it would end every connection, for ever."""
    scene = Scene(max_frame_bytes=200)
    scene.open()
    scene.mutate("orders.put", {"key": "a", "value": "x" * 200})
    scene.refused("too_large")
    scene.sent()
    put(scene, "b")
    scene.sent(("mutate", 1))
    return scene


def a_server_that_takes_less_than_the_last_one() -> Scene:
    """What was queued and is too large now is rejected, and does not block those behind it."""
    scene = Scene(max_frame_bytes=200)
    scene.mutate("orders.put", {"key": "a", "value": "x" * 300})
    put(scene, "b")
    scene.open()
    scene.sent(("mutate", 1))
    scene.told((1, "rejected"))
    return scene


def a_forgotten_client_gets_a_new_id() -> Scene:
    """What was sent under the old one is unknown; what was never sent is numbered anew under the new one."""
    scene = live()
    put(scene, "a")
    scene.lose()
    put(scene, "b")
    scene.open(0, {"client": "c2", "secret": "s-c2", "last_mid": 0})
    scene.told((1, "unknown"))
    scene.sent(("mutate", 1), "watch")
    scene.receive(["reset", {"scope": "client", "client": "c1", "code": "client_unknown"}])
    assert scene.steps[-1]["pending"] == [[2, 0, 1]]
    scene.receive(scene.outcome(1, 12, client="c2"))
    scene.receive(scene.watched(12, {"7": (5, OPEN), "b": (12, "b")}))
    scene.told((2, "ok"))
    return scene


def a_server_that_lost_state_gets_what_is_pending_under_new_numbers() -> Scene:
    """It knows less than it decided before: what is above is not applied there."""
    scene = live()
    for key in "abc":
        put(scene, key)
    scene.receive(scene.outcome(1), scene.outcome(2))
    scene.lose()
    scene.open(last_mid=1)
    scene.sent(("mutate", 2), "watch")
    assert scene.steps[-1]["pending"] == [[3, 0, 2]]
    return scene


def a_client_from_an_earlier_process_goes_on_counting() -> Scene:
    """What it makes before welcome is numbered behind what the server decided long ago."""
    scene = Scene("c1")
    put(scene, "a")
    scene.open(last_mid=41)
    scene.sent(("mutate", 42))
    scene.receive(scene.outcome(42, 3))
    scene.told((1, "ok"))
    return scene


def two_clients_on_one_session_count_each_for_itself() -> Scene:
    """Two tabs: own numbers, one order of predictions, each with its own outcomes."""
    scene = Scene("c1", "c2")
    scene.open()
    scene.watch()
    scene.receive(scene.watched(10, {"n": (5, 0)}))
    scene.mutate("orders.incr", {"key": "n"})
    scene.mutate("orders.incr", {"key": "n", "by": 10}, slot=1)
    scene.mutate("orders.incr", {"key": "n", "by": 100})
    scene.shows({"n": 111})
    scene.receive(
        scene.event(11, "n", by=("c2", 1), value=10), scene.outcome(1, 11, client="c2", value=10)
    )
    scene.told((2, "ok"))
    scene.shows({"n": 111}, pending=["n"])
    scene.receive(scene.outcome(2, client="c2"))
    scene.told()
    scene.lose()
    scene.open(0, {"client": "c1", "last_mid": 0}, {"client": "c2", "last_mid": 1})
    scene.sent(("mutate", 1), ("mutate", 2), "watch")
    return scene


def a_take_over_stops_the_client_and_leaves_the_sent_unknown() -> Scene:
    """Close code 4504: another connection speaks for this client now."""
    scene = live()
    put(scene, "a")
    bye = {"code": 4504, "reason": "taken over", "reconnect": False, "after_ms": 0}
    scene.receive(["bye", bye])
    scene.lose(4504)
    scene.told((1, "unknown"))
    return scene


def outcomes_of_other_clients_and_unknown_fields_are_ignored() -> Scene:
    """A newer server may say more."""
    scene = live()
    put(scene, "a")
    scene.receive(scene.outcome(1, client="c9"), ["novel", {"x": 1}])
    scene.told()
    scene.receive(scene.outcome(1, status="postponed_for_ever", novel=1))
    scene.told((1, "unknown"))
    return scene


SCENES = [
    mutations_made_offline_are_sent_in_order_before_the_watches,
    what_was_not_decided_is_sent_again_under_the_same_number,
    what_was_decided_unheard_is_sent_for_its_outcome,
    an_increment_decided_unheard_is_not_shown_twice,
    what_has_its_outcome_is_not_sent_again,
    a_second_outcome_changes_nothing,
    out_of_order_sends_again_from_the_first_undecided,
    an_out_of_order_older_than_outcomes_changes_no_number,
    a_server_that_goes_on_expecting_what_it_decided_is_greeted_anew,
    a_retryable_error_is_waited_out_and_everything_behind_it_sent_again,
    a_stale_term_stops_the_sending_until_the_next_session,
    a_mutation_the_server_will_never_take_does_not_block_the_others,
    outcomes_are_acknowledged_once_a_second,
    every_hundredth_outcome_is_acknowledged_at_once,
    an_unknown_outcome_drops_the_prediction,
    a_mutation_that_is_too_large_is_refused_before_it_is_queued,
    a_server_that_takes_less_than_the_last_one,
    a_forgotten_client_gets_a_new_id,
    a_server_that_lost_state_gets_what_is_pending_under_new_numbers,
    a_client_from_an_earlier_process_goes_on_counting,
    two_clients_on_one_session_count_each_for_itself,
    a_take_over_stops_the_client_and_leaves_the_sent_unknown,
    outcomes_of_other_clients_and_unknown_fields_are_ignored,
]
