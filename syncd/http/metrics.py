"""`GET /metrics`: what the parts of a node count anyway, read when Prometheus asks, in its text format.

Owns two numbers: answers of the HTTP API by route and status, and the errors told in them by code. Labels are bounded: codes of the protocol, actors, collections of the
application, routes. A name once shipped is a contract, like a code: alert rules and dashboards are made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from syncd.actors.bridge import BridgeStatistics
from syncd.actors.bridge.telling import ClusterStatistics
from syncd.actors.kit import Health
from syncd.codes import CloseCode, ErrorCode
from syncd.http.ports import NodeInfo, NodeStatistics
from syncd.model.rebuild_plan import JobState
from syncd.ports_operators import GatewayPort, GatewayStatistics, HistogramCounts

__all__ = ["CONTENT_TYPE_PLAIN_0_0_4", "Metrics"]

_CLOSES = frozenset(str(code.value) for code in CloseCode) | {"1001", "1005", "1006"}
_ERRORS = tuple(code.value for code in ErrorCode)

_GATEWAY_COUNTERS = (
    ("connections_accepted", "num_accepted", "Connections taken in, HTTP included."),
    ("connections_refused", "num_refused", "Connections turned away by a limit or the handshake."),
    ("messages_received", "num_messages_in", "Messages of clients."),
    ("deliveries", "num_deliveries", "Events handed to subscriptions, one each."),
    ("sent_bytes", "num_bytes_out", "Bytes that sockets took from the gateway."),
    ("conflated_messages", "num_conflated", "Messages superseded in the outbox of a slow client."),
    ("lagged", "num_lagged", "Subscriptions dropped behind `lagged`, their outbox being full."),
    ("mutation_requests", "num_mutations", "Mutations that clients asked for."),
    ("read_requests", "num_reads", "Reads that clients asked for."),
    ("watch_requests", "num_watches", "Watches that clients asked for."),
)
_CACHE_COUNTERS = (
    ("cache_evictions", "evictions", "Entries pushed out of memory by a limit."),
    ("cache_loads", "loads", "Calls of the loader."),
    ("cache_loaded_keys", "keys_loaded", "Keys that loaders were asked for."),
    ("cache_load_waits", "load_waits", "Keys that another node was loading when they were wanted."),
    ("cache_keys_taken", "keys_taken", "Keys that another node had loaded."),
    ("cache_load_failures", "load_failures", "Loads that failed."),
    ("cache_invalidations", "invalidations", "Invalidations."),
    ("mutation_conflicts", "conflicts", "Mutations run again because what they read had changed."),
    ("forwarded", "forwarded", "Changes that on_commit has acknowledged."),
    ("forward_failures", "forward_failures", "Calls of on_commit that failed."),
)
_STORE_COUNTERS = (
    ("events_written", "num_events_written", "Events appended."),
    ("events_trimmed", "num_events_trimmed", "Events past retention that were removed."),
    ("duplicates", "num_duplicates", "Requests answered from their idempotency key."),
    ("idempotency_mismatches", "num_mismatches", "Keys used again for another request."),
    ("mutations", "num_mutations", "Mutations decided, rejected ones included."),
    ("resent_mutations", "num_resent", "Mutations answered from their stored outcome."),
)
_LabelRows = Mapping[Any, float]
"""Values of labels, a tuple, to the number; any tuple of text, which mypy cannot say of a mapping's key."""


CLUSTER_COUNTERS = (
    ("messages_sent", "num_spoken", "Messages to other nodes."),
    ("messages_refused", "num_refused", "Messages the bus did not take; told later."),
    ("messages_missed", "num_missed", "Messages of other nodes that did not come; asked for."),
    ("bad_messages", "num_bad", "Payloads on the topic of nodes that are none of ours."),
    ("snapshots", "num_snapshots", "Told to other nodes, whole."),
    ("faults", "num_faults", "Nodes found to claim other things than they told."),
    ("deaths", "num_dead", "Nodes that fell silent."),
)
BRIDGE_COUNTERS = (
    ("events", "num_remote_events", "Events that other nodes committed."),
    ("publications", "num_remote_publications", "Ephemeral events of other nodes."),
    ("checks", "num_checks", "Channels looked up because something may have been lost."),
    ("overflows", "num_overflows", "Batches dropped because an actor had no room; looked up."),
    ("bad_messages", "num_bad_messages", "Payloads on topics of channels that are none of ours."),
)
BUS_COUNTERS = (
    ("reconnects", "num_reconnects", "Links to Redis that were lost."),
    ("dropped", "num_dropped", "Publications that found the queue full or the link down."),
    ("gaps", "num_gaps", "Topics of which something may have been lost."),
)


class Metrics(Collector):
    """Collects from a node at each scrape."""

    def __init__(self, node: NodeInfo, gateway: GatewayPort) -> None:
        self._node = node
        self._gateway = gateway
        self._answers: Counter[tuple[str, str]] = Counter()
        self._errors: Counter[str] = Counter()
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    def note_answer(self, route: str, status: int, errors: Iterable[ErrorCode] = ()) -> None:
        """Count one HTTP answer and the errors told in it; `route` is a rule of ours, never what a caller sent."""
        self._answers[route, str(status)] += 1
        self._errors.update(code.value for code in errors)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Name nothing in advance, so that registering asks no part of a node that has not started."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read every part once."""
        node = self._node.statistics()
        yield from self._of_node()
        yield from _of_gateway(self._gateway.statistics())
        yield from _of_actors(node)
        yield from _of_store(node)
        yield from _of_collections(node.collections)
        yield from _of_rebuilds(node)
        if node.cluster is not None:
            yield from _of_cluster(node.cluster)
        if node.bridge is not None:
            yield from _of_bridge(node.bridge)
        yield _histogram(
            "event_loop_lag_seconds",
            "How late the event loop woke a sleeper, twice a second.",
            node.loop_lag,
        )
        stalls = {(): node.num_stalls}
        yield _counter("event_loop_stalls", "Times the loop stood still; see the log.", stalls)
        rows = dict(sorted(self._answers.items()))
        yield _counter("http_answers", "Answers to HTTP requests.", rows, ("route", "status"))
        errors = _rows(dict.fromkeys(_ERRORS, 0) | self._errors)
        yield _counter("http_errors", "Errors told over HTTP, by code.", errors, ("code",))

    def _of_node(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("syncd_build_info", "Always 1.", labels=("version",))
        build.add_metric((self._node.version,), 1)
        yield build
        reasons = self._node.reasons_not_ready()
        yield _gauge("ready", "1 while /health/ready answers 200.", float(not reasons))
        health = self._node.health()
        up = {(each.name,): float(each.state is Health.OK) for each in health}
        yield _gauges("actor_up", "1 while the actor serves.", up, ("actor",))
        restarts = {(each.name,): each.num_restarts for each in health}
        yield _counter("actor_restarts", "Crashes that were healed.", restarts, ("actor",))


def _of_gateway(counts: GatewayStatistics) -> Iterator[Metric]:
    yield _gauge("connections", "Open connections, HTTP excepted.", counts.num_connections)
    yield _gauge("sessions", "Connections past hello.", counts.num_sessions)
    yield _gauge("subscriptions", "Subscriptions and watches.", counts.num_subscriptions)
    for name, field, text in _GATEWAY_COUNTERS:
        yield _counter(name, text, {(): getattr(counts, field)})
    closes = dict.fromkeys(sorted(_CLOSES), 0)
    for code, count in counts.closes.items():
        known = code if code in _CLOSES else "other"
        closes[known] = closes.get(known, 0) + count
    yield _counter("disconnects", "Connections ended, by close code.", _rows(closes), ("code",))
    if counts.applied_ages is not None:
        text = "From a publication until a client had applied it, as clients say with each pong."
        yield _histogram("applied_age_seconds", text, counts.applied_ages)
    errors = dict.fromkeys(_ERRORS, 0) | counts.errors
    yield _counter("errors", "Errors told to clients, by code.", _rows(errors), ("code",))


def _of_actors(node: NodeStatistics) -> Iterator[Metric]:
    rooms, members = node.broadcaster, node.presence
    yield _gauge("channels", "Channels with state in memory.", rooms.num_channels)
    yield _counter("published", "Events taken from publishers.", {(): rooms.num_published})
    recoveries = {("recovered",): rooms.num_recovered, ("unrecoverable",): rooms.num_unrecovered}
    text = "Subscriptions that came with a position, by what became of it."
    yield _counter("recoveries", text, recoveries, ("result",))
    text = "Publications answered from their idempotency key."
    yield _counter("dedupe_hits", text, {(): rooms.num_dedupe_hits})
    text = "From a publication or mutation to its writes; of each batch its oldest."
    yield _histogram("delivery_age_seconds", text, rooms.ages)
    yield _gauge("presence_members", "Members present.", members.num_members)
    yield _gauge("presence_watchers", "Sessions that watch presence.", members.num_watchers)
    yield _counter("presence_diffs", "Presence diffs encoded.", {(): members.num_diffs})
    text = "Presence messages a session had no budget for."
    yield _counter("presence_refused", text, {(): members.num_refused})
    boxes = {(name,): box for name, box in node.mailboxes.items()}
    waiting = {key: float(box.num_waiting) for key, box in boxes.items()}
    waiting["store",] = node.store.num_waiting
    yield _gauges("queue_messages", "Messages that wait for an actor.", waiting, ("actor",))
    sizes = {key: float(box.bytes_waiting) for key, box in boxes.items()}
    sizes["store",] = node.store.bytes_waiting
    yield _gauges("queue_bytes", "Bytes that wait for an actor.", sizes, ("actor",))
    refused = {key: box.num_refused for key, box in boxes.items()}
    refused["store",] = node.store.num_refused
    yield _counter("queue_refused", "Messages a full queue refused.", refused, ("actor",))


def _of_store(node: NodeStatistics) -> Iterator[Metric]:
    store = node.store
    yield _gauge("store_writable", "0 while the store cannot commit.", float(store.is_writable))
    yield _gauge("store_size_bytes", "The database with its log.", store.log.size_bytes)
    yield _histogram("store_commit_seconds", "Time of each commit.", store.commit_s)
    yield _histogram("store_commit_requests", "Requests of each commit.", store.batches)
    failed = {(): store.num_failed_commits}
    yield _counter("store_failed_commits", "Commits that failed; nothing of them was kept.", failed)
    for name, field, text in _STORE_COUNTERS:
        yield _counter(f"store_{name}", text, {(): getattr(store.log, field)})


def _of_collections(collections: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    rows = list(collections.items())
    for name, field, text in (
        ("cache_entries", "num_entries", "Entries in memory."),
        ("cache_bytes", "num_bytes", "Bytes of entries in memory."),
        ("dirty_entries", "dirty", "Entries that on_commit has not acknowledged yet."),
    ):
        values = {(each,): float(counts[field]) for each, counts in rows}
        yield _gauges(name, text, values, ("collection",))
    results = {"hit": "hits", "stale": "stale_hits", "miss": "misses"}
    lookups = {
        (each, result): counts[field] for each, counts in rows for result, field in results.items()
    }
    yield _counter("cache_lookups", "Lookups in memory.", lookups, ("collection", "result"))
    seconds = {(each,): c["load_ms_mean"] * c["loads"] / 1000 for each, c in rows}
    yield _counter("cache_load_seconds", "Time spent in loaders.", seconds, ("collection",))
    decided = {
        (each, result): counts[f"mutations_{result}"]
        for each, counts in rows
        for result in ("ok", "rejected")
    }
    yield _counter("mutations", "Mutations decided.", decided, ("collection", "result"))
    for name, field, text in _CACHE_COUNTERS:
        yield _counter(name, text, {(each,): c[field] for each, c in rows}, ("collection",))


def _of_rebuilds(node: NodeStatistics) -> Iterator[Metric]:
    rebuilds, collections = node.rebuilds, list(node.collections)
    yield _gauge("rebuilds_active", "Rebuilds queued or under way.", rebuilds.num_active)
    text = "Rebuilds of nodes that died, which this one went on with."
    yield _counter("rebuilds_taken_over", text, {(): rebuilds.num_taken_over})
    rows = {(name,): rebuilds.rows.get(name, 0) for name in collections}
    yield _counter("rebuild_rows", "Rows that rebuilds have written.", rows, ("collection",))
    ended = {
        (name, state.value): rebuilds.ended.get((name, state), 0)
        for name in collections
        for state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
    }
    yield _counter("rebuilds", "Rebuilds that ended.", ended, ("collection", "result"))


def _of_cluster(cluster: ClusterStatistics) -> Iterator[Metric]:
    text = "Nodes that are heard, this one included."
    yield _gauge("cluster_nodes", text, cluster.num_nodes)
    text = "Members present on other nodes, counted once a channel."
    yield _gauge("cluster_remote_members", text, cluster.num_claims)
    for name, field, text in CLUSTER_COUNTERS:
        yield _counter(f"cluster_{name}", text, {(): getattr(cluster, field)})


def _of_bridge(bridge: BridgeStatistics) -> Iterator[Metric]:
    bus = bridge.bus
    text = "1 while the node can publish to the others and hears them."
    yield _gauge("bus_up", text, float(bus is not None and bus.is_up))
    for name, field, text in BRIDGE_COUNTERS:
        yield _counter(f"bus_{name}", text, {(): getattr(bridge, field)})
    for name, field, text in BUS_COUNTERS:
        yield _counter(f"bus_{name}", text, {(): 0 if bus is None else getattr(bus, field)})


# ---------------------------------------------------------------- families


def _rows(counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): count for name, count in counts.items()}


def _counter(name: str, text: str, rows: _LabelRows, labels: tuple[str, ...] = ()) -> Metric:
    family = CounterMetricFamily(f"syncd_{name}", text, labels=labels)
    for values, count in rows.items():
        family.add_metric(values, count)
    return family


def _gauges(name: str, text: str, rows: _LabelRows, labels: tuple[str, ...]) -> Metric:
    family = GaugeMetricFamily(f"syncd_{name}", text, labels=labels)
    for values, value in rows.items():
        family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return _gauges(name, text, {(): value}, ())


def _histogram(name: str, text: str, counts: HistogramCounts) -> Metric:
    family = HistogramMetricFamily(f"syncd_{name}", text)
    bounds = zip(map(str, counts.bounds), counts.cumulative, strict=True)
    family.add_metric((), [*bounds, ("+Inf", counts.count)], counts.total)
    return family
