"""protocol/SPEC.md, HISTORY.md and the toml files tell the same story."""

import hashlib
import json
import re
import tomllib

from scripts import make_vectors, spec_tables

FINGERPRINT = "813745a560ca42ee"
"""Of messages.toml, codes.toml and the names of all vectors. Changed? First tell protocol/HISTORY.md, then change it here."""


def _spec(root):
    return (root / "protocol/SPEC.md").read_text()


def test_the_tables_of_the_spec_are_generated_from_the_toml_files(root):
    spec = _spec(root)
    assert spec_tables.rendered(spec) == spec, "run `make protocol`"


def test_every_message_shape_and_list_of_codes_has_its_table(root, messages_toml):
    wanted = {
        f"{part}.{name}" for part in ("shapes", "client", "server") for name in messages_toml[part]
    } | {"codes.errors", "codes.rejections", "codes.reasons", "codes.close"}
    tables = spec_tables.names_in(_spec(root))
    assert sorted(tables) == sorted(wanted)


def test_every_message_that_is_answered_by_its_id_is_listed_as_such(root, messages_toml):
    section = _spec(root).split("## 5 Requests and answers")[1].split("carry an `id`")[0]
    asking = {name for name, message in messages_toml["client"].items() if "id" in message}
    assert set(re.findall(r"`(\w+)`", section)) == asking


def test_every_code_the_spec_names_exists(root, codes_toml):
    spec = _spec(root)
    known = {
        *codes_toml["errors"],
        *codes_toml["rejections"],
        *codes_toml["reasons"],
        *(str(entry["code"]) for entry in codes_toml["close"].values()),
    }
    named = set(re.findall(r"error \{code: (\w+)", spec)) | set(
        re.findall(r"closes? (?:with )?(4\d{3})\b", spec)
    )
    assert named
    assert named - known == set()


def test_limits_in_the_spec_are_the_defaults_of_the_server(root):
    """The rows of section 12 that have a setting say what the setting says."""
    from syncd.config import Limits, Namespace, Timing  # noqa: PLC0415 - this test alone needs them

    section = _spec(root).split("## 12 Limits")[1].split("## 13")[0]
    limits, timing = Limits(), Timing()
    rows = {
        "time to `hello`": f"{timing.hello_s:g} s",
        "first frame": f"{limits.hello_bytes:,} bytes",
        "frame from the client": f"{limits.frame_bytes:,} bytes",
        "fragments of a frame": f"{limits.fragments}",
        "`data` of an event, encoded": f"{Namespace('x').max_data_bytes:,} bytes",
        "state of presence, encoded": f"{limits.presence_state_bytes:,} bytes",
        "members of a channel's presence": f"{limits.presence_members:,}",
        "subscriptions of a connection": f"{limits.subscriptions}",
        "messages of a connection": f"{limits.messages_per_s:,.0f} per s, {limits.messages_burst:,} at once",
        "bad messages of a connection": f"{limits.errors}",
        "connections of a user": f"{limits.connections_per_user}",
        "events recovered": f"{limits.recovery_events:,}",
    }
    missing = [
        f"| {name} | {value}"
        for name, value in rows.items()
        if f"| {name} | {value}" not in section
    ]
    assert missing == []


def test_a_change_of_the_protocol_is_told_in_its_history(root, messages_toml):
    digest = hashlib.sha256()
    for file in ("messages.toml", "codes.toml"):
        parsed = tomllib.loads((root / "protocol" / file).read_text())
        digest.update(json.dumps(parsed, sort_keys=True).encode())
    names = [case.name for cases in make_vectors.FILES.values() for case in cases]
    digest.update(json.dumps(names).encode())
    assert digest.hexdigest()[:16] == FINGERPRINT, (
        "The protocol changed: add an entry to protocol/HISTORY.md, then pin the new fingerprint here"
    )
    assert (
        f"## Version {messages_toml['version']} (`{messages_toml['subprotocol']}`)"
        in (root / "protocol/HISTORY.md").read_text()
    )
