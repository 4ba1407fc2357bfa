"""Our decoder against wsproto's on the same bytes, valid and mutated.

Every stream is followed by zero bytes, which end any frame in hand and then break the protocol, so both decoders always
come to an end. Messages before the end must be equal, and the end must be the same, but for three differences we want:

- We have limits (1009); wsproto waits for any length. Then its messages before that point are compared.
- We accept close code 1014, registered after wsproto's list was made.
- wsproto checks text byte by byte, we check whole frames: inside one frame with several faults it may name another.
"""

import itertools
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto import events
from wsproto.connection import SERVER, Connection

from syncd.wire.frames import BINARY, CLOSE, PING, PONG, TEXT, FrameDecoder, FrameError, parse_close
from tests.examples import examples

LIMIT = 400
FRAGMENTS = 8
END = bytes(LIMIT + 200)


def masked(first, payload, key):
    size = len(payload)
    head = bytes((first, 0x80 | size)) if size < 126 else struct.pack(">BBH", first, 0xFE, size)
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def ours(chunks):
    decoder = FrameDecoder(LIMIT, FRAGMENTS)
    messages = []
    for chunk in chunks:
        try:
            messages += decoder.receive(chunk)
        except FrameError as error:
            return messages + error.messages, error.code
        if decoder.is_closed:
            return messages, parse_close(messages[-1][1])[0] or 1005
    raise AssertionError("the zero bytes at the end must break the protocol")


class Oracle:
    """wsproto as a server; gathers whole messages from its pieces."""

    def __init__(self):
        self.connection = Connection(SERVER)
        self.messages = []
        self.pieces = []
        self.end = None

    def receive(self, chunk):
        if self.end is None:
            self.connection.receive_data(chunk)
            for event in self.connection.events():
                self.take(event)

    def take(self, event):
        match event:
            case events.Ping():
                self.messages.append((PING, bytes(event.payload)))
            case events.Pong():
                self.messages.append((PONG, bytes(event.payload)))
            case events.CloseConnection():
                self.end = int(event.code)
                if self.connection.state.name == "REMOTE_CLOSING":
                    code = b"" if self.end == 1005 else struct.pack(">H", self.end)
                    self.messages.append((CLOSE, code + (event.reason or "").encode()))
            case _:
                self.pieces.append(event.data)
                if event.message_finished:
                    self.finish(TEXT if isinstance(event, events.TextMessage) else BINARY)

    def finish(self, opcode):
        whole = self.pieces[0][:0].join(self.pieces)
        self.messages.append((opcode, whole.encode() if opcode == TEXT else bytes(whole)))
        self.pieces.clear()


def compare(data, cuts=()):
    stream = data + END
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    messages, end = ours(chunks)
    oracle = Oracle()
    for chunk in chunks:
        oracle.receive(chunk)
    if end == 1009:
        assert oracle.messages[: len(messages)] == messages
    elif end == 1014:
        assert oracle.messages == messages[:-1]
    else:
        assert oracle.messages == messages
        assert oracle.end == end or {oracle.end, end} == {1002, 1007}
    return end


keys = st.binary(min_size=4, max_size=4)
texts = st.text(max_size=40).map(str.encode)
payloads = st.one_of(texts, st.binary(max_size=130), st.binary(min_size=120, max_size=160))
closes = st.one_of(
    st.just(b""),
    st.builds(
        lambda code, reason: struct.pack(">H", code) + reason,
        st.one_of(st.integers(0, 5100), st.sampled_from([1000, 1001, 1014, 3000, 4999])),
        st.one_of(texts.map(lambda text: text[:100]), st.binary(max_size=9)),
    ),
)


@st.composite
def messages(draw):
    """One valid message in one to four frames, pings between them."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    body = draw(texts if opcode == TEXT else payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    edges = [0, *cuts, len(body)]
    out = b""
    for place, (start, stop) in enumerate(itertools.pairwise(edges)):
        first = (0 if place else opcode) | (0x80 if stop is edges[-1] and place == len(cuts) else 0)
        out += masked(first, body[start:stop], draw(keys))
        if draw(st.booleans()) and place < len(cuts):
            out += masked(0x80 | draw(st.sampled_from([PING, PONG])), draw(texts)[:125], draw(keys))
    return out


loose_frames = st.builds(masked, st.integers(0, 255), payloads, keys)
likely_frames = st.builds(
    masked, st.sampled_from([0x00, 0x80, 0x01, 0x81, 0x02, 0x82, 0x89, 0x8A]), payloads, keys
)
close_frames = st.builds(masked, st.just(0x88), closes, keys)
cut_places = st.lists(st.integers(0, 5000), max_size=6)


@settings(max_examples=examples(80), deadline=None)
@given(st.lists(messages(), max_size=5), close_frames, cut_places)
def test_valid_conversations_are_read_alike(conversation, close, cuts):
    compare(b"".join(conversation) + close, cuts)


@settings(max_examples=examples(120), deadline=None)
@given(
    st.lists(st.one_of(likely_frames, messages(), close_frames, loose_frames), max_size=8),
    cut_places,
)
@example([masked(0x88, struct.pack(">H", 1014), b"keys")], [])
@example([masked(0x02, b"", b"keys"), *[masked(0, b"", b"keys")] * 8], [3])
def test_frames_in_any_order_are_read_alike(frames, cuts):
    compare(b"".join(frames), cuts)


@pytest.mark.unmeasured
@settings(max_examples=examples(120), deadline=None)
@given(
    st.lists(st.one_of(messages(), likely_frames), min_size=1, max_size=4).map(b"".join),
    st.integers(0, 10_000),
    st.integers(1, 255),
    st.sampled_from(["flip", "drop", "insert", "cut"]),
    cut_places,
)
def test_mutated_streams_are_read_alike(data, place, value, way, cuts):
    at = place % max(len(data), 1)
    match way:
        case "flip":
            data = data[:at] + bytes((data[at] ^ value,)) + data[at + 1 :] if data else data
        case "drop":
            data = data[:at] + data[at + 1 :]
        case "insert":
            data = data[:at] + bytes((value,)) + data[at:]
        case _:
            data = data[:at]
    compare(data, cuts)


@settings(max_examples=examples(80), deadline=None)
@given(st.binary(max_size=200), cut_places)
def test_random_bytes_are_read_alike(data, cuts):
    compare(data, cuts)
