"""What a node remembers in its own channels, when nobody is there to tell it."""

from syncd.errors import ActorStopped
from syncd.ids import ChannelName
from syncd.news import News


class Stopped:
    """A broadcaster of a node that stops."""

    async def submit(self, commands, size_bytes):
        raise ActorStopped

    def submit_nowait(self, commands, size_bytes):
        raise ActorStopped


async def test_a_node_that_stops_while_it_starts_recalls_nothing_and_does_not_fail():
    news = News(Stopped())
    assert await news.recall(ChannelName("$audit:log"), 10) == []
    assert not news.tell(ChannelName("$audit:log"), "x", 1)
