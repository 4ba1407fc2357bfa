"""What workers on one port tell each other for a scrape."""

import pytest
import trio

from syncd.config import WorkerSeat
from syncd.http.siblings import Siblings

pytestmark = pytest.mark.process


@pytest.fixture
def seats(tmp_path):
    return [WorkerSeat(index, 2, str(tmp_path), -1) for index in range(2)]


def siblings(seat):
    sibling = Siblings(seat)
    sibling.tell = lambda: b"# TYPE served counter\nserved 12345\n"
    return sibling


async def test_a_scrape_of_one_tells_all(seats, nursery):
    one, other = map(siblings, seats)
    await nursery.start(other.run)
    lines = (await one.text_of_all()).splitlines()
    for line in ('served{worker="0"} 12345', 'served{worker="1"} 12345'):
        assert line in lines
    assert 'syncd_worker_up{worker="1"} 1.0' in lines


@pytest.mark.parametrize("cut", [0, 24, -1, -3], ids=["nothing", "no value", "no end", "a digit"])
async def test_a_worker_that_is_cut_off_while_it_tells_is_down(seats, nursery, cut):
    """Half of a number passed as one: a counter fell."""
    one, other = map(siblings, seats)

    async def answer(stream):
        await stream.send_all(other.tell()[:cut])
        await stream.aclose()

    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(seats[1].socket_of(1))
        sock.listen(1)
        await nursery.start(trio.serve_listeners, answer, [trio.SocketListener(sock)])
        lines = (await one.text_of_all()).splitlines()
        assert not [line for line in lines if 'worker="1"' in line and line.startswith("served")]
        assert 'syncd_worker_up{worker="1"} 0.0' in lines
        nursery.cancel_scope.cancel()
