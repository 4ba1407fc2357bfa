"""Scenes about requests, presence and the connection itself."""

from __future__ import annotations

from typing import Any

from scripts.traces.channel_scene import CHANNEL, ChannelScene
from scripts.traces.channels import live

__all__ = ["SCENES"]


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


def a_publication_that_does_not_get_through_is_given_up_alone() -> ChannelScene:
    """It is longer than frames of several messages were, in two sessions that ended with 1009."""
    scene = ChannelScene()
    scene.publish("x" * 2_500)
    scene.publish({"n": 1})
    scene.open(max_frame_bytes=4_096)
    for _ in range(2):
        scene.sent("publish", "publish")
        scene.lose(1009)
        scene.open(max_frame_bytes=4_096)
    scene.sent("publish")
    scene.told("state", "settled")
    scene.publish("x" * 2_500)
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
    scene = live(4)
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


def a_pong_tells_how_old_the_last_event_was() -> ChannelScene:
    """When it had been applied: each age once, and none of an event from before the session."""
    scene = live(4)
    scene.time(3)
    scene.receive(scene.event(5, at_ms=2_500), scene.event(6, at_ms=2_900))
    scene.receive(["ping", {}])
    assert scene.steps[-1]["sent"] == [["pong", {"applied_age_ms": 100}]]
    scene.receive(["ping", {}])
    assert scene.steps[-1]["sent"] == [["pong", {}]]
    scene.receive(scene.event(7, at_ms=3_020), ["ping", {}])
    assert scene.steps[-1]["sent"] == [["pong", {"applied_age_ms": 0}]]
    scene.receive(scene.event(8, at_ms=-1), ["ping", {}])
    assert scene.steps[-1]["sent"] == [["pong", {}]]
    return scene


def a_closed_client_leaves_and_settles() -> ChannelScene:
    """Presence is taken back before the connection ends."""
    scene = live(4)
    scene.presence(1)
    scene.publish(1)
    scene.close()
    scene.sent("presence")
    scene.told("state", "settled", "settled")
    return scene


SCENES = [
    a_publication_is_sent_until_it_is_answered,
    a_publication_that_does_not_get_through_is_given_up_alone,
    a_request_refused_for_now_is_sent_again,
    history_is_told_as_it_was_asked_for,
    presence_is_a_state_and_what_changed_since,
    presence_is_announced_again_by_every_session,
    bye_says_when_to_come_back,
    a_client_that_is_told_to_stop_settles_everything,
    silence_is_taken_for_death,
    a_pong_tells_how_old_the_last_event_was,
    a_closed_client_leaves_and_settles,
]
