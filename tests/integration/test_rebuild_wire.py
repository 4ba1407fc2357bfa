"""Rebuilds over the protocol: who may ask, what is answered, how progress is told, what the modes read."""

import contextlib
import time
from functools import partial

import attrs
import pytest
import trio

from syncd import App
from syncd.actors.rebuild_coordinator.telling import TELL_S
from syncd.client import RequestFailed, SubscriptionClosed, open_client
from syncd.config import AuthSettings
from syncd.model.definitions import Tagged
from syncd.model.tokens import TokenClaims, make_token
from tests.integration.nodes import make_config, running

SECRET = "correct horse battery staple, at length"


def token(*roles):
    return make_token(TokenClaims("ann", roles=roles), SECRET, now_s=time.time())


@attrs.define
class Source:
    """Rows by key, each a value and its tags; `gate` holds the scan at `hold_at` rows."""

    rows: dict = attrs.field(factory=dict)
    hold_at: int | None = None
    gate: trio.Event = attrs.field(factory=trio.Event)
    num_scanned: int = 0
    loaded: list = attrs.field(factory=list)


def make_app(source, *, has_loader=False):
    app = App()
    orders = app.collection("orders", read="anyone", write="anyone")
    app.collection("plain", read="anyone")

    @orders.on_commit
    async def store(change):
        source.rows[change.key] = (change.value, change.tags)

    @orders.scanner(page=10)
    async def scan(after):
        for key in sorted(source.rows):
            if after is None or key > after:
                if source.num_scanned == source.hold_at:
                    await source.gate.wait()
                source.num_scanned += 1
                yield (key, *source.rows[key])

    @orders.count
    async def count():
        return len(source.rows)

    if has_loader:

        @orders.loader
        async def load(keys: list):
            source.loaded += keys
            return {k: Tagged(*source.rows[k]) for k in keys if k in source.rows}

    return app


@contextlib.asynccontextmanager
async def node_of(folder, source, **options):
    auth = AuthSettings(algorithms=("HS256",), hmac_secret=SECRET)
    config = make_config(folder, auth=auth)
    async with running(config, app=make_app(source, **options)) as (node, _connect):

        @contextlib.asynccontextmanager
        async def connect(*roles):
            url = f"ws://127.0.0.1:{node.addresses[0][1]}"
            async with open_client(url, token=token(*roles)) as client:
                yield client

        yield node, connect


async def ended(client, **options):
    """Rebuild and follow to the end."""
    async with client.rebuild_progress("orders") as progress:
        job = await client.rebuild("orders", **options)
        with trio.fail_after(30):
            return await progress.until_ended(job.job)


async def values(client, *keys):
    answer = await client.read("orders", keys)
    return {entry.key: entry.value for entry in answer.entries}


async def test_progress_is_told_at_once_and_seldom_and_newcomers_are_told_the_present_state(
    tmp_path,
):
    source = Source({f"k{n:03}": (n, ()) for n in range(200)}, hold_at=100)
    async with node_of(tmp_path, source) as (_node, connect), connect("admin") as client:
        states = []
        async with client.rebuild_progress("orders") as progress:
            asked_at = trio.current_time()
            job = await client.rebuild("orders")
            assert (job.state, job.who, job.done) == ("queued", "user:ann", 0)
            states.append(await anext(progress))
            assert trio.current_time() - asked_at < 0.2 * 5  # 0.2 s on a machine of one's own
            while states[-1].done < 100:
                states.append(await anext(progress))
            async with connect("admin") as late, late.rebuild_progress("orders") as present:
                with trio.fail_after(5):
                    state = await anext(present)
                assert (state.job, state.done, state.total) == (job.job, 100, 200)
            source.gate.set()
            with trio.fail_after(30):
                while not states[-1].is_ended:
                    states.append(await anext(progress))
        assert [state.seq for state in states] == sorted({state.seq for state in states})
        last = states[-1]
        assert (last.state, last.done, last.changed, last.error) == ("done", 200, 200, None)
        assert len(states) <= (trio.current_time() - asked_at) / TELL_S + 2


async def test_who_is_no_operator_learns_nothing(tmp_path):
    async with node_of(tmp_path, Source({"a": (1, ())})) as (_node, connect), connect() as client:
        refusals = []
        for asked in (
            client.rebuild("orders"),
            client.rebuild("nope"),
            client.rebuild("orders", mode="half"),
            client.cancel_rebuild("nope"),
        ):
            with pytest.raises(RequestFailed) as caught:
                await asked
            refusals.append((caught.value.code, caught.value.message))
        assert set(refusals) == {refusals[0]}
        assert refusals[0][0] == "permission_denied"
        for channel in ("$rebuild:orders", "$rebuild:nope", "$jobs:node"):
            with pytest.raises(SubscriptionClosed) as refused:
                async with client.subscribe(channel):
                    pass
            assert refused.value.code == "permission_denied"


async def test_what_cannot_be_done_is_refused_by_its_code_and_a_second_start_names_the_first(
    tmp_path,
):
    source = Source({"a": (1, ())}, hold_at=0)
    async with node_of(tmp_path, source) as (node, connect), connect("admin") as client:
        for options, code in (
            ({"collection": "nope"}, "permission_denied"),
            ({"collection": "plain"}, "not_supported"),
            ({"mode": "half"}, "bad_request"),
            ({"mode": "keys"}, "bad_request"),
            ({"mode": "tag"}, "bad_request"),
            ({"mode": "full", "keys": ["a"]}, "bad_request"),
            ({"mode": "keys", "keys": [""]}, "bad_key"),
            ({"max_rows_per_s": 0}, "bad_request"),
        ):
            with pytest.raises(RequestFailed) as caught:
                await client.rebuild(**{"collection": "orders", **options})
            assert caught.value.code == code, options
        first = await client.rebuild("orders", uid="once")
        assert (await client.rebuild("orders", uid="once")).job == first.job
        with pytest.raises(RequestFailed) as caught:
            await client.rebuild("orders")
        assert caught.value.code == "rebuild_running"
        assert first.job in caught.value.message
        assert (await client.rebuild("orders", join=True)).job == first.job
        async with client.rebuild_progress("orders") as progress:
            await client.cancel_rebuild(first.job)
            assert (await progress.until_ended(first.job)).state == "cancelled"
        with pytest.raises(RequestFailed) as caught:
            await client.cancel_rebuild("nope")
        assert caught.value.code == "bad_request"
        told = [(entry.what, entry.outcome) for entry in node.audit.log.last(100)]
        assert told.count(("rebuild_start", "rebuild_running")) == 1
        assert told[:2] == [("rebuild_end", "cancelled"), ("rebuild_cancel", "ok")]


@pytest.mark.parametrize("has_loader", [True, False])
async def test_some_keys_are_read_anew_and_the_others_are_left_alone(tmp_path, has_loader):
    source = Source({key: (key, ("t",)) for key in "abcd"})
    async with (
        node_of(tmp_path, source, has_loader=has_loader) as (_node, connect),
        connect("admin") as client,
    ):
        await ended(client)
        source.rows = {"a": ("new", ()), "b": ("new", ()), "e": ("new", ())}
        source.num_scanned = 0
        done = await ended(client, mode="keys", keys=["a", "c", "e", "zz"])
        assert (done.mode, done.state, done.changed) == ("keys", "done", 3)
        assert (source.num_scanned == 0, source.loaded != []) == (has_loader, has_loader)
        source.rows["d"] = ("d", ("t",))  # a loader would fill what is not there
        source.rows["b"] = ("b", ("t",))
        assert await values(client, *"abde") == {"a": "new", "b": "b", "d": "d", "e": "new"}
        source.rows.pop("zz", None)
        kept = await ended(client, mode="keys", keys=["d", "q"], keep_missing=True)
        assert (kept.state, kept.changed) == ("done", 0)


async def test_entries_with_a_tag_here_or_there_are_read_anew(tmp_path):
    source = Source({"a": (1, ("x",)), "b": (1, ("x",)), "c": (1, ("x",)), "d": (1, ())})
    async with node_of(tmp_path, source) as (_node, connect), connect("admin") as client:
        await ended(client)
        source.rows = {"a": (2, ("x",)), "b": (2, ()), "d": (2, ("x",)), "e": (2, ("y",))}
        done = await ended(client, mode="tag", tag="x")
        assert (done.state, done.changed) == ("done", 4)
        expected = {"a": 2, "b": 2, "c": None, "d": 2, "e": None}
        assert await values(client, *"abcde") == expected


async def test_entries_that_vanished_are_kept_if_that_is_wanted(tmp_path):
    source = Source({"a": (1, ()), "b": (1, ())})
    async with node_of(tmp_path, source) as (_node, connect), connect("admin") as client:
        await ended(client)
        del source.rows["a"]
        assert (await ended(client, keep_missing=True)).changed == 0
        assert await values(client, "a", "b") == {"a": 1, "b": 1}
        assert (await ended(client)).changed == 1
        assert await values(client, "a", "b") == {"a": None, "b": 1}


async def test_a_partial_job_that_was_cut_off_is_never_resumed(tmp_path):
    """Or the rows it did not read would be deleted."""
    source = Source({f"k{n:03}": (1, ("x",)) for n in range(40)})
    async with node_of(tmp_path, source) as (_node, connect), connect("admin") as client:
        await ended(client)
        source.num_scanned, source.hold_at = 0, 20
        failed = await ended(client, mode="tag", tag="x", deadline_s=0.3)
        assert (failed.state, failed.error) == ("failed", "It has not ended within 0.3 s.")
        source.hold_at = None
        resumed = await ended(client, mode="resume")
        assert (resumed.resumed_at, resumed.changed) == (0, 0)
        assert (await values(client, "k000"))["k000"] == 1


async def test_a_deadline_fails_the_job_and_keeps_its_checkpoint(tmp_path):
    source = Source({f"k{n:03}": (n, ()) for n in range(40)}, hold_at=25)
    async with node_of(tmp_path, source) as (_node, connect), connect("admin") as client:
        failed = await ended(client, deadline_s=0.3)
        assert (failed.state, failed.done) == ("failed", 20)
        source.hold_at = None
        done = await ended(client, mode="resume")
        assert (done.state, done.resumed_at, done.changed) == ("done", 20, 40)


async def test_a_job_reads_no_faster_than_is_wanted(tmp_path):
    source = Source({f"k{n:03}": (n, ()) for n in range(60)})
    async with node_of(tmp_path, source) as (_node, connect), connect("admin") as client:
        began = trio.current_time()
        assert (await ended(client, max_rows_per_s=100)).state == "done"
        assert trio.current_time() - began >= 0.5


async def test_jobs_are_told_after_a_restart_and_those_cut_off_as_failed(tmp_path):
    source = Source({f"k{n:03}": (n, ()) for n in range(40)})
    async with node_of(tmp_path, source) as (_node, connect), connect("admin") as client:
        first = await ended(client)
        source.num_scanned, source.hold_at = 0, 25
        async with client.rebuild_progress("orders") as progress:
            second = await client.rebuild("orders")
            async for state in progress:
                if state.job == second.job and state.done == 20:
                    break
    source.hold_at = None
    async with node_of(tmp_path, source) as (node, connect), connect("admin") as client:
        jobs = node.rebuild_coordinator.jobs()
        assert [(j["job"], j["state"]) for j in jobs] == [
            (first.job, "done"),
            (second.job, "failed"),
        ]
        assert jobs[0]["changed"] == 40
        async with client.rebuild_progress("orders") as progress:
            with trio.fail_after(5):
                state = await anext(progress)
            assert (state.job, state.state) == (second.job, "failed")
            assert "resume" in state.error
        done = await ended(client, mode="resume")
        assert (done.resumed_at, done.changed) == (20, 0)


class Tunnel:
    """Bytes to and from a node, until it is cut; cut, nobody gets through."""

    def __init__(self, port):
        self.port = port
        self.is_cut = False
        self._scopes = []

    async def serve(self, stream):
        if self.is_cut:
            await trio.aclose_forcefully(stream)
            return
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as node:
            with trio.CancelScope() as scope:
                self._scopes.append(scope)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, stream, node, scope)
                    nursery.start_soon(self._pump, node, stream, scope)
        await trio.aclose_forcefully(stream)

    @staticmethod
    async def _pump(source, sink, scope):
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(65536):
                await sink.send_all(data)
        scope.cancel()

    def cut(self):
        self.is_cut = True
        for scope in self._scopes:
            scope.cancel()


async def test_who_watches_over_a_cut_connection_sees_the_true_state_on_return(tmp_path):
    source = Source({f"k{n:03}": (n, ()) for n in range(60)}, hold_at=25)
    async with node_of(tmp_path, source) as (node, connect), connect("admin") as operator:
        tunnel = Tunnel(node.addresses[0][1])
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                partial(trio.serve_tcp, tunnel.serve, 0, host="127.0.0.1")
            )
            port = listeners[0].socket.getsockname()[1]
            async with (
                open_client(f"ws://127.0.0.1:{port}", token=token("admin")) as watcher,
                watcher.rebuild_progress("orders") as progress,
            ):
                job = await operator.rebuild("orders")
                with trio.fail_after(20):
                    async for state in progress:
                        if state.done == 20:
                            break
                    tunnel.cut()
                    source.gate.set()
                    async with operator.rebuild_progress("orders") as seen:
                        await seen.until_ended(job.job)
                    tunnel.is_cut = False
                    watcher.wake()
                    state = await anext(progress)
                    while not state.is_ended:  # told before the cut, and not taken yet
                        assert state.done <= 30
                        state = await anext(progress)
            assert (state.job, state.state, state.done) == (job.job, "done", 60)
            nursery.cancel_scope.cancel()
