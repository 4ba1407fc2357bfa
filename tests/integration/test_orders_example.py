"""`examples/orders`, driven from other processes by the command line and the Python client."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cli_server import KEY, Server, assert_refused, environment

pytestmark = [pytest.mark.process, pytest.mark.slow]
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def serving(folder):
    server = Server(folder, str(ROOT / "examples/orders/app.py"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def standing_server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("node")) as server:
        yield server


def run(server, *arguments, code=0):
    """Run a command and return its lines, decoded."""
    result = server.run(*arguments)
    assert result.returncode == code, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()] if code == 0 else result.stderr


def ship(server, order_id, carrier):
    """Run the example's client and return what it showed."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples/orders/ship.py"), order_id, carrier],
        env=environment(SYNCD_URL=server.url),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


def counts(server, collection):
    [line] = run(server, "cache", "stats", collection, "--json")
    return line


def create(server, order_id):
    args = json.dumps({"order_id": order_id, "customer": "ada", "lines": ["apple"]})
    return run(server, "mutate", "orders.create", args)


def test_an_order_is_shipped_on_screen_at_once_and_then_for_everybody(server):
    create(server, "o1")
    with server.watch("orders") as watcher:
        watcher.wait_subscribed()
        new = {"customer": "ada", "lines": ["apple"], "status": "new"}
        shipped = {**new, "status": "shipped", "carrier": "ACME"}
        assert watcher.lines(1)[0]["value"] == new
        assert ship(server, "o1", "ACME") == [
            {"when": "before", "pending": False, "order": new},
            {"when": "at once", "pending": True, "order": shipped},
            {"when": "settled", "pending": False, "order": shipped},
        ]
        assert watcher.lines(1)[0]["value"] == shipped
    [entry] = run(server, "get", "orders", "o1")
    assert entry["value"] == shipped
    assert counts(server, "orders")["mutations_ok"] == 2


def test_a_rejection_takes_the_prediction_back_and_says_why(server):
    create(server, "o1")
    run(server, "mutate", "orders.ship", '["o1", "ACME"]')
    before, at_once, after = ship(server, "o1", "Other")
    assert at_once["order"]["carrier"] == "Other"
    assert after == {"when": "rejected: not_shippable", "pending": False, "order": before["order"]}
    assert before["order"]["carrier"] == "ACME"
    told = run(server, "mutate", "orders.ship", '["o9", "ACME"]', code=1)
    assert "unknown_order: No such order." in told
    assert counts(server, "orders")["mutations_rejected"] == 2


def test_the_same_key_creates_one_order_over_kill_9(server):
    args = '["o1", "ada", ["apple"]]'
    command = ("mutate", "orders.create", args, "--idempotency-key", "create-o1")
    first = run(server, *command)
    server.kill()
    server.start()
    assert run(server, *command) == first
    told = run(server, "mutate", "orders.create", args, code=1)
    assert "order_exists" in told


def test_prices_are_loaded_once_until_their_tag_is_invalidated(server):
    def prices():
        lines = run(server, "get", "prices", "apple", "pear")
        return {line["key"]: line["value"] for line in lines}

    [stone] = run(server, "get", "prices", "stone")
    assert (stone["key"], stone["deleted"]) == ("stone", True)
    expected = {"apple": {"cents": 30}, "pear": {"cents": 45}}
    assert prices() == expected
    cold = counts(server, "prices")
    assert (cold["misses"], cold["hits"], cold["keys_loaded"]) == (3, 0, 3)
    assert prices() == expected
    warm = counts(server, "prices")
    assert (warm["misses"], warm["hits"], warm["keys_loaded"]) == (3, 2, 3)
    with server.watch("prices", "apple") as watcher:
        watcher.wait_subscribed()
        assert watcher.lines(1)[0]["value"] == {"cents": 30}
        run(server, "invalidate", "prices", "--tag", "fruit", "--cause", "price list of May")
        [told] = watcher.lines(1)
        assert (told["type"], told["tags"], told["cause"]) == (
            "invalidate",
            ["fruit"],
            "price list of May",
        )
    assert prices() == expected
    after = counts(server, "prices")
    assert after["invalidations"] == 1
    assert after["keys_loaded"] >= warm["keys_loaded"] + 2


def test_the_cache_is_looked_after_from_the_command_line(server):
    warmed = run(server, "cache", "warm", "prices", "apple", "pear", "stone")
    assert warmed == [{"collection": "prices", "num_entries": 2}]
    [limits] = run(server, "cache", "config", "prices", "--max-entries", "1", "--ttl", "5 min")
    assert (limits["max_entries"], limits["ttl_s"]) == (1, 300)
    assert run(server, "cache", "config", "prices") == [limits]
    assert counts(server, "prices")["num_entries"] == 1
    cleared = run(server, "cache", "clear")
    assert {line["collection"] for line in cleared} == {"orders", "prices"}
    table = server.run("cache", "stats").stdout.splitlines()
    assert [line.split(" ")[0] for line in table] == ["", "orders", "prices", "total"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["mutate", "orders.fly", "[]"], 1, "unknown_mutator"),
        (["mutate", "orders.ship", '["o1"]'], 1, "bad_arguments"),
        (["mutate", "orders.ship", '["o1"]', "--api-key", "wrong"], 3, "SYNCD_API_KEY"),
        (["get", "nope", "a"], 3, "permission_denied"),
        (["get", "orders", "\n"], 2, "bad_key"),
        (["invalidate", "nope", "--all"], 3, "permission_denied"),
        (["cache", "stats", "nope"], 3, "no collection"),
        (["cache", "config", "orders", "--ttl", "5 min"], 1, "no source"),
        (["watch", "nope"], 3, "permission_denied"),
        (["watch", "orders", "--partition", "eu"], 1, "partitions"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    standing_server, monkeypatch, capsys, arguments, code, text
):
    monkeypatch.setenv("SYNCD_URL", standing_server.url)
    monkeypatch.setenv("SYNCD_API_KEY", KEY)
    assert_refused(capsys, arguments, code, text)
