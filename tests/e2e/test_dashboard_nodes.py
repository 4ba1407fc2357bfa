"""The dashboard of a cluster: three nodes on one Redis with their load, version and lag, one of which is killed under it."""

import contextlib
import tempfile
from pathlib import Path

import pytest

from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from tests.e2e.dashboard import Dashboard
from tests.e2e.nodes import Node

pytestmark = [
    pytest.mark.process,
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(redis_executable() is None, reason="no redis-server here"),
]

CONFIG = """
[timing]
node_beat_s = 1.0
node_dead_s = 4.0
"""
CELLS = """() => [...document.querySelectorAll("[data-node]")].map(
    (row) => [...row.children].map((cell) => cell.textContent.trim()))"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-")))
        redis = stack.enter_context(RedisServer(folder / "r"))
        started = []
        for _ in range(3):
            own = tmp_path_factory.mktemp("node")
            node = Node(own, CONFIG, arguments=("--redis", redis.url))
            started.append(stack.enter_context(node))
            node.spawn()
        for node in started:
            node.wait_ready()
        yield started


def rows(board):
    return {row[0].split()[0]: row for row in board.page.evaluate(CELLS)}


def wait_rows(board, condition):
    board.page.wait_for(f"() => {{ const rows = ({CELLS})(); return {condition}; }}")


@pytest.mark.parametrize("width", [390, 1440])
def test_all_nodes_are_listed_with_load_version_and_lag(browser, nodes, width):
    board = Dashboard.open(browser, nodes[1], viewport={"width": width, "height": 900})
    other = Dashboard.open(browser, nodes[2])
    wait_rows(board, "rows.length === 3 && rows.every((row) => !row.includes('\\u2013'))")
    address = f"127.0.0.1:{nodes[2].port}"
    wait_rows(board, f"rows.some((row) => row[0].startsWith('{address}') && Number(row[3]) >= 1)")
    found = rows(board)
    assert set(found) == {f"127.0.0.1:{node.port}" for node in nodes}
    assert [place for place, row in found.items() if "this one" in row[0]] == [
        f"127.0.0.1:{nodes[1].port}"
    ]
    for row in found.values():
        assert row[1] == "alive"
        assert row[2] == "0.1.0"
        assert row[6].endswith(" ms")
        assert row[7].endswith(" ms")
    over = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert board.page.evaluate(over) <= 0
    assert board.printed() == other.printed() == []


def test_a_node_that_dies_is_silent_and_then_gone(browser, nodes):
    board = Dashboard.open(browser, nodes[0])
    wait_rows(board, "rows.length === 3")
    nodes[2].kill()
    address = f"127.0.0.1:{nodes[2].port}"
    wait_rows(
        board, f"rows.some((row) => row[0].startsWith('{address}') && row[1].startsWith('silent'))"
    )
    wait_rows(board, "rows.length === 2")
    assert board.printed() == []


def test_a_node_that_is_alone_has_no_table_of_nodes(browser, node):
    board = Dashboard.open(browser, node)
    board.wait_shown("[data-actor=store]")
    assert board.page.evaluate(CELLS) == []
    assert board.printed() == []
