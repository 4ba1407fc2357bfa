"""Clients that never read beside clients that do, measured in turns so that a noisy machine hits both alike."""

import contextlib
import statistics
import time

from syncd.testing.history import History
from syncd.testing.process import ServerProcess
from syncd.testing.swarm import Swarm

OUTBOX_BYTES = 65_536
SLOW_CLIENT_S = 1.0
CONFIG = f"""
[limits]
frame_bytes = 16384
outbox_bytes = {OUTBOX_BYTES}
recovery_bytes = 32768
send_buffer_bytes = 16384
[timing]
slow_client_s = {SLOW_CLIENT_S}
tick_s = 0.1
[namespaces.hot]
history = "memory"
history_size = 100
max_data_bytes = 16384
allow = {{subscribe = "anyone", publish = "anyone"}}
"""
DATA_BYTES = 4096
SLACK_BYTES = 32 * 2**20
"""Of the server's memory: what Python keeps after a burst, and 200 connections themselves."""
NOISE_S = 0.020
"""Two cores are shared with whatever else runs here: below this a difference says nothing."""


PATIENCE = 4


def p99(latencies):
    return statistics.quantiles(latencies, n=100)[98]


def is_undisturbed(alone, beside):
    quiet, loud = statistics.median(alone), statistics.median(beside)
    return loud <= max(2 * quiet, quiet + NOISE_S)


def slow_beside_fast(folder, *, num_readers, num_mutes, num_rounds, num_events):
    """Publish to `num_readers` alone and beside `num_mutes` in turns, and hold both against each other.

    While their medians differ there are up to `PATIENCE` times as many rounds: noise passes, a slow server stays.
    """
    history = History()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ServerProcess(folder, CONFIG))
        server.start()
        swarm = stack.enter_context(Swarm(server.port, "hot:c", history))
        swarm.add_readers(num_readers)
        swarm.round(num_events // 2, DATA_BYTES)
        alone, beside, rss = [], [], []
        before = server.rss_bytes()
        num_cut = 0
        while len(alone) < num_rounds or (
            not is_undisturbed(alone, beside) and len(alone) < PATIENCE * num_rounds
        ):
            alone.append(p99(swarm.round(num_events, DATA_BYTES)))
            swarm.add_mutes(num_mutes)
            beside.append(p99(swarm.round(num_events, DATA_BYTES)))
            rss.append(server.rss_bytes())
            num_cut += num_mutes
            wait_for_closes(server, num_cut)
            swarm.drop_mutes()
        statistics_ = server.get("/api/info")[1]
        assert history.violations == []
        assert not any(reader.is_closed for reader in swarm.readers)
    report(alone, beside, before, rss)
    total = num_events // 2 + 2 * len(alone) * num_events
    assert {len(observer.offsets) for observer in history.observers} == {total}
    assert statistics_["gateway"]["num_lagged"] > 0, "some were lagged before"
    assert closes_of(statistics_) == {"4001": num_cut}, "cut off for being slow, nobody else"
    assert max(rss) - before <= num_mutes * OUTBOX_BYTES + SLACK_BYTES
    assert is_undisturbed(alone, beside), (alone, beside)


def closes_of(info):
    return info["gateway"]["closes"]


def wait_for_closes(server, count):
    """The slow ones are gone; nobody waits longer than the limit, its tick and a busy machine ask for."""
    deadline = time.monotonic() + 10 * SLOW_CLIENT_S + 10
    while closes_of(server.get("/api/info")[1]).get("4001", 0) < count:
        assert time.monotonic() < deadline, "the slow clients are still there"
        time.sleep(0.05)  # noqa: TID251 - another process is being watched


def report(alone, beside, before, rss):
    print(
        "p99 alone ms:",
        [round(value * 1000, 1) for value in alone],
        "beside ms:",
        [round(value * 1000, 1) for value in beside],
        "RSS MiB:",
        before >> 20,
        [value >> 20 for value in rss],
    )
