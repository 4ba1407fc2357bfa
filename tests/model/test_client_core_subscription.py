"""One subscription of the client: its table, and what each message does to its position."""

import pytest

from syncd.client.facts import Marked, Reset, ResetCause, Subscribed, SubscriptionEnded
from syncd.client.tables import SUBSCRIPTION_TABLE, SubscriptionInput, SubscriptionState
from syncd.ids import Position
from tests.model.subscription_driver import CHANNEL, Driver, at, event, offsets, subscribed

S = SubscriptionState


@pytest.fixture
def driver():
    return subscribed()


# ---------------------------------------------------------------- table


def test_every_state_can_be_ended_and_nothing_follows_the_end():
    ended = {state for state, step in SUBSCRIPTION_TABLE if step is SubscriptionInput.END}
    assert ended == set(S) - {S.ENDED}
    assert {state for state, _ in SUBSCRIPTION_TABLE} == set(S) - {S.ENDED}


def test_every_state_survives_going_offline_without_believing_to_be_subscribed():
    for state in set(S) - {S.ENDED}:
        after = SUBSCRIPTION_TABLE[state, SubscriptionInput.OFFLINE]
        assert after in (S.UNSUBSCRIBED, S.LAGGED)


def in_state(state):
    driver = Driver()
    if state is S.UNSUBSCRIBED:
        driver.core.closed(0, 1006)
    driver.subscribe(Position("e", 5))
    if state in (S.SUBSCRIBED, S.LAGGED):
        driver.answer(driver.asked, at(5), recovered=True, was_recovering=True)
    if state is S.LAGGED:
        driver.core.hold(CHANNEL)
    driver.take()
    assert driver.subscription.state is state
    return driver


LIVE_STATES = [S.UNSUBSCRIBED, S.SUBSCRIBING, S.SUBSCRIBED, S.LAGGED]


MESSAGES = {
    "event": ("event", event(6, 5)),
    "mark": ("mark", {"channel": CHANNEL, "position": at(9)}),
    "lagged": ("lagged", {"channel": CHANNEL, "position": at(9)}),
    "stray answer": (
        "subscribed",
        {"id": 999, "channel": CHANNEL, "position": at(9), "was_recovering": True,
         "recovered": True, "events": []},
    ),
    "unasked answer": (
        "subscribed",
        {"channel": CHANNEL, "position": at(9), "was_recovering": True,
         "recovered": True, "events": []},
    ),
}  # fmt: skip


@pytest.mark.parametrize("state", LIVE_STATES, ids=lambda s: s.value)
@pytest.mark.parametrize("name", MESSAGES)
def test_only_a_live_subscription_listens(state, name):
    driver = in_state(state)
    facts = driver.say(*MESSAGES[name])
    if state is not S.SUBSCRIBED or name == "stray answer":
        assert facts == []
        assert driver.subscription.position == Position("e", 5)
        assert driver.subscription.state is state
    elif name == "lagged":
        assert driver.subscription.state is S.SUBSCRIBING
    else:
        assert driver.subscription.position.offset > 5


# ---------------------------------------------------------------- live events


def test_the_next_event_advances_the_position_and_is_handed_out(driver):
    [fact] = driver.event(6)
    assert fact.event.data == 6
    assert driver.subscription.position == Position("e", 6)


def test_an_event_known_already_is_ignored(driver):
    assert driver.event(5) == []
    assert driver.event(4) == []
    assert driver.messages == []


def test_a_missing_event_makes_it_ask_again_from_its_position(driver):
    assert driver.event(7) == []
    assert [kind for kind, _ in driver.messages] == ["unsubscribe", "subscribe"]
    assert driver.asked["position"] == at(5)
    request = driver.asked
    assert driver.event(8) == [], "nothing counts before the answer"
    facts = driver.answer(
        request, at(8), [event(n, n - 1) for n in (6, 7, 8)], recovered=True, was_recovering=True
    )
    assert offsets(facts) == [6, 7, 8]


def test_an_event_of_another_epoch_makes_it_ask_again(driver):
    driver.event(6, epoch="f")
    assert driver.asked["position"] == at(5)


def test_without_prev_only_the_order_counts(driver):
    facts = driver.say("event", event(9, None))
    assert offsets(facts) == [9]
    assert driver.say("event", event(8, None)) == []
    assert driver.messages == []


def test_gaps_in_quick_succession_wait_so_that_a_broken_server_is_not_hammered(driver):
    driver.event(7)
    driver.answer(driver.asked, at(5), recovered=True, was_recovering=True)
    driver.now = 1.0
    driver.event(9)
    assert driver.messages == []
    retry_at = driver.core.next_deadline()
    assert 1.0 < retry_at <= 1.5
    driver.core.tick(retry_at)
    driver.take()
    assert driver.asked["position"] == at(5)


def test_a_mark_advances_and_never_goes_back(driver):
    mark = {"channel": CHANNEL, "position": at(8)}
    assert driver.say("mark", mark) == [Marked(CHANNEL, Position("e", 8))]
    assert driver.say("mark", {**mark, "position": at(7)}) == []
    assert offsets(driver.event(9)) == [9]


def test_a_mark_of_another_epoch_makes_it_ask_again(driver):
    driver.say("mark", {"channel": CHANNEL, "position": at(8, "f")})
    assert driver.asked["position"] == at(5)


def test_lagged_makes_it_subscribe_again_without_unsubscribing_first(driver):
    driver.say("lagged", {"channel": CHANNEL, "position": at(7)})
    assert [kind for kind, _ in driver.messages] == ["subscribe"]
    assert driver.asked["position"] == at(5), "from what was received, not from what was queued"


@pytest.mark.parametrize(
    "reset",
    [{"scope": "channel", "channel": CHANNEL}, {"scope": "all"}],
    ids=lambda r: r["scope"],
)
def test_a_reset_asks_again_so_that_the_answer_tells(driver, reset):
    driver.say("reset", {**reset, "code": "epoch_changed"})
    facts = driver.answer(driver.asked, at(0, "f"), was_recovering=True)
    assert Reset(CHANNEL, Position("f", 0), ResetCause.EPOCH_CHANGED) in facts


def test_a_reset_of_another_channel_changes_nothing(driver):
    driver.say("reset", {"scope": "channel", "channel": "demo:b", "code": "epoch_changed"})
    assert driver.messages == []


# ---------------------------------------------------------------- answers


def test_a_first_subscription_adopts_the_position_and_is_no_reset(driver):
    driver.core.unsubscribe(CHANNEL)
    driver.subscribe()
    facts = driver.answer(driver.asked, at(3))
    assert facts == [
        Subscribed(CHANNEL, Position("e", 3), was_recovering=False, recovered=False),
        Marked(CHANNEL, Position("e", 3)),
    ]


def test_a_recovery_hands_out_what_was_missed_once(driver):
    driver.reconnect()
    assert driver.asked["position"] == at(5)
    missed = [event(n, n - 1) for n in (4, 5, 6, 7)]
    facts = driver.answer(driver.asked, at(7), missed, recovered=True, was_recovering=True)
    assert offsets(facts) == [6, 7]
    assert driver.subscription.position == Position("e", 7)


def test_missed_events_may_follow_the_answer(driver):
    driver.reconnect()
    driver.answer(driver.asked, at(5), recovered=True, was_recovering=True)
    assert offsets(driver.event(6) + driver.event(7)) == [6, 7]


@pytest.mark.parametrize(
    ("position", "cause"),
    [(at(500), ResetCause.OUT_OF_RETENTION), (at(2, "f"), ResetCause.EPOCH_CHANGED)],
)
def test_what_cannot_be_recovered_is_told_and_the_new_position_adopted(driver, position, cause):
    driver.reconnect()
    facts = driver.answer(driver.asked, position, was_recovering=True)
    [reset] = [f for f in facts if isinstance(f, Reset)]
    assert (reset.cause, reset.position) == (cause, driver.subscription.position)
    assert driver.subscription.position == Position(**position)
    following = driver.event(position["offset"] + 1, epoch=position["epoch"])
    assert len(offsets(following)) == 1


def test_a_position_of_an_earlier_run_that_cannot_be_recovered_is_told_too():
    driver = Driver()
    driver.subscribe(Position("old", 3))
    facts = driver.answer(driver.asked, at(9), was_recovering=True)
    assert Reset(CHANNEL, Position("e", 9), ResetCause.EPOCH_CHANGED) in facts


def test_the_present_state_after_a_reset_comes_behind_the_reset(driver):
    driver.reconnect()
    state = [event(90, None), event(95, None)]
    facts = driver.answer(driver.asked, at(99), state, was_recovering=True)
    kinds = [type(f).__name__ for f in facts]
    assert kinds == ["Subscribed", "Reset", "Received", "Received", "Marked"]
    assert facts[1].position == Position("e", 89), "resuming from here repeats the whole state"
    assert driver.subscription.position == Position("e", 99)


def test_an_answer_without_being_asked_is_taken_when_live(driver):
    facts = driver.answer(None, at(0, "f"), was_recovering=True)
    assert [f.cause for f in facts if isinstance(f, Reset)] == [ResetCause.EPOCH_CHANGED]


def test_the_return_to_an_ephemeral_channel_is_told_as_a_reset():
    driver = Driver()
    driver.subscribe()
    assert driver.answer(driver.asked, None) == [Subscribed(CHANNEL, None, False, False)]
    live_event = {"channel": CHANNEL, "data": 1, "at_ms": 1}
    assert [f.event.position for f in driver.say("event", live_event)] == [None]
    driver.reconnect()
    assert "position" not in driver.asked
    facts = driver.answer(driver.asked, None)
    assert Reset(CHANNEL, None, ResetCause.NOT_KEPT) in facts


def test_subscribing_again_begins_anew_from_the_wished_position(driver):
    driver.core.subscribe(CHANNEL, Position("e", 2))
    driver.take()
    assert driver.asked["position"] == at(2)
    missed = [event(n, n - 1) for n in (3, 4, 5)]
    facts = driver.answer(driver.asked, at(5), missed, recovered=True, was_recovering=True)
    assert offsets(facts) == [3, 4, 5]


# ---------------------------------------------------------------- refusals and ends


def refuse(driver, code, *, retryable, after_ms=None):
    error = {"id": driver.asked["id"], "code": code, "message": "m", "retryable": retryable}
    return driver.say("error", {**error, "after_ms": after_ms})


def test_a_refusal_for_now_is_asked_again_later():
    driver = Driver()
    driver.subscribe()
    refuse(driver, "overloaded", retryable=True, after_ms=1000)
    retry_at = driver.core.next_deadline()
    assert 1.0 <= retry_at <= 1.5
    driver.core.tick(retry_at)
    driver.take()
    assert driver.asked["channel"] == CHANNEL


def test_a_final_refusal_ends_it():
    driver = Driver()
    driver.subscribe()
    assert refuse(driver, "permission_denied", retryable=False) == [
        SubscriptionEnded(CHANNEL, "permission_denied", "m")
    ]
    assert driver.subscription is None
    driver.reconnect()
    assert driver.messages == []


def test_already_subscribed_is_cured_by_unsubscribing_first():
    driver = Driver()
    driver.subscribe()
    assert refuse(driver, "already_subscribed", retryable=False) == []
    driver.core.tick(driver.core.next_deadline())
    driver.take()
    assert [kind for kind, _ in driver.messages] == ["unsubscribe", "subscribe"]


def test_the_server_may_end_it(driver):
    ended = {"channel": CHANNEL, "code": "revoked", "reason": "gone"}
    assert driver.say("unsubscribed", ended) == [SubscriptionEnded(CHANNEL, "revoked", "gone")]
    assert driver.event(6) == []


def test_unsubscribing_tells_the_server_once_and_only_when_it_may_know(driver):
    driver.core.unsubscribe(CHANNEL)
    driver.take()
    assert [kind for kind, _ in driver.messages] == ["unsubscribe"]
    driver.core.unsubscribe(CHANNEL)
    driver.take()
    assert driver.messages == []
    driver.subscribe()
    driver.core.closed(0, 1006)
    driver.core.unsubscribe(CHANNEL)
    driver.take()
    assert driver.messages == []


# ---------------------------------------------------------------- a slow application


def test_holding_stops_the_server_and_releasing_goes_on_from_the_same_place(driver):
    driver.core.hold(CHANNEL)
    driver.take()
    assert [kind for kind, _ in driver.messages] == ["unsubscribe"]
    assert driver.event(6) == []
    driver.core.release(CHANNEL)
    driver.take()
    assert [kind for kind, _ in driver.messages] == ["subscribe"]
    assert driver.asked["position"] == at(5)


def test_a_held_subscription_stays_held_over_a_reconnect(driver):
    driver.core.hold(CHANNEL)
    driver.take()
    driver.reconnect()
    assert driver.messages == []
    driver.core.release(CHANNEL)
    driver.take()
    assert driver.asked["position"] == at(5)


def test_holding_before_the_answer_discards_the_answer():
    driver = Driver()
    driver.subscribe()
    request = driver.asked
    driver.core.hold(CHANNEL)
    driver.take()
    assert driver.answer(request, at(5)) == []
    driver.core.release(CHANNEL)
    driver.take()
    assert driver.asked["id"] != request["id"]
