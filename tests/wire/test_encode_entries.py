"""Records of entries and stored outcomes are, byte for byte, what the plain encoder writes for the same body."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.ids import Position
from syncd.wire.encode import MAX_RECORD_PAIRS, EventPrefix, event_body, event_message
from syncd.wire.encode_entries import entry_record, invalidation_record
from syncd.wire.encode_outcomes import (
    outcome_message,
    outcome_ok,
    outcome_rejected,
    outcome_unknown,
)

_uints = st.integers(0, 2**53 - 1) | st.sampled_from([0, 127, 128, 255, 256, 65535, 65536, 2**32])
_texts = st.text(st.characters(codec="utf-8"), max_size=40)
_values = st.none() | st.integers(-5, 5) | _texts | st.lists(_uints, max_size=3)
_data = st.one_of(
    st.fixed_dictionaries({"value": _values}),
    st.builds(
        lambda patch, base: {"patch": patch, "base": base},
        st.dictionaries(_texts, _values),
        _uints,
    ),
    st.just({"deleted": True}),
)
_authors = st.one_of(
    st.none(),
    st.builds(lambda client: {"client": client}, _texts),
    st.builds(lambda client, mid: {"client": client, "mid": mid}, _texts, _uints),
)


@given(_data, _texts, _uints, _authors, st.integers(1, 2**53 - 1))
def test_an_entry_event_is_its_plain_body(data, key, at_ms, author, offset):
    record = entry_record(
        key,
        at_ms,
        value=None if "deleted" in data else msgpack.packb(data.get("value")),
        patch=msgpack.packb(data["patch"]) if "patch" in data else None,
        base=data.get("base", 0),
        **author or {},
    )
    prefix = EventPrefix("orders/eu", "0" * 16)
    head = {"channel": "orders/eu", "epoch": "0" * 16, "prev": offset - 1, "offset": offset}
    body = head | {"data": data, "at_ms": at_ms, "key": key} | ({"by": author} if author else {})
    assert event_body(prefix, offset, record) == msgpack.packb(body)
    assert event_message(prefix, offset, record) == msgpack.packb(["event", body])
    assert record[0] <= MAX_RECORD_PAIRS


@pytest.mark.parametrize(
    ("given_", "data"),
    [
        ({"keys": ["a", "b"]}, {"keys": ["a", "b"]}),
        ({"tags": ["red"]}, {"tags": ["red"]}),
        ({}, {"all": True}),
        ({"cause": "import"}, {"all": True, "cause": "import"}),
    ],
)
def test_an_invalidation_is_an_event_of_that_name(given_, data):
    body = event_body(EventPrefix("orders", "e"), 1, invalidation_record(7, **given_))
    event = msgpack.unpackb(body)
    assert (event["name"], event["data"], event["at_ms"]) == ("invalidate", data, 7)
    assert "key" not in event


_positions = st.dictionaries(_texts, st.builds(Position, _texts, _uints), max_size=20)


def plain(body, positions):
    places = {c: {"epoch": p.epoch, "offset": p.offset} for c, p in positions.items()}
    return msgpack.packb(["outcome", body | {"positions": places}])


@given(_texts, _uints, _values, _texts, _positions)
def test_an_outcome_with_its_positions_is_its_plain_body(client, mid, value, code, positions):
    who = {"client": client, "mid": mid}
    bodies = {
        outcome_ok(client, mid): who | {"status": "ok"},
        outcome_ok(client, mid, msgpack.packb(value)): who | {"status": "ok", "value": value},
        outcome_unknown(client, mid): who | {"status": "unknown"},
        outcome_rejected(client, mid, code, "m"): who
        | {"status": "rejected", "error": {"code": code, "message": "m"}},
    }
    for stored, body in bodies.items():
        assert msgpack.unpackb(stored) == body
        assert outcome_message(stored, positions) == plain(body, positions)
        assert outcome_message(stored, {}) == plain(body, {})
