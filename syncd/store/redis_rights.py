"""What a node's user must be allowed in Redis: the one list, which docs/redis.md shows, tests hold against the scripts, and `syncd doctor` asks for.

The server itself says what the user may (`redis.acl_check_cmd`, since 7.0), asked by a script that runs none of it: as the same user as
nodes, and by the rules that hold in their scripts. Each command is asked for with all of its arguments: Redis 7.0.15 crashes when it is
asked for `SET` without any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from syncd.store.redis_batch import for_script
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_link import RedisLink
from syncd.store.redis_scripts import RIGHTS

__all__ = ["CALLS", "IN_CLUSTERS", "KEEPS_ALL", "ON_KEYS", "call", "missing_rights", "user_rules"]

ON_KEYS = {
    "hget": "K f",
    "hmget": "K f",
    "hset": "K f v",
    "hsetnx": "K f v",
    "hdel": "K f",
    "hexists": "K f",
    "hlen": "K",
    "hincrby": "K f 1",
    "zadd": "K 0 m",
    "zrem": "K m",
    "zrangebylex": "K - +",
    "zrangebyscore": "K 0 1",
    "zcard": "K",
    "zmscore": "K m",
    "xadd": "K * f v",
    "xrange": "K - +",
    "xrevrange": "K + -",
    "xtrim": "K MAXLEN 0",
    "xlen": "K",
    "xdel": "K 1-0",
    "get": "K",
    "set": "K v",
    "pttl": "K",
    "sadd": "K m",
    "spop": "K",
    "scard": "K",
    "smismember": "K m",
    "exists": "K",
    "rename": "K K",
    "unlink": "K",
}
"""Of our scripts, as they may be called, on a key K."""
_ANYWHERE = {"eval": "x 0", "evalsha": "x 0", "info": "server", "time": ""}
_CONNECTION = {"ping": "", "select": "0"}
_ON_TOPICS = {"publish": "T x", "subscribe": "T"}
_UNSUBSCRIBE = {"unsubscribe": "t"}
_ON_SHARD_TOPICS = {"spublish": "T x", "ssubscribe": "T"}
_CLUSTER = {"sunsubscribe": "t", "cluster|slots": "", "cluster|shards": "", "cluster|myid": ""}
IN_CLUSTERS = (*_ON_SHARD_TOPICS, *_CLUSTER)
"""In place of plain pub/sub, and to find out who has which slot."""
KEEPS_ALL = "config|get"
"""A node can do without; then it takes the server for one that may lose what it has answered."""
_WITHOUT = tuple(
    f"-client|{name}" for name in ("kill", "list", "no-evict", "pause", "unblock", "unpause")
)
"""What of `@connection` reaches others' connections, or stops the server."""
CALLS = {
    **_CONNECTION,
    **_ANYWHERE,
    **ON_KEYS,
    **_ON_TOPICS,
    **_UNSUBSCRIBE,
    **_ON_SHARD_TOPICS,
    **_CLUSTER,
    KEEPS_ALL: "x",
}
"""Every command that may be asked for, with its arguments: K a key, T a topic."""


def user_rules(names: RedisNames) -> list[str]:
    """Return the rules of a user with the least rights, as `ACL SETUSER` takes them behind a name and a password."""
    keys, topics, others = _places(names)
    commands = (*_ANYWHERE, *ON_KEYS, *_ON_TOPICS, *_UNSUBSCRIBE, *IN_CLUSTERS, KEEPS_ALL)
    first = ("resetkeys", keys, "resetchannels", topics, others, "-@all", "+@connection", *_WITHOUT)
    return [*first, *map(_rule, commands)]


def missing_rights(link: RedisLink, names: RedisNames) -> list[str]:
    """Ask for every right that a node has to have, and for `KEEPS_ALL`.

    Returns:
        The rules, as `ACL SETUSER` takes them, that give the user what it lacks. One that lacks all commands on some names lacks either the
        commands or the names, and is to get both.

    Raises:
        StoreUnavailable: nobody answers, or the user may not even run scripts.
    """
    keys, topics, others = _places(names)
    on_topics = _ON_SHARD_TOPICS if link.is_cluster else _ON_TOPICS
    rest = _CLUSTER if link.is_cluster else _UNSUBSCRIBE
    on_keys = _refused(link, ON_KEYS, keys)
    by_topic = {place: _refused(link, on_topics, place) for place in (topics, others)}
    on_none = [name for name in by_topic[topics] if name in by_topic[others]]
    elsewhere = _refused(link, (*_CONNECTION, *_ANYWHERE, *rest, KEEPS_ALL))
    missing = [_rule(name) for name in (*on_keys, *on_none, *elsewhere)]
    if len(on_keys) == len(ON_KEYS):
        missing.append(keys)
    for place, found in by_topic.items():
        if len(found) == len(on_topics) or set(found) - set(on_none):
            missing.append(place)
    return missing


def _rule(name: str) -> str:
    return f"+{name}"


def _places(names: RedisNames) -> tuple[str, str, str]:
    """Return the rules for our keys, for topics of what is stored, and for topics of the rest."""
    return f"~{names.tag}:*", f"&{names.tag}:*", f"&{names.prefix}:*"


def _refused(link: RedisLink, commands: Iterable[str], place: str = "") -> Sequence[str]:
    """Return which of some commands the user may not run on a name that the rule `place` is about."""
    name = place[1:].replace("*", "doctor")
    asked = {command: call(command, name) for command in commands}
    verdicts = link.run(RIGHTS, for_script(list(asked.values())))
    return [command for command, may in zip(asked, verdicts, strict=True) if not may]


def call(command: str, name: str) -> list[str]:
    """Return a command with all of its arguments, on a key or topic of that name."""
    words = (name if word in ("K", "T") else word for word in CALLS[command].split())
    return [*command.split("|"), *words]
