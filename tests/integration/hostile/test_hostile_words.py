"""A61-A63: what a peer's texts become in logs, and what errors tell a peer."""

import contextlib
import json
import re

import pytest
import trio

from syncd.testing.raw_client import BINARY, TEXT, client_frame, request_head
from syncd.wire.messages import EncodedPublish, Publish
from tests.integration.hostile import tokens
from tests.integration.hostile.kit import (
    KEY,
    PATIENT_S,
    SECRET,
    drivers,
    make_config,
    open_arena,
    with_tokens,
)

NASTY = {
    "line ends": 'x\r\n{"event": "forged", "level": "critical"}\r\n',
    "ANSI": "\x1b[2J\x1b[31mred\x1b[0m\x9b1m",
    "bidi": "abc\u202ednuor\u2066\u2028\u2029\u200f",
    "NUL and DEL": "a\x00b\x7fc",
    "a megabyte": "A" * 60_000,
    "a token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl",
    "format": "%s%s%n{0.__class__}${jndi:ldap://evil}",
}


def assert_clean(log):
    """Every line is one JSON object of ours, printable, short, and without secrets."""
    text = log.getvalue()
    for line in text.splitlines():
        fields = json.loads(line)
        assert "event" in fields
        assert fields["event"] != "forged"
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 20_000
    for secret in (SECRET, KEY, NASTY["a token"]):
        assert secret not in text


def crash(connection, message):
    raise RuntimeError(f"a bug of ours that quotes: {message.channel} {message.name}")


@drivers
@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
async def test_a61_no_text_of_a_peer_forges_a_line_or_turns_a_terminal(
    log, driver, text, monkeypatch
):
    """In every field a client has, in a head, and in the worst case: the message of an exception."""
    config = make_config(driver=driver, log_level="debug")
    async with open_arena(config) as arena:
        with trio.fail_after(PATIENT_S):
            async with arena.session() as client:
                await client.send_messages(
                    (text[:200], {"id": 1}),
                    ("subscribe", {"id": 2, "channel": text[:200]}),
                    ("publish", {"id": 3, "channel": "demo:a", "data": text, "name": text[:100]}),
                    ("presence", {"id": 4, "channel": "demo:a", "state": text[:1000]}),
                    ("unsubscribe", {"id": 5, "channel": text[:200]}),
                )
                await client.ask("publish", id=6, channel="live:a", data=1)
            async with arena.dial() as client:
                with contextlib.suppress(trio.BrokenResourceError):
                    await client.send(
                        request_head("/ws", f"X: {text[:4000]!a}", f"Origin: {text[:50]!a}")
                    )
                    await client.receive_response()
            async with arena.session() as client:
                with monkeypatch.context() as patch:
                    for kind in (Publish, EncodedPublish):
                        patch.setitem(arena.node.sessions.handlers, kind, crash)
                    await client.send_messages(
                        ("publish", {"id": 7, "channel": "demo:a", "data": 1, "name": text[:100]})
                    )
                    bye = await client.receive_message("bye")
                assert (bye["code"], bye["reason"]) == (4003, "internal error")
                assert (await client.receive_close()).payload[2:] == b"internal error"
    assert_clean(log)
    assert '"connection_failed"' in log.getvalue()


async def test_a61_refused_tokens_are_not_in_the_log(log):
    config = make_config(auth=with_tokens(), log_level="debug")
    async with open_arena(config, token=tokens.make(SECRET)) as arena:
        for token in (tokens.make("x" * 40), tokens.make(SECRET, exp=0), NASTY["a token"]):
            async with arena.dial() as client:
                await client.upgrade()
                await client.send_messages(("hello", {"v": 1, "token": token}))
                assert (await client.receive_close()).close_code == 4401
            assert token not in log.getvalue()
    assert_clean(log)


INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|/home|/root|/work|/tmp|sqlite|SELECT|INSERT|0x[0-9a-f]{6,}"
    r"|Exception|Error\(|attrs|msgpack\.|trio\.|hypercorn|quart|python",
    re.IGNORECASE,
)


async def everything_a_client_can_be_told(arena):
    """Errors of every kind a peer can cause, as texts."""
    texts = []
    bad = [
        (("nonsense", {"id": 1}), "error"),
        (("subscribe", {"id": 2}), "error"),
        (("subscribe", {"id": 3, "channel": "../../etc"}), "error"),
        (("subscribe", {"id": 4, "channel": "nowhere:a"}), "error"),
        (("unsubscribe", {"id": 5, "channel": "demo:a"}), "error"),
        (("history", {"id": 6, "channel": "live:a", "limit": 1}), "error"),
        (("history", {"id": 7, "channel": "demo:a", "limit": 10**6}), "error"),
        (("history", {"id": 8, "channel": "demo:a", "limit": 1, "since": {"epoch": "x", "offset": 1}}), "error"),
        (("publish", {"id": 9, "channel": "demo:a", "data": b"x" * 65_000, "name": "n" * 200}), "error"),
        (("presence", {"id": 10, "channel": "live:a", "state": 1}), "error"),
        (("presence", {"id": 11, "channel": "demo:a", "state": 1, "client": "somebody"}), "error"),
        (("publish", {"id": 12, "channel": "demo:a", "data": 1, "uid": "u"}), "ok"),
        (("publish", {"id": 13, "channel": "demo:a", "data": 2, "uid": "u"}), "error"),
    ]  # fmt: skip
    async with arena.session() as client:
        for message, kind in bad:
            await client.send_messages(message)
            texts.append(str(await client.receive_message(kind)))
        for payload in (
            b"",
            b"\xc1",
            b"\xdd\xff\xff\xff\xff",
            b"\x91" * 50_000,
            b"\xd6\xff\0\0\0\0",
        ):
            await client.send(client_frame(BINARY, payload))
            texts.append(str(await client.receive_message("error")))
        await client.send(client_frame(TEXT, b"x"))
        texts.append(str((await client.receive_close()).payload))
    for data in (b"\xff" * 20, client_frame(BINARY, declared_bytes=1 << 60), b"\x88\x81xxxxy"):
        async with arena.session() as client:
            await client.send(data)
            texts.append(str((await client.receive_close()).payload))
    for head in (b"\x00\r\n\r\n", request_head("/nope"), request_head("/ws", host="evil")):
        async with arena.dial() as client:
            await client.send(head)
            response = await client.receive_response()
            texts.append(f"{response.headers} {response.body}")
    for path, body in (
        ("/api/publish", b"{"),
        ("/api/publish", b'{"channel": "x"}'),
        ("/api/publish", b'{"channel": "demo:a", "data": 1, "then": 2}'),
        ("/api/nope", b""),
        ("/nope", b""),
        ("/api/revoke", b"[]"),
    ):
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        response = await arena.http(path, *lines, method="POST", body=body)
        assert 400 <= response.status < 500
        texts.append(f"{response.headers} {response.body}")
    return texts


@drivers
async def test_a62_no_error_tells_of_paths_statements_stacks_or_secrets(driver):
    async with open_arena(make_config(driver=driver)) as arena:
        with trio.fail_after(PATIENT_S):
            texts = await everything_a_client_can_be_told(arena)
    assert len(texts) > 30
    for text in texts:
        assert INSIDE.search(text) is None, text
        assert KEY not in text


async def test_a62_a_crash_behind_http_tells_nothing(monkeypatch, log):
    async with open_arena() as arena:
        with monkeypatch.context() as patch:

            def fail(*_args, **_kwargs):
                raise RuntimeError("sqlite said: SELECT secret FROM /var/lib/syncd.db")

            patch.setattr(arena.node, "uptime_s", fail)
            response = await arena.http("/api/info")
        assert response.status == 500
        assert INSIDE.search(f"{response.headers} {response.body}") is None
    assert_clean(log)


async def test_a62_a_reason_given_by_a_backend_is_cut_to_what_a_close_frame_holds():
    async with open_arena() as arena, arena.session() as client:
        reason = "\u00e9" * 200
        body = json.dumps({"reason": reason, "session": "none"}).encode()
        lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        response = await arena.http("/api/disconnect", *lines, method="POST", body=body)
        assert response.status in (200, 400)
        arena.node.hub.close(
            next(c for c in arena.node.hub.connections if c.subscriptions is None), 4503, reason
        )
        arena.node.hub.writer.flush()
        close = await client.receive_close()
        assert (close.close_code, len(close.payload) <= 125) == (4503, True)
        assert close.payload[2:].decode() == "\u00e9" * 61


@pytest.mark.parametrize("path", ["/metrics", "/debug", "/debug/pprof", "/api/admin/stats", "/api/audit", "/api/nodes", "/api/rebuild", "/api/info", "/api/channels", "/api/presence?channel=demo:a", "/server-status", "/.env", "/syncd.toml", "/syncd.db"])  # fmt: skip
async def test_a63_what_tells_of_the_node_wants_the_key_or_does_not_exist(path):
    async with open_arena() as arena, arena.dial() as client:
        await client.send(request_head(path, upgrade=False))
        assert (await client.receive_response()).status in (401, 404)
