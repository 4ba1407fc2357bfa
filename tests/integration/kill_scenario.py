"""A node killed under load, as often as a test wants: five times in CI, a hundred times in the soak."""

import trio

from syncd.testing.crowd import Crowd, wait_until
from syncd.testing.history import History

CONFIG = """
[limits]
recovery_events = 1_000_000
[namespaces.log]
history = "durable"
history_size = 10_000_000
allow = {subscribe = "anyone", publish = "anyone", history = "anyone"}
"""
CHANNELS = [f"log:{index}" for index in range(4)]
NUM_PUBLISHERS = 50
NUM_SUBSCRIBERS = 6


async def in_thread(work, *args):
    return await trio.to_thread.run_sync(work, *args)


async def kill_under_load(server, num_kills, acks_between, rng):
    """Kill a node again and again while everybody publishes; returns the crowd, for a look at how it fared."""
    await in_thread(server.start)
    history = History()
    crowd = Crowd(server.port, CHANNELS, history)
    async with trio.open_nursery() as nursery:
        await crowd.subscribe(nursery, NUM_SUBSCRIBERS)
        crowd.publish(nursery, NUM_PUBLISHERS)
        for _ in range(num_kills):
            goal = history.num_acknowledged + rng.randint(1, acks_between)
            await wait_until(
                lambda goal=goal: history.num_acknowledged >= goal, 30, "acknowledgements go on"
            )
            await in_thread(server.kill)
            await in_thread(server.start)
        goal = history.num_acknowledged + NUM_PUBLISHERS
        await wait_until(lambda: history.num_acknowledged >= goal, 30, "work after the last kill")
        await crowd.settle()
        num_events = await crowd.check()
        nursery.cancel_scope.cancel("seen enough")
    assert history.violations == []
    assert num_events == sum(peer.num_acknowledged for peer in crowd.publishers)
    return crowd
