"""Whose turn it is in a round of the poller: whoever has a session comes first, and who comes gets a slice of the round. Over real sockets."""

import socket
import types

import pytest

from syncd.gateway.poller import ARRIVALS_S, MAX_READY, Poller
from syncd.wire.session import Phase

STEP_S = ARRIVALS_S / 4.5
"""What each look at the clock takes: five who come fill the slice."""
A_SLICE = 5


class Hub:
    """Writes down who was served."""

    def __init__(self):
        self.now = self.time = 0.0
        self.config = types.SimpleNamespace(limits=types.SimpleNamespace(read_bytes_per_tick=100))
        self.writer = types.SimpleNamespace(flush=lambda: self.served.append("flush"))
        self.served = []

    def clock(self):
        return 0.0

    def timer(self):
        """Time passes with each look."""
        self.time += STEP_S
        return self.time

    def open(self, sock, fd, _peer, _driver):
        self.served.append("accept")
        return types.SimpleNamespace(
            fd=fd, sender=sock, phase=Phase.HEAD, outbox=None, is_paused=False
        )

    def receive(self, _connection, data):
        self.served.append(data.decode())

    def drop(self, connection):
        connection.phase = Phase.CLOSED
        self.served.append("drop")

    def hand_over(self):
        self.served.append("hand over")

    def admit(self, _connection):
        """Of `HeadHandler`."""

    def receive_head(self, _connection, data):
        """Of `HeadHandler`."""
        self.served.append(data.decode())


class World:
    def __init__(self):
        self.hub = Hub()
        self.poller = Poller(self.hub, self.hub, timer=self.hub.timer)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.poller.listen(self.listener)
        self.clients = []

    def dial(self):
        self.clients.append(socket.create_connection(self.listener.getsockname()))
        return self.clients[-1]

    def enter(self, count, phase):
        """Let clients in, as far as that."""
        before = set(self.poller._by_fd)
        entered = [self.dial() for _ in range(count)]
        while len(self.poller._by_fd) < len(before) + count:
            self.round()
        for fd in self.poller._by_fd.keys() - before:
            self.poller._by_fd[fd].phase = phase
        return entered

    def round(self):
        """Return who was served, in order."""
        self.hub.served = []
        self.poller._round(self.poller._epoll.poll(1, MAX_READY))
        assert self.hub.served[-2:] == ["hand over", "flush"]
        return self.hub.served[:-2]

    def close(self):
        self.poller.stop_listening()
        for sock in [*self.poller.sockets.values(), *self.clients]:
            sock.close()
        self.poller._epoll.close()


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


@pytest.mark.parametrize("phase", [Phase.HEAD, Phase.OPENING])
def test_a_crowd_at_the_door_comes_behind_whoever_has_a_session_and_in_slices(world, phase):
    crowd = world.enter(3 * A_SLICE, phase)
    (inside,) = world.enter(1, Phase.OPEN)
    for client in crowd:
        client.send(b"come")
    inside.send(b"inside")
    assert world.round() == ["inside", *["come"] * A_SLICE]
    inside.send(b"again")
    assert world.round() == ["again", *["come"] * A_SLICE]
    assert world.round() == ["come"] * A_SLICE


def test_new_connections_share_the_slice_with_those_who_come(world):
    crowd = world.enter(2, Phase.HEAD)
    for client in crowd:
        client.send(b"come")
    for _ in range(A_SLICE):
        world.dial()
    assert world.round() == [*["come"] * 2, *["accept"] * (A_SLICE - 2)]
    assert world.round() == ["accept"] * 2


def test_however_many_come_one_more_is_accepted_each_round(world):
    for client in world.enter(3 * A_SLICE, Phase.HEAD):
        client.send(b"come")
    for _ in range(3):
        world.dial()
    rounds = [world.round() for _ in range(3)]
    assert rounds == [[*["come"] * A_SLICE, "accept"]] * 3


def test_a_listener_that_fails_again_and_again_does_not_hold_the_round(world):
    """As one does whose connections a firewall refuses."""
    failing = types.SimpleNamespace(accept=lambda: (_ for _ in ()).throw(PermissionError()))
    world.poller._listeners = dict.fromkeys(world.poller._listeners, failing)
    world.dial()
    assert world.round() == []
    world.poller._listeners.clear()
    world.listener.close()


def test_one_who_left_while_others_were_served_is_not_read(world):
    crowd = world.enter(2, Phase.HEAD)
    for client in crowd:
        client.send(b"come")
    first, second = world.poller._by_fd.values()
    world.hub.receive_head = lambda *_: (world.hub.drop(first), world.hub.drop(second))
    assert world.round() == ["drop", "drop"]
