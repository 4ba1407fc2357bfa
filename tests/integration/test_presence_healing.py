"""HEALED: presence that crashes is rebuilt, and watchers get the whole anew."""

import pytest
import structlog
import trio

from syncd.actors.presence import Presence
from syncd.config import Action, HistoryKind, Namespace
from tests.integration.nodes import ANYONE, make_config, running
from tests.integration.planted_faults import Fault, ask_again, health_of, restarted

ROOM = Namespace(
    "room",
    history=HistoryKind.MEMORY,
    presence=True,
    allow={**ANYONE, Action.PRESENCE: ("anyone",)},
)


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


async def test_presence_is_rebuilt_after_a_crash_and_watchers_get_the_whole_anew(
    tmp_path, monkeypatch
):
    config = make_config(tmp_path, ROOM, timing={"presence_diff_s": 0.02})
    async with running(config) as (node, connect):
        here, watcher = await connect(), await connect()
        assert (await here.ask("presence", channel="room:c", state={"at": 1}))[0] == "ok"
        await watcher.send("subscribe", id=1, channel="room:c", presence=True)
        _, before = await watcher.expect("presence_state")
        assert len(before["members"]) == 1
        Fault(monkeypatch, Presence, "_deliver")
        other = await connect()
        kind, _, _ = await ask_again(other, "presence", channel="room:c", state={"at": 2})
        assert kind == "ok"
        await restarted(node, "presence")
        members = {}
        with trio.fail_after(10):
            while len(members) < 2:
                kind, body = await watcher.receive()
                if kind == "presence_state":
                    members = {item["member"]: item["states"] for item in body["members"]}
                elif kind == "presence_diff":
                    assert body["leaves"] == []
                    members |= {item["member"]: item["states"] for item in body["joins"]}
        assert sorted(states[0]["state"]["at"] for states in members.values()) == [1, 2]
        assert health_of(node, "broadcaster").num_restarts == 0
        assert len(node.hub.connections) == 3
