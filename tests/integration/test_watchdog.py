"""A loop that stands still is told in the log while it does: which task, which line; and how long, when it goes on."""

import threading

import pytest
import structlog
import trio

from syncd.app import App
from tests.integration.nodes import make_config, running

PATIENT_S = 20.0


class Told:
    """Log lines of the watchdog, from whichever thread; `stalled` is set by the first half of each pair."""

    def __init__(self):
        self.lines = []
        self.stalled = threading.Event()

    def __call__(self, _logger, _method, event):
        if event["event"].startswith("loop_"):
            self.lines.append(event)
            if event["event"] == "loop_stalled":
                self.stalled.set()
        raise structlog.DropEvent


@pytest.fixture
def told():
    before = structlog.get_config()
    told = Told()
    structlog.configure(processors=[told], cache_logger_on_first_use=False)
    yield told
    structlog.configure(**before)


async def test_a_mutator_that_holds_the_loop_is_named_with_its_stack_and_the_length_once(
    tmp_path, told
):
    app = App()
    num_untold = 0

    @app.collection("boxes", mutate="anyone").mutator("block")
    def hold_everything(tx, key):
        nonlocal num_untold
        num_untold += not told.stalled.wait(PATIENT_S)
        tx.put(key, 1)

    config = make_config(tmp_path, timing={"stall_s": 0.1})
    async with running(config, app=app) as (node, connect):
        client = await connect()
        for mid in (1, 2):
            told.stalled.clear()
            await client.send("mutate", mid=mid, name="boxes.block", args=["k"])
            assert (await client.expect("outcome"))[1]["status"] == "ok"
            with trio.fail_after(PATIENT_S):
                while len(told.lines) < 2 * mid:  # noqa: ASYNC110 - another thread writes them
                    await trio.sleep(0.01)
        statistics = node.statistics()
    assert num_untold == 0, "the loop stood still, and nobody said so meanwhile"
    assert [line["event"] for line in told.lines] == ["loop_stalled", "loop_went_on"] * 2
    assert statistics.num_stalls == 2
    for stalled in told.lines[::2]:
        assert "hold_everything" in stalled["stack"]
        assert "CacheOwner.run" in stalled["task"]
        assert stalled["after_s"] == 0.1
    assert all(0.1 <= line["stalled_s"] < PATIENT_S for line in told.lines[1::2])


async def test_the_thread_ends_with_the_node(tmp_path):
    async with running(make_config(tmp_path)):
        names = [thread.name for thread in threading.enumerate()]
        assert "syncd-watchdog" in names
    assert "syncd-watchdog" not in [thread.name for thread in threading.enumerate()]
