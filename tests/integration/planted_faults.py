"""Faults planted outside the guard of a single message, where only the supervisor catches them; and waiting until it has."""

import trio

from syncd.actors.kit import Health
from syncd.testing.crowd import wait_until


class PlantedFault(Exception):
    """What no code of ours raises."""


class Fault:
    """Makes a method raise, before or after its work, as often as told; counts."""

    def __init__(self, monkeypatch, owner, name, *, times=1, after=False):
        self.num_raised = 0
        self.times = times
        self.is_armed = True
        original = getattr(owner, name)

        def maybe_raise():
            if self.is_armed and self.num_raised < self.times:
                self.num_raised += 1
                raise PlantedFault(name)

        def plain(this, *args, **kwargs):
            if not after:
                maybe_raise()
            result = original(this, *args, **kwargs)
            if after:
                maybe_raise()
            return result

        monkeypatch.setattr(owner, name, plain)


def health_of(node, name):
    return next(health for health in node.health() if health.name == name)


async def restarted(node, name, count=1):
    def is_back():
        health = health_of(node, name)
        return health.num_restarts >= count and health.state is Health.OK

    await wait_until(is_back, 10, f"{name} restarted")


async def ask_again(client, kind, **body):
    """Ask until the answer is not a retryable error; returns it and how many errors came before."""
    num_errors = 0
    while True:
        answer, fields = await client.ask(kind, **body)
        if answer != "error" or not fields["retryable"]:
            return answer, fields, num_errors
        num_errors += 1
        await trio.sleep(0.01)
