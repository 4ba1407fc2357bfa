"""Mutations for a store actor, a worker that holds them, and a store that notes what it is told to do."""

from syncd.ids import ChannelName, Epoch
from syncd.ports_log import IdempotencyKey
from syncd.ports_state import EntryRead, EntryWrite, KeyName, MutationCommit
from syncd.store.memory import MemoryStore
from tests.actors import store_world
from tests.actors.store_world import OPTIONS, StepWorker, settled

ORDERS = ChannelName("orders")
EPOCH = Epoch("e")


def event(uid=None):
    """An append to the channel of the mutations."""
    return store_world.event(ORDERS, uid=uid)


def mutation(client, mid, *keys, reads=(), value=b"v", is_forwarded=False):
    writes = [EntryWrite(ORDERS, KeyName(k), value, b"record", (), is_forwarded) for k in keys]
    seen = [EntryRead(ORDERS, KeyName(key), *version) for key, *version in reads]
    return MutationCommit(client, mid, seen, writes, b"outcome", 0)


def service(name, *keys, request_hash=b"h"):
    made = mutation(None, 0, *keys)
    made.idempotency = IdempotencyKey("service:a", "mutate", name, request_hash)
    return made


class HeldWorker(StepWorker):
    """Performs a job and lets everybody hear of it."""

    async def step(self):
        super().step()
        await settled()


class WatchedStore(MemoryStore):
    """Notes what it is told to do, and fails to commit when told to."""

    def __init__(self):
        super().__init__(OPTIONS)
        self.open()
        self.calls = []
        self.fault = None

    def begin(self, batch):
        self.calls.append(("begin", len(batch)))
        return super().begin(batch)

    def begin_commit(self, group):
        self.calls.append(("begin_commit", len(group)))
        return super().begin_commit(group)

    def acknowledge(self, client, upto, era=""):
        self.calls.append(("acknowledge", client, upto, *([era] if era else ())))
        super().acknowledge(client, upto, era)

    def acknowledge_forwarded(self, channel, key, version, epoch=None):
        self.calls.append(("forwarded", channel, key, version))
        super().acknowledge_forwarded(channel, key, version, epoch)

    def commit(self):
        self.calls.append(("commit",))
        if self.fault is not None:
            self.rollback()
            raise self.fault
        super().commit()

    def probe(self):
        if self.fault is not None:
            raise self.fault
