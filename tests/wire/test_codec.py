"""The codec against hostile bytes: nothing raises, every bound holds at its edge, and what passes means what msgpack says."""

import gc
import itertools
import math
import random
import time

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.wire import codec
from syncd.wire.codec import MAX_DEPTH, MAX_ITEMS, BadMessage, check_value
from syncd.wire.messages import CLIENT_MESSAGES, MAX_INTEGER, EncodedPublish, Probe, Publish
from tests.wire.in_full import decode

FRAME_BYTES = 65_536


# ---------------------------------------------------------------------------------------------- an oracle


class _Broken(Exception):
    pass


class _Pairs(list):
    """A map as it stands in the bytes, keys twice included."""


def _plain(value, depth, budget):
    """Check a value the slow way, straight from SPEC section 2, and return it with maps as dicts."""
    if isinstance(value, _Pairs):
        keys = [key for key, _ in value]
        if not all(type(key) is str for key in keys) or len(set(keys)) != len(keys):
            raise _Broken
        _count(budget, len(value), depth)
        return {key: _plain(item, depth + 1, budget) for key, item in value}
    if type(value) is list:
        _count(budget, len(value), depth)
        return [_plain(item, depth + 1, budget) for item in value]
    if type(value) is int and abs(value) > MAX_INTEGER:
        raise _Broken
    if type(value) is float and not math.isfinite(value):
        raise _Broken
    if value is not None and type(value) not in (int, float, bool, str, bytes):
        raise _Broken
    return value


def _count(budget, num_items, depth):
    budget[0] -= num_items + 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise _Broken


def oracle(payload):
    """What a frame holds: (type, body) per message, and None where it breaks."""
    unpacker = msgpack.Unpacker(
        raw=False, strict_map_key=False, object_pairs_hook=_Pairs, max_buffer_size=0
    )
    unpacker.feed(payload)
    found, budget = [], [MAX_ITEMS]
    while True:
        if found and unpacker.tell() == len(payload):
            return found
        try:
            value = unpacker.unpack()
            if type(value) is not list or len(value) != 2:
                raise _Broken
            kind, body = value
            if type(kind) is not str or not isinstance(body, _Pairs):
                raise _Broken
            found.append((kind, _plain(body, 2, budget)))
        except Exception:  # noqa: BLE001 - whatever breaks is broken
            return [*found, None]


def expected_of(payload):
    """What `decode` must return, as comparable text."""
    expected = []
    for item in oracle(payload):
        if item is None:
            expected.append((ErrorCode.BAD_MESSAGE, None))
            continue
        kind, body = item
        request_id = body.get("id")
        is_id = type(request_id) is int and 0 <= request_id <= MAX_INTEGER
        try:
            if kind not in CLIENT_MESSAGES:
                raise RequestRejected(ErrorCode.UNKNOWN_TYPE)
            expected.append(repr(CLIENT_MESSAGES[kind](body)))
        except RequestRejected as error:
            expected.append((error.code, request_id if is_id else None))
    return expected


def decoded_of(payload):
    return [
        (item.error.code, item.request_id) if isinstance(item, BadMessage) else repr(item)
        for item in decode(payload)
    ]


# ---------------------------------------------------------------------------------------------- frames

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-MAX_INTEGER - 2, -MAX_INTEGER + 2) | st.integers(MAX_INTEGER - 2, MAX_INTEGER + 2),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 3), inner, max_size=4)
    ),
    max_leaves=12,
)
_kinds = st.sampled_from(sorted(CLIENT_MESSAGES)) | st.text(max_size=4)
_fields = st.sampled_from(
    [
        "id",
        "channel",
        "data",
        "name",
        "key",
        "uid",
        "position",
        "presence",
        "v",
        "clients",
        "token",
        "limit",
        "since",
        "reverse",
        "nonce",
        "epoch",
        "offset",
        "client",
        "state",
        "after",
        "group",
        "term",
        "secret",
    ]
)
_bodies = st.dictionaries(
    _fields, _values | st.integers(0, 5) | st.sampled_from(["demo:a", "x"]), max_size=7
)
_messages = st.tuples(_kinds, _bodies | _values).map(list) | _values
_frames = st.lists(_messages, min_size=1, max_size=4).map(lambda items: b"".join(map(_pack, items)))


def _pack(value):
    return msgpack.packb(value, strict_types=False)


@given(st.binary(max_size=200))
def test_any_bytes_mean_what_the_oracle_says(payload):
    assert decoded_of(payload) == expected_of(payload)


@given(_frames)
def test_any_sequence_of_values_means_what_the_oracle_says(payload):
    assert decoded_of(payload) == expected_of(payload)


@pytest.mark.unmeasured
@given(_frames, st.data())
def test_a_frame_with_bytes_changed_inserted_or_cut_means_what_the_oracle_says(payload, data):
    mutated = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        if not mutated:
            break
        place = data.draw(st.integers(0, len(mutated) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                mutated[place] = data.draw(st.integers(0, 255))
            case 1:
                mutated.insert(place, data.draw(st.integers(0, 255)))
            case 2:
                del mutated[place]
            case _:
                del mutated[place:]
    assert decoded_of(bytes(mutated)) == expected_of(bytes(mutated))


# ---------------------------------------------------------------------------------------------- fuzz


def _seed_frames():
    position = {"epoch": "0123456789abcdef", "offset": 7}
    bodies = [
        ["hello", {"v": 1, "token": "t", "clients": [{"client": "c", "secret": "s"}]}],
        ["subscribe", {"id": 1, "channel": "demo:a", "position": position, "presence": True}],
        ["publish", {"id": 2, "channel": "demo:a", "data": {"a": [1, -1.5, b"x", None]}}],
        ["history", {"id": 3, "channel": "demo:a", "limit": 10, "since": position}],
        ["probe", {"nonce": 4}],
        ["pong", {}],
    ]
    frames = [_pack(body) for body in bodies]
    return [*frames, b"".join(frames), *(a + b for a, b in itertools.pairwise(frames))]


def _fuzz(rng, num_cases):
    frames = _seed_frames()
    for _ in range(num_cases):
        payload = bytearray(rng.choice(frames))
        for _ in range(rng.randint(1, 6)):
            place = rng.randrange(len(payload) + 1)
            choice = rng.random()
            if choice < 0.4 and place < len(payload):
                payload[place] = rng.randrange(256)
            elif choice < 0.6:
                payload[place:place] = rng.randbytes(rng.randint(1, 9))
            elif choice < 0.8:
                del payload[place : place + rng.randint(1, 9)]
            else:
                payload[place:place] = payload[: rng.randint(0, 40)]
        got = decode(bytes(payload))
        assert got, payload
        for item in got[:-1]:
            is_last = isinstance(item, BadMessage) and item.error.code is ErrorCode.BAD_MESSAGE
            assert not is_last, payload


@pytest.mark.unmeasured
def test_twenty_thousand_broken_frames_raise_nothing():
    _fuzz(random.Random(20), 20_000)


@pytest.mark.soak
def test_a_million_broken_frames_raise_nothing():
    _fuzz(random.Random(1_000_000), 1_000_000)


_WORST = {
    "empty maps in a list": b"\x92\xa1x\x81\xa1d\xdc\x27\x10" + b"\x80" * (FRAME_BYTES - 10),
    "lists of lists": b"\x92\xa1x\x81\xa1d" + b"\xdc\x27\x0f" * 4 + b"\x90" * (FRAME_BYTES - 18),
    "a bomb of depth": b"\x91" * FRAME_BYTES,
    "a bomb of maps": b"\x81\xa1a" * (FRAME_BYTES // 3),
    "tiny messages": b"\x92\xa1x\x80" * (FRAME_BYTES // 4),
    "integers one after the other": b"\x01" * FRAME_BYTES,
    "a declared length of 4 GiB": b"\x92\xa1x\x81\xa1d\xdd\xff\xff\xff\xff" + b"\x01" * 65_000,
    "keys twice": b"\x92\xa1x\xde\x27\x10" + b"\xa1a\x01" * 10_000,
    "long keys": b"\x92\xa1x\xde\x03\xe8" + b"".join(b"\xd9\x3c%060d\x01" % n for n in range(1000)),
}


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    "payload", _WORST.values(), ids=[name.replace(" ", "-") for name in _WORST]
)
def test_the_worst_frame_of_64_kib_costs_bounded_time(payload):
    """Beside a bare loop with a turn for each byte, which some machines take three times as long for as others.

    The garbage collector counts, but for its walk over what tests before this one have left: a node freezes what it begins with, too.
    """
    ratios = []
    gc.freeze()
    try:
        for _ in range(3):  # the least counts: others on the machine only ever add to it
            started = time.process_time()
            assert sum(1 for _ in range(FRAME_BYTES)) == FRAME_BYTES
            begun = time.process_time()
            assert decode(payload[:FRAME_BYTES])
            ratios.append((time.process_time() - begun) / (begun - started))
    finally:
        gc.unfreeze()
    assert min(ratios) < 60


# ---------------------------------------------------------------------------------------------- bounds


def publish(data):
    return _pack(["publish", {"id": 1, "channel": "demo:a", "data": data}])


def data_of(payload):
    """The data of an accepted publish, or the code of what refused it."""
    (item,) = decode(payload)
    return item.data if isinstance(item, Publish) else item.error.code


def nested(num_containers, wrap):
    value = 7
    for _ in range(num_containers):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}], ids=["lists", "maps"])
def test_data_may_be_nested_thirty_deep_and_no_deeper(wrap):
    assert data_of(publish(nested(30, wrap))) == nested(30, wrap)
    assert data_of(publish(nested(31, wrap))) is ErrorCode.BAD_MESSAGE


def test_a_frame_may_hold_ten_thousand_values_and_no_more():
    # the body and its three values, the list: 5 besides the elements
    assert len(data_of(publish([0] * (MAX_ITEMS - 5)))) == MAX_ITEMS - 5
    assert data_of(publish([0] * (MAX_ITEMS - 4))) is ErrorCode.BAD_MESSAGE
    # an element that is a container counts as both
    assert len(data_of(publish([{}] * ((MAX_ITEMS - 5) // 2)))) == (MAX_ITEMS - 5) // 2
    assert data_of(publish([{}] * ((MAX_ITEMS - 5) // 2 + 1))) is ErrorCode.BAD_MESSAGE


def test_the_values_of_all_messages_of_a_frame_count_together():
    half = publish([0] * (MAX_ITEMS // 2 - 5))
    assert [type(item) for item in decode(half + half)] == [Publish, Publish]
    more = publish([0] * (MAX_ITEMS // 2 - 4))
    first, second = decode(half + more)
    assert isinstance(first, Publish)
    assert second.error.code is ErrorCode.BAD_MESSAGE


def test_the_most_messages_a_frame_can_hold_are_all_read():
    codes = [item.error.code for item in decode(b"\x92\xa1x\x80" * MAX_ITEMS)]
    assert codes == [ErrorCode.UNKNOWN_TYPE] * MAX_ITEMS
    codes = [item.error.code for item in decode(b"\x92\xa1x\x80" * (MAX_ITEMS + 1))]
    assert codes == [ErrorCode.UNKNOWN_TYPE] * MAX_ITEMS + [ErrorCode.BAD_MESSAGE]


@pytest.mark.parametrize("sign", [1, -1])
def test_integers_reach_to_what_javascript_holds(sign):
    assert data_of(publish(sign * MAX_INTEGER)) == sign * MAX_INTEGER
    assert data_of(publish(sign * (MAX_INTEGER + 1))) is ErrorCode.BAD_MESSAGE
    assert data_of(publish([sign * (MAX_INTEGER + 1)])) is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_floats_are_finite_wherever_they_stand(number):
    for data in (number, [number], {"a": number}, [[{"a": [number]}]]):
        assert data_of(publish(data)) is ErrorCode.BAD_MESSAGE
        assert (
            data_of(
                msgpack.packb(
                    ["publish", {"id": 1, "channel": "a:b", "data": data}], use_single_float=True
                )
            )
            is ErrorCode.BAD_MESSAGE
        )


@pytest.mark.parametrize(
    "raw",
    [
        b"\xd4\x01\x00",
        b"\xc7\x00\x05",
        b"\xd6\xff\x00\x00\x00\x01",  # a timestamp
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\x01\x02",
        b"\x81\xc4\x01a\x02",
        b"\x81\xc0\x02",
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",  # a surrogate in UTF-8
        b"\xa2\xc0\x80",  # an overlong nul
        b"\xc1",
    ],
    ids=[
        "ext",
        "empty-ext",
        "timestamp",
        "key-twice",
        "int-key",
        "bin-key",
        "nil-key",
        "bad-utf8",
        "surrogate",
        "overlong",
        "unused",
    ],
)
def test_what_msgpack_knows_and_syncd_does_not_is_refused(raw):
    for inner in (raw, b"\x91" + raw, b"\x81\xa1k" + raw):
        frame = b"\x92\xa7publish\x83\xa2id\x01\xa7channel\xa3a:b\xa4data" + inner
        assert data_of(frame) is ErrorCode.BAD_MESSAGE
        assert data_of(frame + b"\xc0" * 5000) is ErrorCode.BAD_MESSAGE, "in a large frame as well"


def test_messages_before_a_broken_one_count_and_nothing_behind_it_does():
    probe = _pack(["probe", {"nonce": 1}])
    first, second = decode(probe + b"\xc1" + probe)
    assert first == Probe(1)
    assert second.error.code is ErrorCode.BAD_MESSAGE
    assert second.request_id is None


def test_a_message_with_a_bad_field_says_whose_it_was_and_the_next_ones_count():
    frame = _pack(["publish", {"id": 9, "channel": 5, "data": 1}]) + _pack(["probe", {"nonce": 1}])
    bad, good = decode(frame)
    assert (bad.error.code, bad.request_id) == (ErrorCode.BAD_REQUEST, 9)
    assert good == Probe(1)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x92", b"\x91\xa1x", b"\x93\xa1x\x80\x80", b"\x92\x01\x80", b"\x92\xa1x\x90", b"\x80"],
)
def test_what_is_no_message_at_all_is_one_bad_message(payload):
    (item,) = decode(payload)
    assert item.error.code is ErrorCode.BAD_MESSAGE


@given(_values)
def test_values_that_come_by_json_are_held_to_the_same_bounds(value):
    try:
        check_value(value)
        is_good = True
    except ValueError:
        is_good = False
    assert is_good == (data_of(publish(value)) is not ErrorCode.BAD_MESSAGE)


# ---------------------------------------------------------------------------------------------- the hot lane

_FIELDS = {"id": 7, "channel": "demo:a", "data": b"x" * 40}


def _publish(pairs, data=None):
    """A `publish` of these pairs as they stand, keys twice included."""
    body = b"".join(msgpack.packb(key) + (data or msgpack.packb)(value) for key, value in pairs)
    return b"\x92" + msgpack.packb("publish") + bytes((0x80 | len(pairs),)) + body


@given(st.permutations(list(_FIELDS.items())), st.binary(max_size=300))
def test_a_common_publish_takes_the_lane_in_whatever_order_its_fields_come(pairs, data):
    pairs = [(key, data if key == "data" else value) for key, value in pairs]
    payload = _publish(pairs)
    (message,) = codec.decode(payload)
    assert type(message) is EncodedPublish
    assert bytes(message.data) == msgpack.packb(data)
    assert decoded_of(payload) == expected_of(payload)


_hostile_pairs = st.lists(
    st.one_of(
        st.sampled_from(list(_FIELDS.items())),
        st.tuples(st.sampled_from(["id", "channel", "data", "name", "key", "uid", "x"]), _values),
        st.tuples(st.sampled_from(["name", "key", "uid"]), st.text("aé€", max_size=140)),
    ),
    max_size=8,
)


@pytest.mark.unmeasured
@given(_hostile_pairs)
def test_the_lane_takes_no_publish_that_the_long_way_reads_otherwise(extra):
    payload = _publish([*_FIELDS.items(), *extra])
    assert decoded_of(payload) == expected_of(payload)
    assert decoded_of(payload + payload) == expected_of(payload + payload)


@given(st.binary(max_size=12) | _values.map(msgpack.packb), st.integers(0, 4))
def test_the_lane_takes_no_data_that_the_long_way_reads_otherwise(data, cut):
    payload = b"\x92\xa7publish\x83\xa2id\x07\xa7channel\xa6demo:a\xa4data" + data
    assert decoded_of(payload) == expected_of(payload)
    assert decoded_of(payload[: len(payload) - cut]) == expected_of(payload[: len(payload) - cut])


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\xa1a\x01\xa1a\x01",  # a key twice
        b"\x91\x82\xa1a\x01\xa1a\x02",
        b"\xa2\xff\xfe",  # no UTF-8
        b"\xd4\x01\x00",  # an extension
        b"\xcb\x7f\xf8\0\0\0\0\0\0",  # NaN
        b"\x81\x01\x02",  # a key that is no string
        b"\xcf\0\x20\0\0\0\0\0\0",  # 2^53
        b"\x91" * 40 + b"\xc0",
        b"\x91" * 3900 + b"\xc0",
        b"\xc1",
        b"",
    ],
)
def test_the_lane_lets_nothing_pass_that_must_be_refused(data):
    payload = b"\x92\xa7publish\x83\xa2id\x07\xa7channel\xa6demo:a\xa4data" + data
    (item,) = codec.decode(payload)
    assert isinstance(item, BadMessage)
    assert item.error.code is ErrorCode.BAD_MESSAGE
