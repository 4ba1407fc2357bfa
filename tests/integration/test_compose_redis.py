"""The compose files for Sentinel, Cluster and TLS, without containers: what they start serves, and survives what docs/redis.md says."""

import http.client
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from syncd.cli.doctor_redis import redis_findings
from syncd.config import Config
from syncd.testing.process import API_KEY
from syncd.testing.redis_process import redis_executable, wait_until
from tests.integration.composed import Composed
from tests.integration.redis_groups import has_replica, is_master, told

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None or shutil.which("redis-cli") is None,
        reason="no redis-server, or no redis-cli (make test installs them)",
    ),
]
PATIENT_S = 60.0


def documented_secrets():
    """Run what docs/redis.md says to make the file of passwords."""
    text = Path("docs/redis.md").read_text()
    (loop,) = re.findall(r"^(for name in .*; done) > \.env$", text, re.MULTILINE)
    lines = subprocess.run(["sh", "-ec", loop], capture_output=True, text=True, check=True).stdout
    made = dict(line.split("=") for line in lines.splitlines())
    assert len({*made.values()}) == len(made)
    assert made.pop("SYNCD_API_KEY")
    return made


@pytest.fixture
def composed(tmp_path):
    made = []

    def make(name, **options):
        made.append(Composed(tmp_path, name, documented_secrets(), **options))
        return made[-1]

    yield make
    for each in made:
        each.down()


def request(node, method, path, body=None):
    """Return the answer of a node's HTTP side, or None while it says no."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=20)
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        told = answer.read()
        return json.loads(told) if answer.status == 200 else None
    finally:
        connection.close()


def publish(node, data):
    """Publish until the node says yes, once by its key; returns the offset."""
    body = {"channel": "news:all", "data": data, "uid": str(data)}
    answer = until_told(node, "POST", "/api/publish", body)
    return answer["position"]["offset"]


def until_told(node, *what):
    answers = []

    def is_told():
        answers.append(request(node, *what))
        return answers[-1] is not None

    wait_until(is_told, f"a node that answers {what}", timeout_s=PATIENT_S)
    return answers[-1]


def history(node):
    told = until_told(node, "GET", "/api/history?channel=news:all&limit=100")
    return [(event["offset"], event["data"]) for event in told["events"]]


def round_trip(setup, first, last):
    """Each number goes in at one node, with itself as its offset, since all before it are kept, and comes out at both."""
    nodes = [setup.running["node-a"], setup.running["node-b"]]
    numbers = range(first, last + 1)
    for number in numbers:
        assert publish(nodes[number % 2], number) == number
    for node in nodes:
        wait_until(lambda node=node: is_ready(node), "readiness", timeout_s=PATIENT_S)
        assert history(node)[-len(numbers) :] == [(number, number) for number in numbers]


def is_ready(node):
    return node.get("/health/ready")[0] == 200


def is_well(setup):
    """Whether the doctor finds that the user of the file has what it needs, on the server of the file."""
    url = setup.running["node-a"].environment["SYNCD_REDIS"]
    return [each for each in redis_findings(Config(redis=url)) if not each[0]] == []


def is_replica(server):
    return b"role:slave" in told(server, "INFO", "replication")


def sees_all(sentinel):
    return b",slaves=1,sentinels=3" in sentinel.ask("INFO", "sentinel")


def test_under_sentinels_a_dead_master_is_replaced_and_nothing_is_lost_when_all_start_again(
    composed,
):
    hurry = {"milliseconds main 5000": "milliseconds main 1000", "main 30000": "main 3000"}
    setup = composed("compose-sentinel.yml", edits={"sentinel.conf": hurry})
    setup.up()
    first, second = setup.running["redis-1"], setup.running["redis-2"]
    wait_until(lambda: has_replica(first), "a replica")
    round_trip(setup, 1, 2)
    assert is_well(setup)
    for number in (1, 2, 3):
        sentinel = setup.running[f"sentinel-{number}"]
        wait_until(lambda each=sentinel: sees_all(each), "Sentinels that know of all")
    first.kill()
    wait_until(lambda: is_master(second), "a failover", timeout_s=PATIENT_S)
    round_trip(setup, 3, 4)
    first.start()
    wait_until(lambda: is_replica(first), "a replica that was the master", timeout_s=PATIENT_S)
    wait_until(lambda: has_replica(second), "a replica")
    setup.down()
    setup.up()
    assert is_replica(first), "its file knows"
    assert is_master(second), "its file knows"
    round_trip(setup, 5, 5)


def test_in_a_cluster_the_replica_of_a_dead_master_takes_its_place(composed):
    hurry = {"\nport 6379\n": "\nport 6379\ncluster-node-timeout 1000\n"}
    setup = composed("compose-cluster.yml", edits={"redis.conf": hurry})
    setup.up()
    round_trip(setup, 1, 2)
    assert is_well(setup)
    servers = [each for key, each in setup.running.items() if key.startswith("redis-")]
    assert len(servers) == 6
    (master,) = [each for each in servers if is_master(each) and each.ask("DBSIZE")]
    wait_until(lambda: has_replica(master), "a replica")
    master.kill()
    round_trip(setup, 3, 4)
    master.start()
    wait_until(lambda: is_replica(master), "a replica that was a master", timeout_s=PATIENT_S)
    setup.down()
    setup.up()
    round_trip(setup, 5, 5)


def test_over_tls_a_killed_redis_comes_back_with_all_it_had_and_a_new_certificate(composed):
    setup = composed("compose-tls.yml", host="localhost")
    setup.up()
    round_trip(setup, 1, 2)
    assert is_well(setup)
    server = setup.running["redis"]
    tls = setup.folder / "volumes" / "redis-tls"
    before = [(tls / name).read_bytes() for name in ("ca.crt", "redis.crt")]
    server.kill()
    setup.start("prepare")
    after = [(tls / name).read_bytes() for name in ("ca.crt", "redis.crt")]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    strict = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "localhost",
    ]
    subprocess.run([*strict, "-CAfile", tls / "ca.crt", tls / "redis.crt"], check=True, timeout=20)
    assert (tls / "redis.key").stat().st_mode & 0o077 == 0
    setup.start("redis")
    round_trip(setup, 3, 3)
    assert [number for number, _ in history(setup.running["node-b"])] == [1, 2, 3], "no new era"
