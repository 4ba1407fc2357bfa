"""Where log lines go and what may stand in them.

Whatever a peer chose may be in a field: every text is cut, and what is not printable (line ends, terminal codes, direction
marks) is written as an escape, so that no field can forge a line or turn a terminal. Fields that hold secrets are masked by
name, tokens also by their looks. Lines of other libraries (`logging`) go the same way.
"""

from __future__ import annotations

import collections
import itertools
import logging
import re
import secrets
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = [
    "MASK",
    "MAX_TEXT_CHARS",
    "RecentProblems",
    "begin_request",
    "configure_logging",
    "mask_secrets",
    "printable",
    "recent_problems",
    "request_id",
]

MASK = "***"

MAX_TEXT_CHARS = 512
"""Of one field; enough for any name syncd accepts, too little to fill a disk with."""

MAX_TRACEBACK_CHARS = 16_384
_STACKS = ("exception", "stack")
"""Fields whose lines are kept."""
MAX_ITEMS = 16
"""Of one list or map in a field."""
MAX_DEPTH = 2
"""Lists and maps within lists and maps; what lies deeper is left out."""

_SECRET_NAMES = frozenset(
    {"token", "secret", "authorization", "api_key", "apikey", "hmac_secret", "password", "cookie"}
)
_SECRET_ENDINGS = ("_token", "_secret", "_password", "_api_key", "-api-key")

_token_like = re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}|(?<=\bBearer )\S+")


MAX_PROBLEMS = 200
"""Warnings and errors remembered: some 0.1 MB, with tracebacks at most 3."""


class RecentProblems:
    """A processor that remembers the newest warnings and errors, masked and cut as they go into the log."""

    def __init__(self, size: int = MAX_PROBLEMS) -> None:
        self._ring: collections.deque[dict[str, Any]] = collections.deque(maxlen=size)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Keep a copy if it is one."""
        if event.get("level") in {"warning", "error", "critical"}:
            self._ring.append(dict(event))
        return event

    def newest(self, limit: int = MAX_PROBLEMS) -> list[dict[str, Any]]:
        """Return them, the newest first."""
        return list(itertools.islice(reversed(self._ring), limit))


recent_problems = RecentProblems()
"""Of this process, as its log is; operators see it on the dashboard."""


def configure_logging(log_format: str, log_level: str, stream: TextIO | None = None) -> None:
    """Send all log lines to `stream` (standard error) from now on.

    Args:
        log_format: `json`, one object a line, or `console`, for people.
        log_level: `debug`, `info`, `warning`, `error` or `critical`; below it nothing is made.
        stream: Where to write.
    """
    out = sys.stderr if stream is None else stream
    level = logging.getLevelNamesMapping()[log_level.upper()]
    structlog.configure(
        processors=_processors(log_format, is_terminal=out.isatty()),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Forwarder()], level=max(level, logging.INFO), force=True)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


_request_id_like = re.compile(r"[\w.:+/=-]{1,64}", re.ASCII)


def begin_request(given: str | None) -> str:
    """Have all log lines of this task and those it starts carry an id of the request they serve.

    Args:
        given: By the caller or a proxy before us. Taken if it is at most 64 of A-Z, a-z, 0-9, _ . : + / = and -.

    Returns:
        That id, or a new one.
    """
    is_good = given is not None and _request_id_like.fullmatch(given) is not None
    made = given if is_good and given is not None else secrets.token_hex(8)
    structlog.contextvars.bind_contextvars(request_id=made)
    return made


def request_id() -> str | None:
    """Return the id that log lines of this task carry; None outside a request."""
    found = structlog.contextvars.get_contextvars().get("request_id")
    return found if isinstance(found, str) else None


def _processors(log_format: str, *, is_terminal: bool) -> list[Processor]:
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=True)
    if log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=is_terminal, exception_formatter=structlog.dev.plain_traceback
        )
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
        _make_printable,
        recent_problems,
        renderer,
    ]


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the values of fields whose name says that they are secret, at any depth."""
    return {name: _masked(name, value, MAX_DEPTH) for name, value in event.items()}


def _masked(name: object, value: Any, depth: int) -> Any:
    if isinstance(name, str) and _is_secret_name(name.lower()) and value is not None:
        return MASK
    if depth and isinstance(value, Mapping):
        return {key: _masked(key, item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, (list, tuple)):
        return [_masked(None, item, depth - 1) for item in value]
    return value


def _is_secret_name(name: str) -> bool:
    return name in _SECRET_NAMES or name.endswith(_SECRET_ENDINGS)


def _make_printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    made: EventDict = {}
    for name, value in event.items():
        if name in _STACKS and isinstance(value, str):
            made[name] = _printable_traceback(value)
        else:
            made[printable(name)] = _plain(value, MAX_DEPTH)
    return made


def _plain(value: Any, depth: int) -> Any:
    """Return plain data of bounded size; whatever is no plain data as its representation."""
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else printable(hex(value)[:MAX_TEXT_CHARS])
    if isinstance(value, str):
        return printable(value)
    if not depth and isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return "..."
    if isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {printable(str(key)): _plain(item, depth - 1) for key, item in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in list(value)[:MAX_ITEMS]]
    return printable(repr(value[:MAX_TEXT_CHARS] if isinstance(value, bytes) else value))


def printable(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return `text` on one line, cut, with whatever is not printable or looks like a token made harmless."""
    cut = text if len(text) <= max_chars else text[:max_chars] + f"...({len(text)} chars)"
    masked = _token_like.sub(MASK, cut)
    if masked.isprintable():
        return masked
    return "".join(char if char.isprintable() else _escape(ord(char)) for char in masked)


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _printable_traceback(text: str) -> str:
    """Keep the lines, marked, so that a text within an exception cannot pass for a line of the log."""
    lines = text[-MAX_TRACEBACK_CHARS:].split("\n")
    return "\n".join("  | " + printable(line) for line in lines)


class _Forwarder(logging.Handler):
    """Hands lines of libraries that use `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record under its logger's name."""
        try:
            fields = {"exc_info": record.exc_info} if record.exc_info else {}
            log = structlog.get_logger(record.name)
            log.log(record.levelno, record.getMessage(), logger=record.name, **fields)
        except Exception:  # noqa: BLE001 - a line that cannot be written must not fail what it tells of
            self.handleError(record)
