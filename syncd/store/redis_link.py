"""The link of the Redis store: one connection, used by one thread at a time, and every way in which Redis may say no.

Nothing is ever sent twice unless the server said that it did not run it. A reply that is lost leaves what was asked for unknown, and the
error says so. After a failure the link refuses for `PAUSE_S` without asking, so that a server that hangs does not hold up every read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import redis.exceptions as errors
from redis.backoff import NoBackoff
from redis.retry import Retry

from syncd.errors import StoreUnavailable
from syncd.redis_address import parse_redis_url
from syncd.store.base import StoreFailed
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_scripts import Script
from syncd.store.redis_source import Connection, Source

__all__ = ["EraChanged", "RedisLink", "ServerInfo", "StoreFull", "StoreRefused"]

PAUSE_S = 0.5
"""The actor's probes come once a second: each finds the pause over."""

AFTER_MS = 1000

_HERE = "Redis cannot be used now"

_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"

_NO_RIGHT = (
    "unknown command",
    "Unknown Redis command",
    "ACL failure in script",
    "The user executing the script can't",
)
"""How an error begins that is the same tomorrow and has no name of its own: a command that was renamed, a right that scripts miss."""


class StoreRefused(StoreUnavailable):
    """The server is there and refuses us, for a reason that waiting does not end: password, certificate or rights."""


class StoreFull(StoreUnavailable):
    """The server takes no more; what frees something runs all the same."""


class EraChanged(Exception):
    """The server holds data of another era than the caller knows: nothing was run."""


@attrs.frozen
class ServerInfo:
    """What a server says of itself."""

    run_id: str
    replid: str
    """Of what it sends to replicas: another one after it was a replica itself."""
    keeps_all: bool
    """It writes every command to disk before it answers, always."""
    skips_on_rewrite: bool
    """It would, but for the time in which it writes its file anew (`no-appendfsync-on-rewrite`)."""
    is_promoted: bool
    """It was a replica and was made the master. Forgotten when it starts again."""
    has_replicas: bool
    """That have all by now, and get what comes."""
    awaits_replicas: bool
    """That have come for a first copy: replicas soon, or somebody who takes a backup."""
    policy: str
    """Of its memory, when that is full."""
    is_bounded: bool
    """It has a `maxmemory`: without one it is never full, whatever its policy."""
    used_bytes: int
    version: str

    @property
    def evicts(self) -> bool:
        """Whether it throws keys away when it is full."""
        return self.is_bounded and self.policy != "noeviction"


class RedisLink:
    """Runs scripts on whichever server has the data now."""

    def __init__(
        self,
        url: str,
        names: RedisNames,
        *,
        timeout_s: float,
        greet: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: As of `redis_address.parse_redis_url`.
            names: Whose slot is asked for in a cluster.
            timeout_s: Longest wait for a connection, and for an answer.
            greet: Called with each new connection, before anything else is asked over it; may `run`.
            clock: Of `PAUSE_S`, and of how often Sentinels are asked.

        Raises:
            ConfigError: the URL cannot be used.
        """
        self._key = names.meta
        self._greet = greet
        self._clock = clock
        limits = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        self._source = Source(parse_redis_url(url), limits, self._key, clock)
        self._connection: Connection | None = None
        self._is_greeting = False
        self._paused_until = -1.0

    @property
    def is_cluster(self) -> bool:
        """Whether channels of pub/sub are spread over slots."""
        return self._source.is_cluster

    def run(self, script: Script, *args: bytes | str | int, over: Connection | None = None) -> Any:
        """Run a script and return its reply.

        Args:
            over: The connection that `ready` has just returned, so that it is not looked at again.

        Raises:
            StoreUnavailable: no answer, or not now; `is_unknown` if it may have run all the same.
            StoreFailed: the data cannot be trusted.
            EraChanged: see there.
        """
        words = (1, self._key, *args)
        for is_last in (False, True):
            try:
                return self._ask("EVALSHA", script.sha, *words, over=over)
            except errors.NoScriptError:
                pass
            except errors.MovedError as error:
                self._source.look_again()
                self.drop()
                if is_last:
                    raise StoreUnavailable(_HERE) from error
                continue
            try:
                return self._ask("EVAL", script.text, *words)
            except errors.MovedError as error:
                self._source.look_again()
                self.drop()
                if is_last:
                    raise StoreUnavailable(_HERE) from error
        raise AssertionError("it has returned or raised")

    def ready(self) -> Connection:
        """Be connected, and have greeted; return what `run` may take.

        Raises:
            StoreUnavailable: nobody answers.
        """
        return self._connected()

    def greet(self) -> None:
        """Greet once more, over the connection there is, or else over a new one, as when Sentinels name another master by now.

        Raises: as `run`.
        """
        self.follow()
        greeted = self._connection
        if self._connected() is greeted:
            self._greeted()

    def follow(self) -> None:
        """Let the connection go if Sentinels name another master by now; they are asked now and then. Never raises."""
        if self._connection is not None and self._source.has_moved():
            self.drop()

    def info(self) -> ServerInfo:
        """Ask the server who it is.

        Raises: as `run`.
        """
        told = self._sections("server", "replication", "persistence", "memory")
        if told.get("loading") != "0":
            # Meanwhile it says of itself that it keeps no file.
            self._fail()
            raise StoreUnavailable(f"{_HERE}: it reads its file", after_ms=AFTER_MS)
        syncs_always, skips = self._syncs() if told.get("aof_enabled") == "1" else (False, False)
        is_promoted = set(told.get("master_replid2", "0")) != {"0"}
        is_online = ["state=online" in replica for replica in _replicas(told)]
        return ServerInfo(
            told.get("run_id", ""),
            told.get("master_replid", ""),
            syncs_always and not skips,
            syncs_always and skips,
            is_promoted,
            any(is_online),
            not all(is_online),
            told.get("maxmemory_policy", "noeviction"),
            told.get("maxmemory") != "0",
            int(told.get("used_memory", 0)),
            told.get("redis_version", "0"),
        )

    def _sections(self, *sections: str) -> dict[str, str]:
        text = self._ask("INFO", *sections).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def _syncs(self) -> tuple[bool, bool]:
        """Return whether each command is on disk before it is answered, and whether not while the file is written anew."""
        names = ("appendfsync", "no-appendfsync-on-rewrite")
        try:
            found = self._ask("CONFIG", "GET", *names)
        except StoreUnavailable:
            raise
        except errors.ResponseError:
            return False, False  # not allowed to look: then it may lose something
        pairs = (
            found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
        )
        sync, skip = (bytes(pairs.get(name.encode(), b"")) for name in names)
        return sync == b"always", skip != b"no"

    def ask(self, *words: bytes | str | int) -> Any:
        """Send one command and return its reply.

        Raises: as `run`.
        """
        return self._ask(*words)

    def close(self) -> None:
        """Let the connection go. Never raises."""
        self.drop()
        self._source.look_again()

    # -------------------------------------------------------------------------------------------- one command

    def _ask(self, *words: bytes | str | int, over: Connection | None = None) -> Any:
        connection = over
        if connection is None or connection is not self._connection:
            connection = self._connected()
        try:
            connection.send_command(*words)
            return connection.read_response()
        except errors.BusyLoadingError as error:
            self._fail()
            raise StoreUnavailable(_HERE, after_ms=AFTER_MS) from error
        except errors.AuthenticationError as error:  # to redis-py a kind of ConnectionError
            self._fail()
            raise StoreRefused(f"Redis does not let us in: {error}") from error
        except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
            self._fail()
            raise StoreUnavailable(
                f"{_HERE}: the answer was lost", after_ms=AFTER_MS, is_unknown=True
            ) from error
        except (errors.NoScriptError, errors.MovedError):
            raise
        except errors.ResponseError as error:
            raise self._translated(error, words[0]) from error
        except BaseException:
            self.drop()  # its answer would be the next one's
            raise

    def _translated(self, error: errors.ResponseError, command: object) -> Exception:
        text = str(error)
        if text.startswith("ERA "):
            return EraChanged(text)
        if text.startswith("DAMAGED "):
            return StoreFailed(f"The data in Redis is damaged: {text}")
        if command == "CONFIG":
            return error
        if isinstance(
            error, errors.ReadOnlyError | errors.ClusterDownError | errors.MasterDownError
        ):
            self._source.look_again()
            self.drop()
        is_full = isinstance(error, errors.OutOfMemoryError)
        # Scripts look before they write whether a cluster moves our slot (common.lua).
        may_have_run = "script" in text and not is_full and "non local key" not in text
        is_refused = isinstance(error, errors.NoPermissionError) or text.startswith(_NO_RIGHT)
        kind = StoreRefused if is_refused else StoreFull if is_full else StoreUnavailable
        return kind(f"{_HERE}: {text[:200]}", after_ms=AFTER_MS, is_unknown=may_have_run)

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None:
            if self._is_sound(connection):
                return connection
            self.drop()
        if self._is_greeting:
            # What was said of one server must not be noted on another.
            raise StoreUnavailable(_HERE, after_ms=AFTER_MS)
        if self._clock() < self._paused_until:
            raise StoreUnavailable(_HERE, after_ms=AFTER_MS)
        try:
            self._connection = connection = self._source.connect()
        except (errors.RedisError, OSError) as error:
            self._fail()
            if (refusal := _refusal_in(error)) is not None:
                raise StoreRefused(f"Redis does not let us in: {refusal}") from error
            raise StoreUnavailable(_HERE, after_ms=AFTER_MS) from error
        self._greeted()
        return connection

    def _greeted(self) -> None:
        if self._is_greeting:
            return
        self._is_greeting = True
        try:
            self._greet()
        except BaseException:
            self.drop()
            raise
        finally:
            self._is_greeting = False

    def _is_sound(self, connection: Connection) -> bool:
        """Tell whether nothing came unasked: that is how a server says that it has hung up."""
        try:
            return not connection.can_read(timeout=0)
        except (errors.ConnectionError, errors.TimeoutError, OSError):
            return False

    def _fail(self) -> None:
        self.drop()
        self._source.look_again()
        self._paused_until = self._clock() + PAUSE_S

    def drop(self) -> None:
        """Let the connection go; the next one greets anew. Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._source.release(connection)


def _replicas(data: dict[str, str]) -> Iterator[str]:
    return (facts for name, facts in data.items() if re.fullmatch(r"slave\d+", name))


def _refusal_in(error: BaseException | None) -> BaseException | None:
    """Return what of an error and its causes says that we are refused, if anything does: redis-py wraps what nodes of a cluster say."""
    while error is not None:
        is_refusal = isinstance(error, errors.AuthenticationError | errors.NoPermissionError)
        if is_refusal or _CERTIFICATE in str(error):
            return error
        error = error.__cause__ or error.__context__
    return None
