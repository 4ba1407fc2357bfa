"""Waiting goes one way: who holds a handle of whom, against the order drawn in docs/architecture.md."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from syncd import (
    ports,
    ports_collections,
    ports_log,
    ports_operators,
    ports_presence,
    ports_shared,
    ports_state,
)

HANDLES = {
    "PresenceHandle": "presence",
    "BroadcasterHandle": "broadcaster",
    "StoreHandle": "store",
    "CacheOwnerHandle": "cache_owner",
    "WatchingHandle": "broadcaster",
    "StateStoreHandle": "store",
    "BridgeHandle": "bridge",
    "InterestHandle": "bridge",
}
"""What one may wait on (or ask downwards), and whose it is."""

OTHER_HANDLES = {
    "RebuildStoreHandle": "store",
    "OwnersStore": "store",
    "Rebuilds": "rebuild_coordinator",
}
"""Those that are not in the ports: their words are of a floor above."""

UPWARD = (
    ports_operators.GatewayPort,
    ports.Fanout,
    ports.SessionPort,
    ports.Asker,
    ports_collections.MutationAsker,
)
"""What lower rooms hold of higher ones: nothing in it can be awaited."""

ROOMS = {
    "gateway": "syncd/gateway",
    "http": "syncd/http",
    "rebuild_coordinator": "syncd/actors/rebuild_coordinator",
    "cache_owner": "syncd/actors/cache_owner*",
    "presence": "syncd/actors/presence*",
    "broadcaster": "syncd/actors/broadcaster*",
    "bridge": "syncd/actors/bridge",
    "store": "syncd/actors/store*",
}


def _order():
    """Room to rank, from the line `gateway, http -> ... -> store` of the document."""
    text = Path("docs/architecture.md").read_text()
    match = re.search(r"^gateway, http -> .+$", text, re.MULTILINE)
    assert match is not None
    steps = [step.strip() for step in match.group().split("->")]
    return {room.strip(): rank for rank, step in enumerate(steps) for room in step.split(",")}


def _files(room):
    """Modules of a room, be it one file, several, or a package."""
    found = []
    for path in Path().glob(ROOMS[room]):
        found += path.rglob("*.py") if path.is_dir() else [path]
    return sorted(found)


def _names_used(path):
    tree = ast.parse(path.read_text())
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def test_the_document_orders_every_room_and_each_has_files():
    assert set(_order()) == set(ROOMS)
    assert [room for room in ROOMS if not _files(room)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_holds_handles_of_lower_rooms_only(room):
    order = _order()
    wrong = [
        f"{path} holds a {handle}"
        for path in _files(room)
        for handle, owner in (HANDLES | OTHER_HANDLES).items()
        if handle in _names_used(path) and order[owner] <= order[room] and owner != room
    ]
    assert wrong == []


def test_every_handle_of_the_ports_is_known_here():
    names = [
        *ports.__all__,
        *ports_log.__all__,
        *ports_presence.__all__,
        *ports_operators.__all__,
        *ports_collections.__all__,
        *ports_state.__all__,
        *ports_shared.__all__,
    ]
    assert {name for name in names if name.endswith("Handle")} == set(HANDLES)


@pytest.mark.parametrize("port", UPWARD)
def test_what_points_upward_cannot_be_awaited(port):
    assert [
        method for method, member in vars(port).items() if inspect.iscoroutinefunction(member)
    ] == []


def test_nobody_awaits_the_store():
    """Its answers come as calls of `done`, so that a slow disk stops nobody."""
    for handle in (ports_log.StoreHandle, ports_state.StateStoreHandle):
        members = vars(handle).items()
        assert [name for name, member in members if inspect.iscoroutinefunction(member)] == []


def test_the_bridge_waits_for_its_bus_and_for_time_alone():
    """What it is asked returns at once, and what it has to tell goes up if there is room."""
    waited = {
        ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ast.unparse(node)
        for path in _files("bridge")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Await)
    }
    assert waited == {"nursery.start", "self._tick", "trio.sleep"}
    for handle in (ports_shared.BridgeHandle, ports_shared.InterestHandle):
        members = vars(handle).items()
        assert [name for name, member in members if inspect.iscoroutinefunction(member)] == []


def _waits_for_room(tree):
    """Lines that await a mailbox."""
    return {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Await)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr in {"submit", "put"}
    }


def test_in_the_gateway_only_the_feeder_waits_for_a_mailbox():
    """The poller, the hub and the sessions hand over with submit_nowait and park what finds no room."""
    waiting = {
        f"{path.stem}.{function.name}"
        for path in _files("gateway")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.AsyncFunctionDef) and _waits_for_room(function)
    }
    assert waiting == {"gateway._submit"}
    feeders = {
        function.name
        for function in ast.walk(ast.parse(Path("syncd/gateway/gateway.py").read_text()))
        if isinstance(function, ast.AsyncFunctionDef) and "self._submit(" in ast.unparse(function)
    }
    assert feeders == {"_feed"}
