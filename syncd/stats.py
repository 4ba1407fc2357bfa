"""What a node tells of itself second by second: sampled always, published on `$node:stats` while somebody is subscribed there.

Owner of: the ring of samples. It waits for nobody: a sample that the broadcaster has no room for is dropped, the next one comes in a second.
Sampling reads counters and looks at no session and no channel; with nobody subscribed it is all that is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from syncd.http.ports import NodeInfo
from syncd.model.reserved import STATS_CHANNEL
from syncd.model.samples import Counts, Sample, Samples
from syncd.news import News
from syncd.ports import BroadcasterHandle
from syncd.ports_operators import GatewayPort

__all__ = ["Stats"]

SAMPLE_S = 1.0
MAX_COLLECTIONS = 100
"""Told in each message; an application with more is seen at `/api/cache/stats`."""


class Stats:
    """Implements `http.ports.StatsInfo`."""

    def __init__(
        self,
        node: NodeInfo,
        gateway: GatewayPort,
        broadcaster: BroadcasterHandle,
        wall_ms: Callable[[], int],
    ) -> None:
        self._node = node
        self._gateway = gateway
        self._broadcaster = broadcaster
        self._wall_ms = wall_ms
        self._samples = Samples()
        self._news = News(broadcaster)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sample until cancelled."""
        self._samples.take(self._counts())
        task_status.started()
        while True:
            await trio.sleep(SAMPLE_S)
            self._samples.take(self._counts())
            if self._broadcaster.num_subscribers(STATS_CHANNEL):
                self._news.tell(STATS_CHANNEL, "stats", self.now(), key="now")

    def columns(self) -> dict[str, list[float | None]]:
        """Return the last ten minutes by name, oldest first."""
        return self._samples.columns()

    def now(self) -> dict[str, Any]:
        """Return what is published: the newest sample, and how the node and each of its parts stand."""
        node, sample = self._node, self._samples.latest or {}
        statistics = node.statistics()
        queues: dict[str, dict[str, int | None]] = {
            name: {
                "waiting": box.num_waiting,
                "bytes": box.bytes_waiting,
                "peak": box.peak,
                "refused": box.num_refused,
            }
            for name, box in statistics.mailboxes.items()
        }
        store = statistics.store
        queues["store"] = {
            "waiting": store.num_waiting,
            "bytes": store.bytes_waiting,
            "peak": None,
            "refused": store.num_refused,
        }
        collections = dict(list(statistics.collections.items())[:MAX_COLLECTIONS])
        return {
            "sample": sample,
            "version": node.version,
            "uptime_s": round(node.uptime_s(), 1),
            "not_ready": list(node.reasons_not_ready()),
            "actors": [
                {
                    "name": each.name,
                    "state": each.state.value,
                    "num_restarts": each.num_restarts,
                    "last_error": each.last_error,
                    "queue": queues.get(each.name),
                }
                for each in node.health()
            ],
            "collections": collections,
        }

    def _counts(self) -> Counts:
        node, statistics = self._node, self._node.statistics()
        store, rooms = statistics.store, statistics.broadcaster
        waiting = sum(box.num_waiting for box in statistics.mailboxes.values())
        gauges: Sample = {
            **self._gateway.gauges(),
            "channels": rooms.num_channels,
            "members": statistics.presence.num_members,
            "queued": waiting + store.num_waiting,
            "loop_lag_ms": round(node.loop_lag_ms(), 3),
        }
        return Counts(
            at_ms=self._wall_ms(),
            at_s=trio.current_time(),
            gauges=gauges,
            counters={
                **self._gateway.counters(),
                "published": rooms.num_published,
                "commits": store.num_commits,
            },
            means={
                "commit_ms": (store.commit_s_total * 1000, store.num_commits),
                "age_ms": (rooms.ages.total * 1000, rooms.ages.count),
            },
        )
