"""Which server serves which topic: known from the address, asked of Sentinels, or of a cluster.

`discover` blocks and runs in a thread; it is asked at start, whenever a link ends, and now and then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import redis
from redis.crc import key_slot

from syncd.redis_address import Endpoint, RedisAddress, RedisKind, master_of

__all__ = ["NotDiscovered", "Topology", "discover", "known", "slot_of_topic"]

_TIMEOUT_S = 1.5
"""For each server asked."""


class NotDiscovered(Exception):
    """Nobody could say where Redis is; the message says why."""


@attrs.frozen
class Topology:
    """The masters, and who of them serves a slot."""

    endpoints: tuple[Endpoint, ...]
    ranges: tuple[tuple[int, int, int], ...] = ()
    """Of a cluster: first slot, last slot, index of the endpoint."""

    def endpoint_of(self, topic: bytes) -> Endpoint | None:
        """Return who serves a topic; None: nobody does now."""
        if not self.ranges:
            return self.endpoints[0]
        slot = slot_of_topic(topic)
        for first, last, index in self.ranges:
            if first <= slot <= last:
                return self.endpoints[index]
        return None


def slot_of_topic(topic: bytes) -> int:
    """Return the slot of a cluster that a topic's name lies in."""
    return key_slot(topic)


def known(address: RedisAddress) -> Topology | None:
    """Return what needs no asking."""
    return Topology(address.seeds) if address.kind is RedisKind.SINGLE else None


def discover(address: RedisAddress, seeds: Iterable[Endpoint] = ()) -> Topology:
    """Ask where the masters are. Blocks for up to 1.5 s for each server that does not answer.

    Args:
        address: Sentinel or cluster.
        seeds: Nodes of the cluster known from before, asked when those of the address do not answer.

    Raises:
        NotDiscovered: nobody knows.
    """
    limits = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
    if address.kind is RedisKind.SENTINEL:
        return _ask_sentinels(address, limits)
    failures: list[str] = []
    for seed in dict.fromkeys((*address.seeds, *seeds)):
        options = {**address.options, **limits, "host": seed.host, "port": seed.port}
        try:
            with contextlib.closing(redis.Redis(**options)) as client:
                client.response_callbacks.clear()  # its form differs between versions of redis-py
                slots = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
                return _of_slots(slots, seed)
        except (redis.RedisError, OSError, NotDiscovered) as failure:
            failures.append(f"{seed}: {failure}")
    raise NotDiscovered("; ".join(failures))


def _ask_sentinels(address: RedisAddress, limits: Mapping[str, Any]) -> Topology:
    try:
        return Topology((master_of(address, limits),))
    except (redis.RedisError, OSError) as failure:
        raise NotDiscovered(str(failure)) from failure


def _of_slots(slots: Sequence[Any], seed: Endpoint) -> Topology:
    indexes: dict[Endpoint, int] = {}
    ranges = []
    for first, last, (host, port, *_), *_ in slots:
        # A node that knows no name for itself leaves it to whoever reached it.
        name = host.decode() if isinstance(host, bytes) else host
        endpoint = Endpoint(name or seed.host, int(port))
        ranges.append((first, last, indexes.setdefault(endpoint, len(indexes))))
    if not ranges:
        raise NotDiscovered("the cluster serves no slot")
    return Topology(tuple(indexes), tuple(ranges))
