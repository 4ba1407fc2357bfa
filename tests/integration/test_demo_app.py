"""The order board of `syncd serve --demo`: what its application starts with, decides and refuses."""

import json

import pytest

from syncd.cli.main import main
from tests.integration.cli_server import Server

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path, "--demo")
    server.start()
    yield server
    server.kill()


def mutate(server, name, *args):
    result = server.run("mutate", f"orders.{name}", json.dumps(args))
    return result.stderr.strip() if result.returncode else "ok"


def order(server, key):
    result = server.run("get", "orders", key)
    return json.loads(result.stdout).get("value") if result.stdout else None


def test_it_ships_an_order_once_and_keeps_it_over_a_kill(server):
    assert order(server, "o-1041")["status"] == "new"
    assert mutate(server, "ship", "o-1041") == "ok"
    assert "already_shipped" in mutate(server, "ship", "o-1041")
    assert mutate(server, "delete", "o-1042") == "ok"
    server.kill()
    server.start()
    assert order(server, "o-1041")["status"] == "shipped"
    assert order(server, "o-1042") is None  # the seeds are for keys never seen


def test_a_dear_order_ships_only_once_it_is_approved(server):
    assert "needs_approval" in mutate(server, "ship", "o-1043")
    assert mutate(server, "approve", "o-1043") == "ok"
    assert mutate(server, "ship", "o-1043") == "ok"
    assert mutate(server, "incr", "o-1042", 10, "quantity") == "ok"
    assert "needs_approval" in mutate(server, "ship", "o-1042")


def test_orders_are_made_once_and_of_what_can_be_an_order(server):
    assert mutate(server, "create", "o-1", "Ada", "Lamp", 100) == "ok"
    assert order(server, "o-1")["quantity"] == 1
    assert "order_exists" in mutate(server, "create", "o-1", "Ada", "Lamp", 100)
    assert "bad_order" in mutate(server, "create", "o-2", "", "Lamp", 100)
    assert "bad_order" in mutate(server, "create", "o-2", "Ada", "Lamp", -1)
    assert "unknown_order" in mutate(server, "ship", "o-2")


def test_an_application_and_the_demo_exclude_each_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "app.py", "--demo"]) != 0
    assert "leave one of them out" in capsys.readouterr().err
