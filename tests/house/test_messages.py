"""syncd/wire/messages.py reads what protocol/messages.toml says, field by field."""

import tomllib
from pathlib import Path

import attrs
import pytest

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.wire.messages import CLIENT_MESSAGES, MAX_INTEGER

TOML = tomllib.loads(Path("protocol/messages.toml").read_text())
FIELDS = [
    (kind, name, field) for kind, fields in TOML["client"].items() for name, field in fields.items()
]
WRONG = {
    "str": [1, b"a", True, [], {}, 1.0],
    "uint": [-1, 1.0, True, "1", b"1", [], {}, MAX_INTEGER + 1],
    "bool": [0, 1, "true", [], {}],
    "list": [1, "a", True, {}],
    "map": [1, "a", True, []],
    "position": [1, "a", [], {}, {"epoch": "e"}, {"offset": 1}, {"epoch": 1, "offset": 1}],
    "have": [1, "a", [], {}, {"epoch": "e"}, {"epoch": "e", "versions": {"k": "1"}}],
    "any": [],
}


def _sample(field):
    if field["type"] in TOML["shapes"]:
        return _shape(field["type"])
    samples = {"str": "a", "uint": 1, "bool": True, "list": [], "map": {}, "any": None}
    return samples[field["type"]]


def _shape(name):
    return {key: _sample(field) for key, field in TOML["shapes"][name].items()}


def _body(kind, **changed):
    body = {name: _sample(field) for name, field in TOML["client"][kind].items()}
    return body | changed


def _is_rejected(kind, body):
    try:
        CLIENT_MESSAGES[kind](body)
    except RequestRejected as error:
        return error.code is ErrorCode.BAD_REQUEST
    return False


def _at_most(field, size):
    if field["type"] == "str":
        return "a" * size
    if field["type"] == "list":
        return [_item(field["items"])] * size
    if field["type"] == "map":
        return {f"k{number}": _shape("position") for number in range(size)}
    return size


def _item(kind):
    return "a" if kind == "str" else _shape(kind)


def test_the_message_types_are_those_of_the_list():
    assert set(CLIENT_MESSAGES) == set(TOML["client"])


@pytest.mark.parametrize("kind", CLIENT_MESSAGES)
def test_a_message_has_the_listed_fields_and_no_others(kind):
    message = CLIENT_MESSAGES[kind](_body(kind))
    ours = {field.name: field.default is attrs.NOTHING for field in attrs.fields(type(message))}
    assert ours == {name: field["required"] for name, field in TOML["client"][kind].items()}


@pytest.mark.parametrize(("kind", "name", "field"), FIELDS)
def test_a_required_field_must_be_there_and_an_optional_one_need_not(kind, name, field):
    body = _body(kind)
    del body[name]
    assert _is_rejected(kind, body) == field["required"]


@pytest.mark.parametrize(("kind", "name", "field"), FIELDS)
def test_nil_stands_for_absent_only_where_a_field_is_optional(kind, name, field):
    may_be_nil = not field["required"] or field["type"] == "any"
    assert _is_rejected(kind, _body(kind, **{name: None})) == (not may_be_nil)


@pytest.mark.parametrize(("kind", "name", "field"), FIELDS)
def test_values_of_another_type_are_refused(kind, name, field):
    taken = [
        value
        for value in WRONG[field["type"]]
        if not _is_rejected(kind, _body(kind, **{name: value}))
    ]
    assert taken == []


@pytest.mark.parametrize(("kind", "name", "field"), [row for row in FIELDS if "max" in row[2]])
def test_a_field_takes_its_limit_and_not_one_more(kind, name, field):
    limit = field["max"]
    assert not _is_rejected(kind, _body(kind, **{name: _at_most(field, limit)}))
    assert _is_rejected(kind, _body(kind, **{name: _at_most(field, limit + 1)}))


@pytest.mark.parametrize("shape", ["position", "client_claim"])
def test_shapes_within_messages_keep_their_limits(shape):
    for name, field in TOML["shapes"][shape].items():
        if "max" not in field:
            continue
        for excess in (0, 1):
            value = _shape(shape) | {name: _at_most(field, field["max"] + excess)}
            if shape == "position":
                rejected = _is_rejected("subscribe", _body("subscribe", position=value))
            else:
                rejected = _is_rejected("hello", _body("hello", clients=[value]))
            assert rejected == bool(excess)
