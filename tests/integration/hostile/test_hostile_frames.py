"""A14-A26: what arrives inside the WebSocket, below syncd's own messages."""

import pytest
import trio

from syncd.testing.raw_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_frame,
    pack_messages,
)
from tests.integration.hostile.kit import (
    BRISK,
    CALM,
    PATIENT_S,
    drivers,
    limits,
    make_config,
    open_arena,
)

PROBE = pack_messages(("probe", {"nonce": 7}))
HELLO = pack_messages(("hello", {"v": 1}))
LIMIT = 65_536

LONG_16 = bytes((0x82, 0x80 | 126)) + (5).to_bytes(2, "big") + b"keys" + b"12345"
LONG_64 = bytes((0x82, 0x80 | 127)) + (5).to_bytes(8, "big") + b"keys" + b"12345"


def start(payload=b"", opcode=BINARY):
    return client_frame(opcode, payload, is_final=False)


def more(payload=b"", *, is_final=False):
    return client_frame(CONTINUATION, payload, is_final=is_final)


def closing(payload):
    return client_frame(CLOSE, payload)


def code(number, reason=b""):
    return closing(number.to_bytes(2, "big") + reason)


BROKEN = {
    "A14 unmasked": (client_frame(BINARY, PROBE, is_masked=False), 1002),
    "A14 unmasked ping": (client_frame(PING, is_masked=False), 1002),
    **{
        f"A15 RSV {bits}": (client_frame(BINARY, PROBE, reserved=bits), 1002)
        for bits in (1, 2, 4, 7)
    },
    "A15 RSV1 on a ping": (client_frame(PING, reserved=4), 1002),
    **{
        f"A15 opcode {number}": (client_frame(number, b"x"), 1002)
        for number in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "A16 declares 2^62": (client_frame(BINARY, b"x", declared_bytes=1 << 62), 1009),
    "A16 declares 2^63": (client_frame(BINARY, b"x", declared_bytes=1 << 63), 1002),
    "A16 declares 2^64 - 1": (client_frame(BINARY, b"x", declared_bytes=(1 << 64) - 1), 1002),
    "A16 a ping declares 2^62": (client_frame(PING, b"x", declared_bytes=1 << 62), 1002),
    "A16 length not in its shortest form, 16 bits": (LONG_16, 1002),
    "A16 length not in its shortest form, 64 bits": (LONG_64, 1002),
    "A17 one frame of limit + 1": (client_frame(BINARY, bytes(LIMIT + 1)), 1009),
    "A17 one frame of ten times the limit": (client_frame(BINARY, bytes(LIMIT * 10)), 1009),
    "A17 two fragments of limit + 1": (start(bytes(LIMIT)) + more(b"x", is_final=True), 1009),
    "A17 a last fragment that declares too much": (
        start(bytes(LIMIT - 1)) + client_frame(CONTINUATION, declared_bytes=1 << 40),
        1009,
    ),
    "A17 text of limit + 1": (client_frame(TEXT, b"x" * (LIMIT + 1)), 1009),
    "A18 65 fragments": (start(b"a") + more(b"b") * 63 + more(b"c", is_final=True), 1009),
    "A18 200,000 empty fragments": (start() + more() * 200_000, 1009),
    "A18 131,000 fragments of one byte": (start(b"a") + more(b"b") * 131_000, 1009),
    "A19 a control frame of 126 bytes": (client_frame(PING, bytes(126)), 1002),
    "A19 a close frame of 126 bytes": (client_frame(CLOSE, bytes(126)), 1002),
    "A19 a fragmented ping": (client_frame(PING, is_final=False), 1002),
    "A19 a fragmented close": (client_frame(CLOSE, is_final=False), 1002),
    "A20 a continuation of nothing": (more(b"x", is_final=True), 1002),
    "A20 a continuation after a whole message": (
        client_frame(BINARY, PROBE) + more(b"x", is_final=True),
        1002,
    ),
    "A20 a message within a message": (start(b"x") + client_frame(BINARY, PROBE), 1002),
    "A20 text within a binary message": (start(b"x") + client_frame(TEXT, b"x"), 1002),
    "A21 text": (client_frame(TEXT, b"{}"), 1003),
    "A21 empty text": (client_frame(TEXT), 1003),
    "A21 fragmented text": (start(b"a", TEXT) + more(b"b", is_final=True), 1003),
    "A22 text that is not UTF-8": (client_frame(TEXT, b"\xff"), 1007),
    "A22 text that ends in the middle": (client_frame(TEXT, b"\xe2\x82"), 1007),
    "A22 a surrogate": (client_frame(TEXT, b"\xed\xa0\x80"), 1007),
    "A22 an overlong form": (client_frame(TEXT, b"\xc0\xaf"), 1007),
    "A22 a fragment that is not UTF-8": (start(b"\xff", TEXT), 1007),
    "A22 a close reason that is not UTF-8": (code(1000, b"\xff"), 1007),
    **{
        f"A23 close {number}": (code(number), 1002)
        for number in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "A23 a close frame of one byte": (closing(b"\x03"), 1002),
}

ECHOED = {
    "empty": (closing(b""), 1005),
    **{str(number): (code(number), number) for number in (1000, 1001, 1003, 1011, 3000, 4999)},
    "with a reason": (code(1000, "tsch\u00fc\u00df".encode()), 1000),
}


@drivers
@pytest.mark.parametrize(("data", "expected"), BROKEN.values(), ids=BROKEN)
async def test_a_breach_closes_with_its_code_and_costs_nobody_else(driver, data, expected):
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        with trio.fail_after(PATIENT_S):
            await client.send(data)
            assert (await client.receive_close()).close_code == expected
            await client.send_eof()
            assert await client.read_to_end() == b""
        await arena.until_gone()


@drivers
@pytest.mark.parametrize(
    "name",
    [
        "A14 unmasked",
        "A16 declares 2^62",
        "A18 200,000 empty fragments",
        "A21 text",
        "A23 close 1005",
    ],
)
async def test_the_same_before_hello(driver, name):
    data, expected = BROKEN[name]
    async with open_arena(make_config(driver=driver)) as arena, arena.dial() as client:
        with trio.fail_after(PATIENT_S):
            await client.upgrade()
            await client.send(data)
            assert (await client.receive_close()).close_code == expected
            await client.send_eof()
            assert await client.read_to_end() == b""


@drivers
@pytest.mark.parametrize(("data", "expected"), ECHOED.values(), ids=ECHOED)
async def test_a23_a_good_close_is_answered_alike_and_the_server_closes_first(
    driver, data, expected
):
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        with trio.fail_after(CALM.close_s / 2):
            await client.send(data)
            frame = await client.receive_close()
            assert (frame.close_code, frame.payload[2:]) == (expected, b"")
            assert await client.read_to_end() == b""
        await arena.until_gone()


@drivers
async def test_a_peer_that_waits_for_us_to_close_need_not_wait_long(driver):
    """After a breach nothing can be read any more, so the server closes its half at once."""
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        with trio.fail_after(CALM.close_s / 2):
            await client.send(client_frame(BINARY, PROBE, is_masked=False))
            await client.receive_close()
            await client.send_close(1002)
            assert await client.read_to_end() == b""
        await client.stream.aclose()
        await arena.until_gone()


@drivers
async def test_a_peer_that_does_not_close_is_dropped_at_the_deadline(driver):
    config = make_config(driver=driver, timing=BRISK)
    async with open_arena(config) as arena, arena.session() as rude, arena.session() as idle:
        with trio.fail_after(PATIENT_S):
            await rude.send(client_frame(BINARY, PROBE, is_masked=False))
            await idle.send(client_frame(TEXT, b"x"))
            await arena.until_gone()
            assert (await rude.receive_close()).close_code == 1002
            assert (await idle.receive_close()).close_code == 1003


# ------------------------------------------------------------------------------------------------ A24

PING_FRAME = client_frame(PING, b"still there?")
OVERSIZE = client_frame(BINARY, bytes(LIMIT + 1))
SECOND_HELLO = client_frame(BINARY, HELLO)

AFTER_CLOSE = {
    "ping after the server's close": ([SECOND_HELLO, PING_FRAME], 4500),
    "oversize, then ping": ([OVERSIZE, PING_FRAME], 1009),
    "data after the server's close": ([SECOND_HELLO, client_frame(BINARY, PROBE)], 4500),
    "data after the client's close": ([code(1000), client_frame(BINARY, PROBE)], 1000),
    "two closes": ([code(1000), code(1001)], 1000),
    "two closes after the server's": ([SECOND_HELLO, code(4500), code(1000)], 4500),
    "a broken frame after the client's close": ([code(1000), b"\xff" * 50], 1000),
    "a broken frame after the server's close": ([SECOND_HELLO, b"\xff" * 50], 4500),
    "text, then hello": ([client_frame(TEXT, b"x"), SECOND_HELLO], 1003),
    "a broken close": ([code(1006), PING_FRAME, code(1000)], 1002),
    "a thousand pings after the server's close": ([SECOND_HELLO, PING_FRAME * 1000], 4500),
    "half a frame after the server's close": ([SECOND_HELLO, PING_FRAME[:5]], 4500),
}


@drivers
@pytest.mark.parametrize("is_one_packet", [True, False], ids=["together", "apart"])
@pytest.mark.parametrize(("parts", "expected"), AFTER_CLOSE.values(), ids=AFTER_CLOSE)
async def test_a24_nothing_after_a_close_gets_an_answer_or_does_harm(
    driver, parts, expected, is_one_packet
):
    """trio-websocket 0.12.2 lets the second of these end the whole server."""
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        with trio.fail_after(PATIENT_S):
            for part in [b"".join(parts)] if is_one_packet else parts:
                try:
                    await client.send(part)
                except trio.BrokenResourceError:
                    break
                await trio.sleep(0.002)
            assert (await client.receive_close()).close_code == expected
            await client.send_eof()
            assert await client.read_to_end() == b""
        await client.stream.aclose()
        await arena.until_gone()


@drivers
async def test_no_frame_follows_the_close_frame_even_if_an_answer_is_still_on_its_way(driver):
    """RFC 6455 5.5.1. The publications are in the broadcaster's hands when text ends the session."""
    burst = b"".join(
        client_frame(BINARY, pack_messages(("publish", {"id": n, "channel": "demo:x", "data": n})))
        for n in range(20)
    )
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        await client.ask("subscribe", id=100, channel="demo:x")
        with trio.fail_after(PATIENT_S):
            await client.send(burst + client_frame(TEXT, b"x"))
            assert (await client.receive_close()).close_code == 1003
            async with arena.session() as other:
                await other.ask("publish", id=1, channel="demo:x", data="late")
            await client.send_eof()
            assert await client.read_to_end() == b""


# ------------------------------------------------------------------------------------------------ peers that vanish


@drivers
@pytest.mark.parametrize(
    "data",
    [b"", b"\x82", client_frame(BINARY, PROBE)[:5], start(b"x"), client_frame(BINARY, PROBE) * 50],
    ids=["nothing", "one byte", "half a frame", "half a message", "many frames"],
)
@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "closed"])
async def test_a_peer_that_vanishes_costs_its_own_connection(driver, data, is_reset):
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        await client.ask("subscribe", id=1, channel="demo:witness")
        await client.send(data)
        await (client.reset() if is_reset else client.stream.aclose())
        await arena.until_gone()


@drivers
@pytest.mark.parametrize("size", [0, 1, 40])
async def test_a_peer_that_resets_within_its_head_costs_its_own_connection(driver, size):
    async with open_arena(make_config(driver=driver)) as arena:
        for _ in range(20):
            async with arena.dial() as client:
                await client.send(b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: w"[:size])
                await client.reset()
        await arena.until_gone()


# ------------------------------------------------------------------------------------------------ A25, A26


@drivers
async def test_a25_pings_are_answered_up_to_the_rate_then_the_client_is_closed(driver):
    config = make_config(driver=driver, limits=limits(messages_per_s=10.0, messages_burst=20))
    async with open_arena(config) as arena, arena.session() as client:
        with trio.fail_after(PATIENT_S):
            await client.send(b"".join(client_frame(PING, b"%d" % n) for n in range(200)))
            answers = []
            while (frame := await client.receive_frame()).opcode == PONG:
                answers.append(frame.payload)
            assert answers == [b"%d" % n for n in range(len(answers))]
            assert 15 <= len(answers) <= 25
            assert frame.opcode == BINARY
            assert frame.messages[0][1]["code"] == 4005
            assert (await client.receive_close()).close_code == 4005


@drivers
async def test_a26_unsolicited_pongs_are_ignored_and_count_as_signs_of_life(driver):
    config = make_config(driver=driver)
    async with open_arena(config) as arena, arena.session() as client:
        connection = next(c for c in arena.node.hub.connections if c.subscriptions is None)
        connection.last_seen = 0.0
        with trio.fail_after(PATIENT_S):
            await client.send(client_frame(PONG, b"x" * 125) * 20_000)
            await client.send_messages(("probe", {"nonce": 1}))
            frame = await client.receive_frame()
        assert frame.messages == [["pong", {"nonce": 1}]]
        assert connection.last_seen > 0.0


@drivers
@pytest.mark.parametrize("size", [0, 1, 125])
async def test_a_ping_within_a_message_is_answered_before_it(driver, size):
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        with trio.fail_after(PATIENT_S):
            await client.send(start(PROBE[:4]) + client_frame(PING, bytes(size)))
            frame = await client.receive_frame()
            assert (frame.opcode, frame.payload) == (PONG, bytes(size))
            await client.send(more(PROBE[4:], is_final=True))
            assert (await client.receive_message("pong"))["nonce"] == 7
