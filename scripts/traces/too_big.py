"""Scenes about a way to the server that takes less than the server says: close code 1009."""

from __future__ import annotations

from typing import Any

from scripts.traces.rebase import OPEN, live
from scripts.traces.sending import put
from scripts.traces.writer import Scene

__all__ = ["SCENES"]

TOO_BIG = 1009
MAX_FRAME_BYTES = 4_096
LARGE = "x" * 2_500
"""Longer than a frame of several messages can have been, once two sessions have ended so."""


def _lose_twice(scene: Scene, last_mid: int = 0) -> None:
    """Two sessions end for size."""
    for _ in range(2):
        scene.lose(TOO_BIG)
        scene.told()
        scene.open(last_mid)


def _live() -> Scene:
    """Return a scene with a live watch of all orders, on a server that takes little."""
    scene = live()
    scene.limit(MAX_FRAME_BYTES)
    scene.lose()
    scene.open()
    return scene


def what_does_not_get_through_is_given_up_alone() -> Scene:
    """The longest mutation without an outcome is longer than frames of several messages were: it is rejected, and the others move up."""
    scene = _live()
    put(scene, "a")
    scene.mutate("orders.silent", LARGE)
    put(scene, "b")
    _lose_twice(scene)
    scene.told((2, "rejected"))
    scene.sent(("mutate", 1), ("mutate", 2), "watch")
    scene.shows({"7": OPEN, "a": "a", "b": "b"}, pending=["a", "b"])
    return scene


def what_does_not_get_through_is_remembered() -> Scene:
    """Nothing as long is queued any more, whatever the next server says; what is a byte shorter is."""
    scene = _live()
    scene.mutate("orders.silent", LARGE)
    _lose_twice(scene)
    scene.told((1, "rejected"))
    scene.limit(65_536)
    scene.lose()
    scene.open()
    scene.mutate("orders.silent", LARGE)
    scene.refused("too_large")
    scene.mutate("orders.silent", LARGE[1:])
    scene.sent(("mutate", 1))
    return scene


def an_end_for_size_is_judged_with_the_next_welcome() -> Scene:
    """What is made later, and is as long, was not in that session: it is sent, and sent again after an end that says nothing of size."""
    scene = _live()
    _lose_twice(scene)
    scene.mutate("orders.silent", LARGE)
    scene.sent(("mutate", 1))
    scene.lose()
    scene.open()
    scene.told()
    scene.sent(("mutate", 1), "watch")
    return scene


def a_watch_names_fewer_versions_after_an_end_for_size() -> Scene:
    """`have` may take half of what is left of a frame of several messages beside what to watch."""
    entries: Any = dict.fromkeys((str(n) * 100 for n in range(9)), (5, None))
    scene = live(entries)
    scene.limit(MAX_FRAME_BYTES)
    scene.lose()
    scene.open()
    _have(scene, 9)
    _lose_twice(scene)
    _have(scene, 2)
    return scene


def _have(scene: Scene, num_versions: int) -> None:
    """Assert of how many entries the last watch that had a position named the versions."""
    watches = [
        body for step in scene.steps for kind, body in step.get("sent", ()) if kind == "watch"
    ]
    have = watches[-1].get("have", {"versions": ()})
    assert len(have["versions"]) == num_versions, have


SCENES = [
    what_does_not_get_through_is_given_up_alone,
    what_does_not_get_through_is_remembered,
    an_end_for_size_is_judged_with_the_next_welcome,
    a_watch_names_fewer_versions_after_an_end_for_size,
]
