"""Collections and mutations of the model server: SPEC sections 17 and 18 in the plainest way, no I/O, no clock, no limits.

Owned by `ModelServer`. Events of a commit are queued to every session before the outcome is; pages of a snapshot wait until a
test lets them go, so that it can put anything between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from syncd.client.local_tx import BUILT_IN, LocalMutator, LocalRejected, LocalTx, Place
from syncd.client.values import NOTHING
from syncd.codes import ErrorCode
from syncd.wire.merge_patch import find_patch

if TYPE_CHECKING:
    from syncd.testing.model_server import ModelSession

__all__ = ["ModelEntries", "ModelState", "ModelWatches"]

Body = dict[str, Any]


@attrs.define(eq=False)
class ModelEntries:
    """The channel of a collection or of one partition, and its whole past."""

    name: str
    collection: str
    epoch: str
    top: int = 0
    floor: int = 0
    entries: dict[str, tuple[int, Any]] = attrs.field(factory=dict)
    """Key to version and value, of what is there."""
    events: list[Body] = attrs.field(factory=list)
    """Bodies that are kept, each with its full value; offsets floor+1..top."""

    def position(self) -> Body:
        """Return where it stands."""
        return {"epoch": self.epoch, "offset": self.top}

    def told(self, key: str) -> Body:
        """Return an entry as `watched` and `read` tell it."""
        if key not in self.entries:
            return {"key": key, "version": self.top, "deleted": True}
        version, value = self.entries[key]
        return {"key": key, "version": version, "value": value}


class ModelState:
    """Every collection's channels, every client's outcomes."""

    def __init__(self, fresh: Callable[[str], str], sessions: list[ModelSession]) -> None:
        self.partitioned: set[str] = set()
        """Collections whose keys are `<partition>/<id>`."""
        self.channels: dict[str, ModelEntries] = {}
        self.mutators: dict[str, LocalMutator] = {}
        self.last: dict[str, int] = {}
        self.outcomes: dict[tuple[str, int], Body] = {}
        self.num_runs: dict[tuple[str, int], int] = {}
        """How often each mutation took effect."""
        self.failures: list[tuple[ErrorCode, int]] = []
        """Errors, with `after_ms`, for the next mutations."""
        self.failed_watches: list[tuple[ErrorCode, int]] = []
        """Errors, with `after_ms`, for the next watches."""
        self.page_size = 1_000_000
        self.tells_patches = True
        self.tells_top = True
        """Who goes on from a position is told at once where the missed events end, not only by the `mark` behind them."""
        self._fresh = fresh
        self._sessions = sessions

    def channel_of(self, collection: str, key: str) -> ModelEntries:
        """Return the channel of an entry, made on first use."""
        name = collection
        if collection in self.partitioned:
            name = f"{collection}/{key.partition('/')[0]}"
        return self.channel(name, collection)

    def channel(self, name: str, collection: str) -> ModelEntries:
        """Return a channel, made on first use."""
        if name not in self.channels:
            self.channels[name] = ModelEntries(name, collection, self._fresh("epoch"))
        return self.channels[name]

    def value(self, place: Place) -> Any:
        """Return an entry's value, or `NOTHING`."""
        return self.channel_of(*place).entries.get(place[1], (0, NOTHING))[1]

    # -------------------------------------------------------------------------------- changing

    def write(self, collection: str, key: str, value: Any, by: Body | None = None) -> ModelEntries:
        """Set an entry (`NOTHING`: delete it), and tell whoever watches it; return its channel."""
        channel = self.channel_of(collection, key)
        if value is NOTHING and key not in channel.entries:
            return channel
        base, old = channel.entries.get(key, (0, NOTHING))
        channel.top += 1
        if value is NOTHING:
            del channel.entries[key]
        else:
            channel.entries[key] = (channel.top, value)
        data: Body = {"deleted": True} if value is NOTHING else {"value": value}
        body: Body = {"channel": channel.name, "key": key, "data": data, "at_ms": 0}
        body |= channel.position()
        if by is not None:
            body["by"] = by
        channel.events.append(body)
        patch = find_patch(old, value) if self.tells_patches else None
        told = body if patch is None else {**body, "data": {"patch": patch, "base": base}}
        for session in self._sessions:
            if session.state.covers(channel.name, key):
                session.send("event", told)
        return channel

    def invalidate(self, collection: str, **what: Any) -> None:
        """Tell every watcher of a collection without partitions that entries may have changed."""
        channel = self.channel(collection, collection)
        channel.top += 1
        body = {"channel": channel.name, **channel.position(), **what, "at_ms": 0}
        for session in self._sessions:
            if channel.name in session.state.watched:
                session.send("invalidate", body)

    def change_epoch(self, name: str) -> None:
        """Begin the channel anew with the same entries: a restored copy, say. Its connections are for the test to end."""
        channel = self.channels[name]
        channel.epoch = self._fresh("epoch")
        channel.events, channel.top = [], len(channel.entries)
        channel.floor = channel.top
        values = [(key, value) for key, (_, value) in sorted(channel.entries.items())]
        channel.entries = {key: (n, value) for n, (key, value) in enumerate(values, 1)}

    def trim(self, name: str) -> None:
        """Forget the past: nobody recovers, everybody gets a snapshot."""
        channel = self.channels[name]
        channel.events, channel.floor = [], channel.top

    def mark(self, name: str) -> None:
        """Tell every watcher where the channel stands."""
        for session in self._sessions:
            if name in session.state.watched:
                body = {"channel": name, "position": self.channels[name].position()}
                session.send("mark", body)

    def lag(self, name: str) -> None:
        """Stop the delivery of a channel to everybody."""
        for session in self._sessions:
            if name in session.state.watched:
                del session.state.watched[name]
                session.state.forget_pages(name)
                session.send("lagged", {"channel": name})

    # -------------------------------------------------------------------------------- mutating

    def run(self, client: str, body: Body) -> Body:
        """Run a mutation that is the client's next; return the outcome, which is kept."""
        mid, name, args = body["mid"], body["name"], body.get("args")
        outcome: Body = {"client": client, "mid": mid, "status": "ok", "positions": {}}
        collection, _, last = name.rpartition(".")
        run = self.mutators.get(name) or BUILT_IN.get(last)
        tx = LocalTx(collection or None, self._read, reason="server", now_ms=0)
        try:
            if run is None:
                tx.reject("unknown_mutator")
            value = run(tx, **args) if isinstance(args, dict) else run(tx, *(args or ()))
        except LocalRejected as rejected:
            error = {"code": rejected.code, "message": rejected.message}
            outcome |= {"status": "rejected", "error": error}
        except Exception:  # noqa: BLE001 - isolation: as at a node
            outcome |= {"status": "rejected", "error": {"code": "mutator_failed", "message": ""}}
        else:
            if value is not None:
                outcome["value"] = value
            for (where, key), written in tx.writes.items():
                channel = self.write(where, key, written, {"client": client, "mid": mid})
                outcome["positions"][channel.name] = channel.position()
            self.num_runs[client, mid] = self.num_runs.get((client, mid), 0) + 1
        self.last[client] = mid
        self.outcomes[client, mid] = outcome
        return outcome

    def _read(self, place: Place) -> tuple[Any, int | None, bool]:
        version, value = self.channel_of(*place).entries.get(place[1], (0, NOTHING))
        return value, version, True

    def forget_client(self, client: str) -> None:
        """Lose everything about a client."""
        self.last.pop(client, None)
        for place in [place for place in self.outcomes if place[0] == client]:
            del self.outcomes[place]


class ModelWatches:
    """The state side of one session."""

    def __init__(self, state: ModelState, session: ModelSession) -> None:
        self.watched: dict[str, set[str] | None] = {}
        """Channel to watched keys; None: all of it."""
        self.pages: list[tuple[ModelEntries, Body, list[str], Mapping[str, int]]] = []
        """Snapshots that are not complete: channel, head, keys left, and the versions the client has."""
        self._state = state
        self._session = session
        self.handlers: dict[str, Callable[[Body], None]] = {
            "watch": self._on_watch,
            "unwatch": self._on_unwatch,
            "read": self._on_read,
            "mutate": self._on_mutate,
            "mutate_ack": self._on_mutate_ack,
        }

    def covers(self, channel: str, key: str) -> bool:
        """Return whether this session is told of an entry."""
        keys = self.watched.get(channel, set())
        return keys is None or key in keys

    def gone(self) -> None:
        """The connection is over."""
        self.watched.clear()
        self.pages.clear()

    def forget_pages(self, channel: str) -> None:
        """A watch is over, its snapshot too."""
        self.pages = [page for page in self.pages if page[0].name != channel]

    def next_page(self) -> bool:
        """Send one more page of the oldest snapshot; return whether there was one."""
        if not self.pages:
            return False
        self._send_page("snapshot", *self.pages.pop(0))
        return True

    def _send_page(
        self, kind: str, channel: ModelEntries, head: Body, keys: list[str], have: Mapping[str, int]
    ) -> None:
        """Tell some entries as they are now, and as of which mutations that is."""
        size, session = self._state.page_size, self._session
        told, unchanged = [], []
        for entry in map(channel.told, keys[:size]):
            if have.get(entry["key"]) == entry["version"] and "value" in entry:
                unchanged.append(entry["key"])
            else:
                told.append(entry)
        rest = keys[size:]
        body = {**head, "entries": told, "unchanged": unchanged, "more": bool(rest)}
        if session.client is not None and session.client in self._state.last:
            body["decided"] = {session.client: self._state.last[session.client]}
        session.send(kind, body)
        if rest:
            self.pages.append((channel, {"id": head["id"], "channel": channel.name}, rest, have))

    def _on_watch(self, body: Body) -> None:
        state, collection = self._state, body["collection"]
        if state.failed_watches:
            self._session.fail(body, *state.failed_watches.pop(0))
            return
        keys, partition = body.get("keys"), body.get("partition")
        if keys is not None:
            channel = state.channel_of(collection, keys[0])
        else:
            name = collection if partition is None else f"{collection}/{partition}"
            channel = state.channel(name, collection)
        present = self.watched.get(channel.name, set())
        is_whole = keys is None or present is None
        self.watched[channel.name] = None if is_whole else {*(present or ()), *(keys or ())}
        head: Body = {"id": body["id"], "channel": channel.name, "position": channel.position()}
        position = body.get("position")
        if position is not None and self._may_recover(channel, position):
            answer: Body = {"recovered": True, "entries": [], "unchanged": [], "more": False}
            if not state.tells_top:
                head["position"] = position
            self._session.send("watched", head | answer)
            for event in channel.events:
                is_wanted = keys is None or event["key"] in keys
                if event["offset"] > position["offset"] and is_wanted:
                    self._session.send("event", event)
            mark = {"channel": channel.name, "position": channel.position()}
            self._session.send("mark", mark)
            return
        have = body.get("have") or {"epoch": "", "versions": {}}
        versions = have["versions"] if have["epoch"] == channel.epoch else {}
        wanted = sorted(channel.entries) if keys is None else list(keys)
        head["recovered"] = False
        self._send_page("watched", channel, head, wanted, versions)

    @staticmethod
    def _may_recover(channel: ModelEntries, position: Body) -> bool:
        if position["epoch"] != channel.epoch:
            return False
        return bool(channel.floor <= position["offset"] <= channel.top)

    def _on_unwatch(self, body: Body) -> None:
        partition = body.get("partition")
        name = body["collection"] if partition is None else f"{body['collection']}/{partition}"
        if name not in self.watched:
            self._session.fail(body, ErrorCode.NOT_WATCHED)
            return
        left = self.watched[name]
        if body.get("keys") is not None and left is not None:
            left -= set(body["keys"])
        if body.get("keys") is None or not left:
            del self.watched[name]
            self.forget_pages(name)
        self._session.send("ok", {"id": body["id"]})

    def _on_read(self, body: Body) -> None:
        channel = self._state.channel_of(body["collection"], body["keys"][0])
        entries = [channel.told(key) for key in body["keys"]]
        answer = {"id": body["id"], "position": channel.position(), "entries": entries}
        self._session.send("ok", answer)

    def _on_mutate(self, body: Body) -> None:
        state, session = self._state, self._session
        client = body.get("client") or session.client or ""
        mid, last = body["mid"], state.last.get(client, 0)
        if mid > last + 1:
            session.send("out_of_order", {"client": client, "expect": last + 1})
        elif mid <= last:
            unknown = {"client": client, "mid": mid, "status": "unknown", "positions": {}}
            session.send("outcome", state.outcomes.get((client, mid), unknown))
        elif state.failures:
            code, after_ms = state.failures.pop(0)
            error = {"client": client, "mid": mid, "code": code.value, "message": code.text}
            error |= {"retryable": code.retryable, "after_ms": after_ms}
            session.send("error", error)
        else:
            session.send("outcome", state.run(client, body))

    def _on_mutate_ack(self, body: Body) -> None:
        client = body.get("client") or self._session.client
        for place in [p for p in self._state.outcomes if p[0] == client and p[1] <= body["upto"]]:
            del self._state.outcomes[place]
