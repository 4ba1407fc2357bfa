"""RFC 6455 sections 5 to 8 as the server must obey them; attack cases A14 to A28."""

import struct
import tracemalloc

import pytest
import wsproto.events
from wsproto.connection import CLIENT, Connection

from syncd.wire.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameDecoder,
    FrameError,
    encode_close,
    encode_frame,
    parse_close,
)

KEY = b"\x37\xfa\x21\x3d"
FIN = 0x80
LIMIT = 65_536


def masked(first, payload=b"", key=KEY):
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = struct.pack(">BBH", first, 0xFE, size)
    else:
        head = struct.pack(">BBQ", first, 0xFF, size)
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def binary(payload):
    return masked(FIN | BINARY, payload)


def close(code, reason=b""):
    return masked(FIN | CLOSE, struct.pack(">H", code) + reason)


def outcome(decoder, *chunks):
    """Messages and the close code of the error, or None."""
    messages = []
    for chunk in chunks:
        try:
            messages += decoder.receive(chunk)
        except FrameError as error:
            return messages + error.messages, error.code
    return messages, None


PATTERN = bytes(range(256)) * 300

# ------------------------------------------------------------------------------------------------ plain sailing


def test_example_of_the_rfc():
    hello = bytes.fromhex("818537fa213d7f9f4d5158")
    assert FrameDecoder(LIMIT).receive(hello) == [(TEXT, b"Hello")]


@pytest.mark.parametrize(
    "size",
    [*range(10), 124, 125, 126, 127, 128, 1023, 1024, 1025, 3071, 3072, 3073, 65_535, 65_536],
)
def test_every_length_form_and_unmasking_way_gives_the_payload(size):
    payload = PATTERN[:size]
    decoder = FrameDecoder(LIMIT)
    assert decoder.receive(binary(payload)) == [(BINARY, payload)]
    assert decoder.receive(binary(payload) * 3) == [(BINARY, payload)] * 3
    assert not decoder.has_partial


@pytest.mark.unmeasured
def test_all_lane_sizes_unmask_with_keys_of_every_shape():
    for key in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\2\3\4", b"\0\0\0\x80", b"\x80\0\0\0"):
        frames = b"".join(masked(FIN | BINARY, PATTERN[:size], key) for size in range(1100))
        assert [body for _, body in FrameDecoder(LIMIT).receive(frames)] == [
            PATTERN[:size] for size in range(1100)
        ]


def test_fragments_are_joined_and_control_frames_pass_between_them():
    data = (
        masked(BINARY, b"one,")
        + masked(FIN | PING, b"now")
        + masked(0, b"two,")
        + masked(FIN | PONG)
        + masked(FIN, b"three")
        + binary(b"next")
    )
    decoder = FrameDecoder(LIMIT)
    assert decoder.receive(data) == [
        (PING, b"now"),
        (PONG, b""),
        (BINARY, b"one,two,three"),
        (BINARY, b"next"),
    ]


def test_text_split_inside_a_character_is_whole_text():
    first, second = "grüße".encode()[:3], "grüße".encode()[3:]
    decoder = FrameDecoder(LIMIT)
    assert outcome(decoder, masked(TEXT, first), masked(FIN, second)) == (
        [(TEXT, "grüße".encode())],
        None,
    )


CORPUS = [
    binary(b"short") + binary(b"") + binary(PATTERN[:200]) + masked(FIN | TEXT, "é€𝄞".encode()),
    masked(TEXT, b"\xf0\x9d")
    + masked(FIN | PING, b"p" * 125)
    + masked(FIN, b"\x84\x9e")
    + close(1000),
    masked(BINARY)
    + masked(0)
    + masked(FIN, b"x")
    + close(4999, "grüße".encode())
    + binary(b"late"),
    binary(b"good") + masked(FIN | BINARY | 0x40, b"rsv"),
    binary(b"good") + masked(FIN | TEXT, b"\xff"),
    binary(b"good") + masked(BINARY, b"a") + masked(FIN | BINARY, b"b"),
    binary(b"good") + masked(FIN | BINARY, PATTERN[:301]) + binary(b"late"),
]


@pytest.mark.parametrize("data", CORPUS)
def test_bytes_split_at_every_position_give_the_same(data):  # A28
    whole = outcome(FrameDecoder(300), data)
    for cut in range(len(data) + 1):
        assert outcome(FrameDecoder(300), data[:cut], data[cut:]) == whole
    assert outcome(FrameDecoder(300), *(data[i : i + 1] for i in range(len(data)))) == whole


def test_a_frame_cut_anywhere_is_partial_and_yields_nothing():
    for data in (binary(PATTERN[:130]), masked(FIN | PING, b"ping"), binary(PATTERN[:65_536])):
        for cut in (1, 2, 5, 6, 9, len(data) - 1):
            decoder = FrameDecoder(LIMIT)
            assert decoder.receive(data[:cut]) == []
            assert decoder.has_partial


def test_an_unfinished_message_is_partial_until_its_last_fragment():
    decoder = FrameDecoder(LIMIT)
    decoder.receive(masked(BINARY))
    assert decoder.has_partial
    decoder.receive(masked(FIN))
    assert not decoder.has_partial


def test_nothing_in_gives_nothing_and_begins_nothing():
    decoder = FrameDecoder(LIMIT)
    assert decoder.receive(b"") == []
    assert not decoder.has_partial


# ------------------------------------------------------------------------------------------------ breaches

BREACHES = {
    "A14 unmasked": (b"\x82\x01x", 1002),
    "A14 unmasked ping": (b"\x89\x00", 1002),
    **{
        f"A15 rsv {bits:#x}": (masked(FIN | BINARY | bits), 1002)
        for bits in (0x40, 0x20, 0x10, 0x70)
    },
    "A15 rsv on a control frame": (masked(FIN | PING | 0x40), 1002),
    **{f"A15 opcode {op}": (masked(FIN | op), 1002) for op in (*range(3, 8), *range(11, 16))},
    "A16 2^62": (b"\x82\xff" + (1 << 62).to_bytes(8, "big"), 1009),
    "A16 2^63": (b"\x82\xff" + (1 << 63).to_bytes(8, "big"), 1002),
    "A16 2^64-1": (b"\x82\xff" + b"\xff" * 8, 1002),
    "length 125 in two bytes": (b"\x82\xfe\x00\x7d", 1002),
    "length 5 in two bytes, whole": (b"\x82\xfe\x00\x05" + KEY + b"12345", 1002),
    "length 65535 in eight bytes": (b"\x82\xff" + (65_535).to_bytes(8, "big"), 1002),
    "A17 one frame": (b"\x82\xff" + (LIMIT + 1).to_bytes(8, "big"), 1009),
    "A17 fragments": (masked(BINARY, bytes(LIMIT)) + b"\x80\x81", 1009),
    "A19 ping of 126": (b"\x89\xfe\x00\x7e", 1002),
    "A19 fragmented ping": (masked(PING), 1002),
    "A19 fragmented close": (masked(CLOSE), 1002),
    "A20 continuation without start": (masked(FIN, b"x"), 1002),
    "A20 continuation without start, not final": (masked(0, b"x"), 1002),
    "A20 new binary inside": (masked(BINARY, b"a") + masked(FIN | BINARY, b"b"), 1002),
    "A20 new text inside": (masked(TEXT, b"a") + masked(TEXT, b"b"), 1002),
    "A22 text": (masked(FIN | TEXT, b"ok\xff"), 1007),
    "A22 cut text": (masked(FIN | TEXT, "é".encode()[:1]), 1007),
    "A22 surrogate": (masked(FIN | TEXT, b"\xed\xa0\x80"), 1007),
    "A22 overlong": (masked(FIN | TEXT, b"\xc0\xaf"), 1007),
    "A22 beyond Unicode": (masked(FIN | TEXT, b"\xf4\x90\x80\x80"), 1007),
    "A22 first fragment, at once": (masked(TEXT, b"\xff"), 1007),
    "A22 across fragments, at once": (masked(TEXT, b"\xce") + masked(0, b"x"), 1007),
    "A22 close reason": (close(1000, b"\xff"), 1007),
    "A23 payload of one byte": (masked(FIN | CLOSE, b"\x03"), 1002),
    **{
        f"A23 code {code}": (close(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
}


@pytest.mark.parametrize(("data", "code"), BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_is_told_with_its_code_after_what_was_complete(data, code):
    decoder = FrameDecoder(LIMIT)
    assert outcome(decoder, binary(b"one") + masked(FIN | PING) + data) == (
        [(BINARY, b"one"), (PING, b"")],
        code,
    )
    assert not decoder.has_partial
    assert decoder.is_closed


@pytest.mark.parametrize(("data", "code"), BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_is_told_once_and_all_later_bytes_are_ignored(data, code):  # A24
    decoder = FrameDecoder(LIMIT)
    assert outcome(decoder, data)[1] == code
    for late in (masked(FIN | PING), binary(b"late"), close(1000), data, b"\xff" * 100):
        assert decoder.receive(late) == []
    assert not decoder.has_partial


@pytest.mark.parametrize(
    "late", [masked(FIN | PING), binary(b"x"), close(1000), b"\xff\xff", b"\x82"]
)
def test_after_a_close_everything_is_ignored(late):  # A24
    same_read, next_read = FrameDecoder(LIMIT), FrameDecoder(LIMIT)
    expected = [(CLOSE, b"\x03\xe8")]
    assert same_read.receive(close(1000) + late) == expected
    assert next_read.receive(close(1000)) == expected
    assert next_read.receive(late) == []
    assert same_read.is_closed
    assert not same_read.has_partial
    assert not next_read.has_partial


# ------------------------------------------------------------------------------------------------ limits


@pytest.mark.parametrize("limit", [0, 10, 125, 126, 1024, 5000, 65_536])
def test_the_limit_is_allowed_and_one_more_is_not(limit):
    exact, above = PATTERN[:limit], PATTERN[: limit + 1]
    assert outcome(FrameDecoder(limit), binary(exact)) == ([(BINARY, exact)], None)
    assert outcome(FrameDecoder(limit), binary(above)) == ([], 1009)


def test_the_limit_counts_all_fragments():
    decoder = FrameDecoder(10)
    assert outcome(decoder, masked(BINARY, b"12345") + masked(FIN, b"67890"))[1] is None
    assert outcome(decoder, masked(BINARY, b"12345") + masked(FIN, b"678901")) == ([], 1009)


def test_the_limit_does_not_count_control_frames():
    decoder = FrameDecoder(1)
    assert decoder.receive(masked(FIN | PING, b"p" * 125)) == [(PING, b"p" * 125)]


def test_the_limit_may_be_raised_later():
    decoder = FrameDecoder(4)
    decoder.receive(binary(b"1234"))
    decoder.max_message_bytes = 8
    assert decoder.receive(binary(b"12345678")) == [(BINARY, b"12345678")]


def test_the_first_message_has_its_own_limit_and_the_second_may_come_with_it():
    decoder = FrameDecoder(100, first_message_bytes=5)
    both = masked(FIN | PING) + binary(b"hello") + binary(bytes(100))
    assert decoder.receive(both) == [(PING, b""), (BINARY, b"hello"), (BINARY, bytes(100))]
    assert outcome(decoder, binary(bytes(101)))[1] == 1009
    assert outcome(FrameDecoder(100, first_message_bytes=5), binary(bytes(6)))[1] == 1009


def test_64_fragments_are_a_message_and_65_are_not():  # A18
    middle = masked(0, b"x")
    decoder = FrameDecoder(LIMIT)
    assert decoder.receive(masked(BINARY, b"x") + middle * 62 + masked(FIN, b"x")) == [
        (BINARY, b"x" * 64)
    ]
    assert outcome(decoder, masked(BINARY, b"x") + middle * 63 + masked(FIN, b"x")) == ([], 1009)


@pytest.mark.parametrize(("payload", "count"), [(b"", 200_000), (b"x", 131_000)])
def test_floods_of_fragments_end_at_the_65th_and_hold_no_memory(payload, count):  # A18
    flood = masked(BINARY, payload) + masked(0, payload) * count
    first_read = flood[:16_384]
    decoder = FrameDecoder(LIMIT)
    tracemalloc.start()
    messages, code = outcome(decoder, first_read)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (messages, code) == ([], 1009)
    assert held < 1000
    assert peak < 65_536
    assert decoder.receive(flood[16_384:]) == []


def test_an_idle_decoder_holds_no_buffer():
    decoders = [FrameDecoder(LIMIT) for _ in range(1000)]
    data = binary(b"x" * 200)
    for decoder in decoders:
        decoder.receive(data[:100])
        decoder.receive(data[100:])
    tracemalloc.start()
    fresh = [FrameDecoder(LIMIT) for _ in range(1000)]
    each = tracemalloc.get_traced_memory()[0] / 1000
    tracemalloc.stop()
    assert len(fresh) == 1000
    assert each < 150
    assert all(decoder._buffer is None and decoder._fragments is None for decoder in decoders)


def test_a_declared_length_reserves_nothing():  # A16
    decoder = FrameDecoder(LIMIT)
    tracemalloc.start()
    decoder.receive(b"\x82\xff" + LIMIT.to_bytes(8, "big") + KEY)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert decoder.has_partial
    assert held < 1000


# ------------------------------------------------------------------------------------------------ close payloads


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_close_codes_that_may_be_sent(code):
    assert parse_close(struct.pack(">H", code) + "grüße".encode()) == (code, "grüße")


def test_a_close_without_payload_has_no_code():
    assert parse_close(b"") == (None, "")
    assert FrameDecoder(LIMIT).receive(masked(FIN | CLOSE)) == [(CLOSE, b"")]


# ------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_a_client_reads_our_frames(size):
    client = Connection(CLIENT)
    client.receive_data(encode_frame(BINARY, PATTERN[:size]) + encode_frame(PING, b"p"))
    events = list(client.events())
    assert (
        b"".join(e.data for e in events if isinstance(e, wsproto.events.BytesMessage))
        == PATTERN[:size]
    )
    assert events[-1] == wsproto.events.Ping(payload=bytearray(b"p"))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("", ""),
        ("done", "done"),
        ("x" * 200, "x" * 123),
        ("é" * 100, "é" * 61),
        ("𝄞" * 50, "𝄞" * 30),
        ("\ud800", "?"),
    ],
)
def test_a_client_reads_our_close_with_its_reason_cut_between_characters(reason, told):
    client = Connection(CLIENT)
    client.receive_data(encode_close(4001, reason))
    (event,) = client.events()
    assert (event.code, event.reason) == (4001, told)
