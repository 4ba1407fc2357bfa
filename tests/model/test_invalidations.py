"""Merging of `invalidate` messages: what may have changed is never lost, and `all` swallows."""

import msgpack
import pytest

from syncd.model.invalidations import MAX_NAMES, is_invalidation, merged
from syncd.wire import encode
from syncd.wire.encode_entries import invalidation_record
from syncd.wire.encode_state import invalidate


def told(offset, *, channel="orders", epoch="e", **what):
    return invalidate(channel, epoch, offset, invalidation_record(offset * 10, **what))


def both(older, newer):
    message = merged(older, newer)
    assert message is not None
    assert is_invalidation(message)
    kind, body = msgpack.unpackb(message)
    assert kind == "invalidate"
    return body


@pytest.mark.parametrize("kind", ["keys", "tags"])
def test_names_of_one_kind_are_united_at_the_newer_place_and_time(kind):
    body = both(told(1, **{kind: ["a", "b"]}), told(4, **{kind: ["b", "c"]}))
    assert body == {
        "channel": "orders",
        "epoch": "e",
        "offset": 4,
        kind: ["a", "b", "c"],
        "at_ms": 40,
    }


def test_keys_and_tags_do_not_merge():
    assert merged(told(1, keys=["a"]), told(2, tags=["a"])) is None
    assert merged(told(1, tags=["a"]), told(2, keys=["a"])) is None


@pytest.mark.parametrize("what", [{"keys": ["a"]}, {"tags": ["a"]}, {}])
def test_all_swallows_whichever_comes_first(what):
    for older, newer in [(what, {}), ({}, what)]:
        body = both(told(1, **older), told(2, **newer))
        assert body["all"] is True
        assert body["offset"] == 2
        assert "keys" not in body
        assert "tags" not in body


@pytest.mark.parametrize("kind", ["keys", "tags"])
def test_a_thousand_names_are_told_and_one_more_is_all(kind):
    names = [str(n) for n in range(MAX_NAMES)]
    body = both(told(1, **{kind: names[:600]}), told(2, **{kind: names[500:]}))
    assert sorted(body[kind]) == sorted(names)
    body = both(told(1, **{kind: names}), told(2, **{kind: ["one more"]}))
    assert body["all"] is True
    assert kind not in body


def test_a_cause_stays_only_where_it_is_the_cause_of_both():
    same = both(told(1, keys=["a"], cause="c"), told(2, keys=["b"], cause="c"))
    assert same["cause"] == "c"
    for older, newer in [("c", "d"), ("c", None), (None, "d")]:
        body = both(told(1, keys=["a"], cause=older), told(2, keys=["b"], cause=newer))
        assert "cause" not in body


def test_other_channels_and_epochs_do_not_merge():
    assert merged(told(1, keys=["a"]), told(2, channel="prices", keys=["b"])) is None
    assert merged(told(1, keys=["a"]), told(2, epoch="f", keys=["b"])) is None


def test_an_event_called_invalidate_is_none():
    assert not is_invalidation(encode.message("event", {"name": "invalidate"}))
    assert is_invalidation(told(1))
