"""A client's core that is connected, and what of its outputs tests look at."""

import itertools
import random

from syncd.client.core import ClientCore
from syncd.client.facts import Send
from syncd.client.frames import decode_frame, encode
from syncd.client.tables import ConnectionState

WELCOME = {
    "session": "s1",
    "clients": [{"client": "c1", "secret": "shh", "last_mid": 0}],
    "server_time_ms": 0,
    "ping_ms": 25_000,
    "max_frame_bytes": 1000,
}


def make(**options):
    counter = itertools.count()
    return ClientCore(random.Random(1), lambda: f"uid{next(counter)}", **options)


def sent(core):
    outputs = core.take()
    return [m for o in outputs if isinstance(o, Send) for m in decode_frame(o.data)]


def of(kind, outputs):
    return [o for o in outputs if isinstance(o, kind)]


def connected(now=0.0, **options):
    core = make(**options)
    core.start(now)
    core.connect_succeeded()
    core.receive(encode("welcome", WELCOME), now)
    core.take()
    assert core.state is ConnectionState.CONNECTED
    return core
