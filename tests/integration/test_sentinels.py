"""Whom of the Sentinels one believes: real ones, of which one is cut off from the others with a master that they have replaced."""

import contextlib
import signal
import time

import pytest

from syncd.redis_address import Endpoint, master_of, parse_redis_url
from syncd.testing.redis_process import RedisProcess, redis_executable, wait_until

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
TIMEOUT_S = 5.0
LIMITS = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}


def sentinel(folder, master, config_epoch):
    return RedisProcess(
        folder,
        config=f"""
sentinel monitor main 127.0.0.1 {master.port} 2
sentinel config-epoch main {config_epoch}
""",
    )


@pytest.fixture
def parted(tmp_path):
    """A former master with a Sentinel beside it, and the one that two others have put in its place."""
    with contextlib.ExitStack() as stack:
        former, master = (stack.enter_context(RedisProcess(tmp_path)) for _ in range(2))
        views = [(former, 3), (master, 4), (master, 4)]
        sentinels = [stack.enter_context(sentinel(tmp_path, *view)) for view in views]
        for each in sentinels:
            wait_until(lambda each=each: b"role-reported,master" in told_by(each), "a view")
        yield former, master, sentinels


def told_by(sentinel):
    return b",".join(sentinel.ask("SENTINEL", "MASTER", "main"))


def ask(sentinels):
    places = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
    return master_of(parse_redis_url(f"redis+sentinel://{places}/main"), LIMITS)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_the_newest_of_what_most_of_them_say_counts(parted, order):
    """The first that answered was believed: a node stayed with a master that had long been replaced."""
    _former, master, sentinels = parted
    assert ask([sentinels[n] for n in order]) == Endpoint("127.0.0.1", master.port)


def test_one_that_is_alone_is_believed(parted):
    former, _master, sentinels = parted
    for each in sentinels[1:]:
        each.kill()
    assert ask(sentinels) == Endpoint("127.0.0.1", former.port)


@pytest.mark.parametrize("hanging", [0, 1, 2])
def test_one_that_hangs_costs_nothing(parted, hanging):
    _former, master, sentinels = parted
    sentinels[hanging].signal(signal.SIGSTOP)
    began = time.monotonic()
    assert ask(sentinels) == Endpoint("127.0.0.1", master.port)
    assert time.monotonic() - began < TIMEOUT_S / 2
