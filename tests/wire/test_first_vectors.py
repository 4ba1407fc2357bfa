"""What a client of the first day sends means today what it meant then: within version 1 nothing is taken away.

`first_vectors.json` has the well-formed messages of clients from `protocol/vectors` of 2026-11-21. It is never made anew.
"""

import json
from pathlib import Path

import pytest

from syncd.wire.codec import BadMessage
from syncd.wire.messages import CLIENT_MESSAGES
from tests.wire.in_full import decode

CASES = json.loads(Path(__file__).with_name("first_vectors.json").read_text())


def plain(value):
    match value:
        case {"$bin": str(text)}:
            return bytes.fromhex(text)
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
    return value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "-"))
def test_a_message_of_the_first_day_means_what_it_meant(case):
    decoded = decode(bytes.fromhex(case["hex"]))
    assert not [message for message in decoded if isinstance(message, BadMessage)]
    expected = [CLIENT_MESSAGES[kind](plain(body)) for kind, body in case["decoded"]]
    assert repr(decoded) == repr(expected)
