"""Bodies and queries of the API, checked and turned into the commands they mean. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from syncd.codes import ErrorCode
from syncd.config import HistoryKind, Namespace
from syncd.errors import RequestRejected
from syncd.http.fields import only, optional_text, query_bool, query_uint, rejected
from syncd.http.json_values import encode_data, pack_base64
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.permissions import Permissions
from syncd.ports import Asker, PublishEvent, ReadHistory
from syncd.ports_log import IdempotencyKey
from syncd.ports_operators import Target
from syncd.wire.channels import check_channel
from syncd.wire.messages import MAX_INTEGER, parse_publish

__all__ = [
    "MAX_BATCH_KEY_BYTES",
    "MAX_COMMANDS",
    "Channels",
    "Disconnect",
    "Revoke",
    "Unsubscribe",
    "batch_command",
    "batch_items",
    "parse_backup",
    "parse_disconnect",
    "parse_idempotency_key",
    "parse_revoke",
    "parse_unsubscribe",
]

MAX_COMMANDS = 1000
"""In one batch: with one commit for all of them the store is at its best far below that."""

COMMAND_KINDS = frozenset({"publish", "mutate", "invalidate"})
"""What a batch may hold."""

MAX_LIMIT = 1000
MAX_KEY_BYTES = 128
"""Of an idempotency key, as `uid` in `messages.toml`."""
MAX_BATCH_KEY_BYTES = 120
"""Leaves room for the `/n` that each command of a batch adds."""
MAX_REASON_BYTES = 120
"""A close frame holds 123 bytes of reason."""


# ------------------------------------------------------------------------------------------------ channels


class Channels:
    """What may be done on which channel over HTTP: services may use every configured namespace."""

    def __init__(self, permissions: Permissions) -> None:
        self._permissions = permissions

    def find(self, name: object) -> tuple[ChannelName, Namespace]:
        """Return a channel and its namespace's options.

        Raises:
            RequestRejected: `bad_channel`, or `permission_denied` when its namespace is not configured.
        """
        if type(name) is not str:
            raise rejected("Field 'channel' must be a string of at most 255 bytes.")
        channel = check_channel(name)
        namespace = self._permissions.namespace(channel)
        if namespace is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        return channel, namespace

    def with_presence(self, name: object) -> ChannelName:
        """Return a channel that keeps presence, or raise `not_supported`."""
        channel, namespace = self.find(name)
        if not namespace.presence:
            raise RequestRejected(ErrorCode.NOT_SUPPORTED)
        return channel

    def publish(
        self,
        body: object,
        *,
        service: str,
        asker: Asker,
        request_id: int = 0,
        idempotency_key: str | None = None,
    ) -> PublishEvent:
        """Turn a publish body into its command; `idempotency_key` stands in for a missing `uid`.

        Raises:
            RequestRejected: this command is refused, and why.
        """
        fields = _publish_fields(body)
        data = _packed_data(fields)
        message = parse_publish({**fields, "id": 0, "data": None})
        channel, namespace = self.find(fields.get("channel"))
        if len(data) > namespace.max_data_bytes:
            text = (
                f"Data may be {namespace.max_data_bytes} bytes at most, encoded, in this channel."
            )
            raise RequestRejected(ErrorCode.TOO_LARGE, text)
        key = message.uid if message.uid is not None else idempotency_key
        idempotency = None if key is None else _idempotency(key, fields, service)
        return PublishEvent(
            asker,
            request_id,
            channel,
            data,
            message.name,
            message.key,
            client=None,
            idempotency=idempotency,
        )

    def history(self, query: Mapping[str, str], asker: Asker) -> ReadHistory:
        """Turn the query of `/api/history` into its command."""
        channel, namespace = self.find(query.get("channel"))
        if namespace.history is HistoryKind.NONE:
            raise RequestRejected(ErrorCode.NOT_SUPPORTED)
        limit = query_uint(query, "limit", default=100, maximum=MAX_LIMIT)
        reverse = query_bool(query, "reverse")
        return ReadHistory(asker, 0, channel, limit, _since(query), reverse)


def _publish_fields(body: object) -> dict[str, Any]:
    if type(body) is not dict:
        raise rejected("A publish command must be an object.")
    only(body, "channel", "data", "data_base64", "name", "key", "uid")
    return body


def _packed_data(fields: dict[str, Any]) -> bytes:
    if ("data" in fields) == ("data_base64" in fields):
        raise rejected("Give either 'data' (null is allowed) or 'data_base64'.")
    if "data" in fields:
        return encode_data(fields["data"])
    return pack_base64(fields["data_base64"])


def _idempotency(key: str, fields: dict[str, Any], service: str) -> IdempotencyKey:
    """Return the key with a hash of what was asked; the order of object keys does not matter."""
    if key == "":
        raise rejected("An idempotency key must not be empty.")
    asked = {name: value for name, value in fields.items() if name != "uid" and value is not None}
    if "data" in fields:
        asked["data"] = fields["data"]
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).digest()
    return IdempotencyKey(f"service:{service}", "publish", key, digest)


def parse_idempotency_key(header: str | None, *, max_bytes: int = MAX_KEY_BYTES) -> str | None:
    """Check the `Idempotency-Key` header: printable ASCII, taken as it stands."""
    if header is None:
        return None
    if not (header and len(header) <= max_bytes and header.isascii() and header.isprintable()):
        raise rejected(f"Idempotency-Key must be 1 to {max_bytes} printable ASCII characters.")
    return header


# ------------------------------------------------------------------------------------------------ sessions


@attrs.frozen
class Disconnect:
    """Close sessions."""

    target: Target
    reconnect: bool
    reason: str


@attrs.frozen
class Unsubscribe:
    """End subscriptions to one channel."""

    target: Target
    channel: ChannelName


@attrs.frozen
class Revoke:
    """Refuse a user or token from now on."""

    target: Target
    until_s: float | None


def _target(body: Mapping[str, Any], *fields: str) -> Target:
    """Return who is meant by those of `fields` that are given, all of which must match."""
    values = {field: optional_text(body, field, 255) for field in fields}
    if not any(values.values()):
        raise rejected(f"Give at least one of {', '.join(fields)}.")
    if "" in values.values():
        raise rejected(f"None of {', '.join(fields)} may be empty.")
    return Target(**values)


_EVERYONE = ("user", "session", "client", "token_id")


def parse_disconnect(body: dict[str, Any]) -> Disconnect:
    """Read the body of `/api/disconnect`."""
    only(body, *_EVERYONE, "reconnect", "reason")
    reconnect = body.get("reconnect", False)
    if type(reconnect) is not bool:
        raise rejected("Field 'reconnect' must be true or false.")
    reason = optional_text(body, "reason", MAX_REASON_BYTES) or ""
    return Disconnect(_target(body, *_EVERYONE), reconnect, reason)


def parse_unsubscribe(body: dict[str, Any], channels: Channels) -> Unsubscribe:
    """Read the body of `/api/unsubscribe`."""
    only(body, *_EVERYONE, "channel")
    channel, _ = channels.find(body.get("channel"))
    return Unsubscribe(_target(body, *_EVERYONE), channel)


def parse_revoke(body: dict[str, Any]) -> Revoke:
    """Read the body of `/api/revoke`."""
    only(body, "user", "token_id", "until_ms")
    until_ms = body.get("until_ms")
    if until_ms is not None and (type(until_ms) is not int or not 0 <= until_ms <= MAX_INTEGER):
        raise rejected("Field 'until_ms' must be a wall-clock time in ms since 1970.")
    target = _target(body, "user", "token_id")
    return Revoke(target, None if until_ms is None else until_ms / 1000)


def parse_backup(body: dict[str, Any]) -> Path:
    """Read the body of `/api/backup`."""
    only(body, "path")
    path = body.get("path")
    if type(path) is not str or not path.startswith("/") or "\0" in path or len(path) > 4096:
        raise rejected("Field 'path' must be an absolute path on the node's machine.")
    return Path(path)


# ------------------------------------------------------------------------------------------------ batches


def batch_items(body: dict[str, Any]) -> list[Any]:
    """Return the commands of a batch body, unread."""
    only(body, "commands")
    items = body.get("commands")
    if type(items) is not list:
        raise rejected("Field 'commands' must be a list.")
    if len(items) > MAX_COMMANDS:
        text = f"A batch may hold {MAX_COMMANDS} commands at most."
        raise RequestRejected(ErrorCode.LIMIT_EXCEEDED, text)
    return items


def batch_command(item: object) -> tuple[str, Any]:
    """Return what one command of a batch is, and its body.

    Raises:
        RequestRejected: it is none.
    """
    if type(item) is dict and len(item) == 1:
        ((kind, body),) = item.items()
        if kind in COMMAND_KINDS:
            return kind, body
    raise rejected('A command must be an object {"publish" or "mutate" or "invalidate": {...}}.')


# ------------------------------------------------------------------------------------------------ queries


def _since(query: Mapping[str, str]) -> Position | None:
    epoch = query.get("since_epoch")
    if (epoch is None) != (query.get("since_offset") is None):
        raise rejected("Give since_epoch and since_offset together.")
    if epoch is None:
        return None
    if not 0 < len(epoch.encode("utf-8", "replace")) <= 64:
        raise rejected("Query field 'since_epoch' must be 1 to 64 bytes.")
    return Position(Epoch(epoch), query_uint(query, "since_offset", default=0, maximum=MAX_INTEGER))
