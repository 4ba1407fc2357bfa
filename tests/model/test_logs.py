"""Log lines: nothing a peer says forges a line, fills a disk or shows a secret (attack case A61)."""

import io
import json
import logging

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.logs import MASK, MAX_ITEMS, MAX_TEXT_CHARS, configure_logging, printable

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(params=["json", "console"])
def write(request):
    out = io.StringIO()
    configure_logging(request.param, "info", out)

    def write_event(event="happened", level="info", **fields):
        out.seek(0)
        out.truncate()
        getattr(structlog.get_logger("test"), level)(event, **fields)
        return out.getvalue()

    write_event.format = request.param
    return write_event


HOSTILE = {
    "CR LF": "x\r\n2026-01-01 [info] forged",
    "ANSI": "\x1b[2J\x1b[31mred",
    "C1 control": "\x9b31m",
    "NUL": "a\0b",
    "bidi override": "abc\u202etxt.exe",
    "bidi isolate": "\u2066x\u2069",
    "Arabic letter mark": "\u061cx",
    "line separator": "a\u2028b\u2029c\x85d",
    "half surrogate": "\ud800",
    "zero width": "a\u200bb",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("where", ["value", "list", "map key", "map value", "event", "object"])
def test_whatever_a_field_holds_it_stays_one_printable_line(write, text, where):
    class Rude:
        def __repr__(self):
            return text

    fields = {
        "value": {"channel": text},
        "list": {"channels": [text]},
        "map key": {"body": {text: 1}},
        "map value": {"body": {"a": text}},
        "event": {"event": text},
        "object": {"thing": Rude()},
    }
    line = write(**fields[where])
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert line[:-1].isprintable()


def test_a_long_text_is_cut_and_its_length_told(write):
    line = write(channel="x" * 1_000_000)
    assert "(1000000 chars)" in line
    assert line.count("x") <= MAX_TEXT_CHARS + 5
    assert len(line) < 1000


LARGE = {
    "list": ["y" * 10_000] * 1000,
    "map": {f"k{i}": "y" * 10_000 for i in range(1000)},
    "bytes": b"y" * 1_000_000,
    "number": 10**5000,
    "nested": [[[[[["y" * 10_000] * 10] * 10] * 10] * 10] * 10],
}


@pytest.mark.parametrize("value", LARGE.values(), ids=LARGE.keys())
def test_large_values_of_any_kind_are_bounded(write, value):
    assert len(write(value=value)) < MAX_ITEMS * MAX_ITEMS * (MAX_TEXT_CHARS + 50)


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "secret",
        "authorization",
        "Authorization",
        "api_key",
        "hmac_secret",
        "refresh_token",
    ],
)
def test_fields_named_as_secrets_are_masked_at_any_depth(write, name):
    for fields in ({name: "hush-hush"}, {"request": {"headers": {name: "hush-hush"}}}):
        line = write(**fields)
        assert "hush-hush" not in line
        assert MASK in line


def test_what_lies_too_deep_is_left_out_with_its_secrets(write):
    line = write(a={"b": {"c": {"token": "hush-hush"}}})
    assert "hush-hush" not in line
    assert "..." in line


def test_a_conflation_key_is_no_secret(write):
    assert "row-7" in write(key="row-7")


@pytest.mark.parametrize(
    "text", [JWT, f"bad token {JWT}!", f"Bearer {JWT}", "Authorization: Bearer sk-hush-hush"]
)
def test_what_looks_like_a_token_is_masked_wherever_it_stands(write, text):
    line = write(text, detail=text)
    assert "eyJ" not in line
    assert "c2lnbmF0dXJl" not in line
    assert "hush-hush" not in line


def test_a_token_cut_in_the_middle_is_masked_too():
    assert "eyJ" not in printable("x" * (MAX_TEXT_CHARS - 20) + " " + JWT)


def test_an_exception_keeps_its_lines_and_none_passes_for_another_entry(write):
    try:
        raise ValueError(f"x\n2026-01-01 [info] forged \x1b[31m {JWT}")
    except ValueError:
        text = write("failed", level="exception")
    assert "ValueError" in text
    assert "test_logs.py" in text
    assert "\x1b[31m" not in text
    assert "eyJ" not in text
    if write.format == "json":
        assert text.count("\n") == 1
    else:
        assert all(line.startswith("  | ") for line in text.splitlines()[1:])


def test_json_lines_can_be_read_back():
    out = io.StringIO()
    configure_logging("json", "info", out)
    structlog.get_logger().warning("client_refused", reason="kid", num=3, ratio=0.5, ok=None)
    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "client_refused",
        "level": "warning",
        "reason": "kid",
        "num": 3,
        "ratio": 0.5,
        "ok": None,
    }


def test_below_the_level_nothing_is_written(write):
    assert write(level="debug") == ""


def test_other_libraries_lines_go_the_same_way():
    out = io.StringIO()
    configure_logging("json", "warning", out)
    logging.getLogger("hypercorn.error").warning("bad request from %s", "1.2.3.4\r\nforged")
    logging.getLogger("hypercorn.error").info("not shown")
    line = json.loads(out.getvalue())
    assert line["event"] == "bad request from 1.2.3.4\\x0d\\x0aforged"
    assert line["logger"] == "hypercorn.error"
    assert line["level"] == "warning"


@given(st.text(max_size=700))
@settings(max_examples=200)
def test_any_text_is_made_printable_and_short(text):
    made = printable(text)
    assert made.isprintable()
    assert len(made) <= 10 * MAX_TEXT_CHARS + 20
