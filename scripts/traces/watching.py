"""Scenes about watches: snapshots, gaps, epochs, and predictions that wait for them."""

from __future__ import annotations

from typing import Any

from scripts.traces.rebase import OPEN, live
from scripts.traces.writer import Scene

__all__ = ["SCENES"]

EMPTY: Any = {}


def lagged(scene: Scene) -> None:
    """Receive `lagged`."""
    scene.receive(["lagged", {"channel": "orders"}])


def an_empty_collection_is_told_as_complete() -> Scene:
    """Nothing is shown before the server's first word, and an empty answer is one."""
    scene = Scene()
    scene.watch()
    scene.open()
    scene.shows(None)
    scene.receive(scene.watched(0))
    scene.shows({})
    assert scene.steps[-1]["changes"] == {"1": []}
    return scene


def a_snapshot_in_pages_shows_when_it_is_complete() -> Scene:
    """Events and deletions come between the pages; an older entry of a later page does not count."""
    scene = Scene()
    scene.open()
    scene.watch()
    scene.receive(scene.watched(10, {"a": (1, "a1")}, more=True))
    scene.shows(None)
    scene.receive(scene.event(11, "c", value="c11"), scene.event(12, "b", deleted=True))
    scene.receive(scene.page({"b": (2, "b2")}, more=True))
    scene.receive(scene.page({"c": (3, "c3")}))
    scene.shows({"a": "a1", "c": "c11"})
    return scene


def a_patch_waits_for_the_page_with_its_base() -> Scene:
    """No second watch is needed."""
    scene = Scene()
    scene.open()
    scene.watch()
    scene.receive(scene.watched(10, {"a": (1, {"x": 1})}, more=True))
    scene.receive(scene.event(11, "b", patch={"y": 2}, base=3))
    scene.sent()
    scene.receive(scene.page({"b": (3, {"x": 1})}))
    scene.shows({"a": {"x": 1}, "b": {"x": 1, "y": 2}})
    return scene


def what_a_new_snapshot_does_not_tell_is_gone() -> Scene:
    """Unless it is told as unchanged, or by an event."""
    scene = live({"a": (1, "a"), "b": (2, "b"), "c": (3, "c")})
    lagged(scene)
    scene.sent("watch")
    scene.receive(scene.watched(20, {"d": (15, "d")}, unchanged=["a"], more=True))
    scene.shows({"a": "a", "b": "b", "c": "c", "d": "d"})
    scene.receive(scene.event(21, "c", value="c21"), scene.page())
    scene.shows({"a": "a", "c": "c21", "d": "d"})
    return scene


def a_patch_without_its_base_watches_again_with_what_is_there() -> Scene:
    """Not from the position: the same patch would come again."""
    scene = live({"7": (5, OPEN), "8": (6, OPEN)})
    scene.receive(scene.event(12, "7", patch={"total": 1}, base=11))
    scene.sent("watch")
    scene.shows({"7": OPEN, "8": OPEN})
    scene.receive(scene.watched(12, {"7": (12, {"total": 1})}, unchanged=["8"]))
    scene.shows({"7": {"total": 1}, "8": OPEN})
    return scene


def patches_apply_on_their_base_and_old_ones_are_ignored() -> Scene:
    """A repetition is below the version that is there."""
    scene = live({"7": (5, {"a": 1, "b": {"c": 1, "d": 2}})})
    patch = scene.event(11, "7", patch={"a": None, "b": {"c": 3}}, base=5)
    scene.receive(patch)
    scene.shows({"7": {"b": {"c": 3, "d": 2}}})
    scene.receive(patch, scene.event(9, "7", patch={"a": 9}, base=4))
    scene.sent()
    scene.shows({"7": {"b": {"c": 3, "d": 2}}})
    return scene


def a_watch_goes_on_from_its_position_after_a_reconnection() -> Scene:
    """What was missed comes as events; `mark` says that this was all."""
    scene = live()
    scene.receive(scene.event(11, "8", value=1))
    scene.lose()
    scene.open()
    scene.sent("watch")
    scene.receive(scene.watched(14, recovered=True), scene.event(13, "8", value=2))
    scene.receive(["mark", {"channel": "orders", "position": scene.at(14)}])
    scene.shows({"7": OPEN, "8": 2})
    return scene


def a_new_epoch_takes_the_place_of_the_view_when_it_is_complete() -> Scene:
    """Versions of another epoch are not compared; the old view stays until the new one is whole."""
    scene = live({"a": (9, "old"), "b": (8, "old")})
    scene.lose()
    scene.open()
    scene.epoch = "e2"
    scene.receive(scene.watched(2, {"a": (1, "new")}, more=True))
    scene.shows({"a": "old", "b": "old"})
    scene.receive(scene.page({"c": (2, "new")}))
    scene.shows({"a": "new", "c": "new"})
    return scene


def an_epoch_change_with_a_pending_mutation() -> Scene:
    """It was decided in the old epoch; the snapshot of the new one settles it."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    scene.lose()
    scene.open(last_mid=1)
    scene.receive(scene.outcome(1, 11, value=1))
    scene.epoch = "e2"
    scene.receive(scene.watched(1, {"n": (1, 1)}))
    scene.shows({"n": 1}, pending=[])
    scene.told((1, "ok"))
    return scene


def an_event_of_another_epoch_watches_again() -> Scene:
    """The client missed the change of epochs."""
    scene = live({"a": (9, "old")})
    scene.receive(scene.event(1, "a", value="new", epoch="e2"))
    scene.sent("watch")
    scene.shows({"a": "old"})
    scene.epoch = "e2"
    scene.receive(scene.watched(1, {"a": (1, "new")}))
    scene.shows({"a": "new"})
    return scene


def a_reset_of_a_channel_forgets_position_and_versions() -> Scene:
    """Even if the same epoch comes again."""
    scene = live({"a": (9, "old"), "b": (9, "old")})
    scene.receive(["reset", {"scope": "channel", "channel": "orders", "code": "epoch_changed"}])
    scene.sent("watch")
    scene.receive(scene.watched(3, {"a": (3, "new")}))
    scene.shows({"a": "new"})
    return scene


def a_watch_of_keys_is_told_what_is_not_there() -> Scene:
    """`deleted`, with the offset up to which that is known."""
    scene = Scene()
    scene.open()
    scene.watch(keys=["a", "b"])
    scene.receive(
        [
            "watched",
            {
                **scene.watched(10, {"a": (4, 1)})[1],
                "entries": [
                    {"key": "a", "version": 4, "value": 1},
                    {"key": "b", "version": 10, "deleted": True},
                ],
            },
        ]
    )
    scene.shows({"a": 1})
    scene.receive(scene.event(9, "b", value="late"), scene.event(12, "b", value="new"))
    scene.shows({"a": 1, "b": "new"})
    return scene


def two_watches_of_one_channel_and_the_end_of_one() -> Scene:
    """What the other covers goes on; its entries stay."""
    scene = Scene()
    scene.open()
    scene.watch(keys=["a", "b"])
    scene.receive(scene.watched(10, {"a": (1, 1), "b": (2, 2)}))
    scene.watch(keys=["b", "c"])
    scene.receive(scene.watched(10, {"c": (3, 3)}, unchanged=["b"]))
    scene.shows({"b": 2, "c": 3}, watch=2)
    scene.unwatch(1)
    scene.sent("unwatch")
    scene.receive(scene.event(11, "b", value=22))
    scene.shows({"b": 22, "c": 3}, watch=2)
    return scene


def partitions_are_channels_of_their_own() -> Scene:
    """A prediction shows in the partition its key belongs to."""
    scene = Scene()
    scene.open()
    scene.watch(partition="eu")
    scene.receive(scene.watched(10, {"eu/1": (1, 0)}, channel="orders/eu"))
    scene.mutate("orders.incr", {"key": "eu/1"})
    scene.mutate("orders.put", {"key": "us/1", "value": 5})
    scene.shows({"eu/1": 1}, pending=["eu/1"])
    scene.receive(
        scene.event(11, "eu/1", by=1, value=1, channel="orders/eu"),
        scene.outcome(1, positions={"orders/eu": scene.at(11)}),
        scene.outcome(2, positions={"orders/us": scene.at(4)}),
    )
    scene.told((1, "ok"), (2, "ok"))
    return scene


def a_watch_refused_for_now_is_asked_for_again() -> Scene:
    """After `after_ms`."""
    scene = Scene()
    scene.open()
    scene.watch()
    error = {"id": 1, "code": "load_timeout", "message": "no", "retryable": True, "after_ms": 2000}
    scene.receive(["error", error])
    scene.time(1.9)
    scene.sent()
    scene.time(1.2)
    scene.sent("watch")
    return scene


def a_watch_that_the_server_ends_settles_what_waits_for_it() -> Scene:
    """A permission was taken away."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    lagged(scene)
    scene.receive(scene.outcome(1, 11, value=1))
    scene.receive(["unsubscribed", {"channel": "orders", "code": "revoked", "reason": "no"}])
    scene.told((1, "ok"))
    return scene


def invalidations_are_told_and_carry_the_position_on() -> Scene:
    """They take offsets like events."""
    scene = live()
    body = {"channel": "orders", "epoch": scene.epoch, "offset": 15, "keys": ["7"], "at_ms": 0}
    scene.receive(["invalidate", body])
    scene.lose()
    scene.open()
    sent = next(m[1] for s in scene.steps for m in s.get("sent", []) if m[0] == "watch")
    assert sent["collection"] == "orders"
    assert scene.core.entries.watches
    assert next(iter(scene.core.entries.watches)).position.offset == 15  # type: ignore[union-attr]
    return scene


def a_read_is_answered_once_and_changes_no_view() -> Scene:
    """One entry a key, in the order asked."""
    scene = live()
    scene.read("8", "7")
    ok: Any = {"id": 2, "position": scene.at(10)}
    ok["entries"] = [
        {"key": "8", "version": 10, "deleted": True},
        {"key": "7", "version": 5, "value": OPEN},
    ]
    scene.receive(["ok", ok])
    scene.shows({"7": OPEN})
    return scene


def a_read_asks_for_what_own_mutations_have_changed() -> Scene:
    """The next node may not have heard of them yet; an outcome that is told again moves nothing back."""
    scene = live({"n": (5, 0)})
    scene.mutate("orders.incr", {"key": "n"})
    scene.mutate("orders.incr", {"key": "n"})
    scene.receive(scene.event(11, "n", value=1, by=1), scene.outcome(1, 11, value=1))
    scene.read("n")
    assert scene.steps[-1]["sent"][-1][1]["after"] == {"orders": scene.at(11)}
    scene.receive(scene.event(12, "n", value=2, by=2), scene.outcome(2, 12, value=2))
    scene.lose()
    scene.open()
    scene.read("n", "8")
    assert scene.steps[-1]["sent"][-1][1]["after"] == {"orders": scene.at(12)}
    return scene


SCENES = [
    an_empty_collection_is_told_as_complete,
    a_snapshot_in_pages_shows_when_it_is_complete,
    a_patch_waits_for_the_page_with_its_base,
    what_a_new_snapshot_does_not_tell_is_gone,
    a_patch_without_its_base_watches_again_with_what_is_there,
    patches_apply_on_their_base_and_old_ones_are_ignored,
    a_watch_goes_on_from_its_position_after_a_reconnection,
    a_new_epoch_takes_the_place_of_the_view_when_it_is_complete,
    an_epoch_change_with_a_pending_mutation,
    an_event_of_another_epoch_watches_again,
    a_reset_of_a_channel_forgets_position_and_versions,
    a_watch_of_keys_is_told_what_is_not_there,
    two_watches_of_one_channel_and_the_end_of_one,
    partitions_are_channels_of_their_own,
    a_watch_refused_for_now_is_asked_for_again,
    a_watch_that_the_server_ends_settles_what_waits_for_it,
    invalidations_are_told_and_carry_the_position_on,
    a_read_is_answered_once_and_changes_no_view,
    a_read_asks_for_what_own_mutations_have_changed,
]
