"""A29, A30, A43-A51: what arrives in binary frames."""

import json
import time
from pathlib import Path

import attrs
import msgpack
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from syncd.config import Action, AuthSettings, HistoryKind, Namespace
from syncd.testing.raw_client import BINARY, client_frame, pack_messages
from tests.integration.hostile import tokens
from tests.integration.hostile.kit import (
    BRISK,
    CALM,
    PATIENT_S,
    SECRET,
    drivers,
    make_config,
    open_arena,
    with_tokens,
)

PROBE = pack_messages(("probe", {"nonce": 7}))
HOSTILE = json.loads(Path("protocol/vectors/hostile.json").read_text())
PUBLISH = pack_messages(("publish", {"id": 1, "channel": "demo:room", "data": 0}))[:-1]
"""A publish whose data is still to come."""


def frame_of(case):
    if isinstance(case["hex"], str):
        return bytes.fromhex(case["hex"])
    return b"".join(bytes.fromhex(part) * times for part, times in case["hex"])


# ------------------------------------------------------------------------------------------------ A29

FIRST = {
    "probe": (("probe", {"nonce": 1}), 4500),
    "subscribe": (("subscribe", {"id": 1, "channel": "demo:a"}), 4500),
    "an unknown type": (("mutate", {}), 4500),
    "hello without a version": (("hello", {}), 4500),
    "hello with a version that is text": (("hello", {"v": "1"}), 4500),
    "hello with clients that are none": (("hello", {"v": 1, "clients": [7]}), 4500),
    "hello of version 0": (("hello", {"v": 0}), 4501),
    "hello of version 2": (("hello", {"v": 2}), 4501),
}


@drivers
@pytest.mark.parametrize(("message", "expected"), FIRST.values(), ids=FIRST)
async def test_a29_a_session_begins_with_a_good_hello_or_not_at_all(driver, message, expected):
    async with open_arena(make_config(driver=driver)) as arena, arena.dial() as client:
        with trio.fail_after(PATIENT_S):
            await client.upgrade()
            await client.send_messages(message)
            assert (await client.receive_close()).close_code == expected


@drivers
@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x92", PROBE[:-1]], ids=repr)
async def test_a29_a_first_frame_that_is_no_message_closes(driver, payload):
    async with open_arena(make_config(driver=driver)) as arena, arena.dial() as client:
        with trio.fail_after(PATIENT_S):
            await client.upgrade()
            await client.send(client_frame(BINARY, payload))
            assert (await client.receive_close()).close_code == 4500


@drivers
@pytest.mark.parametrize("is_declared_only", [True, False])
async def test_a29_a_hello_of_4097_bytes_closes_before_it_is_read(driver, is_declared_only):
    async with open_arena(make_config(driver=driver)) as arena, arena.dial() as client:
        with trio.fail_after(PATIENT_S):
            await client.upgrade()
            payload = b"" if is_declared_only else bytes(4097)
            await client.send(client_frame(BINARY, payload, declared_bytes=4097))
            assert (await client.receive_close()).close_code == 1009


@drivers
async def test_a29_a_silent_client_is_closed_in_the_hello_time(driver):
    timing = attrs.evolve(CALM, hello_s=0.2)
    config = make_config(driver=driver, timing=timing)
    async with open_arena(config) as arena, arena.dial() as client:
        began = trio.current_time()
        with trio.fail_after(PATIENT_S):
            await client.upgrade()
            assert (await client.receive_message("bye"))["code"] == 4006
            assert (await client.receive_close()).close_code == 4006
        assert 0.2 <= trio.current_time() - began < 1.0


@drivers
async def test_a29_pings_do_not_stand_for_a_hello(driver):
    timing = attrs.evolve(CALM, hello_s=0.2)
    config = make_config(driver=driver, timing=timing)
    async with open_arena(config) as arena, arena.dial() as client:
        await client.upgrade()

        async def ping():
            while True:
                await client.send(client_frame(9, b"x"))
                await trio.sleep(0.02)

        with trio.fail_after(PATIENT_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ping)
                assert (await client.receive_close()).close_code == 4006
                nursery.cancel_scope.cancel()


@drivers
async def test_a_second_hello_closes(driver):
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        with trio.fail_after(PATIENT_S):
            await client.send_messages(("hello", {"v": 1}), ("probe", {"nonce": 1}))
            bye = await client.receive_message("bye")
            assert (bye["code"], bye["reconnect"]) == (4500, False)
            assert (await client.receive_close()).close_code == 4500


# ------------------------------------------------------------------------------------------------ A30


def pem_of(key):
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


RSA_PEM = pem_of(rsa.generate_private_key(65537, 2048).public_key())
ED_PEM = pem_of(ed25519.Ed25519PrivateKey.generate().public_key())
AUTH = AuthSettings(
    algorithms=("HS256", "RS256", "EdDSA"),
    hmac_secret=SECRET,
    public_keys={"rsa-1": RSA_PEM, "ed-1": ED_PEM},
    audience="syncd",
    issuer="https://issuer.example",
    leeway_s=1.0,
    anonymous=False,
)
GOOD = {"aud": "syncd", "iss": "https://issuer.example"}


def forged(header=None, secret=SECRET, **claims):
    return tokens.make(secret, header, **{**GOOD, **claims})


def unsigned(name):
    return forged({"alg": name}).rpartition(".")[0] + "."


FORGED = {
    "no token": None,
    "empty": "",
    "no JWT": "abc",
    "two parts": "a.b",
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg none with a signature": forged({"alg": "none"}),
    "RS256 signed with the public key as secret": forged({"kid": "rsa-1"}, RSA_PEM),
    "RS256 in the header, HMAC by the public key": forged(
        {"alg": "RS256", "kid": "rsa-1"}, RSA_PEM
    ),
    "EdDSA in the header, HMAC by the public key": forged({"alg": "EdDSA", "kid": "ed-1"}, ED_PEM),
    "HS512": forged({"alg": "HS512"}),
    "another secret": forged(secret="another secret, just as long as it must be"),
    "a changed signature": forged()[:-4] + "AAAA",
    "wrong aud": forged(aud="other"),
    "no aud": forged(aud=...),
    "wrong iss": forged(iss="https://evil.example"),
    "no iss": forged(iss=...),
    "unknown kid": forged({"kid": "nobody"}),
    "kid is a path": forged({"kid": "../../../../dev/null"}),
    "kid is a path, signed with what is there": forged({"kid": "/dev/null"}, ""),
    "kid is SQL": forged({"kid": "' OR 1=1 --"}),
    "kid is a number": forged({"kid": 1}),
    "jku": forged({"jku": "https://evil.example/keys", "kid": "evil"}),
    "jwk in the header": forged({"jwk": {"kty": "oct", "k": tokens.b64(b"x" * 32)}}, "x" * 32),
    "crit": forged({"crit": ["exp"]}),
    "expired": forged(exp=time.time() - 60),
    "expired long ago": forged(exp=0),
    "no exp": forged(exp=...),
    "exp is text": forged(exp="9999999999"),
    "exp is NaN": forged(exp=float("nan")),
    "nbf ahead": forged(nbf=time.time() + 3600),
    "iat ahead": forged(iat=time.time() + 3600),
    "no sub": forged(sub=...),
    "sub is a number": forged(sub=1),
    "sub with a line end": forged(sub="ann\nroot"),
    "a thousand roles": forged(roles=["r"] * 400),
}


@drivers
async def test_a30_every_bad_token_closes_with_4401_and_the_very_same_bytes(driver):
    config = make_config(driver=driver, auth=AUTH)
    async with open_arena(config, token=forged()) as arena:
        answers = {}
        for name, token in FORGED.items():
            async with arena.dial() as client:
                await client.upgrade()
                fields = {} if token is None else {"token": token}
                await client.send_messages(("hello", {"v": 1, **fields}))
                with trio.fail_after(PATIENT_S):
                    bye = await client.receive_binary()
                    close = await client.receive_close()
                answers[name] = (bye.messages[0][1]["code"], bye.payload, close.payload)
        assert {name: answer[0] for name, answer in answers.items()} == dict.fromkeys(FORGED, 4401)
        assert len(set(answers.values())) == 1, answers


@drivers
async def test_a30_huge_claims_close_before_they_are_read(driver):
    config = make_config(driver=driver, auth=AUTH)
    async with open_arena(config, token=forged()) as arena, arena.dial() as client:
        await client.upgrade()
        await client.send_messages(("hello", {"v": 1, "token": forged(x="y" * 50_000)}))
        with trio.fail_after(PATIENT_S):
            assert (await client.receive_close()).close_code == 1009


@drivers
@pytest.mark.parametrize(
    "token",
    [forged(sub="bob"), forged({"alg": "none"}), forged(exp=0)],
    ids=["another user's", "alg none", "expired"],
)
async def test_a30_the_same_for_a_bad_refresh(driver, token):
    config = make_config(driver=driver, auth=AUTH)
    async with (
        open_arena(config, token=forged()) as arena,
        arena.session(token=forged()) as client,
    ):
        await client.send_messages(("auth", {"id": 1, "token": token}))
        with trio.fail_after(PATIENT_S):
            assert (await client.receive_close()).close_code == 4401


async def test_a35_an_api_key_is_no_token_and_a_token_no_api_key():
    config = make_config(auth=with_tokens())
    token = tokens.make(SECRET)
    async with open_arena(config, token=token) as arena:
        async with arena.dial() as client:
            await client.upgrade()
            await client.send_messages(
                ("hello", {"v": 1, "token": next(iter(config.api_keys.values()))})
            )
            assert (await client.receive_close()).close_code == 4401
        # Where backends ask it is no key; where operators ask it is one of somebody who may not.
        for path, status in (("/metrics", 401), ("/api/info", 403)):
            async with arena.dial() as client:
                head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
                await client.send(head.encode())
                assert (await client.receive_response()).status == status


# ------------------------------------------------------------------------------------------------ A43-A51


@drivers
async def test_a43_to_a50_every_hostile_vector_is_told_and_the_connection_lives(driver):
    """All of protocol/vectors/hostile.json, one after the other over one connection below the limit of errors."""
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        assert len(HOSTILE) < 100
        for case in HOSTILE:
            with trio.fail_after(PATIENT_S):
                await client.send(
                    client_frame(BINARY, frame_of(case)) + client_frame(BINARY, PROBE)
                )
                answers = []
                while len(answers) < len(case.get("decoded", [])) + 2:
                    answers += (await client.receive_binary()).messages
            kinds = [(kind, body.get("code")) for kind, body in answers]
            pongs = [("pong", None)] * len(case.get("decoded", []))
            assert kinds == [*pongs, ("error", case["error"]), ("pong", None)], case["name"]
            assert "id" not in answers[len(pongs)][1], case["name"]


@drivers
async def test_the_hundredth_bad_message_closes_with_4502(driver):
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        with trio.fail_after(PATIENT_S):
            await client.send(client_frame(BINARY, b"\xc1") * 300)
            errors = []
            while (frame := await client.receive_frame()).messages[0][0] == "error":
                errors.append(frame.messages[0][1]["code"])
            assert errors == ["bad_message"] * 100
            assert frame.messages[0][1]["code"] == 4502
            assert (await client.receive_close()).close_code == 4502


@drivers
async def test_unknown_types_and_bad_fields_count_as_well(driver):
    bad = [
        ("rebuild_all", {"id": 1}),
        ("__class__", {}),
        ("subscribe", {"id": 1, "channel": 5}),
        ("subscribe", {"id": -1, "channel": "demo:a"}),
        ("publish", {"id": 1, "channel": "demo:a"}),
        ("subscribe", {"id": 1, "channel": "../../etc/passwd"}),
    ]
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        with trio.fail_after(PATIENT_S):
            await client.send_messages(*bad[:5])
            codes = []
            while len(codes) < 5:
                codes += [body["code"] for _, body in (await client.receive_binary()).messages]
            assert codes == ["unknown_type", "unknown_type"] + ["bad_request"] * 3
            answer = await client.ask("subscribe", id=2, channel="../../etc/passwd")
            assert answer[1]["code"] == "bad_channel"
            for _ in range(19):
                await client.send_messages(*bad[:5])
            assert (await client.receive_close()).close_code == 4502


async def test_a45_the_dearest_frame_does_not_stop_the_loop_for_long():
    """64 KiB of empty maps, which cost msgpack alone 5 ms; the codec stops counting at 10,000 values."""
    frames = [
        client_frame(BINARY, PUBLISH + b"\xdc\xea\x60" + b"\x80" * 60_000),
        client_frame(BINARY, b"\x80" * 65_000),
        client_frame(BINARY, PUBLISH + b"\xdc\xff\xf0" + b"\x90" * 65_000),
        client_frame(BINARY, PUBLISH + b"\x91" * 65_000),
    ]
    async with open_arena() as arena, arena.session() as client:
        hub = arena.node.hub
        connection = next(c for c in hub.connections if c.subscriptions is None)
        best_s = []
        for frame in frames:
            times_s = []
            for _ in range(5):
                began = time.thread_time()
                hub.receive(connection, frame)
                times_s.append(time.thread_time() - began)
            best_s.append(min(times_s))
        hub.writer.flush()
        for _ in range(20):
            assert (await client.receive_message("error"))["code"] == "bad_message"
        assert max(best_s) < 0.010, best_s


EXACT = {
    "-0.0": -0.0,
    "the largest integer": 2**53 - 1,
    "the smallest integer": 1 - 2**53,
    "the smallest float": 5e-324,
    "the largest float": 1.7976931348623157e308,
    "a float 32": msgpack.unpackb(b"\xca\x3d\xcc\xcc\xcd"),
    "NUL and astral text": "\x00\U0001f600",
    "bin": b"\xff\x00\xed\xa0\x80",
    "A51 __proto__": {"__proto__": {"polluted": True}, "constructor": {"prototype": {"x": 1}}},
    "depth 30": json.loads("[" * 30 + "]" * 30),
    "an empty key": {"": None},
}


@drivers
async def test_a50_a51_what_is_within_the_bounds_comes_back_exactly(driver):
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as client:
        await client.ask("subscribe", id=0, channel="live:room")
        for number, (name, value) in enumerate(EXACT.items()):
            with trio.fail_after(PATIENT_S):
                await client.send_messages(
                    ("publish", {"id": number, "channel": "live:room", "data": value})
                )
                data = (await client.receive_message("event"))["data"]
            assert repr(data) == repr(value), name


# ------------------------------------------------------------------------------------------------ A36-A39 in short

ODD_NAMES = {
    "demo:%61": "bad_channel",
    "demo:a/../b": "bad_channel",
    "demo:\u0430": "bad_channel",
    "demo:a*": "bad_channel",
    "demo:a\x00": "bad_channel",
    "demo:a b": "bad_channel",
    "demo:": "bad_channel",
    "DEMO:a": "bad_channel",
    "demo": "bad_channel",
    "nowhere:a": "permission_denied",
    "secret:a": "permission_denied",
}


@pytest.mark.parametrize("kind", ["subscribe", "publish", "history", "presence"])
async def test_a36_a39_odd_names_and_closed_channels_are_refused_alike(kind):
    secret = Namespace("secret", history=HistoryKind.MEMORY, presence=True)
    config = make_config()
    config = attrs.evolve(config, namespaces={**config.namespaces, "secret": secret})
    fields = {"publish": {"data": 1}, "history": {"limit": 10}, "presence": {"state": 1}}
    async with open_arena(config) as arena, arena.session() as client:
        texts = {}
        for number, (name, code) in enumerate(ODD_NAMES.items()):
            _, body = await client.ask(kind, id=number, channel=name, **fields.get(kind, {}))
            assert body["code"] == code, name
            texts.setdefault(code, set()).add(body["message"])
        assert len(texts["permission_denied"]) == 1


async def test_a36_the_same_rule_holds_with_rules_of_users():
    own = Namespace("own", allow=dict.fromkeys(Action, ("owner",)))
    config = make_config(auth=with_tokens())
    config = attrs.evolve(config, namespaces={**config.namespaces, "own": own})
    async with (
        open_arena(config, token=tokens.make(SECRET)) as arena,
        arena.session(token=tokens.make(SECRET, sub="bob")) as bob,
    ):
        assert (await bob.ask("subscribe", id=1, channel="own:bob"))[0] == "subscribed"
        for name in ("own:ann", "own:bob.ann", "own:ann/bob", "own:Bob", "own:bobb"):
            _, body = await bob.ask("subscribe", id=2, channel=name)
            assert body["code"] == "permission_denied", name


# ------------------------------------------------------------------------------------------------ silence


@drivers
async def test_a_session_that_falls_silent_is_cut_after_ping_and_slack(driver):
    timing = attrs.evolve(BRISK, ping_s=0.3, pong_slack_s=0.2)
    async with open_arena(make_config(driver=driver, timing=timing)) as arena:

        async def answer_pings():
            while True:
                await arena.witness.send_messages(("pong", {}))
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_pings)
            async with arena.dial() as client:
                await client.upgrade()
                await client.hello()
                with trio.fail_after(PATIENT_S):
                    await client.receive_message("ping")
                    await client.read_to_end()
                    await arena.until_gone()
            assert arena.node.hub.closes.get("4002") == 1
            nursery.cancel_scope.cancel()
