"""Several real Redis servers that belong together: a cluster of three masters, and a master with a replica and three Sentinels."""

import contextlib

import redis

from syncd.testing.redis_process import RedisProcess, wait_until

CLUSTER = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
    *("--cluster-require-full-coverage", "no"),
)


def join(nodes):
    """Make a cluster of masters that share the slots evenly."""
    first = nodes[0]
    share = 16_384 // len(nodes)
    for number, node in enumerate(nodes):
        last = 16_383 if node is nodes[-1] else (number + 1) * share - 1
        node.ask("CLUSTER", "ADDSLOTSRANGE", number * share, last)
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for node in nodes[1:]:
        node.ask("CLUSTER", "MEET", "127.0.0.1", first.port)
    for node in nodes:
        wait_until(lambda node=node: knows(node, len(nodes)), "a cluster that agrees")


def knows(node, count):
    info = node.ask("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:%d\r" % count in info


@contextlib.contextmanager
def open_cluster(folder):
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(RedisProcess(folder, *CLUSTER)) for _ in range(3)]
        join(nodes)
        yield nodes


@contextlib.contextmanager
def open_watched(folder):
    """A master, a replica, and three Sentinels that replace the one by the other after a second."""
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(RedisProcess(folder))
        follow = ("--replicaof", f"127.0.0.1 {master.port}")
        replica = stack.enter_context(RedisProcess(folder, *follow))
        wait_until(lambda: b"state=online" in master.ask("INFO", "replication"), "a replica")
        config = f"""
sentinel monitor main 127.0.0.1 {master.port} 2
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 3000
"""
        sentinels = [stack.enter_context(RedisProcess(folder, config=config)) for _ in range(3)]
        for sentinel in sentinels:
            wait_until(lambda sentinel=sentinel: sees_all(sentinel), "Sentinels that know of all")
        yield master, replica, sentinels


def sees_all(sentinel):
    facts = sentinel.ask("SENTINEL", "MASTER", "main")
    facts = dict(zip(facts[::2], facts[1::2], strict=True))
    return facts[b"num-slaves"] == b"1" and facts[b"num-other-sentinels"] == b"2"


def told(server, *words):
    """Return an answer, or nothing: a server that changes its role cuts its clients off."""
    try:
        return server.ask(*words)
    except redis.ConnectionError:
        return b""


def is_master(server):
    return b"role:master" in told(server, "INFO", "replication")


def has_replica(server):
    return b"state=online" in told(server, "INFO", "replication")
