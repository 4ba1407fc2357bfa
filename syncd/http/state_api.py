"""The routes about collections: mutations, invalidations, entries, and the cache. Waits only downwards, for the cache-owner."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from quart import Response, request

from syncd.codes import ErrorCode
from syncd.config import Config
from syncd.errors import RequestRejected
from syncd.http.answers import position_json
from syncd.http.bodies import read_object
from syncd.http.commands import parse_idempotency_key
from syncd.http.failures import json_response
from syncd.http.json_values import json_from_bodies, jsonable
from syncd.http.state_commands import (
    Invalidate,
    parse_change_settings,
    parse_clear,
    parse_entries,
    parse_invalidate,
    parse_mutate,
    parse_warm,
    total_counts,
)
from syncd.ids import ChannelName, Position
from syncd.model.audit import AuditLog
from syncd.model.definitions import AppDefinition, CollectionDefinition
from syncd.model.reserved import who_of
from syncd.ports import Identity
from syncd.ports_collections import CacheOwnerHandle
from syncd.state_calls import Mutation, Outcome, StateCalls

__all__ = ["StateApi", "collections_json"]


class StateApi:
    """The handlers of the routes; each is given who asks: the name of a key, or an operator."""

    def __init__(self, config: Config, owner: CacheOwnerHandle, audit: AuditLog) -> None:
        self._owner = owner
        self._audit = audit
        self._calls = StateCalls(owner, config.timing.http_request_s)

    # -------------------------------------------------------------------------------------------- changing

    async def mutate(self, service: str) -> Response:
        """Answer `POST /api/mutate`."""
        body = await read_object()
        key = parse_idempotency_key(request.headers.get("Idempotency-Key"))
        if key is not None and body.get("uid") not in (None, key):
            text = "Idempotency-Key and uid are two names of one thing and differ here."
            raise RequestRejected(ErrorCode.BAD_REQUEST, text)
        asked = parse_mutate(body, service=service, idempotency_key=key)
        return json_response(await self.decide(asked))

    async def decide(self, asked: Mutation) -> dict[str, Any]:
        """Return the outcome of a mutation as JSON."""
        return _outcome_json(await self._calls.mutate(asked))

    async def invalidate(self, caller: Identity) -> Response:
        """Answer `POST /api/invalidate`. Backends do so all the time; only what an operator does is entered in the audit log."""
        asked = parse_invalidate(await read_object())
        if caller.service is not None:
            return json_response(await self.carry_out(asked))
        counts = {"num_keys": len(asked.keys or ()), "num_tags": len(asked.tags or ())}
        with self._audit.action(
            who_of(caller), "invalidate", collection=asked.collection, **counts
        ):
            return json_response(await self.carry_out(asked))

    async def carry_out(self, asked: Invalidate) -> dict[str, Any]:
        """Invalidate and return where that stands, as JSON."""
        positions: Mapping[ChannelName, Position] = {}
        if asked.is_empty:
            self._check_collection(asked.collection)
        else:
            positions = await self._calls.invalidate(
                asked.collection, keys=asked.keys, tags=asked.tags, cause=asked.cause
            )
        return {"positions": _positions_json(positions)}

    def _check_collection(self, collection: str) -> None:
        if collection not in self._owner.cache_settings():
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)

    # -------------------------------------------------------------------------------------------- reading

    async def entries(self, _service: str) -> Response:
        """Answer `GET /api/entries`."""
        asked = parse_entries(request.args, request.headers.getlist("Syncd-After"))
        answer = await self._calls.read(asked.collection, asked.keys, asked.after)
        texts = iter(
            await json_from_bodies(
                [entry.value for entry in answer.entries if entry.value is not None]
            )
        )
        rows = []
        for entry in answer.entries:
            row = json.dumps({"key": entry.key, "version": entry.version}, separators=(",", ":"))
            last = '"deleted":true' if entry.value is None else f'"value":{next(texts)}'
            rows.append(f"{row[:-1]},{last}}}")
        response = json_response(
            {"channel": answer.channel, "position": position_json(answer.position)}
        )
        head = await response.get_data(as_text=True)
        response.set_data(f'{head[:-1]},"entries":[{",".join(rows)}]}}')
        return response

    # -------------------------------------------------------------------------------------------- the cache

    async def cache_stats(self, _operator: Identity) -> Response:
        """Answer `GET /api/cache/stats`."""
        counts = self._named(self._owner.cache_statistics())
        return json_response({"collections": counts, "total": total_counts(counts)})

    async def cache_config(self, _operator: Identity) -> Response:
        """Answer `GET /api/cache/config`."""
        return json_response({"collections": self._named(self._owner.cache_settings())})

    async def change_cache_config(self, operator: Identity) -> Response:
        """Answer `POST /api/cache/config`."""
        asked = parse_change_settings(await read_object())
        about = {"collection": asked.collection, "changes": dict(asked.changes)}
        with self._audit.action(who_of(operator), "cache_config", **about):
            settings = self._owner.change_settings(asked.collection, asked.changes)
        return json_response({"collections": {asked.collection: settings}})

    async def cache_clear(self, operator: Identity) -> Response:
        """Answer `POST /api/cache/clear`."""
        collection = parse_clear(await read_object())
        with self._audit.action(who_of(operator), "cache_clear", collection=collection):
            return _counts_response(await self._calls.clear(collection))

    async def cache_warm(self, operator: Identity) -> Response:
        """Answer `POST /api/cache/warm`."""
        asked = parse_warm(await read_object())
        with self._audit.action(who_of(operator), "cache_warm", collection=asked.collection):
            return _counts_response(await self._calls.warm(asked.collection, asked.keys))

    def _named(self, rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the row that the query names, or all."""
        collection = request.args.get("collection")
        if collection is None:
            return rows
        self._check_collection(collection)
        return {collection: rows[collection]}


def _counts_response(counts: Mapping[str, int]) -> Response:
    return json_response({"collections": dict(counts), "total": sum(counts.values())})


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {"status": outcome.status}
    if outcome.status == "ok" and outcome.value is not None:
        told["value"] = jsonable(outcome.value)
    if outcome.status == "rejected":
        told["error"] = {"code": outcome.code, "message": outcome.message}
    told["positions"] = _positions_json(outcome.positions)
    return told


def _positions_json(positions: Mapping[ChannelName, Position]) -> dict[str, Any]:
    return {channel: position_json(position) for channel, position in positions.items()}


def collections_json(app: AppDefinition) -> dict[str, Any]:
    """Return the options of every collection, as `/api/info` lists them. Limits are those at the start."""
    return {name: _collection_json(app, each) for name, each in app.collections.items()}


def _collection_json(app: AppDefinition, each: CollectionDefinition) -> dict[str, Any]:
    return {
        "partitioned": each.is_partitioned,
        "volatile": each.is_volatile,
        "max_entries": each.max_entries,
        "max_bytes": each.max_bytes,
        "max_value_bytes": each.max_value_bytes,
        "ttl_s": each.ttl_s,
        "stale_s": each.stale_s,
        "negative_ttl_s": each.negative_ttl_s,
        "history_size": each.history_size,
        "history_age_s": each.history_age_s,
        "has_loader": each.loader is not None,
        "has_scanner": each.scanner is not None,
        "has_on_commit": each.on_commit is not None,
        "mutators": sorted(
            mutator.name for mutator in app.mutators if mutator.collection == each.name
        ),
    }
