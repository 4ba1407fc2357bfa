"""What `syncd doctor` looks at in Redis. Imported where one is configured: its client library is an extra."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from syncd.config import Config
from syncd.errors import ConfigError, StoreUnavailable
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_link import RedisLink, ServerInfo, StoreRefused
from syncd.store.redis_policy import refuse_policy
from syncd.store.redis_rights import KEEPS_ALL, missing_rights

__all__ = ["Found", "redis_findings"]

Found = tuple[bool, str, str]
"""Whether it is well, what was looked at, what was found and what to do."""

OLDEST = (7, 0)
TIMEOUT_S = 3.0
NUM_PINGS = 20
SLOW_MS = 5.0
"""Each commit waits for one round trip: from here on it is the larger part of an answer's time."""
CLOCK_S = 2.0
"""Wall times of events come from nodes, and retention by age compares them."""


def redis_findings(config: Config) -> Iterator[Found]:
    """Look at the Redis of a configuration. Writes nothing."""
    assert config.redis is not None, "asked where there is one"
    names = RedisNames(config.redis_prefix)
    try:
        link = RedisLink(config.redis, names, timeout_s=TIMEOUT_S, greet=lambda: None)
    except ConfigError as error:
        yield False, "Redis", str(error)
        return
    try:
        link.ready()
        yield from _of_server(link)
        yield _rights(link, names)
        yield _latency(link)
        yield _clock(link)
    except StoreRefused as error:
        yield False, "Redis", f"{error.message}. Correct --redis, or the user (docs/redis.md)."
    except StoreUnavailable as error:
        yield False, "Redis", f"{error.message}. Start it, or correct --redis."
    finally:
        link.close()


def _of_server(link: RedisLink) -> Iterator[Found]:
    try:
        info = link.info()
    except StoreRefused:
        return  # that is a right, which is told among the others
    yield from _told(info)


def _told(info: ServerInfo) -> Iterator[Found]:
    version = tuple(int(part) for part in info.version.split(".")[:2])
    advice = "" if version >= OLDEST else ". At least 7.0 is needed."
    yield version >= OLDEST, "Redis", f"version {info.version}{advice}"
    yield _memory(info)
    yield True, "Redis durability", _kept(info)
    if info.has_replicas:
        text = (
            "there are some: each restart of Redis begins a new era, in which clients are reset, for one of them "
            "may have been promoted without what it had not received (docs/redis.md)"
        )
        yield True, "Redis replicas", text


def _memory(info: ServerInfo) -> Found:
    try:
        refuse_policy(info)
    except ConfigError as error:
        return False, "Redis memory", str(error)
    if info.policy == "noeviction":
        return True, "Redis memory", "nothing is thrown away when it is full"
    text = (
        f"without maxmemory it is never full, but with one maxmemory-policy {info.policy} would throw away parts of "
        "the log. Set it to noeviction."
    )
    return True, "Redis memory", text


def _kept(info: ServerInfo) -> str:
    if info.keeps_all:
        return "every commit is on disk before it is answered"
    if info.skips_on_rewrite:
        return (
            "commits may be lost with the server while it writes its file anew; no-appendfsync-on-rewrite no always "
            "keeps them (docs/redis.md)"
        )
    return "commits may be lost with the server; appendfsync always keeps them (docs/redis.md)"


def _rights(link: RedisLink, names: RedisNames) -> Found:
    try:
        missing = missing_rights(link, names)
    except StoreRefused as error:
        needed = f"Scripts need +eval +evalsha ~{names.tag}:*; docs/redis.md lists all rights."
        return False, "Redis rights", f"{error.message}. {needed}"
    if missing == [f"+{KEEPS_ALL}"]:
        text = f"all that a node needs; without +{KEEPS_ALL} each restart of Redis begins new epochs (docs/redis.md)"
        return True, "Redis rights", text
    if missing:
        rules = " ".join(missing)
        return False, "Redis rights", f"the user lacks {rules}. Give it these (ACL SETUSER)."
    return True, "Redis rights", "all that a node needs"


def _latency(link: RedisLink) -> Found:
    times = []
    for _ in range(NUM_PINGS):
        started = time.perf_counter()
        link.ask("PING")
        times.append((time.perf_counter() - started) * 1000)
    median = statistics.median(times)
    is_well = median < SLOW_MS
    advice = "" if is_well else ". Bring Redis nearer, or look what it is busy with (SLOWLOG GET)."
    return is_well, "Redis latency", f"{median:.1f} ms{advice}"


def _clock(link: RedisLink) -> Found:
    seconds, micros = link.ask("TIME")
    apart = abs(time.time() - int(seconds) - int(micros) / 1e6)
    is_well = apart < CLOCK_S
    advice = "" if is_well else ". Start a time service (NTP) on both machines."
    return is_well, "Redis clock", f"{apart:.1f} s from ours{advice}"
