"""Scenes about subscriptions: recovery, gaps, refusals."""

from __future__ import annotations

from scripts.traces.channel_scene import CHANNEL, ChannelScene

__all__ = ["SCENES", "live"]


def live(offset: int) -> ChannelScene:
    """A subscription that stands at an offset."""
    scene = ChannelScene()
    scene.open()
    scene.subscribe()
    scene.receive(scene.subscribed(offset))
    return scene


def _away(offset: int) -> ChannelScene:
    """The same, asked for again after a loss."""
    scene = live(offset)
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
    scene = live(4)
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
    scene = live(4)
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
    scene = live(4)
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
    scene = live(4)
    scene.receive(scene.event(7))
    scene.receive(scene.subscribed(4, recovered=True))
    scene.receive(scene.event(7))
    scene.sent()
    scene.time(1)
    scene.sent("unsubscribe", "subscribe")
    return scene


def an_event_of_another_epoch_is_a_gap() -> ChannelScene:
    """The answer then tells what became of the channel."""
    scene = live(4)
    scene.receive(scene.event(5, epoch="e2"))
    scene.sent("unsubscribe", "subscribe")
    scene.receive(scene.subscribed(5, was_recovering=True, epoch="e2"))
    scene.told("reset", "mark")
    return scene


def lagged_is_asked_for_again_without_being_ended() -> ChannelScene:
    """The subscription is over at the server by then."""
    scene = live(4)
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
    scene = live(4)
    answer = scene.subscribed(0, was_recovering=True, epoch="e2", id=None)
    scene.receive(answer)
    scene.told("reset", "mark")
    scene.sent()
    return scene


def a_reset_asks_again_and_the_answer_tells() -> ChannelScene:
    """Nothing is missed unless the answer says so."""
    scene = live(4)
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
    scene = live(4)
    ended = {"channel": CHANNEL, "code": "revoked", "reason": "r"}
    scene.receive(scene.event(5), ["unsubscribed", ended], scene.event(6))
    scene.told(5, "ended")
    return scene


def what_comes_after_unsubscribing_does_not_count() -> ChannelScene:
    """Nor when the channel is subscribed anew meanwhile."""
    scene = live(4)
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
]
