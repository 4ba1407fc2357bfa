"""docs/ops/redis with real servers: a node gets along with what it says, by the URLs of docs/redis.md, and with no more rights."""

import contextlib
import http.client
import re
from pathlib import Path

import pytest

from syncd.cli.doctor_redis import redis_findings
from syncd.config import Config
from syncd.errors import ConfigError, StoreUnavailable, StoreUnreachable
from syncd.model.definitions import AppDefinition
from syncd.node_parts import open_store
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_rights import user_rules
from syncd.testing.process import API_KEY, ServerProcess, free_port
from syncd.testing.redis_process import RedisProcess, redis_executable, wait_until
from tests.integration.redis_groups import CLUSTER, has_replica, is_master, join, sees_all
from tests.integration.test_bus_tls import certificate

__all__ = ["certificate"]  # fixture

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
FILES = Path("docs/ops/redis")
CONFIG = """
[namespaces.demo]
history = "durable"
allow = { subscribe = ["anyone"], publish = ["anyone"], history = ["anyone"] }
"""


def documented_url(scheme):
    """Return the one URL of a scheme that docs/redis.md has in full."""
    text = Path("docs/redis.md").read_text()
    (url,) = re.findall(rf"^{re.escape(scheme)}://\S+SYNCD_PASSWORD\S+$", text, re.MULTILINE)
    return url


def here(url, *ports):
    """Return a URL with its hosts, in their order, as ports of this machine."""
    places = ",".join(f"127.0.0.1:{port}" for port in ports)
    return re.sub(r"@[^/?]+", f"@{places}", url, count=1)


def server(folder, *options, tls=None):
    """Return a server with the documented files, to which tests speak as the operator.

    Args:
        tls: Port, and paths of certificate and key.
    """
    folder.mkdir()
    users, conf = folder / "users.acl", folder / "redis.conf"
    users.write_text((FILES / "users.acl").read_text())
    text = (FILES / "redis.conf").read_text().replace("\nport 6379\n", "\n")
    if tls is not None:
        port, cert, key = tls
        text += (FILES / "tls.conf").read_text().replace("tls-port 6379", f"tls-port {port}")
        for name, path in (("redis.crt", cert), ("redis.key", key), ("ca.crt", cert)):
            assert f"/etc/redis/tls/{name}" in text
            text = text.replace(f"/etc/redis/tls/{name}", str(path))
    conf.write_text(text.replace("/etc/redis/users.acl", str(users)))
    made = RedisProcess(folder, "--include", str(conf), *options)
    made.url = f"redis://admin:ADMIN_PASSWORD@127.0.0.1:{made.port}"
    if tls is not None:
        made.port = port
        made.url = f"rediss://admin:ADMIN_PASSWORD@127.0.0.1:{port}?ssl_ca_certs={cert}"
    return made


@contextlib.contextmanager
def node_on(folder, url):
    """A node that uses it, after a look by the doctor, who finds nothing."""
    found = list(redis_findings(Config(redis=url)))
    assert [each for each in found if not each[0]] == []
    assert "every commit is on disk before it is answered" in [text for _, _, text in found]
    with ServerProcess(folder, CONFIG, arguments=("--redis", url)) as node:
        node.start()
        assert publish(node) == 200
        yield node
        assert node.stop()[0] == 0


def publish(node):
    """Return the status of a publication."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    with contextlib.closing(connection):
        connection.request("POST", "/api/publish", b'{"channel": "demo:x", "data": 1}', headers)
        return connection.getresponse().status


def test_the_users_file_has_the_rights_that_doctor_asks_for():
    (line,) = re.findall(r"^user syncd (.*)$", (FILES / "users.acl").read_text(), re.MULTILINE)
    assert line.split() == ["on", ">SYNCD_PASSWORD", *user_rules(RedisNames())]


def test_what_was_committed_is_there_after_a_kill(tmp_path):
    """Redis reads its file as `default`: where that was off without rights, every transaction was left out."""
    with server(tmp_path / "r") as redis:
        url = f"redis://syncd:SYNCD_PASSWORD@127.0.0.1:{redis.port}"
        with node_on(tmp_path, url):
            keys = redis.ask("DBSIZE")
        redis.kill()
        redis.start()
        assert redis.ask("DBSIZE") == keys > 1


def test_tls_and_a_user_with_the_least_rights(tmp_path, certificate):
    cert, key = certificate
    port = free_port()
    with server(tmp_path / "r", tls=(port, cert, key)):
        url = here(documented_url("rediss"), port)
        assert "/etc/redis/tls/ca.crt" in url
        with node_on(tmp_path, url.replace("/etc/redis/tls/ca.crt", str(cert))):
            pass
        with pytest.raises(ConfigError, match="CERTIFICATE_VERIFY_FAILED"):
            open_store(Config(redis=url.partition("?")[0]), AppDefinition())


def test_a_cluster(tmp_path):
    with contextlib.ExitStack() as stack:
        made = [server(tmp_path / name, *CLUSTER) for name in "abc"]
        nodes = [stack.enter_context(each) for each in made]
        join(nodes)
        url = here(documented_url("redis+cluster"), *(each.port for each in nodes))
        with node_on(tmp_path, url):
            pass
        with pytest.raises(ConfigError, match="does not let us in") as raised:
            open_store(Config(redis=url.replace("SYNCD_PASSWORD", "other")), AppDefinition())
        assert not isinstance(raised.value, StoreUnreachable)
        store = open_store(Config(redis=url), AppDefinition())
        for each in nodes:
            each.kill()
        wait_until(lambda: why_away(store).startswith("Redis Cluster cannot"), "a look for nodes")
        store.close()
        with pytest.raises(StoreUnreachable):
            open_store(Config(redis=url), AppDefinition())


def why_away(store):
    """Ask until it says no; anything but `StoreUnavailable` would end the store's actor."""
    with pytest.raises(StoreUnavailable) as raised:
        store.probe()
    return str(raised.value.__cause__)


def sentinel(folder, master):
    """Return a Sentinel with the documented file, in more of a hurry."""
    text = (FILES / "sentinel.conf").read_text()
    for documented, ours in (
        ("\nport 26379\n", "\n"),
        ("main redis-1 6379 2", f"main 127.0.0.1 {master.port} 2"),
        ("milliseconds main 5000", "milliseconds main 1000"),
        ("timeout main 30000", "timeout main 3000"),
    ):
        assert documented in text
        text = text.replace(documented, ours)
    made = RedisProcess(folder, config=text)
    made.url = f"redis://:SENTINELS_PASSWORD@127.0.0.1:{made.port}"
    return made


def test_sentinels_with_users_of_their_own_over_a_failover(tmp_path):
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(server(tmp_path / "a"))
        follow = ("--replicaof", f"127.0.0.1 {master.port}")
        replica = stack.enter_context(server(tmp_path / "b", *follow))
        wait_until(lambda: has_replica(master), "a replica")
        sentinels = [stack.enter_context(sentinel(tmp_path, master)) for _ in range(3)]
        for each in sentinels:
            wait_until(lambda each=each: sees_all(each), "Sentinels that know of all")
        url = here(documented_url("redis+sentinel"), *(each.port for each in sentinels))
        for options in ("", "?sentinel_password=wrong"):
            with pytest.raises(ConfigError, match=r"put \?sentinel_password=\.\.\.") as raised:
                open_store(Config(redis=url.partition("?")[0] + options), AppDefinition())
            assert not isinstance(raised.value, StoreUnreachable)
        with node_on(tmp_path, url) as node:
            master.kill()
            wait_until(lambda: is_master(replica), "a master")
            wait_until(lambda: publish(node) == 200, "a node that has found it", timeout_s=40.0)
            wait_until(lambda: node.get("/health/ready")[0] == 200, "a node that is ready")
