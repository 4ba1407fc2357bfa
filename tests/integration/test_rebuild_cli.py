"""`syncd rebuild` in a process of its own against a node in another."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from syncd.backend import Publisher
from tests.integration.cli_server import KEY, Server, environment

APP = """
import pathlib
import trio
from syncd import App
hold = pathlib.Path(__file__).with_name("hold")
app = App()
orders = app.collection("orders", read="anyone")
plain = app.collection("plain", read="anyone")

@orders.count
async def count():
    return 1200

@orders.scanner(page=100)
async def scan(after):
    for i in range(1200):
        while i >= 600 and hold.exists():
            await trio.sleep(0.02)
        if after is None or f"k{i:04}" > after:
            yield f"k{i:04}", i
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rebuild")
    (folder / "orders_app.py").write_text(APP)
    server = Server(folder, "orders_app.py")
    server.folder = folder
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


def test_some_keys_alone_are_read(server):
    server.run("rebuild", "orders", "--follow")
    done = json.loads(server.run("rebuild", "orders", "--key", "k0001", "--follow").stdout)
    assert (done["mode"], done["state"], done["changed"]) == ("keys", "done", 0)


class Terminal:
    """The command on a terminal of its own, of which everything shown is kept."""

    def __init__(self, server, *arguments):
        command = [sys.executable, "-m", "syncd", *arguments]
        env = environment(SYNCD_URL=server.url, TERM="xterm", COLUMNS="120")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, env)
        self.shown = ""

    def until(self, text):
        deadline = time.monotonic() + 40
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            ready, _, _ = select.select([self.fd], [], [], 1)
            if ready:
                self.shown += os.read(self.fd, 65536).decode(errors="replace")

    def send(self, text):
        os.write(self.fd, text.encode())

    def exit_code(self):
        with contextlib.suppress(OSError):
            while data := os.read(self.fd, 65536):
                self.shown += data.decode(errors="replace")
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def held(server):
    """The scanner stops at 600 rows."""
    hold = server.folder / "hold"
    hold.touch()
    yield
    hold.unlink()


def test_a_terminal_shows_a_bar_and_ctrl_c_leaves_the_job_or_cancels_it(server, held):
    first = Terminal(server, "rebuild", "orders", "--follow")
    first.until("50%")
    assert "600/1200" in first.shown
    assert "━" in first.shown
    first.send("\x03")
    first.until("Leave the job running, or cancel it?")
    first.send("\r")
    first.until("syncd rebuild --cancel ")
    assert first.exit_code() == 130
    second = Terminal(server, "rebuild", "orders", "--join", "--follow")
    second.until("50%")
    second.send("\x03")
    second.until("cancel it?")
    second.send("cancel\r")
    second.until("orders cancelled")
    assert second.exit_code() == 1
    job = second.shown.rpartition('"job": "')[2][:16]
    assert job in first.shown


def test_without_a_terminal_ctrl_c_leaves_the_job_and_says_how_to_cancel_it(server, held):
    command = [sys.executable, "-m", "syncd", "rebuild", "orders", "--follow"]
    with subprocess.Popen(
        command,
        env=environment(SYNCD_URL=server.url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 40
        while not (jobs := running_jobs(server)):
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=40)
    assert process.returncode == 130
    assert json.loads(out)["state"] in ("queued", "running")
    assert f"syncd rebuild --cancel {jobs[0]}" in err
    cancelled = server.run("rebuild", "--cancel", jobs[0])
    assert json.loads(cancelled.stdout)["job"] == jobs[0]


def running_jobs(server):
    with Publisher(server.url, KEY) as publisher:
        jobs = publisher.rebuild_jobs()
    return [job["job"] for job in jobs if job["state"] == "running" and job["done"] == 600]
