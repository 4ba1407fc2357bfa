"""Actors that crash at random places while everybody publishes, subscribes and reconnects.

The faults are planted where only the supervisor catches them; clients hang up at random, too. Afterwards nothing may be missing.
"""

import contextlib

import trio

from syncd.actors import kit
from syncd.actors.broadcaster.delivering import Delivering
from syncd.actors.broadcaster.publishing import Publishing
from syncd.actors.kit import Health
from syncd.actors.store import StoreActor
from syncd.actors.store_acks import Acknowledgements
from syncd.actors.store_statistics import CommitCounts
from syncd.gateway.writer import Writer
from syncd.store.sqlite import SqliteStore
from syncd.testing.crowd import Crowd, wait_until
from syncd.testing.history import History

CHANNELS = [f"log:{index}" for index in range(4)]
BOTH = ("before", "after")
PLACES = [
    (Delivering, "deliver", ("before",)),
    (Writer, "deliver", BOTH),
    (Publishing, "submit", BOTH),
    (Publishing, "settle", BOTH),
    (Publishing, "take_touched", BOTH),
    (CommitCounts, "note", BOTH),
    (Acknowledgements, "hand_over", ("before",)),
    (StoreActor, "_read_slice", BOTH),
    (SqliteStore, "begin", ("before",)),
    (SqliteStore, "commit", BOTH),
]
"""Where, and whether the method has done its work by then. The others undo what they did before they raise."""


class Chaos(Exception):
    """What no code of ours raises."""


class Faults:
    """Faults at all places, one of which fires when told, before or after the work of its method."""

    def __init__(self, monkeypatch, rng):
        self.fired = []
        self._armed = None
        self._rng = rng
        for owner, name, _whens in PLACES:
            self._plant(monkeypatch, owner, name)

    def _plant(self, monkeypatch, owner, name):
        original = getattr(owner, name)

        def faulty(this, *args, **kwargs):
            if self._armed == (owner, name, "before"):
                self._fire()
            result = original(this, *args, **kwargs)
            if self._armed == (owner, name, "after"):
                self._fire()
            return result

        monkeypatch.setattr(owner, name, faulty)

    def _fire(self):
        self.fired.append(self._armed)
        self._armed = None
        raise Chaos

    async def fire(self):
        """Have some place raise once, and wait until it did, or nobody came by."""
        owner, name, whens = self._rng.choice(PLACES)
        self._armed = (owner, name, self._rng.choice(whens))
        with contextlib.suppress(AssertionError):
            await wait_until(lambda: self._armed is None, 0.3, "it fires")
        self._armed = None


async def live_through(node, port, monkeypatch, rng, *, num_faults, num_peers):
    """Plant faults one after another under load, and check everything; returns how many fired."""
    monkeypatch.setattr(kit, "MAX_RESTARTS", 10**9)
    faults = Faults(monkeypatch, rng)
    history = History()
    crowd = Crowd(port, CHANNELS, history)
    async with trio.open_nursery() as nursery:
        await crowd.subscribe(nursery, num_peers)
        crowd.publish(nursery, num_peers, window=3)
        for _ in range(num_faults):
            goal = history.num_acknowledged + rng.randint(1, 100)
            await wait_until(lambda goal=goal: history.num_acknowledged >= goal, 20, "work goes on")
            if rng.random() < 0.3:
                for connection in rng.sample(sorted(node.hub.connections, key=id), 3):
                    node.hub.drop(connection)
            await faults.fire()
            await wait_until(
                lambda: all(h.state is Health.OK for h in node.health()), 10, "all healed"
            )
        await crowd.settle()
        await crowd.check()
        nursery.cancel_scope.cancel("seen enough")
    assert history.violations == [], f"{history.violations[:3]} after {faults.fired}"
    unrecovered = [o.num_unrecovered for peer in crowd.subscribers for o in peer.observers.values()]
    assert set(unrecovered) == {0}, "durable channels are recovered, whatever crashed"
    assert len(node.hub.connections) <= 2 * num_peers + 1
    return len(faults.fired)
