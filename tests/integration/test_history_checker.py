"""The history checker finds every kind of broken promise; otherwise no test that rests on it means anything."""

import pytest

from syncd.testing.history import History

EPOCH = "e"


def event(offset, data=None, *, epoch=EPOCH, prev=None, **extra):
    body = {"channel": "c", "epoch": epoch, "offset": offset, "at_ms": 1, **extra}
    body["data"] = {"uid": f"u{offset}"} if data is None else data
    body["prev"] = offset - 1 if prev is None else prev
    return body


def subscribed(offset, events=(), *, was_recovering=False, recovered=False, epoch=EPOCH):
    return {
        "channel": "c",
        "position": {"epoch": epoch, "offset": offset},
        "was_recovering": was_recovering,
        "recovered": recovered,
        "events": list(events),
    }


def following(*steps, is_latest=False):
    """Subscribe at 0, take the steps and return the history."""
    history = History()
    observer = history.observer("a", "c", is_latest=is_latest)
    observer.subscribed(subscribed(0))
    for kind, body in steps:
        observer.take(kind, body)
    return history


def test_a_sound_history_has_no_violations():
    history = following(("event", event(1)), ("event", event(2)))
    other = history.observer("b", "c")
    other.subscribed(subscribed(0))
    other.event(event(1))
    other.disconnected()
    other.subscribed(subscribed(2, [event(2)], was_recovering=True, recovered=True))
    history.acknowledged("c", "u1", {"epoch": EPOCH, "offset": 1})
    history.acknowledged("c", "u1", {"epoch": EPOCH, "offset": 1})
    history.check_log("c", EPOCH, [event(1), event(2)])
    history.check_complete("c", 2)
    assert history.violations == []


RECOVERED = {"was_recovering": True, "recovered": True}
BROKEN = {
    "a gap": [("event", event(1)), ("event", event(3))],
    "a wrong prev": [("event", event(1, prev=1))],
    "a duplicate": [("event", event(1)), ("event", event(1))],
    "an event of another epoch": [("event", event(1, epoch="f"))],
    "an event after lagged": [("lagged", {"channel": "c"}), ("event", event(1))],
    "a position ahead of what was sent": [("subscribed", subscribed(2, [event(1)], **RECOVERED))],
    "a position behind": [("event", event(1)), ("subscribed", subscribed(0, **RECOVERED))],
    "recovered into another epoch": [("subscribed", subscribed(0, epoch="f", **RECOVERED))],
    "a partial replay": [("subscribed", subscribed(1, [event(1)], was_recovering=True))],
    "a mark on a stream": [("mark", {"channel": "c", "position": {"epoch": EPOCH, "offset": 0}})],
}


@pytest.mark.parametrize("steps", BROKEN.values(), ids=BROKEN)
def test_it_finds_a_broken_delivery(steps):
    assert following(*steps).violations != []


def test_skipped_offsets_are_fine_on_latest_channels_but_old_ones_are_not():
    mark = {"channel": "c", "position": {"epoch": EPOCH, "offset": 9}}
    sound = following(("event", event(2)), ("event", event(7)), ("mark", mark), is_latest=True)
    assert sound.violations == []
    assert following(("event", event(2)), ("event", event(1)), is_latest=True).violations != []


def test_it_finds_two_events_at_one_place():
    history = following(("event", event(1, data=1)))
    other = history.observer("b", "c")
    other.subscribed(subscribed(0))
    other.event(event(1, data=2))
    assert history.violations != []


@pytest.mark.parametrize(
    "log",
    [
        pytest.param([event(1)], id="an acknowledged event is missing"),
        pytest.param([event(1), event(3)], id="offsets are not dense"),
        pytest.param([event(2)], id="the oldest is missing"),
        pytest.param([event(1), event(2, data={"uid": "u1"})], id="a uid took effect twice"),
        pytest.param([event(1), event(2, data="other")], id="it holds something else"),
        pytest.param([event(2, prev=0), event(1)], id="out of order"),
    ],
)
def test_it_finds_a_broken_log(log):
    history = following(("event", event(1)), ("event", event(2)))
    for offset in (1, 2):
        history.acknowledged("c", f"u{offset}", {"epoch": EPOCH, "offset": offset})
    history.check_log("c", EPOCH, log)
    assert history.violations != []


def test_it_finds_an_uid_acknowledged_at_two_places():
    history = History()
    history.acknowledged("c", "u", {"epoch": EPOCH, "offset": 1})
    history.acknowledged("c", "u", {"epoch": EPOCH, "offset": 2})
    assert history.violations != []


def test_it_finds_an_event_that_was_delivered_and_never_written():
    history = following(("event", event(1)), ("event", event(2)))
    history.check_log("c", EPOCH, [event(1)])
    assert history.violations != []


def test_it_finds_a_subscriber_that_did_not_get_everything():
    history = following(("event", event(1)))
    history.check_complete("c", 2)
    assert history.violations != []
