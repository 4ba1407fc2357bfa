"""A node in a process of its own, driven by the command line in others."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

from syncd.cli.main import main

KEY = "cli-test-key"


def environment(**more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SYNCD_")}
    return {**clean, "SYNCD_API_KEY": KEY, "PYTHONUNBUFFERED": "1", **more}


def assert_refused(capsys, arguments, code, text):
    """Run a command in this process: it ends with this exit code and one line on standard error."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err
    assert "Traceback" not in captured.err


class Server:
    """A node in a process of its own, on one port over restarts."""

    def __init__(self, folder, *arguments):
        self._arguments = arguments
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "syncd", "serve", "--db", str(self._folder / "x.db")]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        command += self._arguments
        log = (self._folder / "serve.log").open("ab")
        self.process = subprocess.Popen(
            command, env=environment(), stdout=log, stderr=log, cwd=self._folder
        )
        log.close()
        deadline = time.monotonic() + 20
        while not self._is_up():
            assert self.process.poll() is None, (self._folder / "serve.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)  # noqa: TID251 - a process is waited for

    def _is_up(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def run(self, *arguments, stdin="", **env):
        return subprocess.run(
            [sys.executable, "-m", "syncd", *arguments],
            env=environment(**{"SYNCD_URL": self.url, **env}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def follow(self, *arguments):
        return Follower(self, "subscribe", arguments)

    def watch(self, *arguments):
        return Follower(self, "watch", arguments)


class Follower:
    """A running `syncd subscribe` or `syncd watch`."""

    def __init__(self, server, command, arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "syncd", command, *arguments],
            env=environment(SYNCD_URL=server.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.notes = []
        self._is_subscribed = threading.Event()
        self._reader = threading.Thread(target=self._read_notes, daemon=True)
        self._reader.start()

    def _read_notes(self):
        for line in self.process.stderr:
            self.notes.append(line)
            if '"subscribed"' in line or '"watched"' in line:
                self._is_subscribed.set()

    def wait_subscribed(self):
        assert self._is_subscribed.wait(20), self.notes

    def lines(self, count):
        return [json.loads(self.process.stdout.readline()) for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
