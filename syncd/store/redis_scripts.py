"""The Lua scripts of the Redis store, as they are sent: one call is one transaction, or one read at one moment."""

from __future__ import annotations

import hashlib
from importlib import resources

import attrs

__all__ = [
    "COMMIT",
    "LEASE",
    "LOADS",
    "META",
    "META_GET",
    "OPEN",
    "READ",
    "REBUILD",
    "REBUILD_PLAN",
    "STATE",
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


def _script(name: str, *, writes: bool = True, is_plain: bool = False) -> Script:
    """Read a script. What writes is refused before it starts when the server is out of memory; what reads is not."""
    folder = resources.files("syncd.store") / "lua"
    head = "#!lua\n" if writes else "#!lua flags=no-writes\n"
    common = "" if is_plain else (folder / "common.lua").read_text("utf-8")
    text = head + common + (folder / f"{name}.lua").read_text("utf-8")
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


OPEN = _script("open", is_plain=True)
COMMIT = _script("commit")
LEASE = _script("lease")
LOADS = _script("loads")
META = _script("meta")
META_GET = _script("meta", writes=False)
READ = _script("read", writes=False)
STATE = _script("state", writes=False)
TRIM = _script("trim")
TRIM_LOGS = _script("trim_logs")
REBUILD = _script("rebuild")
REBUILD_PLAN = _script("rebuild_plan", writes=False)
