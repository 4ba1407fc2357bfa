"""A full disk: reads go on, writes are refused as retryable, readiness tells it by itself, and all is well when there is room again."""

import http.client
import json
import subprocess
import time

import pytest

from syncd.testing.process import API_KEY, ServerProcess

pytestmark = [pytest.mark.process, pytest.mark.slow]

SIZE = 3 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def post(server, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def fill(place):
    """Write until nothing fits any more, down to the last block."""
    with (place / "ballast").open("wb", buffering=0) as ballast:
        for size in (65_536, 4096, 1):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError:
                continue


def publish(server, number):
    body = {"channel": "demo:a", "data": {"n": number, "fill": "x" * 6000}, "uid": f"u{number}"}
    return post(server, "/api/publish", body)


def until_ready(server, wanted, timeout_s):
    """Ask until readiness is as wanted, and return the last answer; the whole within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        status, told = server.get("/health/ready")
        if status == wanted:
            return told
        assert time.monotonic() < deadline, told
        time.sleep(0.05)  # noqa: TID251 - a process is waited for


def test_a_full_disk_stops_writes_only_and_only_while_it_is_full(small_disk):
    with ServerProcess(small_disk) as server:
        server.start()
        for number in range(5):
            assert publish(server, number)[0] == 200
        pid = server.pid
        fill(small_disk)
        told = until_ready(server, 503, 2)
        assert told["reasons"] == ["The store cannot commit."], "nobody wrote: it saw for itself"
        assert server.get("/health/live")[0] == 200
        for _ in range(3):
            status, refused = publish(server, 5)
            assert status == 503
            assert refused["error"]["code"] == "store_unavailable"
            assert refused["error"]["retryable"] is True
            status, history = server.get("/api/history?channel=demo:a")
            assert status == 200
            assert [event["offset"] for event in history["events"]] == [1, 2, 3, 4, 5]
        (small_disk / "ballast").unlink()
        until_ready(server, 200, 5)
        status, answer = publish(server, 5)
        assert status == 200
        assert answer["position"]["offset"] == 6
        assert server.pid == pid
        assert server.returncode is None
    with ServerProcess(small_disk) as server:
        server.start()
        status, history = server.get("/api/history?channel=demo:a")
        assert [event["data"]["n"] for event in history["events"]] == list(range(6))
