"""The small parts of the bus: addresses, heartbeat, backoff, settings, slots, the first answer."""

import hiredis
import pytest

from syncd.bus.backoff import Backoff
from syncd.bus.commands import LinkLost, ReplyReader, check_hello, hello
from syncd.bus.heartbeat import Heartbeat
from syncd.bus.settings import BusSettings
from syncd.bus.topology import Topology, known, slot_of_topic
from syncd.errors import ConfigError
from syncd.redis_address import Endpoint, RedisKind, parse_redis_url

# ------------------------------------------------------------------------------------------------ addresses


def test_one_server():
    address = parse_redis_url("redis://ann:s3%40cret@host:1234/2")
    assert address.kind is RedisKind.SINGLE
    assert address.seeds == (Endpoint("host", 1234),)
    assert (address.username, address.password, address.db) == ("ann", "s3@cret", 2)
    assert "s3" not in f"{address} {address!r}"
    assert parse_redis_url("redis://").seeds == (Endpoint("localhost", 6379),)
    assert parse_redis_url("redis://[::1]:1").seeds == (Endpoint("::1", 1),)
    assert str(parse_redis_url("redis://[::1]:1")) == "redis://[::1]:1"


def test_a_unix_socket():
    address = parse_redis_url("unix://ann:pw@/run/redis.sock?db=1")
    assert address.seeds == (Endpoint(path="/run/redis.sock"),)
    assert (address.username, address.password, address.db) == ("ann", "pw", 1)
    assert known(address) == Topology((Endpoint(path="/run/redis.sock"),))


def test_sentinels():
    url = "redis+sentinel://:pw@one,two:5/main/3?sentinel_username=s&sentinel_password=sp"
    address = parse_redis_url(url)
    assert address.kind is RedisKind.SENTINEL
    assert address.seeds == (Endpoint("one", 26379), Endpoint("two", 5))
    assert (address.service, address.password, address.db) == ("main", "pw", 3)
    assert address.sentinel_options == {"username": "s", "password": "sp"}
    assert "sentinel_password" not in address.options
    assert str(address) == "redis+sentinel://one:26379,two:5/main"
    assert known(address) is None


def test_a_cluster_with_tls():
    address = parse_redis_url("rediss+cluster://one:1,two:2?ssl_cert_reqs=none")
    assert address.kind is RedisKind.CLUSTER
    assert address.is_tls
    assert address.options["ssl"] is True
    context = address.ssl_context()
    assert context is not None
    assert not context.check_hostname
    assert parse_redis_url("redis://one").ssl_context() is None


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "redis://one,two",
        "redis+other://one",
        "redis+sentinel://one",
        "redis+cluster://one/1",
        "redis://host:port",
    ],
)
def test_what_cannot_be_read_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigError) as refused:
        parse_redis_url(url.replace("://", "://user:hidden@"))
    assert "hidden" not in str(refused.value)


def test_missing_tls_files_are_refused():
    with pytest.raises(ConfigError, match="TLS files"):
        parse_redis_url("rediss://host?ssl_ca_certs=/nowhere").ssl_context()
    with pytest.raises(ConfigError, match="TLS files"):
        parse_redis_url("rediss://host?ssl_certfile=/nowhere").ssl_context()


# ------------------------------------------------------------------------------------------------ time


def test_one_ping_at_a_time_and_a_deadline_that_only_answers_move():
    beat = Heartbeat(2.0, 5.0, now=98.0)
    assert beat.ask(98.0), "a new connection has to show that it answers"
    beat.answer(100.0)
    assert (beat.due_at, beat.deadline) == (102.0, 107.0)
    assert not beat.ask(101.9)
    assert beat.ask(103.0)
    assert not beat.ask(106.0)
    assert (beat.due_at, beat.deadline) == (float("inf"), 107.0)
    beat.answer(103.5)
    assert beat.round_trip_s == 0.5
    assert (beat.due_at, beat.deadline) == (105.5, 110.5)


def test_backoff_grows_to_its_bound_jitters_and_starts_over():
    longest = Backoff(0.1, 0.35, lambda: 1.0)
    assert [round(longest.next_s(), 3) for _ in range(4)] == [0.1, 0.2, 0.35, 0.35]
    longest.reset()
    assert longest.next_s() == pytest.approx(0.1)
    assert Backoff(0.1, 1.0, lambda: 0.0).next_s() == pytest.approx(0.01)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="backoff_min_s"):
        BusSettings(backoff_min_s=3.0)
    with pytest.raises(ConfigError, match="pong_s"):
        BusSettings(pong_s=0.0)


# ------------------------------------------------------------------------------------------------ Redis


def test_a_topic_is_served_by_the_master_of_its_slot():
    one, two = Endpoint("one"), Endpoint("two")
    topology = Topology((one, two), ((0, 99, 0), (100, 12_000, 1), (12_500, 16_383, 0)))
    assert slot_of_topic(b"123456789") == 12_739
    assert slot_of_topic(b"{123456789}:b:any") == 12_739
    assert topology.endpoint_of(b"123456789") == one
    served = {topology.endpoint_of(b"%d" % number) for number in range(500)}
    assert served == {one, two, None}


def test_a_replica_a_stranger_and_a_refusal_are_no_master():
    check_hello([b"server", b"redis", b"role", b"master"])
    for answer in ([b"role", b"replica"], b"OK", hiredis.ReplyError("WRONGPASS no")):
        with pytest.raises(LinkLost):
            check_hello(answer)


def test_a_connection_is_opened_with_user_and_name():
    assert hello("n:subscribe", None, None).split()[2::2] == [
        b"HELLO",
        b"2",
        b"SETNAME",
        b"n:subscribe",
    ]
    assert b"default" in hello("n", None, "pw")
    assert b"ann" in hello("n", "ann", "pw")


def test_answers_are_read_over_any_split():
    data = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\n\r\n\r\n:0\r\n+PONG\r\n"
    whole = [[b"message", b"a", b"\r\n"], 0, b"PONG"]
    for split in range(len(data)):
        reader = ReplyReader()
        assert [*reader.read(data[:split]), *reader.read(data[split:])] == whole
