"""Plays one scene against the Python client's core and writes down every step and what is visible after it.

What a scene is about it asserts by `shows` and its kin, by hand; the rest is recorded.
"""

from __future__ import annotations

import random
from typing import Any

import attrs
import msgpack

from scripts.traces.mutators import MUTATORS
from scripts.traces.steps import Steps
from scripts.vectors.case import plain
from syncd.client.connection import ClientClaim
from syncd.client.core import ClientCore
from syncd.client.errors import ClientError, MutationRejected, QueueFull, RequestFailed
from syncd.client.facts import Dial, Hangup, Send, Settled
from syncd.client.facts_state import Invalidated, MutationOutcome, ViewChanged, WatchEnded
from syncd.client.tables import ConnectionState
from syncd.client.watch import Selection
from syncd.ids import ClientId

__all__ = ["EPOCH", "Scene"]

EPOCH = "e1"
Body = dict[str, Any]


class Scene(Steps):
    """A trace that is being written. Every method is one step, or looks at what the last one left."""

    def __init__(self, *clients: str, max_frame_bytes: int = 65_536) -> None:
        claims = [ClientClaim(ClientId(client), "s-" + client) for client in clients]
        self.clients = list(clients)
        self.claimed = list(clients)
        """Clients it speaks for from the start; a runner gives them the secret `s-<client>`."""
        self.core = ClientCore(random.Random(1), lambda: "uid", mutators=MUTATORS, claims=claims)
        self.steps: list[Body] = []
        self.now = 0.0
        self.epoch = EPOCH
        self._max_frame_bytes = max_frame_bytes
        self._request_ids: dict[int, int] = {}
        self._sent: list[list[Any]] = []
        self._done: Body = {}
        self._is_started = False

    # -------------------------------------------------------------------------------- steps

    def _step(self, do: str, **fields: Any) -> Body:
        step: Body = {"do": do, **fields}
        self._done = {"sent": [], "changes": {}, "outcomes": []}
        self._perform()
        self._sent = self._done["sent"]
        done = {key: value for key, value in self._done.items() if value}
        self.steps.append(step | plain(done) | self._visible())
        return self.steps[-1]

    def _perform(self) -> None:
        for output in self.core.take():
            match output:
                case Send(data=data):
                    self._note_sent(data)
                case ViewChanged(watch=watch, keys=keys):
                    self._done["changes"][str(watch)] = sorted(keys)
                case MutationOutcome():
                    self._done["outcomes"].append(_outcome(output))
                case Invalidated(channel=channel, keys=keys, tags=tags, is_all=is_all):
                    told = {"channel": channel, "keys": [*keys], "tags": [*tags], "all": is_all}
                    self._done.setdefault("invalidated", []).append(told)
                case WatchEnded(watch=watch, code=code):
                    self._done.setdefault("ended", []).append({"watch": watch, "code": code})
                case Hangup():
                    self._done["hangs_up"] = True
                case Settled(result=result, error=error):
                    assert error is None
                    assert result is not None
                    self._done.setdefault("read", []).append(_entries(result))
                case _:
                    """Dials and states of the connection are no part of a trace."""

    def _note_sent(self, frame: bytes) -> None:
        unpacker = msgpack.Unpacker()
        unpacker.feed(frame)
        for kind, body in unpacker:
            if kind == "watch":
                self._request_ids[self._watch_of(body["id"])] = body["id"]
            if kind != "pong":
                self._done["sent"].append([kind, body])

    def _watch_of(self, request_id: int) -> int:
        return next(w.id for w in self.core.entries.watches if w.request_id == request_id)

    def _visible(self) -> Body:
        views: Body = {}
        for watch in self.core.entries.watches:
            view = None
            if watch.is_shown:
                items = self.core.entries.items(watch.id)
                pending = [key for key in items if self.core.entries.pending_of(watch.id, key)]
                view = {"entries": plain(items), "pending": pending, "current": watch.is_live}
            views[str(watch.id)] = view
        places = [[p.id, p.slot, p.mid] for p in self.core.entries.pending]
        return {"views": views, "pending": places}

    def watch(self, **what: Any) -> int:
        """The application watches; returns the number of the watch."""
        collection = what.pop("collection", "orders")
        keys = what.get("keys")
        chosen = None if keys is None else frozenset(keys)
        watch = self.core.watch(Selection(collection, chosen, what.get("partition")))
        self._step("watch", watch=watch, collection=collection, **(what or {"all": True}))
        return watch

    def unwatch(self, watch: int) -> None:
        """The application stops watching."""
        self.core.unwatch(watch)
        self._step("unwatch", watch=watch)

    def mutate(self, name: str, args: Any = None, *, slot: int = 0) -> Body:
        """The application mutates; returns the step."""
        fields: Body = {"name": name, "args": plain(args)} | ({"slot": slot} if slot else {})
        try:
            made, _ = self.core.mutate(self.now, name, args, slot=slot)
            fields["made"] = made
        except (MutationRejected, RequestFailed) as refused:
            fields["refused"] = refused.code
        except (QueueFull, ClientError, RuntimeError) as failed:
            fields["refused"] = type(failed).__name__
        return self._step("mutate", **fields)

    def read(self, *keys: str) -> None:
        """The application reads entries once."""
        self.core.read("orders", keys)
        self._step("read", collection="orders", keys=list(keys))

    def open(self, last_mid: int = 0, *clients: Body) -> None:
        """A connection opens, hello is sent, and welcome comes."""
        if self._is_started:
            self.core.wake(self.now)
        else:
            self.core.start(self.now)
        self._is_started = True
        assert any(isinstance(output, Dial) for output in self.core.take())
        self.core.connect_succeeded()
        self._step("open")
        known = self.clients or ["c1"]
        states = [{"client": client, "last_mid": last_mid} for client in known]
        if not self.clients:
            states[0]["secret"] = "s-c1"
            self.clients = ["c1"]
        welcome: Body = {"session": "s", "clients": list(clients) or states}
        welcome |= {"server_time_ms": 0, "ping_ms": 25_000}
        self.receive(["welcome", {**welcome, "max_frame_bytes": self._max_frame_bytes}])

    def limit(self, max_frame_bytes: int) -> None:
        """The next server takes frames of another size."""
        self._max_frame_bytes = max_frame_bytes

    # -------------------------------------------------------------------------------- the server's messages

    def at(self, offset: int, epoch: str | None = None) -> Body:
        """Build a position."""
        return {"epoch": epoch or self.epoch, "offset": offset}

    def watched(self, offset: int, entries: Body | None = None, **more: Any) -> list[Any]:
        """Build the answer to the last watch (or to watch `watch`); entries: key to (version, value); decided: mid of c1, or by client."""
        watch = more.pop("watch", max(self._request_ids))
        kind = more.pop("kind", "watched")
        channel = more.pop("channel", "orders")
        body: Body = {"id": self._request_ids[watch], "channel": channel}
        if kind == "watched":
            position = self.at(offset, more.pop("epoch", None))
            body |= {"position": position, "recovered": more.pop("recovered", False)}
        told = [_entry(key, *entry) for key, entry in (entries or {}).items()]
        body |= {"entries": told, "unchanged": more.pop("unchanged", [])}
        body["more"] = more.pop("more", False)
        decided = more.pop("decided", None)
        if decided is not None:
            body["decided"] = decided if isinstance(decided, dict) else {"c1": decided}
        return [kind, body]

    def page(self, entries: Body | None = None, **more: Any) -> list[Any]:
        """Build a further page of a snapshot."""
        return self.watched(0, entries, kind="snapshot", **more)

    def event(self, offset: int, key: str, by: Any = None, **data: Any) -> list[Any]:
        """Build an event; data: value=, deleted=True, or patch= with base=. `by`: mid of c1, or (client, mid)."""
        channel, epoch = data.pop("channel", "orders"), data.pop("epoch", self.epoch)
        body = {"channel": channel, "epoch": epoch, "offset": offset, "key": key}
        if by is not None:
            client, mid = by if isinstance(by, tuple) else ("c1", by)
            body["by"] = {"client": client, "mid": mid}
        return ["event", {**body, "data": data, "at_ms": 0}]

    def outcome(self, mid: int, offset: int | None = None, **more: Any) -> list[Any]:
        """Build an outcome; `offset`: where it is visible in orders."""
        positions = {} if offset is None else {"orders": self.at(offset)}
        body = {"client": "c1", "mid": mid, "status": "ok", "positions": positions}
        return ["outcome", body | more]

    def rejected(self, mid: int, code: str, **more: Any) -> list[Any]:
        """Build a rejection."""
        error = {"code": code, "message": "no"}
        return self.outcome(mid, status="rejected", error=error, **more)

    # -------------------------------------------------------------------------------- what a scene asserts

    def shows(self, entries: Body | None, *, pending: Any = None, watch: int = 1) -> None:
        """Assert what a watch shows now."""
        view = self.steps[-1]["views"][str(watch)]
        found = None if view is None else view["entries"]
        assert found == entries, (found, entries)
        if pending is not None:
            assert view["pending"] == list(pending), view["pending"]

    def sent(self, *kinds: Any) -> None:
        """Assert what the last step sent: kinds of message, for a mutation with its number."""
        found = [(m[0], m[1]["mid"]) if m[0] == "mutate" else m[0] for m in self._sent]
        assert found == list(kinds), (found, kinds)

    def told(self, *outcomes: tuple[int, str]) -> None:
        """Assert which mutations ended in the last step, and how."""
        found = [(told["id"], told["status"]) for told in self.steps[-1].get("outcomes", [])]
        assert found == list(outcomes), found

    def refused(self, code: str) -> None:
        """Assert that the last step was refused, and left nothing behind."""
        assert self.steps[-1].get("refused") == code, self.steps[-1]

    def stays_connected(self) -> None:
        """Assert that nothing in the scene broke the connection."""
        assert self.core.state is ConnectionState.CONNECTED


def _entry(key: str, version: int, value: Any = None, *, deleted: bool = False) -> Body:
    if deleted:
        return {"key": key, "version": version, "deleted": True}
    return {"key": key, "version": version, "value": value}


def _outcome(told: MutationOutcome) -> Body:
    body: Body = {"id": told.id, "status": told.status.value}
    if told.value is not None:
        body["value"] = told.value
    if told.code is not None:
        body["code"] = told.code
    return body


def _entries(result: Any) -> list[Body]:
    return [attrs.asdict(entry) for entry in result.entries]
