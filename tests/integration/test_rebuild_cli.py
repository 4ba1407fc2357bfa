"""`syncd rebuild` in a process of its own against a node in another."""

import json

import pytest

from tests.integration.cli_server import Server

APP = """
from syncd import App
app = App()
orders = app.collection("orders", read="anyone")
plain = app.collection("plain", read="anyone")

@orders.scanner()
async def scan(after):
    for i in range(1200):
        if after is None or f"k{i:04}" > after:
            yield f"k{i:04}", i
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rebuild")
    (folder / "orders_app.py").write_text(APP)
    server = Server(folder, "orders_app.py")
    server.start()
    yield server
    server.kill()


def test_a_job_that_is_followed_is_printed_when_it_has_ended(server):
    done = server.run("rebuild", "orders", "--follow")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["state"], job["done"], job["changed"]) == ("done", 1200, 1200)
    shown = server.run("get", "orders", "k1199")
    assert json.loads(shown.stdout)["value"] == 1199


def test_a_job_is_printed_at_once_without_follow(server):
    job = json.loads(server.run("rebuild", "orders", "--join", "--mode", "resume").stdout)
    assert (job["mode"], job["collection"]) == ("resume", "orders")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nope"], 3, "permission_denied"),
        (["plain"], 1, "scanner"),
        (["orders", "--mode", "half"], 2, "half"),
    ],
)
def test_what_cannot_be_done_ends_with_its_exit_code(server, arguments, code, text):
    done = server.run("rebuild", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
