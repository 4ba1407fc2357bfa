"""Imports point down, and the pure floors stay pure."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

FORBIDDEN_BELOW = {
    "asyncio", "random", "redis", "select", "selectors", "socket", "sqlite3", "ssl", "threading", "time", "trio",
}  # fmt: skip
"""Modules of I/O, clocks and chance: wire and model are given what they need."""

PURE = sorted([*Path("syncd/wire").rglob("*.py"), *Path("syncd/model").rglob("*.py")])


def test_the_import_contracts_hold():
    program = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([program, "--no-cache"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_every_room_stands_on_a_floor():
    """A module that no layer names would be free to import anything."""
    contracts = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    layers = " | ".join(contracts[0]["layers"]).split("|")
    named = {room.strip(" ()") for room in layers}
    found = [path for path in Path("syncd").iterdir() if path.name != "__pycache__"]
    rooms = {path.stem for path in found if path.is_dir() or path.suffix == ".py"}
    assert rooms - named - {"__init__", "__main__"} == set()


@pytest.mark.parametrize("path", PURE, ids=str)
def test_wire_and_model_know_no_clock_no_chance_and_no_sockets(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef), (
            f"await in {path}:{node.lineno}"
        )
    assert imported & FORBIDDEN_BELOW == set()


def _asks_the_machine(node):
    """Whether a call reads a wall clock or draws entropy by itself."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    return (owner, node.func.attr) in {
        ("datetime", "now"), ("datetime", "utcnow"), ("os", "urandom"), ("secrets", "token_bytes"),
        ("secrets", "token_hex"), ("uuid", "uuid4"),
    }  # fmt: skip


@pytest.mark.parametrize("path", PURE, ids=str)
def test_wire_and_model_are_given_time_and_entropy(path):
    calls = [
        node.lineno for node in ast.walk(ast.parse(path.read_text())) if _asks_the_machine(node)
    ]
    assert calls == []


def _actor_of(module):
    """`syncd.actors.store_worker` belongs to the actor `store`."""
    return module.split(".")[2].split("_")[0] if module.startswith("syncd.actors.") else None


@pytest.mark.parametrize("path", sorted(Path("syncd/actors").rglob("*.py")), ids=str)
def test_actors_know_of_each_other_only_through_ports(path):
    own = _actor_of(".".join(path.with_suffix("").parts))
    others = {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and _actor_of(node.module or "") not in (None, "kit", own)
    }
    assert others == set()
