"""What this node says to its peers: one dense sequence of messages, what is gathered for the next of them, and its snapshot in pages.

Owned by the cluster room. Every message that the bus takes gets the next `seq`; one that it refuses gets none and stays gathered, so
that peers see a gap only where the bus lost something. Bounds: what is gathered is one change a client of this node, and beyond
`MAX_PENDING` a snapshot instead (policy: COALESCE).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from syncd.model.peer_codec import encode
from syncd.model.peer_messages import (
    Changes,
    Page,
    PeerMessage,
    Taken,
    Term,
    Terms,
)
from syncd.model.peers import Claims
from syncd.ports_cluster import (
    Claim,
    PresenceChange,
    PresenceKey,
    Revoked,
    SessionsPort,
    Withdrawal,
)

__all__ = ["OwnPresence", "Snapshot", "Speaker"]

PAGE_BYTES = 65_536
"""A message of this size takes a peer about 2 ms."""
PAGES_PER_TICK = 32
"""2 MiB a second: a node of 10,000 members has told all after one."""
ROWS_PER_PAGE = 500
MAX_PENDING = 20_000
MAX_TAKEN = 20_000
"""More take-overs than that in one tick: the oldest are not told (policy: DROP); such sessions end when they are found dead."""
ROW_BYTES = 64
"""Of a change, besides names and state."""
UNBOUNDED = 2**63


class Speaker:
    """Numbers and publishes messages, and gathers those that are told in batches."""

    def __init__(self, node: str, publish: Callable[[bytes], bool]) -> None:
        self.node = node
        self.seq = 0
        self.is_up = False
        self.num_refused = 0
        self._publish = publish
        self._taken: dict[str, int] = {}
        self._terms: dict[tuple[str | None, str], int] = {}

    def say(self, message: PeerMessage) -> bool:
        """Publish a message; False: the bus does not take it now."""
        if self.is_up and self._publish(encode(self.node, self.seq + 1, message)):
            self.seq += 1
            return True
        self.num_refused += 1
        return False

    def take(self, client: str, stamp: int) -> None:
        """Tell that a client speaks through this node since a stamp."""
        self._taken[client] = stamp
        if len(self._taken) > MAX_TAKEN:
            del self._taken[next(iter(self._taken))]

    def enter(self, user: str | None, group: str, term: int) -> None:
        """Tell the newest term of a group."""
        self._terms[user, group] = term
        if len(self._terms) > MAX_TAKEN:
            del self._terms[next(iter(self._terms))]

    def flush(self) -> None:
        """Say what was gathered."""
        while self._taken:
            clients = list(islice(self._taken.items(), ROWS_PER_PAGE))
            if not self.say(Taken(clients)):
                return
            for client, _ in clients:
                del self._taken[client]
        while self._terms:
            terms = list(islice(self._terms.items(), ROWS_PER_PAGE))
            if not self.say(Terms([(*key, term) for key, term in terms])):
                return
            for key, _ in terms:
                del self._terms[key]


class OwnPresence:
    """What this node claims, and what of it the peers were not told yet."""

    def __init__(self, speaker: Speaker) -> None:
        self.claims = Claims()
        self.owes_snapshot = False
        """More changed than could be told."""
        self._speaker = speaker
        self._pending: dict[PresenceKey, PresenceChange] = {}
        self._unconfirmed: set[PresenceKey] = set()
        """Claims of a presence actor that crashed, not made anew."""
        self._confirm_until = 0.0

    @property
    def digest(self) -> int | None:
        """What a peer that heard everything has to come to; None while something was not told."""
        return None if self._pending or self.owes_snapshot else self.claims.digest

    def change(self, changes: dict[PresenceKey, PresenceChange]) -> None:
        """Take changes, to be told."""
        self.claims.apply(changes, UNBOUNDED)
        self._unconfirmed.difference_update(changes)
        for key, change in changes.items():
            self._pending.pop(key, None)
            self._pending[key] = change
        if len(self._pending) > MAX_PENDING:
            self._pending.clear()
            self._speaker.seq += 1  # a gap, so that peers ask
            self.owes_snapshot = True

    def doubt(self, until: float) -> None:
        """All claims have to be made again until then."""
        self._unconfirmed = set(self.claims.by_key)
        self._confirm_until = until

    def settle(self, now: float) -> None:
        """Withdraw what was not claimed again in time."""
        if not self._unconfirmed or now < self._confirm_until:
            return
        held = self.claims.by_key
        self.change({k: Withdrawal(held[k].stamp) for k in self._unconfirmed if k in held})
        self._unconfirmed = set()

    def flush(self) -> bool:
        """Tell what changed, in messages of bounded size; False when something is left."""
        while self._pending:
            part = _part(self._pending)
            if not self._speaker.say(Changes(part)):
                return False
            for key in part:
                del self._pending[key]
        return True


class Snapshot:
    """Everything that a peer who missed something has to know of this node, told to all in pages."""

    def __init__(
        self, speaker: Speaker, own: OwnPresence, sessions: Callable[[], SessionsPort | None]
    ) -> None:
        self.num_told = 0
        self._speaker = speaker
        self._own = own
        self._sessions = sessions
        self._wanted_at: float | None = None
        self._pages: Iterator[Page] | None = None

    def want(self, at: float) -> None:
        """Somebody asked: begin at this time, or behind the one that is being told, whose beginning they may have missed."""
        if self._wanted_at is None:
            self._wanted_at = at

    def advance(self, now: float) -> None:
        """Tell as many pages as a tick may. What changes meanwhile has to be told before: see `OwnPresence.flush`."""
        for _ in range(PAGES_PER_TICK):
            if self._pages is None:
                if self._wanted_at is None or now < self._wanted_at:
                    return
                self._wanted_at = None
                self._pages = self._all_pages()
            page = next(self._pages)
            if not self._speaker.say(page):
                self._pages = None  # a page that waits would tell what is not so any more
                self._wanted_at = now
                return
            if page.is_last:
                self._pages = None
                self._own.owes_snapshot = False
                self.num_told += 1

    def _all_pages(self) -> Iterator[Page]:
        sessions = self._sessions()
        yield Page(True, False, {}, [], [])  # noqa: FBT003 - the columns of a page
        for claims in self._claims():
            yield Page(False, False, claims, [], [])  # noqa: FBT003
        if sessions is not None:
            revoked: Iterator[Revoked] = iter(list(sessions.revoked()))
            while rows := list(islice(revoked, ROWS_PER_PAGE)):
                yield Page(False, False, {}, rows, [])  # noqa: FBT003
            terms: Iterator[Term] = iter(list(sessions.terms()))
            while found := list(islice(terms, ROWS_PER_PAGE)):
                yield Page(False, False, {}, [], found)  # noqa: FBT003
        yield Page(False, True, {}, [], [])  # noqa: FBT003

    def _claims(self) -> Iterator[dict[PresenceKey, Claim]]:
        """Return claims as they are when their page is made; what comes later is told as a change."""
        held = self._own.claims.by_key
        page: dict[PresenceKey, Claim] = {}
        size = 0
        for key in list(held):
            claim = held.get(key)
            if claim is None:
                continue
            page[key] = claim
            size += _size_of(key, claim)
            if size >= PAGE_BYTES or len(page) >= ROWS_PER_PAGE:
                yield page
                page, size = {}, 0
        if page:
            yield page


def _part(changes: dict[PresenceKey, PresenceChange]) -> dict[PresenceKey, PresenceChange]:
    """Return the first changes that fit one message."""
    part: dict[PresenceKey, PresenceChange] = {}
    size = 0
    for key, change in changes.items():
        part[key] = change
        size += _size_of(key, change)
        if size >= PAGE_BYTES or len(part) >= ROWS_PER_PAGE:
            break
    return part


def _size_of(key: PresenceKey, change: PresenceChange) -> int:
    state = len(change.state) if isinstance(change, Claim) else 0
    return ROW_BYTES + len(key[0]) + len(key[1]) + state
