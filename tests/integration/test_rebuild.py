"""Rebuilds of a real node over HTTP: what is asked, what watchers see, what a crash of the process leaves."""

import contextlib

import httpx
import pytest
import trio

from syncd import App
from syncd.client import open_client
from syncd.testing.crowd import wait_until
from syncd.testing.process import API_KEY, ServerProcess
from tests.integration.nodes import make_config, running


class Source:
    """A table far away; `gate` holds the scan after so many rows."""

    def __init__(self, num_rows):
        self.rows = {f"k{i:06}": {"n": i} for i in range(num_rows)}
        self.hold_at = None
        self.gate = trio.Event()
        self.num_scanned = 0
        self.failures = []


def make_app(source):
    app = App()
    orders = app.collection("orders", read="anyone", write="anyone")

    @orders.on_commit
    async def store(change):
        source.rows.pop(change.key, None)
        if change.value is not None:
            source.rows[change.key] = change.value

    @orders.scanner(page=10)
    async def scan(after):
        for key in sorted(source.rows):
            if after is not None and key <= after:
                continue
            if source.hold_at is not None and source.num_scanned == source.hold_at:
                await source.gate.wait()
            if source.failures and source.num_scanned == source.failures[0]:
                source.failures.pop(0)
                raise OSError("the source is away")
            source.num_scanned += 1
            yield key, source.rows[key], ["all"]

    @orders.count
    async def count():
        return len(source.rows)

    app.collection("notes", read="anyone", write="anyone")
    return app


class Asking:
    def __init__(self, client):
        self.client = client

    async def start(self, **fields):
        answer = await self.client.post("/api/rebuild", json={"collection": "orders", **fields})
        return answer.status_code, answer.json()

    async def job(self, job_id):
        return (await self.client.get(f"/api/rebuild/{job_id}")).json()

    async def metrics(self):
        return (await self.client.get("/metrics")).text.splitlines()

    async def until(self, job_id, state):
        with trio.fail_after(20):
            while (job := await self.job(job_id))["state"] != state:
                assert job["state"] in ("queued", "running", "swapping"), job
                await trio.sleep(0.01)
        return job

    async def until_done(self, job_id, num_rows):
        with trio.fail_after(20):
            while (await self.job(job_id))["done"] < num_rows:  # noqa: ASYNC110 - told by a server
                await trio.sleep(0.01)

    async def rebuild(self, **fields):
        status, job = await self.start(**fields)
        assert status == 200, job
        return await self.until(job["job"], "done")

    async def values(self, *keys):
        answer = await self.client.get("/api/entries", params={"collection": "orders", "key": keys})
        return {e["key"]: e.get("value") for e in answer.json()["entries"]}


@contextlib.asynccontextmanager
async def node_of(folder, source):
    config = make_config(folder)
    async with running(config, app=make_app(source)) as (node, _connect):
        url = f"http://127.0.0.1:{node.addresses[0][1]}"
        headers = {"Authorization": f"Bearer {config.api_keys['test']}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            yield Asking(client)


async def test_a_full_rebuild_brings_the_source_and_a_second_one_changes_nothing(tmp_path):
    source = Source(95)
    async with node_of(tmp_path, source) as asking:
        job = await asking.rebuild()
        assert (job["done"], job["total"], job["changed"]) == (95, 95, 95)
        assert await asking.values("k000000", "k000094") == {
            "k000000": {"n": 0},
            "k000094": {"n": 94},
        }
        again = await asking.rebuild()
        assert (again["done"], again["changed"]) == (95, 0)
        del source.rows["k000001"]
        source.rows["k000002"] = {"n": "new"}
        assert (await asking.rebuild())["changed"] == 2
        assert await asking.values("k000001", "k000002") == {
            "k000001": None,
            "k000002": {"n": "new"},
        }


async def test_rows_and_ends_of_rebuilds_are_counted(tmp_path):
    source = Source(25)
    async with node_of(tmp_path, source) as asking:
        await asking.rebuild()
        source.num_scanned, source.hold_at = 0, 10
        _, job = await asking.start()
        await asking.until_done(job["job"], 10)
        told = await asking.metrics()
        assert 'syncd_rebuild_rows_total{collection="orders"} 35.0' in told
        assert "syncd_rebuilds_active 1.0" in told
        await asking.client.delete(f"/api/rebuild/{job['job']}")
        await asking.until(job["job"], "cancelled")
        ended = 'syncd_rebuilds_total{{collection="orders",result="{}"}} {}.0'
        with trio.fail_after(20):  # it has ended once it has given its lease back
            while ended.format("cancelled", 1) not in (told := await asking.metrics()):  # noqa: ASYNC110 - told by a server
                await trio.sleep(0.01)
        assert "syncd_rebuilds_active 0.0" in told
        assert ended.format("done", 1) in told
        assert ended.format("failed", 0) in told


@pytest.mark.parametrize("num_rows", [20, 1500])
async def test_watchers_see_the_old_entries_until_the_swap_then_the_new(tmp_path, num_rows):
    """Up to 1,000 changes are told one by one, more by sending watchers to a new snapshot."""
    source = Source(num_rows)
    async with node_of(tmp_path, source) as asking:
        await asking.rebuild()
        async with (
            open_client(str(asking.client.base_url).rstrip("/")) as client,
            client.collection("orders").watch(all=True) as view,
        ):
            await wait_until(lambda: len(view.items()) == num_rows, 10, "the watch is complete")
            assert len(view.items()) == num_rows
            source.rows = {key: {"n": -1} for key in list(source.rows)[1:]}
            source.num_scanned, source.hold_at = 0, num_rows // 2
            _, job = await asking.start()
            await wait_until(lambda: source.num_scanned == source.hold_at, 20, "half is scanned")
            args = {"key": "k000003", "value": "mine"}
            await asking.client.post("/api/mutate", json={"name": "orders.put", "args": args})
            values = await asking.values("k000000", "k000001", "k000003")
            assert values == {"k000000": {"n": 0}, "k000001": {"n": 1}, "k000003": "mine"}
            source.gate.set()
            done = await asking.until(job["job"], "done")
            assert done["changed"] == num_rows - 1
            expected = {key: {"n": -1} for key in source.rows} | {"k000003": "mine"}
            assert await asking.values("k000000", "k000001", "k000003") == {
                "k000000": None,
                "k000001": {"n": -1},
                "k000003": "mine",
            }
            await wait_until(lambda: dict(view.items()) == expected, 20, "the view is new")


async def test_one_job_of_a_collection_at_a_time_and_who_asks_again_may_join(tmp_path):
    source = Source(30)
    source.hold_at = 15
    async with node_of(tmp_path, source) as asking:
        _, first = await asking.start()
        status, refused = await asking.start()
        assert (status, refused["error"]["code"]) == (409, "rebuild_running")
        assert first["job"] in refused["error"]["message"]
        assert (await asking.start(join=True))[1]["job"] == first["job"]
        source.gate.set()
        await asking.until(first["job"], "done")
        jobs = (await asking.client.get("/api/rebuild")).json()["jobs"]
        assert [job["job"] for job in jobs] == [first["job"]]


async def test_a_cancelled_job_leaves_the_old_entries_and_the_collection_free(tmp_path):
    source = Source(30)
    source.hold_at = 15
    async with node_of(tmp_path, source) as asking:
        _, job = await asking.start()
        await asking.until_done(job["job"], 10)
        await asking.client.delete(f"/api/rebuild/{job['job']}")
        await asking.until(job["job"], "cancelled")
        assert await asking.values("k000000") == {"k000000": None}
        source.hold_at = None
        assert (await asking.rebuild(mode="resume"))["resumed_at"] == 0


async def test_a_scanner_that_fails_is_called_again_from_the_last_page(tmp_path):
    source = Source(30)
    source.failures = [25]
    async with node_of(tmp_path, source) as asking:
        assert (await asking.rebuild())["changed"] == 30
        assert source.num_scanned == 30 + 5


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"collection": "nope"}, 403, "permission_denied"),
        ({"collection": "notes"}, 400, "not_supported"),
        ({"mode": "half"}, 400, "bad_request"),
        ({"join": 1}, 400, "bad_request"),
        ({"more": 1}, 400, "bad_request"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_its_code(tmp_path, fields, status, code):
    async with node_of(tmp_path, Source(1)) as asking:
        answer = await asking.start(**fields)
        assert (answer[0], answer[1]["error"]["code"]) == (status, code)
        unknown = await asking.client.get("/api/rebuild/nope")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "bad_request")


async def test_a_row_that_cannot_be_kept_fails_the_job_and_keeps_its_pages(tmp_path):
    source = Source(30)
    good, source.rows["k000025"] = source.rows["k000025"], None
    async with node_of(tmp_path, source) as asking:
        _, job = await asking.start()
        failed = await asking.until(job["job"], "failed")
        assert "k000025" in failed["error"]
        source.rows["k000025"] = good
        resumed = await asking.rebuild(mode="resume")
        assert (resumed["resumed_at"], resumed["changed"]) == (20, 30)


APP = """
import pathlib, time
import trio
from syncd import App
app = App()
orders = app.collection("orders", read="anyone")
log = pathlib.Path(__file__).with_name("scanned.txt")
held = pathlib.Path(__file__).with_name("held")

@orders.scanner(page=50)
async def scan(after):
    for i in range(1000):
        key = f"k{i:04}"
        if after is None or key > after:
            while i >= 525 and held.exists():
                await trio.sleep(0.02)
            with log.open("a") as file:
                file.write(key + " ")
            yield key, i
"""


async def test_kill_9_at_half_and_resume_scans_at_most_55_percent_again(tmp_path):
    path, held, log = tmp_path / "orders_app.py", tmp_path / "held", tmp_path / "scanned.txt"
    path.write_text(APP)
    held.touch()
    in_thread = trio.to_thread.run_sync
    with ServerProcess(tmp_path, arguments=(str(path),)) as server, trio.fail_after(90):
        await in_thread(server.start)
        headers = {"Authorization": f"Bearer {API_KEY}"}
        url = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            asking = Asking(client)
            _, job = await asking.start()
            await asking.until_done(job["job"], 500)
            await in_thread(server.kill)
            first = len(log.read_text().split())
            held.unlink()
            await in_thread(server.start)
            assert await asking.values("k0000") == {"k0000": None}
            done = await asking.rebuild(mode="resume")
            assert (done["resumed_at"], done["done"], done["changed"]) == (500, 1000, 1000)
            again = len(log.read_text().split()) - first
            assert again <= 550
            assert await asking.values("k0000", "k0999") == {"k0000": 0, "k0999": 999}
