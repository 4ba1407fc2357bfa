"""What `/metrics` tells of a real node is what was done to it, in a form that Prometheus' own checker accepts."""

import http.client
import json
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from syncd.codes import CloseCode, ErrorCode
from syncd.http.metrics import BRIDGE_COUNTERS, BUS_COUNTERS, CLUSTER_COUNTERS
from syncd.testing.plain_client import Closed, PlainClient
from syncd.testing.process import API_KEY, ServerProcess

pytestmark = [pytest.mark.process, pytest.mark.slow]


def scrape(server, key=API_KEY):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics")
    if key is not None:
        request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def samples(text):
    """Every sample by name and label values."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            slot = (sample.name, *(value for _, value in sorted(sample.labels.items())))
            assert slot not in found, "told twice"
            found[slot] = sample.value
    return found


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path) as running:
        running.start()
        yield running


async def close_code(client):
    try:
        while True:
            await client.receive()
    except Closed as closed:
        return closed.code


async def counted_run(port):
    """Seven publications (one a repetition), three recoveries (two good), two errors, one refusal to go on; three errors over HTTP."""
    publisher = await PlainClient.connect(port)
    await publisher.hello()
    first, positions = await PlainClient.connect(port), []
    await first.hello()
    await first.ask("subscribe", channel="demo:a")
    for number in (*range(6), 5):
        _, body = await publisher.ask("publish", channel="demo:a", data=number, uid=f"u{number}")
        positions.append(body["position"])
    assert positions[-1] == positions[-2]
    for position in (positions[0], positions[2], {"epoch": "0123456789abcdef", "offset": 3}):
        reader = await PlainClient.connect(port)
        await reader.hello()
        await reader.ask("subscribe", channel="demo:a", position=position)
        await reader.aclose()
    for age_ms in (200, None, 300):
        await publisher.send("pong", **({} if age_ms is None else {"applied_age_ms": age_ms}))
    await publisher.ask("subscribe", channel="nowhere:a")
    await publisher.ask("publish", channel="nowhere:a", data=1)
    newcomer = await PlainClient.connect(port)
    await newcomer.send("hello", id=1, v=99)
    assert await close_code(newcomer) == CloseCode.UNSUPPORTED_VERSION
    await newcomer.aclose()
    return publisher, first


def refused_over_http(server):
    """One publication to nowhere, alone and twice in a batch."""
    nowhere = {"channel": "nowhere:a", "data": 1}
    batch = {"commands": [{"publish": nowhere}, {"publish": nowhere}]}
    for path, body, status in (("publish", nowhere, 403), ("batch", batch, 200)):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
        connection.request("POST", f"/api/{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        assert answer.status == status, answer.read()
        connection.close()


async def test_metrics_are_true_against_a_counted_run(server):
    before = samples(await trio.to_thread.run_sync(scrape, server))
    open_clients = await counted_run(server.port)
    await trio.to_thread.run_sync(refused_over_http, server)
    num_scrapes = 0
    with trio.fail_after(10):
        while True:
            num_scrapes += 1
            after = samples(await trio.to_thread.run_sync(scrape, server))
            is_probed = after["syncd_event_loop_lag_seconds_count",] >= 1
            if is_probed and after["syncd_connections",] == len(open_clients):
                break
            await trio.sleep(0.05)

    def grown(*slot):
        return after[slot] - before[slot]

    assert grown("syncd_published_total") == 6
    assert grown("syncd_dedupe_hits_total") == 1
    assert grown("syncd_store_events_written_total") == 6
    assert grown("syncd_recoveries_total", "recovered") == 2
    assert grown("syncd_recoveries_total", "unrecoverable") == 1
    assert grown("syncd_errors_total", "permission_denied") == 2
    assert grown("syncd_http_errors_total", "permission_denied") == 3
    assert grown("syncd_connections_accepted_total") == 6 + 2 + num_scrapes
    # Six batches had something to write: publications come one by one, and each waits for its answer.
    assert grown("syncd_delivery_age_seconds_count") == 6
    assert 0 < grown("syncd_delivery_age_seconds_sum") < 30
    assert grown("syncd_applied_age_seconds_count") == 2
    assert grown("syncd_applied_age_seconds_sum") == 0.5
    assert after["syncd_event_loop_stalls_total",] == 0
    assert after["syncd_sessions",] == 2
    assert after["syncd_subscriptions",] == 1
    assert grown("syncd_deliveries_total") == 6
    codes = {slot[1]: n for slot, n in after.items() if slot[0] == "syncd_disconnects_total"}
    assert sum(codes.values()) == 4
    assert codes["4501"] == 1
    assert set(codes) >= {str(code.value) for code in CloseCode}
    assert grown("syncd_store_commit_seconds_count") == grown("syncd_store_commit_requests_count")
    # Six publications and the repetition, which the store answers in a commit of its own or in none.
    assert 6 <= grown("syncd_store_commit_requests_sum") <= 7
    assert after["syncd_store_writable",] == after["syncd_ready",] == 1
    for client in open_clients:
        await client.aclose()


def test_promtool_accepts_what_is_told(server):
    result = subprocess.run(
        ["promtool", "check", "metrics"],
        input=scrape(server),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_every_error_code_is_there_before_its_first_time(server):
    told = samples(scrape(server))
    assert {slot[1] for slot in told if slot[0] == "syncd_errors_total"} >= {
        code.value for code in ErrorCode
    }


@pytest.mark.parametrize("key", [None, "wrong"])
def test_metrics_ask_for_a_key(server, key):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        scrape(server, key)


OPS = Path(__file__).parents[2] / "docs" / "ops"


def test_prometheus_accepts_the_alert_rules():
    command = ["promtool", "check", "rules", str(OPS / "alerts.yml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == 0, result.stdout + result.stderr


def test_rules_dashboard_and_pages_name_only_metrics_that_are_told(server):
    told = set(re.findall(r"^([a-z_]+)", scrape(server), re.MULTILINE))
    told |= set(re.findall(r"^# TYPE ([a-z_]+)", scrape(server), re.MULTILINE))
    told.add("syncd_worker_up")  # told by several workers, in tests/integration/test_workers.py
    # Told by nodes that know others, in tests/integration/test_cluster.py.
    told |= {"syncd_cluster_nodes", "syncd_cluster_remote_members"}
    told |= {f"syncd_cluster_{name}_total" for name, _, _ in CLUSTER_COUNTERS}
    told.add("syncd_bus_up")
    told |= {f"syncd_bus_{name}_total" for name, _, _ in (*BRIDGE_COUNTERS, *BUS_COUNTERS)}
    rules = (OPS / "alerts.yml").read_text()
    panels = json.loads((OPS / "grafana.json").read_text())["panels"]
    asked = rules + " ".join(target["expr"] for panel in panels for target in panel["targets"])
    asked += " ".join(page.read_text() for page in sorted(OPS.glob("*.md")))
    asked = re.sub(r"syncd_cache_\*", "", asked)
    named = set(re.findall(r"\b((?:syncd|process)_[a-z_]+)", asked))
    assert len(named) > 15
    assert named - told == set()
