"""Scenes about the connection and channels: recovery, gaps, refusals, requests, presence."""

from __future__ import annotations

from typing import Any

from scripts.traces.channel_scene import CHANNEL, ChannelScene

__all__ = ["SCENES"]


def _live(offset: int) -> ChannelScene:
    """A subscription that stands at an offset."""
    scene = ChannelScene()
    scene.open()
    scene.subscribe()
    scene.receive(scene.subscribed(offset))
    return scene


def _away(offset: int) -> ChannelScene:
    """The same, asked for again after a loss."""
    scene = _live(offset)
    scene.lose()
    scene.open()
    return scene


def a_subscription_made_offline_is_asked_for_when_there_is_a_session() -> ChannelScene:
    """It stands where the answer says, before any event came."""
    scene = ChannelScene()
    scene.subscribe()
    scene.open()
    scene.sent("subscribe")
    scene.receive(scene.subscribed(4))
    scene.told("mark")
    scene.receive(scene.event(5), scene.event(6))
    scene.told(5, 6)
    return scene


def what_was_missed_comes_once_and_in_order() -> ChannelScene:
    """An event that is there already is not taken again."""
    scene = _live(4)
    scene.receive(scene.event(5))
    scene.lose()
    scene.open()
    assert scene.steps[-1]["sent"][0][1]["position"]["offset"] == 5
    missed = [scene.event(offset) for offset in (5, 6, 7)]
    scene.receive(scene.subscribed(7, *missed, recovered=True))
    scene.told(6, 7, "mark")
    return scene


def a_recovery_goes_on_in_event_frames() -> ChannelScene:
    """What does not fit into the answer follows it; the position of the answer is behind its events."""
    scene = _away(4)
    scene.receive(scene.subscribed(5, scene.event(5), recovered=True))
    scene.receive(scene.event(6), scene.event(7))
    scene.told(6, 7)
    return scene


def a_position_that_is_too_old_is_told_as_a_reset() -> ChannelScene:
    """What was built from the channel must be fetched anew."""
    scene = _away(4)
    scene.receive(scene.subscribed(99, was_recovering=True))
    scene.told("reset", "mark")
    return scene


def another_epoch_is_told_as_a_reset_whatever_the_answer_says() -> ChannelScene:
    """An offset of another epoch means nothing."""
    scene = _away(4)
    scene.receive(scene.subscribed(9, recovered=True, epoch="e2"))
    scene.told("reset", "mark")
    return scene


def the_state_of_a_latest_channel_comes_behind_a_reset() -> ChannelScene:
    """The reset stands before the first event of the new state."""
    scene = _away(4)
    events = [scene.event(offset, prev=None) for offset in (7, 9)]
    scene.receive(scene.subscribed(9, *events, was_recovering=True))
    scene.told("reset", 7, 9, "mark")
    return scene


def superseded_events_are_no_gap_where_there_is_no_prev() -> ChannelScene:
    """Offsets only ascend; a mark carries the position on, and never back."""
    scene = _live(4)
    scene.receive(scene.event(9, prev=None))
    scene.told(9)
    for offset in (12, 11):
        position = {"epoch": "e1", "offset": offset}
        scene.receive(["mark", {"channel": CHANNEL, "position": position}])
    scene.told()
    scene.receive(scene.event(10, prev=None))
    scene.told()
    return scene


def a_gap_is_repaired_from_the_position() -> ChannelScene:
    """Events of the older subscription do not count; nor does an answer to another request."""
    scene = _live(4)
    scene.receive(scene.event(7))
    scene.sent("unsubscribe", "subscribe")
    scene.receive(scene.event(5))
    scene.told()
    missed = [scene.event(offset) for offset in (5, 6, 7)]
    scene.receive(scene.subscribed(7, *missed, recovered=True))
    scene.told(5, 6, 7, "mark")
    return scene


def a_second_gap_soon_after_is_repaired_later() -> ChannelScene:
    """A broken server is not hammered."""
    scene = _live(4)
    scene.receive(scene.event(7))
    scene.receive(scene.subscribed(4, recovered=True))
    scene.receive(scene.event(7))
    scene.sent()
    scene.time(1)
    scene.sent("unsubscribe", "subscribe")
    return scene


def an_event_of_another_epoch_is_a_gap() -> ChannelScene:
    """The answer then tells what became of the channel."""
    scene = _live(4)
    scene.receive(scene.event(5, epoch="e2"))
    scene.sent("unsubscribe", "subscribe")
    scene.receive(scene.subscribed(5, was_recovering=True, epoch="e2"))
    scene.told("reset", "mark")
    return scene


def lagged_is_asked_for_again_without_being_ended() -> ChannelScene:
    """The subscription is over at the server by then."""
    scene = _live(4)
    scene.receive(["lagged", {"channel": CHANNEL}])
    scene.sent("subscribe")
    return scene


def an_ephemeral_channel_tells_that_something_may_be_missed() -> ChannelScene:
    """Its events have no positions."""
    scene = ChannelScene()
    scene.open()
    scene.subscribe()
    scene.receive(scene.subscribed(None))
    scene.receive(scene.event(None))
    scene.told(None)
    scene.lose()
    scene.open()
    scene.receive(scene.subscribed(None))
    scene.told("reset")
    return scene


def a_position_that_the_application_kept_is_gone_on_from() -> ChannelScene:
    """As if it had been told up to there by this client."""
    scene = ChannelScene()
    scene.open()
    scene.subscribe(position=2)
    scene.receive(scene.subscribed(3, scene.event(3), recovered=True))
    scene.told(3, "mark")
    scene.subscribe(position=1)
    scene.sent("unsubscribe", "subscribe")
    return scene


def the_server_may_reestablish_a_subscription_by_itself() -> ChannelScene:
    """A channel kept in memory is lost with what held it."""
    scene = _live(4)
    answer = scene.subscribed(0, was_recovering=True, epoch="e2", id=None)
    scene.receive(answer)
    scene.told("reset", "mark")
    scene.sent()
    return scene


def a_reset_asks_again_and_the_answer_tells() -> ChannelScene:
    """Nothing is missed unless the answer says so."""
    scene = _live(4)
    scene.receive(["reset", {"scope": "channel", "channel": CHANNEL, "code": "epoch_changed"}])
    scene.sent("unsubscribe", "subscribe")
    scene.receive(scene.subscribed(4, recovered=True))
    scene.told("mark")
    return scene


def a_subscription_that_is_refused_ends() -> ChannelScene:
    """It does not come back at the next session."""
    scene = ChannelScene()
    scene.open()
    scene.subscribe()
    scene.receive(scene.error("subscribe", "permission_denied"))
    scene.told("ended")
    scene.lose()
    scene.open()
    scene.sent()
    return scene


def a_subscription_refused_for_now_is_asked_for_again() -> ChannelScene:
    """Not before the server wants it; what it holds already is ended first."""
    scene = ChannelScene()
    scene.open()
    scene.subscribe()
    scene.receive(scene.error("subscribe", "overloaded", retryable=True, after_ms=2000))
    scene.time(1.9)
    scene.sent()
    scene.time(1)
    scene.sent("subscribe")
    scene.receive(scene.error("subscribe", "already_subscribed"))
    scene.time(2)
    scene.sent("unsubscribe", "subscribe")
    return scene


def the_server_ends_a_subscription() -> ChannelScene:
    """What came before is told before."""
    scene = _live(4)
    ended = {"channel": CHANNEL, "code": "revoked", "reason": "r"}
    scene.receive(scene.event(5), ["unsubscribed", ended], scene.event(6))
    scene.told(5, "ended")
    return scene


def what_comes_after_unsubscribing_does_not_count() -> ChannelScene:
    """Nor when the channel is subscribed anew meanwhile."""
    scene = _live(4)
    scene.unsubscribe()
    scene.sent("unsubscribe")
    scene.receive(scene.event(5))
    scene.told()
    scene.subscribe()
    scene.receive(scene.event(6))
    scene.told()
    scene.receive(scene.subscribed(6))
    scene.told("mark")
    return scene


def a_publication_is_sent_until_it_is_answered() -> ChannelScene:
    """The very same, under one uid."""
    scene = ChannelScene()
    scene.publish({"n": 1})
    scene.open()
    scene.sent("publish")
    scene.lose()
    scene.open()
    scene.sent("publish")
    position = {"epoch": "e1", "offset": 1}
    scene.receive(scene.ok("publish", position=position), scene.ok("publish"))
    scene.told("settled")
    return scene


def a_request_refused_for_now_is_sent_again() -> ChannelScene:
    """After the wait that the server asked for; one refused for good fails."""
    scene = ChannelScene()
    scene.open()
    scene.history(10)
    scene.receive(scene.error("history", "rate_limited", retryable=True, after_ms=1000))
    scene.time(0.9)
    scene.sent()
    scene.time(1)
    scene.sent("history")
    scene.receive(scene.error("history", "not_supported"))
    scene.told("settled")
    return scene


def history_is_told_as_it_was_asked_for() -> ChannelScene:
    """With the channel's top."""
    scene = ChannelScene()
    scene.open()
    scene.history(2)
    events = [scene.event(offset)[1] for offset in (1, 2)]
    position = {"epoch": "e1", "offset": 9}
    scene.receive(scene.ok("history", events=events, position=position))
    scene.told("settled")
    return scene


def presence_is_a_state_and_what_changed_since() -> ChannelScene:
    """A diff that skips waits for the next state."""
    scene = ChannelScene()
    scene.open()
    scene.subscribe(presence=True)
    scene.receive(scene.subscribed(0))
    members: list[Any] = [_member("a", "c1"), _member("b", "c2")]
    scene.receive(["presence_state", {"channel": CHANNEL, "seq": 3, "members": members}])
    diff = {"channel": CHANNEL, "joins": [_member("c", "c3")], "updates": [], "leaves": ["a"]}
    scene.receive(["presence_diff", {**diff, "seq": 3}], ["presence_diff", {**diff, "seq": 4}])
    scene.told("presence")
    scene.receive(["presence_diff", {**diff, "seq": 6}], ["presence_diff", {**diff, "seq": 7}])
    scene.told()
    scene.receive(["presence_state", {"channel": CHANNEL, "seq": 7, "members": members[1:]}])
    scene.told("presence")
    return scene


def _member(name: str, *clients: str) -> dict[str, Any]:
    states = [{"client": client, "state": {"of": client}} for client in clients]
    return {"member": name, "user": name, "states": states}


def presence_is_announced_again_by_every_session() -> ChannelScene:
    """The newest state alone; one that is on its way still is superseded."""
    scene = ChannelScene()
    scene.open()
    scene.presence(1)
    scene.presence(2)
    scene.told("settled")
    scene.receive(scene.ok("presence"))
    scene.lose()
    scene.open()
    scene.sent("presence")
    scene.receive(scene.ok("presence"))
    scene.presence(None)
    scene.receive(scene.ok("presence"))
    scene.lose()
    scene.open()
    scene.sent()
    return scene


def bye_says_when_to_come_back() -> ChannelScene:
    """And why."""
    scene = ChannelScene()
    scene.open()
    advice = {"code": 4000, "reason": "restart", "reconnect": True, "after_ms": 3000}
    scene.receive(["bye", advice])
    assert scene.steps[-1]["hangs_up"]
    scene.lose(1000)
    scene.told("state")
    return scene


def a_client_that_is_told_to_stop_settles_everything() -> ChannelScene:
    """Nothing waits for a connection that will not come."""
    scene = _live(4)
    scene.publish(1)
    scene.lose(4503)
    scene.told("state", "settled")
    scene.publish(2, uid="u2")
    scene.told("settled")
    return scene


def silence_is_taken_for_death() -> ChannelScene:
    """Of ping_ms and 10 s; anything at all that comes begins it anew, and a ping is answered."""
    scene = ChannelScene()
    scene.open()
    scene.time(34)
    scene.receive(["ping", {}])
    scene.sent("pong")
    scene.time(34)
    assert "hangs_up" not in scene.steps[-1]
    scene.time(1)
    assert scene.steps[-1]["hangs_up"]
    return scene


def a_closed_client_leaves_and_settles() -> ChannelScene:
    """Presence is taken back before the connection ends."""
    scene = _live(4)
    scene.presence(1)
    scene.publish(1)
    scene.close()
    scene.sent("presence")
    scene.told("state", "settled", "settled")
    return scene


SCENES = [
    a_subscription_made_offline_is_asked_for_when_there_is_a_session,
    what_was_missed_comes_once_and_in_order,
    a_recovery_goes_on_in_event_frames,
    a_position_that_is_too_old_is_told_as_a_reset,
    another_epoch_is_told_as_a_reset_whatever_the_answer_says,
    the_state_of_a_latest_channel_comes_behind_a_reset,
    superseded_events_are_no_gap_where_there_is_no_prev,
    a_gap_is_repaired_from_the_position,
    a_second_gap_soon_after_is_repaired_later,
    an_event_of_another_epoch_is_a_gap,
    lagged_is_asked_for_again_without_being_ended,
    an_ephemeral_channel_tells_that_something_may_be_missed,
    a_position_that_the_application_kept_is_gone_on_from,
    the_server_may_reestablish_a_subscription_by_itself,
    a_reset_asks_again_and_the_answer_tells,
    a_subscription_that_is_refused_ends,
    a_subscription_refused_for_now_is_asked_for_again,
    the_server_ends_a_subscription,
    what_comes_after_unsubscribing_does_not_count,
    a_publication_is_sent_until_it_is_answered,
    a_request_refused_for_now_is_sent_again,
    history_is_told_as_it_was_asked_for,
    presence_is_a_state_and_what_changed_since,
    presence_is_announced_again_by_every_session,
    bye_says_when_to_come_back,
    a_client_that_is_told_to_stop_settles_everything,
    silence_is_taken_for_death,
    a_closed_client_leaves_and_settles,
]
