"""docs/ops/redis where everybody shows a certificate: one server, Sentinels and a cluster, with a node on each, and strangers kept out."""

import contextlib

import pytest

from syncd.config import Config
from syncd.errors import ConfigError, StoreUnavailable
from syncd.model.definitions import AppDefinition
from syncd.node_parts import open_store
from syncd.testing.process import free_port
from syncd.testing.redis_process import RedisProcess, redis_executable, wait_until
from tests.integration.redis_groups import CLUSTER, has_replica, is_master, join, sees_all
from tests.integration.test_bus_tls import certificate
from tests.integration.test_redis_setups import (
    FILES,
    documented_url,
    here,
    node_on,
    publish,
    server,
)

__all__ = ["certificate"]  # fixture

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
BUS_ABOVE = 10_000
MUTUAL = ("--tls-auth-clients", "yes", "--port", "0")


def shown(certificate):
    """Options of a URL: whom to trust, and what to show."""
    cert, key = certificate
    return f"ssl_ca_certs={cert}&ssl_certfile={cert}&ssl_keyfile={key}"


def mutual(folder, certificate, *options):
    """A server with the documented files that lets in who shows a certificate."""
    made = server(folder, *options, *MUTUAL, tls=(free_port(BUS_ABOVE), *certificate))
    made.url = f"{made.url.partition('?')[0]}?{shown(certificate)}"
    return made


def over_tls(scheme, certificate, *ports):
    """The documented URL of a scheme, over TLS and with a certificate to show."""
    url = here(documented_url(scheme), *ports).replace("redis", "rediss", 1)
    return f"{url}{'&' if '?' in url else '?'}{shown(certificate)}"


def without_certificate(url):
    return url.partition("&ssl_certfile")[0]


def is_refused(url):
    """Whether no store can be opened."""
    with pytest.raises((ConfigError, StoreUnavailable)):
        open_store(Config(redis=url), AppDefinition())
    return True


def test_one_server_that_asks_for_a_certificate(tmp_path, certificate):
    with mutual(tmp_path / "r", certificate) as redis:
        path = "/etc/redis/tls/ca.crt"
        url = here(documented_url("rediss"), redis.port).replace(f"ssl_ca_certs={path}", "")
        url += shown(certificate)
        assert is_refused(without_certificate(url))
        with node_on(tmp_path, url):
            pass


def test_a_cluster_over_tls_with_certificates(tmp_path, certificate):
    with contextlib.ExitStack() as stack:
        made = [mutual(tmp_path / name, certificate, *CLUSTER) for name in "abc"]
        nodes = [stack.enter_context(each) for each in made]
        join(nodes)
        url = over_tls("redis+cluster", certificate, *(each.port for each in nodes))
        assert is_refused(without_certificate(url))
        with node_on(tmp_path, url):
            pass


def sentinel(folder, master, certificate):
    """A Sentinel with the documented files, over TLS, in more of a hurry."""
    cert, key = certificate
    port = free_port()
    text = (FILES / "sentinel.conf").read_text() + (FILES / "tls.conf").read_text()
    for documented, ours in (
        ("main redis-1 6379 2", f"main 127.0.0.1 {master.port} 2"),
        ("milliseconds main 5000", "milliseconds main 1000"),
        ("timeout main 30000", "timeout main 3000"),
        ("tls-port 6379", f"tls-port {port}"),
        ("/etc/redis/tls/redis.crt", str(cert)),
        ("/etc/redis/tls/redis.key", str(key)),
        ("/etc/redis/tls/ca.crt", str(cert)),
    ):
        assert documented in text
        text = text.replace(documented, ours)
    made = RedisProcess(folder, *MUTUAL, config=text)
    made.port = port
    made.url = f"rediss://:SENTINELS_PASSWORD@127.0.0.1:{port}?{shown(certificate)}"
    return made


def test_sentinels_over_tls_with_certificates_over_a_failover(tmp_path, certificate):
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(mutual(tmp_path / "a", certificate))
        follow = ("--replicaof", f"127.0.0.1 {master.port}")
        replica = stack.enter_context(mutual(tmp_path / "b", certificate, *follow))
        wait_until(lambda: has_replica(master), "a replica")
        made = [sentinel(tmp_path, master, certificate) for _ in range(3)]
        sentinels = [stack.enter_context(each) for each in made]
        for each in sentinels:
            wait_until(lambda each=each: sees_all(each), "Sentinels that know of all")
        url = over_tls("redis+sentinel", certificate, *(each.port for each in sentinels))
        assert is_refused(without_certificate(url))
        with node_on(tmp_path, url) as node:
            master.kill()
            wait_until(lambda: is_master(replica), "a master")
            wait_until(lambda: publish(node) == 200, "a node that has found it", timeout_s=40.0)
            wait_until(lambda: node.get("/health/ready")[0] == 200, "a node that is ready")
