"""Where Redis is and how one gets in: read from one URL, for the store and the bus alike.

`redis://`, `rediss://` (TLS) and `unix://` are read by redis-py, with its options in the query. For Sentinel and Cluster the scheme says so
and the host part lists several:

    redis+sentinel://user:password@host1:26379,host2:26379/service
    rediss+cluster://user:password@host1:6379,host2:6379?ssl_ca_certs=/etc/ssl/redis.pem

User and password are those of Redis; what the Sentinels want is `sentinel_username` and `sentinel_password` of the query.
"""

from __future__ import annotations

import contextlib
import enum
import operator
import ssl
import urllib.parse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import attrs
import redis
import redis.exceptions as errors
from redis.connection import parse_url

from syncd.errors import ConfigError

__all__ = ["Endpoint", "RedisAddress", "RedisKind", "master_of", "parse_redis_url"]

_PORT = 6379
_SENTINEL_PORT = 26_379


class RedisKind(enum.Enum):
    """How the server that counts is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@attrs.frozen
class Endpoint:
    """One server: `host` and `port`, or `path` of a Unix socket."""

    host: str = ""
    port: int = _PORT
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class RedisAddress:
    """What a URL says. Its text never has the password."""

    kind: RedisKind
    seeds: tuple[Endpoint, ...]
    """The server; or the Sentinels; or some nodes of the cluster, one of which answers."""
    service: str = ""
    """Name of the master that the Sentinels watch."""
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    db: int = 0
    is_tls: bool = False
    sentinel_options: dict[str, Any] = attrs.field(factory=dict, repr=False)
    """What redis-py is told to reach the Sentinels, besides where they are."""
    options: dict[str, Any] = attrs.field(factory=dict, repr=False)
    """What redis-py is told to reach a server, besides where it is: user, password, database, TLS, and whatever the query said."""

    def __str__(self) -> str:
        scheme = "rediss" if self.is_tls else "redis"
        suffix = "" if self.kind is RedisKind.SINGLE else f"+{self.kind.value}"
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}{suffix}://{','.join(map(str, self.seeds))}{service}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return what TLS connections are made with; None: plain ones.

        Raises:
            ConfigError: a file cannot be read.
        """
        if not self.is_tls:
            return None
        options = self.options
        context = ssl.create_default_context(cafile=None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = bool(options.get("ssl_check_hostname", True))
        if options.get("ssl_cert_reqs", "required") in ("none", ssl.CERT_NONE):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            if "ssl_ca_certs" in options:
                context.load_verify_locations(cafile=options["ssl_ca_certs"])
            if "ssl_certfile" in options:
                context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
        except (OSError, ssl.SSLError) as failure:
            raise ConfigError(f"the TLS files of {self} cannot be used: {failure}") from None
        return context


def parse_redis_url(url: str) -> RedisAddress:
    """Read an address.

    Raises:
        ConfigError: it is none; the message does not repeat it, for it may hold a password.
    """
    try:
        return _parse(url)
    except ValueError as failure:
        userinfo = url.partition("://")[2].rpartition("@")[0]
        text = str(failure).replace(userinfo, "...") if userinfo else str(failure)
        raise ConfigError(f"the address of Redis cannot be read: {text}") from None


def _parse(url: str) -> RedisAddress:
    parts = urllib.parse.urlsplit(url)
    scheme, _, kind_name = parts.scheme.partition("+")
    kind = RedisKind(kind_name) if kind_name else RedisKind.SINGLE
    userinfo, at, hosts = parts.netloc.rpartition("@")
    seeds = _endpoints(hosts, _SENTINEL_PORT if kind is RedisKind.SENTINEL else _PORT)
    if kind is RedisKind.SINGLE and len(seeds) > 1:
        raise ValueError("several servers need redis+sentinel:// or redis+cluster://")
    segments = [urllib.parse.unquote(each) for each in parts.path.split("/") if each]
    service = ""
    if kind is RedisKind.SENTINEL:
        if not segments:
            raise ValueError("redis+sentinel:// needs the name of the service: …/mymaster")
        service = segments.pop(0)
    first = parts.netloc if scheme == "unix" else f"{userinfo}{at}{hosts.split(',')[0]}"
    path = parts.path if scheme == "unix" else "/".join(["", *segments])
    # Not `urlunsplit`: without a host it leaves out the slashes that redis-py looks for.
    plain = f"{scheme}://{first}{path}" + (f"?{parts.query}" if parts.query else "")
    options = parse_url(plain)  # type: ignore[no-untyped-call]
    found: dict[str, Any] = dict(options)
    found.pop("connection_class", None)
    found.pop("host", None)
    found.pop("port", None)
    if (socket_path := found.pop("path", None)) is not None:
        seeds = (Endpoint(path=socket_path),)
    is_tls = scheme == "rediss"
    if kind is RedisKind.CLUSTER and found.get("db", 0):
        raise ValueError("a cluster has no databases")
    return RedisAddress(
        kind,
        seeds,
        service,
        found.get("username"),
        found.get("password"),
        int(found.get("db", 0)),
        is_tls,
        _take_sentinel_options(found, is_tls=is_tls),
        {**found, "ssl": True} if is_tls else found,
    )


def _endpoints(hosts: str, port: int) -> tuple[Endpoint, ...]:
    found = []
    for each in hosts.split(","):
        one = urllib.parse.urlsplit(f"//{each}")
        found.append(Endpoint(one.hostname or "localhost", one.port or port))
    return tuple(found)


def _take_sentinel_options(options: dict[str, Any], *, is_tls: bool) -> dict[str, Any]:
    """Sentinels have users and passwords of their own, told as `sentinel_username` and `sentinel_password`."""
    taken = {
        name: options.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in options
    }
    if is_tls:
        taken |= {name: value for name, value in options.items() if name.startswith("ssl_")}
        taken["ssl"] = True
    return taken


def master_of(address: RedisAddress, limits: Mapping[str, Any]) -> Endpoint:
    """Ask the Sentinels, all at once, and believe the newest of what more than half of them say, or of what there is. Blocks.

    One that is cut off with a former master names that one, but without the others it cannot have named it lately: `config-epoch`.

    Args:
        address: Of Sentinels.
        limits: Timeouts and other options of redis-py.

    Raises:
        redis.exceptions.AuthenticationError: all that there are refuse us; the message says what to give.
        redis.exceptions.ConnectionError: none knows a master that is up.
    """
    found: list[tuple[int, Endpoint]] = []
    failures: dict[Endpoint, Exception] = {}
    pool = ThreadPoolExecutor(len(address.seeds), thread_name_prefix="syncd-sentinel")
    try:
        asked = {pool.submit(_ask_sentinel, seed, address, limits): seed for seed in address.seeds}
        for answer in as_completed(asked):
            try:
                found.append(answer.result())
            except (redis.RedisError, OSError) as error:
                failures[asked[answer]] = error
            if len(found) * 2 > len(address.seeds):
                break
    finally:
        pool.shutdown(wait=False)  # one that hangs is not waited for
    if found:
        return max(found, key=operator.itemgetter(0))[1]
    raise _nobody_names(address, failures)


def _nobody_names(address: RedisAddress, failures: Mapping[Endpoint, Exception]) -> Exception:
    """Return the error that says why no Sentinel named a master."""
    text = "; ".join(f"{seed}: {failures[seed]}" for seed in address.seeds)
    refusals = (errors.AuthenticationError, errors.NoPermissionError)
    if not all(isinstance(error, refusals) for error in failures.values()):
        return errors.ConnectionError(f"no Sentinel names a master of {address.service!r} ({text})")
    return errors.AuthenticationError(
        f"the Sentinels refuse us ({text}). They have users and passwords of their own: put ?sentinel_password=... behind the URL, and "
        "sentinel_username=... unless it is that of `requirepass`; the user needs +sentinel|masters"
    )


def _ask_sentinel(
    seed: Endpoint, address: RedisAddress, limits: Mapping[str, Any]
) -> tuple[int, Endpoint]:
    """Return the master that one Sentinel knows, and in which configuration of theirs it became that."""
    options = {**limits, **address.sentinel_options, "host": seed.host, "port": seed.port}
    with contextlib.closing(redis.Redis(**options)) as client:
        masters: Any = client.sentinel_masters()
    state = masters.get(address.service)
    if state is None:
        raise errors.ConnectionError(f"it watches no {address.service!r}")
    if not state["is_master"] or state["is_sdown"] or state["is_odown"]:
        raise errors.ConnectionError("the master is down")
    return int(state["config-epoch"]), Endpoint(str(state["ip"]), int(state["port"]))
