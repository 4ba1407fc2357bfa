"""The Lua scripts of the Redis store, as they are sent: one call is one transaction, or one read at one moment."""

from __future__ import annotations

import hashlib
from importlib import resources

import attrs

__all__ = [
    "COMMIT",
    "HAND_OVER",
    "LEASE",
    "LOADS",
    "META",
    "META_GET",
    "OPEN",
    "READ",
    "REBUILD",
    "REBUILD_PLAN",
    "RENEW",
    "RIGHTS",
    "STATE",
    "SWEEP",
    "TRIM",
    "TRIM_LOGS",
    "Script",
]


@attrs.frozen
class Script:
    """A script with the hash that the server knows it by."""

    name: str
    text: str = attrs.field(repr=False)
    sha: str


def _script(
    name: str, *shared: str, writes: bool = True, is_plain: bool = False, frees: bool = False
) -> Script:
    """Read a script and what it shares with others. What writes is refused before it starts when the server is out of memory, unless it frees some, or next to nothing is written."""
    folder = resources.files("syncd.store") / "lua"
    flags = " flags=no-writes" if not writes else " flags=allow-oom" if frees else ""
    parts = [*shared, name] if is_plain else ["common", *shared, name]
    texts = [(folder / f"{part}.lua").read_text("utf-8") for part in parts]
    text = f"#!lua{flags}\n" + "".join(texts)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


OPEN = _script("open", "eras", is_plain=True, frees=True)
"""Runs on a full server, too: whoever comes to it could not read it otherwise."""
COMMIT = _script("commit", "generation")
HAND_OVER = _script("commit", "generation", frees=True)
"""The same, for what was acknowledged and nothing else."""
LEASE = _script("lease")
LOADS = _script("loads")
META = _script("meta")
META_GET = _script("meta", writes=False)
READ = _script("read", writes=False)
RENEW = _script("renew", "eras", frees=True)
RIGHTS = _script("rights", writes=False, is_plain=True)
STATE = _script("state", writes=False)
SWEEP = _script("sweep", "generation", frees=True)
TRIM = _script("trim", frees=True)
TRIM_LOGS = _script("trim_logs", frees=True)
REBUILD = _script("rebuild", "generation")
REBUILD_PLAN = _script("rebuild_plan", "generation", writes=False)
