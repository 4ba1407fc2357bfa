"""protocol/vectors, run against the codec: the same files that clients in other languages run."""

import json
from pathlib import Path

import msgpack
import pytest

from scripts import make_vectors
from syncd.wire.codec import BadMessage
from syncd.wire.messages import CLIENT_MESSAGES
from tests.wire.in_full import decode

VECTORS = Path("protocol/vectors")


def _load(file):
    return json.loads((VECTORS / file).read_text())


def _ids(case):
    return case["name"].replace(" ", "-")


def _frame(case):
    if isinstance(case["hex"], str):
        return bytes.fromhex(case["hex"])
    return b"".join(bytes.fromhex(part) * times for part, times in case["hex"])


def _value(plain):
    match plain:
        case {"$bin": str(text)}:
            return bytes.fromhex(text)
        case dict():
            return {key: _value(item) for key, item in plain.items()}
        case list():
            return [_value(item) for item in plain]
    return plain


def _expected(case):
    return [CLIENT_MESSAGES[kind](_value(body)) for kind, body in case.get("decoded", [])]


@pytest.mark.parametrize("case", _load("client.json") + _load("hostile.json"), ids=_ids)
def test_a_frame_of_a_client_means_what_its_vector_says(case):
    decoded = decode(_frame(case))
    good = [message for message in decoded if not isinstance(message, BadMessage)]
    # repr tells 1 from True and 0.0 from -0.0, which == does not
    assert repr(good) == repr(_expected(case))
    bad = [message for message in decoded if isinstance(message, BadMessage)]
    answers = [(message.error.code.value, message.request_id) for message in bad]
    assert answers == ([(case["error"], case.get("id"))] if "error" in case else [])


@pytest.mark.parametrize("case", _load("server.json"), ids=_ids)
def test_a_frame_of_the_server_means_what_its_vector_says(case):
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=True)
    unpacker.feed(_frame(case))
    assert repr(sorted_keys(list(unpacker))) == repr(sorted_keys(_value(case["decoded"])))


def sorted_keys(value):
    match value:
        case dict():
            return {key: sorted_keys(value[key]) for key in sorted(value)}
        case list():
            return [sorted_keys(item) for item in value]
    return value


def test_the_vector_files_are_what_their_script_writes():
    stale = [
        name
        for name, cases in make_vectors.FILES.items()
        if (VECTORS / name).read_text() != make_vectors.text_of(cases)
    ]
    assert stale == [], "run `make protocol`"


def test_vector_names_are_unique_and_the_set_is_not_thinned_out():
    names = [(file, case["name"]) for file in make_vectors.FILES for case in _load(file)]
    assert len(names) == len(set(names)) >= 200


def test_every_message_and_every_error_code_has_a_vector(messages_toml, codes_toml):
    cases = [case for file in make_vectors.FILES for case in _load(file)]
    seen = {(case["direction"], kind) for case in cases for kind, _body in case.get("decoded", [])}
    wanted = {(side, kind) for side in ("client", "server") for kind in messages_toml[side]}
    assert wanted - seen == set()
    codes = {
        body["code"] for case in cases for kind, body in case.get("decoded", []) if kind == "error"
    }
    assert codes == set(codes_toml["errors"])
