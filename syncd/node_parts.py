"""What the parts of a node are told of its configuration and its application, and what its process is set to."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import resource
import ssl
from functools import partial
from pathlib import Path
from typing import Any

from syncd.cache.allocator import THRESHOLD_BYTES, return_large_blocks
from syncd.config import Config, HistoryKind, Mode, Namespace
from syncd.ids import ChannelName
from syncd.model.definitions import AppDefinition
from syncd.model.reserved import RESERVED, reserved_in_force
from syncd.store.base import Retention, Store, StoreOptions
from syncd.store.memory import MemoryStore
from syncd.store.sqlite import SqliteStore
from syncd.surroundings import REAL, Surroundings
from syncd.wire.channels import namespace_of

__all__ = [
    "calm_collector",
    "new_name",
    "open_store",
    "own_namespaces",
    "raise_file_limit",
    "return_large_values",
    "ssl_context",
    "store_options",
    "url_of",
]


def collection_namespaces(app: AppDefinition) -> list[Namespace]:
    """Return collections as the broadcaster sees them: namespaces of their own, with a log each channel."""
    return [
        Namespace(
            definition.name,
            mode=Mode.COLLECTION,
            history=HistoryKind.MEMORY if definition.is_volatile else HistoryKind.DURABLE,
            history_size=definition.history_size,
            history_age_s=definition.history_age_s,
        )
        for definition in app.collections.values()
    ]


def own_namespaces(app: AppDefinition, *, is_shared: bool) -> list[Namespace]:
    """Return what a broadcaster has besides the configured ones; `is_shared`: other nodes have the store open too."""
    return [*collection_namespaces(app), *reserved_in_force(is_shared=is_shared)]


def store_options(
    config: Config, app: AppDefinition | None = None, surroundings: Surroundings = REAL
) -> StoreOptions:
    """Return what a store is told."""
    namespaces = {each.name: each for each in collection_namespaces(app or AppDefinition())}
    namespaces.update(config.namespaces)
    namespaces.update({each.name: each for each in RESERVED})
    return StoreOptions(
        retention_of=partial(_retention, namespaces),
        idempotency_s=config.timing.idempotency_s,
        entropy=surroundings.entropy,
    )


def new_name(surroundings: Surroundings) -> str:
    """Return a name for a node, its own among those that share its store."""
    return surroundings.entropy(4).hex()


def open_store(config: Config, app: AppDefinition, node: str = "") -> Store:
    """Open the store that the configuration names, for a node of this name.

    Raises:
        ConfigError: it cannot be used.
    """
    options = store_options(config, app)
    if config.redis is not None:
        from syncd.shared_parts import open_redis  # noqa: PLC0415 - an extra

        return open_redis(config, options, node)
    store: Store
    store = MemoryStore(options) if config.db == ":memory:" else SqliteStore(config.db, options)
    store.open()
    return store


def _retention(namespaces: dict[str, Namespace], channel: ChannelName) -> Retention:
    namespace = namespaces.get(namespace_of(channel))
    if namespace is None:
        return Retention(size=1000, age_s=86_400.0)
    return Retention(namespace.history_size, namespace.history_age_s, namespace.mode is Mode.LATEST)


def ssl_context(config: Config) -> ssl.SSLContext | None:
    """Return what TLS connections are made with; None: plain ones."""
    if config.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(config.tls_cert, config.tls_key)
    return context


_TABLE_SLOTS = 65_536
"""Half a megabyte of the kernel's memory."""


def raise_file_limit() -> None:
    """A connection is a descriptor: take as many as the system lets us have, and have its table of them made now.

    Linux doubles the table when it is full, and a process with threads waits for that: some 15 ms for everybody at the 256th connection,
    the 512th, the 1,024th.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    last = min(hard, _TABLE_SLOTS) - 1 if hard != resource.RLIM_INFINITY else _TABLE_SLOTS - 1
    with contextlib.suppress(OSError), Path(os.devnull).open("rb") as some:
        os.close(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, last))


def calm_collector() -> None:
    """Look for garbage cycles seldom: hardly anything here is one, and a full pass walks every connection.

    With 10,000 connections a full pass costs tens of milliseconds; by default one comes every few thousand messages.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def return_large_values(app: AppDefinition | None) -> None:
    """Let limits of collections hold for memory, the allocator's gaps included (`cache.allocator`).

    Only for an application with values large enough to leave such gaps: a storm of 0.1 to 3 MB values over 200 MB of limit held
    265 to 330 MB, with this 205 to 215. What is large then costs page faults.
    """
    collections = () if app is None else app.collections.values()
    if any(each.max_value_bytes > THRESHOLD_BYTES for each in collections):
        return_large_blocks()


def url_of(config: Config, address: Any) -> str:
    """Return where a listener can be reached, for logs."""
    if not isinstance(address, tuple):
        return f"unix:{address}"
    scheme = "https" if config.tls_cert else "http"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{scheme}://{host}:{address[1]}/"
