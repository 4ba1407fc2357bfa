"""All memory channels together have a bound in bytes."""

from syncd.actors.broadcaster.rooms import Rooms
from syncd.config import Action, Namespace
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.channel import Verdict
from syncd.ports import Subscription

NAMESPACES = {"mem": Namespace("mem", allow=dict.fromkeys(Action, ("anyone",)))}


class Desk:
    def __init__(self, max_bytes):
        self.num_epochs = 0
        self.rooms = Rooms(NAMESPACES, 1000, max_bytes, self.new_epoch)

    def new_epoch(self):
        self.num_epochs += 1
        return Epoch(f"e{self.num_epochs}")

    def publish(self, name, size):
        channel = self.rooms.open(ChannelName(f"mem:{name}")).channel
        before = channel.size_bytes
        channel.append(b"x" * size, 1000, None)
        self.rooms.memory_bytes += channel.size_bytes - before
        if self.rooms.memory_bytes > self.rooms.max_bytes:
            self.rooms.make_room(channel)
        return channel

    def held(self):
        return sum(room.channel.size_bytes for room in self.rooms.by_name.values())


def test_the_oldest_channels_without_subscribers_make_room():
    desk = Desk(1000)
    kept = desk.rooms.open(ChannelName("mem:kept"))
    kept.subscribers[Subscription(None, kept.name)] = None
    desk.publish("kept", 300)
    for number in range(10):
        desk.publish(number, 300)
        assert desk.rooms.memory_bytes == desk.held() <= 1000
    assert kept.channel.size_bytes == 300
    assert ChannelName("mem:0") not in desk.rooms.by_name


def test_a_channel_that_nobody_can_make_room_for_loses_its_own_events():
    desk = Desk(1000)
    room = desk.rooms.open(ChannelName("mem:a"))
    room.subscribers[Subscription(None, room.name)] = None
    for _ in range(5):
        desk.publish("a", 300)
        assert desk.rooms.memory_bytes == desk.held() <= 1000
    epoch, top = room.channel.epoch, room.channel.top
    assert room.channel.recover(Position(epoch, 1)).verdict is Verdict.LOST
    assert room.channel.recover(Position(epoch, top)).verdict is Verdict.RECOVERED


def test_events_that_expire_are_not_counted_any_more():
    desk = Desk(1000)
    desk.publish("a", 300)
    desk.rooms.sweep(1000 + 86_400_001, 10)
    assert desk.rooms.memory_bytes == 0
    assert desk.rooms.by_name == {}


def test_more_channels_than_one_turn_looks_at_still_stay_within_the_bound():
    desk = Desk(100_000)
    for number in range(500):
        desk.publish(number, 1000)
        assert desk.rooms.memory_bytes == desk.held() <= 100_000
