"""How values are written in `syncd.toml`, in the environment and on the command line: durations, sizes, addresses."""

from __future__ import annotations

import datetime as dt
import math
import re

from syncd.config import Address
from syncd.errors import ConfigError

__all__ = ["parse_address", "parse_duration", "parse_size"]

_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)", re.ASCII)

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_duration(value: object, where: str) -> float:
    """Return seconds from a number of seconds, a text like `250 ms`, `10 s`, `5 min`, `24h`, `7d`, or a timedelta."""
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    seconds = _quantity(value, _SECONDS)
    if seconds is None:
        raise ConfigError(f"{where} must be a duration: seconds, or text such as '10 s' or '24h'.")
    return seconds


def parse_size(value: object, where: str) -> int:
    """Return bytes from a number of bytes or a text like `4096 B`, `64 KiB`, `1 MB`."""
    size_bytes = _quantity(value, _BYTES)
    if size_bytes is None or size_bytes != int(size_bytes):
        raise ConfigError(f"{where} must be a size: bytes, or text such as '64 KiB'.")
    return int(size_bytes)


def _quantity(value: object, units: dict[str, float] | dict[str, int]) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if 0 <= value < math.inf else None
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = None if match is None else units.get(match[2].lower())
    return None if match is None or unit is None else float(match[1]) * unit


def parse_address(value: object, where: str) -> Address:
    """Return where to listen from `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`. Port 0 lets the system choose."""
    if isinstance(value, str):
        if value.startswith("unix:") and len(value) > len("unix:"):
            return Address(path=value.removeprefix("unix:"))
        host, _, port = value.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if host and "/" not in host and port.isascii() and port.isdigit() and int(port) < 65_536:
            return Address(host, int(port))
    raise ConfigError(f"{where} must be HOST:PORT, [IPV6]:PORT or unix:PATH.")
