"""A channel that is listened to though nothing of it is in memory is checked when something of it is read for the first time."""

from syncd.actors.cache_owner.holdings import Holdings
from syncd.app import App
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.decided import Decided

ORDERS = ChannelName("orders")


class Interest:
    """Says what was asked of the bridge."""

    def __init__(self):
        self.calls = []

    def enter(self, channel):
        self.calls.append(("enter", channel))

    def leave(self, channel):
        self.calls.append(("leave", channel))

    def leave_all(self):
        self.calls.clear()


def test_what_came_between_the_read_and_its_answer_is_looked_for():
    """It was passed over, as nothing was in memory; only a channel that is entered is checked."""
    app = App()
    app.collection("orders", write="anyone")
    interest = Interest()
    holdings = Holdings(
        app.definition(), Decided(), lambda: Epoch("e"), lambda: 0.5, lambda: 0.0, interest
    )
    holdings.listen(ORDERS)
    assert interest.calls == [("enter", ORDERS)]
    holdings.read(ORDERS, Position(Epoch("e"), 3))
    assert interest.calls[-2:] == [("leave", ORDERS), ("enter", ORDERS)]
    del interest.calls[:]
    holdings.read(ORDERS, Position(Epoch("e"), 4))
    holdings.note(ORDERS, Position(Epoch("e"), 5))
    assert interest.calls == []
