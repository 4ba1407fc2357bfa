"""Presence of one channel as the client keeps it: a state, then diffs without a gap."""

import pytest

from tests.model.subscription_driver import CHANNEL, Driver, at, subscribed


@pytest.fixture
def driver():
    return subscribed()


def member(name, state=1):
    return {"member": name, "states": [{"client": name, "state": state}]}


def watching():
    driver = Driver()
    driver.subscribe(presence=True)
    assert driver.asked["presence"] is True
    driver.answer(driver.asked, at(0))
    state = {"channel": CHANNEL, "seq": 4, "members": [member("a"), member("b")]}
    [fact] = driver.say("presence_state", state)
    assert [m.member for m in fact.members] == ["a", "b"]
    return driver


def diff(seq, joins=(), updates=(), leaves=()):
    body = {"channel": CHANNEL, "seq": seq, "joins": list(joins), "updates": list(updates)}
    return {**body, "leaves": list(leaves)}


def test_diffs_apply_in_order_of_arrival():
    driver = watching()
    [fact] = driver.say("presence_diff", diff(5, [member("c")], [member("b", 2)], ["a"]))
    assert [(m.member, m.states[0].state) for m in fact.members] == [("b", 2), ("c", 1)]
    [fact] = driver.say("presence_diff", diff(6, [member("a")]))
    assert [m.member for m in fact.members] == ["b", "c", "a"]


def test_an_old_diff_is_ignored_and_after_a_skipped_one_only_a_state_counts():
    driver = watching()
    assert driver.say("presence_diff", diff(4, leaves=["a"])) == []
    assert driver.say("presence_diff", diff(6, leaves=["a"])) == []
    assert driver.say("presence_diff", diff(5, leaves=["b"])) == [], "waits for the new state"
    state = {"channel": CHANNEL, "seq": 9, "members": [member("z")]}
    [fact] = driver.say("presence_state", state)
    assert [m.member for m in fact.members] == ["z"]
    [fact] = driver.say("presence_diff", diff(10, leaves=["z"]))
    assert fact.members == ()
    assert driver.messages == []


def test_presence_that_was_not_asked_for_is_ignored(driver):
    state = {"channel": CHANNEL, "seq": 4, "members": [member("a")]}
    assert driver.say("presence_state", state) == []
    assert driver.say("presence_diff", diff(5, leaves=["a"])) == []


def test_presence_can_be_added_to_a_subscription_without_losing_its_place(driver):
    driver.core.watch_presence(CHANNEL)
    driver.take()
    assert [kind for kind, _ in driver.messages] == ["unsubscribe", "subscribe"]
    assert (driver.asked["position"], driver.asked["presence"]) == (at(5), True)
    driver.core.watch_presence(CHANNEL)
    driver.take()
    assert driver.messages == []


def test_a_malformed_member_ends_the_connection():
    driver = watching()
    driver.say("presence_diff", diff(5, joins=[{"user": "x"}]))
    driver.say("ping", {})
    assert driver.messages == [], "hung up"
