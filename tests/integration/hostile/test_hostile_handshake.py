"""A1-A13: what arrives before there is a WebSocket."""

import pytest
import trio

from syncd.config import Address
from syncd.testing.raw_client import BINARY, Refused, client_frame, pack_messages, request_head
from tests.integration.hostile import tokens
from tests.integration.hostile.kit import (
    BRISK,
    PATIENT_S,
    SECRET,
    drivers,
    limits,
    make_config,
    open_arena,
    with_tokens,
)

HELLO = client_frame(BINARY, pack_messages(("hello", {"v": 1})))
APP = "https://app.example.com"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade")


def plain(path, *lines, **how):
    """A request head without the lines of an upgrade."""
    return request_head(path, *lines, upgrade=False, **how)


async def answer_of(arena, packet):
    """Send bytes, return the status of the answer; the server must close behind it."""
    async with arena.dial() as client:
        with trio.fail_after(PATIENT_S):
            await client.send(packet)
            response = await client.receive_response()
            assert await client.read_to_end() == b""
    return response.status


# ------------------------------------------------------------------------------------------------ origins


@drivers
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "https://app.example.com.evil.io",
        "https://evil-app.example.com",
        "HTTPS://APP.EXAMPLE.COM",
        "https://App.example.com",
        "https://app.example.com:444",
        "http://app.example.com",
        "https://user@app.example.com",
        "https://app.example.com@evil.io",
        "https://app.example.com/",
        "https://app.example.com, https://evil.io",
        "https://app\u00a0.example.com",
        "file://",
        "",
        "http://127.0.0.1.evil.io",
        "http://localhost:1",
    ],
)
async def test_a1_a2_a_foreign_origin_gets_403_and_no_upgrade(driver, origin):
    config = make_config(driver=driver, origins=(APP,))
    async with open_arena(config) as arena:
        assert await answer_of(arena, request_head("/ws", f"Origin: {origin}")) == 403


async def test_a2_two_origins_get_403():
    async with open_arena(make_config(origins=(APP,))) as arena:
        assert (
            await answer_of(arena, request_head("/ws", f"Origin: {APP}", f"Origin: {APP}")) == 403
        )


async def test_a1_the_listed_origin_and_the_own_one_are_upgraded():
    async with open_arena(make_config(origins=(APP,))) as arena:
        for origin in (APP, f"http://127.0.0.1:{arena.port}"):
            async with arena.dial() as client:
                host = f"127.0.0.1:{arena.port}"
                await client.upgrade(request_head("/ws", f"Origin: {origin}", host=host))
                await client.hello()


async def test_a3_a_cookie_is_no_credential_with_or_without_an_origin():
    """syncd has no cookies: a session that brings one is as anonymous as without."""
    async with open_arena(make_config(auth=with_tokens()), token=tokens.make(SECRET)) as arena:
        async with arena.dial() as client:
            await client.upgrade(request_head("/ws", "Cookie: session=1; token=abc"))
            await client.send(HELLO)
            assert (await client.receive_close()).close_code == 4401
        origin = ("Cookie: session=1", "Origin: https://evil.example")
        assert await answer_of(arena, request_head("/ws", *origin)) == 403


# ------------------------------------------------------------------------------------------------ heads


@drivers
async def test_a4_a_head_that_drips_is_cut_in_the_handshake_time(driver):
    config = make_config(driver=driver, timing=BRISK)
    async with open_arena(config) as arena, arena.dial() as client:
        began = trio.current_time()

        async def drip():
            with trio.move_on_after(PATIENT_S):
                for byte in request_head("/ws", "X: " + "a" * 5000):
                    try:
                        await client.send(bytes([byte]))
                    except trio.BrokenResourceError:
                        return
                    await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            with trio.fail_after(PATIENT_S):
                assert await client.read_to_end() == b""
            took_s = trio.current_time() - began
            nursery.cancel_scope.cancel()
        assert BRISK.handshake_s <= took_s < BRISK.handshake_s + 1.0
        await arena.until_gone()


@drivers
@pytest.mark.parametrize(
    ("packet", "status"),
    [
        (request_head("/ws", "X: " + "a" * 200_000), 431),
        (request_head("/ws", *[f"X-{n}: {'a' * 1000}" for n in range(200)]), 431),
        (request_head("/ws", *[f"X-{n}: 1" for n in range(130)]), 431),
        (request_head("/ws", "X: " + "a" * 8190), 431),
        (b"GET /ws HTTP/1.1\r\nX: " + b"a" * 200_000, 431),
        (request_head("/ws?" + "a" * 8300), 414),
        (b"GET /" + b"a" * 200_000, 414),
        (request_head("/ws", method="POST"), 405),
        (request_head("/ws", method="PUT"), 405),
        (request_head("/ws", version="HTTP/1.0"), 505),
        (request_head("/ws", version="HTTP/2.0"), 505),
        (plain("/ws", *UPGRADE, KEY, "Sec-WebSocket-Version: 8"), 426),
        (plain("/ws", *UPGRADE, KEY), 426),
        (plain("/ws"), 426),
        (plain("/ws", "Upgrade: h2c", "Connection: Upgrade"), 426),
        (plain("/ws", *UPGRADE, "Sec-WebSocket-Version: 13"), 400),
        (plain("/ws", *UPGRADE, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"), 400),
        (plain("/ws", *UPGRADE, "Sec-WebSocket-Version: 13", KEY, KEY), 400),
        (plain("/ws", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY), 400),
        (request_head("/ws", subprotocol=None), 400),
        (request_head("/ws", subprotocol="syncd.v2"), 400),
        (request_head("/ws", subprotocol="syncd.v1, b\x7fd"), 400),
        (request_head("/ws", "Content-Length: 5"), 400),
        (request_head("/elsewhere"), 404),
        (request_head("/ws/"), 404),
        (request_head("/ws%2e"), 404),
    ],
    ids=lambda value: repr(value[:32]) if isinstance(value, bytes) else None,
)
async def test_a5_a6_a7_a_bad_upgrade_gets_its_status(driver, packet, status):
    async with open_arena(make_config(driver=driver)) as arena:
        assert await answer_of(arena, packet) == status


@drivers
@pytest.mark.parametrize(
    ("packet", "status"),
    [
        (plain("example.com:443", method="CONNECT"), 405),
        (plain("/", method="TRACE"), 405),
        (plain("http://127.0.0.1/ws"), 400),
        (plain("*", method="OPTIONS"), 400),
        (plain("/api/publish", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
        (plain("/api/publish", "Content-Length: 5", "Content-Length: 6"), 400),
        (plain("/api/publish", "Content-Length: +5"), 400),
        (plain("/api/publish", "Transfer-Encoding: chunked, identity"), 400),
        (plain("/api/publish", "Transfer-Encoding: xchunked"), 400),
        (plain("/", "X: a\r\n b"), 400),
        (plain("/", "X : a"), 400),
        (plain("/", "X: a\nY: b"), 400),
        (plain("/", "X: a\rY: b"), 400),
        (plain("/", "X: a\x00b"), 400),
        (b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n", 400),
        (plain("/", host=None), 400),
        (plain("/", "Host: 127.0.0.1"), 400),
        (plain("/", host="127.0.0.1 evil"), 400),
        (b"GET  / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
    ids=lambda value: repr(value[:32]) if isinstance(value, bytes) else None,
)
async def test_a11_a_request_that_two_servers_could_read_in_two_ways_is_refused(
    driver, packet, status
):
    async with open_arena(make_config(driver=driver)) as arena:
        assert await answer_of(arena, packet) == status


@drivers
@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
async def test_a8_what_follows_the_upgrade_in_the_same_packet_is_handled(driver, size):
    """The first byte of a frame, a whole one, several: Hypercorn issue 225 dies of one byte."""
    frames = HELLO + b"".join(
        client_frame(BINARY, pack_messages(("probe", {"nonce": n}))) for n in range(3)
    )
    async with open_arena(make_config(driver=driver)) as arena, arena.dial() as client:
        with trio.fail_after(PATIENT_S):
            await client.upgrade(behind=frames[:size])
            if frames[size:]:
                await client.send(frames[size:])
            await client.receive_message("welcome")
            assert (await client.receive_message("pong"))["nonce"] == 0


@drivers
@pytest.mark.parametrize(
    ("behind", "code"),
    [(request_head(), 1002), (b"\x00" * 10, 1002), (b"x" * 5000, 1002), (b"\r\n\r\n", 1002)],
    ids=["a second request", "zeros", "text", "empty lines"],
)
async def test_a8_bytes_behind_the_upgrade_that_are_no_frames_close_the_connection(
    driver, behind, code
):
    async with open_arena(make_config(driver=driver)) as arena, arena.dial() as client:
        with trio.fail_after(PATIENT_S):
            await client.upgrade(behind=behind)
            assert (await client.receive_close()).close_code == code
            await client.read_to_end()


@drivers
async def test_a8_the_packet_that_kills_hypercorn_is_refused(driver):
    async with open_arena(make_config(driver=driver)) as arena, arena.dial() as client:
        with trio.fail_after(PATIENT_S):
            await client.send(request_head("/nowhere") + b"x")
            assert (await client.receive_response()).status == 404


# ------------------------------------------------------------------------------------------------ who it says it is


@drivers
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example"]
)
async def test_a12_a64_a_foreign_host_gets_403_on_loopback(driver, host):
    """DNS rebinding: the page's own name stands in Host and Origin."""
    async with open_arena(make_config(driver=driver)) as arena:
        packet = request_head("/ws", f"Origin: http://{host}", host=host)
        assert await answer_of(arena, packet) == 403
        assert await answer_of(arena, plain("/", host=host)) == 403


async def test_a12_who_names_another_address_is_counted_by_its_own():
    spoof = ("X-Forwarded-For: 10.1.2.3", "X-Real-IP: 10.1.2.3", "Forwarded: for=10.1.2.3")
    config = make_config(limits=limits(connections_per_address=4))
    async with open_arena(config) as arena, arena.dial() as one, arena.dial() as two:
        await one.upgrade(request_head("/ws", *spoof))
        await two.upgrade(request_head("/ws", *spoof))
        async with arena.dial() as three, arena.dial() as four:
            await three.upgrade(request_head("/ws", "X-Forwarded-For: 10.1.2.4"))
            assert (await four.receive_response()).status == 503
        await arena.until_gone(3)


@drivers
@pytest.mark.parametrize(
    "query",
    ["token=eyJhb", "access_token=eyJhb", "a=1&jwt=eyJhb", "%74oken=eyJhb", "TOKEN=eyJhb", "token"],
)
async def test_a13_a_token_in_the_url_is_refused_and_logged_nowhere(log, driver, query):
    async with open_arena(make_config(driver=driver)) as arena:
        assert await answer_of(arena, request_head(f"/ws?{query}")) == 400
    assert "eyJhb" not in log.getvalue()


async def test_a13_a_refusal_does_not_repeat_the_request(log):
    async with open_arena() as arena, arena.dial() as client:
        with pytest.raises(Refused) as caught:
            await client.upgrade(request_head("/ws?token=very-secret-value"))
        assert b"very-secret-value" not in caught.value.response.body
        assert "very-secret-value" not in str(caught.value.response.headers)
    assert "very-secret-value" not in log.getvalue()


async def test_an_address_in_use_is_told_with_its_name():
    """Not an attack, but the one mistake everybody makes."""
    async with open_arena() as arena:
        config = make_config(listen=Address("127.0.0.1", arena.port))
        with pytest.raises(Exception, match=f"127.0.0.1:{arena.port}"):
            async with open_arena(config):
                pass
