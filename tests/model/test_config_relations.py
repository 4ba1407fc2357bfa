"""Settings that cannot work together are refused, and the refusal names them and the way out."""

import attrs
import pytest

from syncd.config import (
    Action,
    Address,
    AuthSettings,
    Config,
    HistoryKind,
    Limits,
    Mode,
    Namespace,
    Timing,
)
from syncd.config_check import check_config
from syncd.errors import ConfigError
from tests.model.config_files import API_KEY, SECRET


def problems(**changes):
    with pytest.raises(ConfigError) as caught:
        check_config(Config(**changes))
    return str(caught.value)


def ns(**changes):
    return {"namespaces": {"a": Namespace("a", **changes)}}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"limits": Limits(hello_bytes=70_000)}, ["limits.hello_bytes", "limits.frame_bytes"]),
        ({"limits": Limits(presence_state_bytes=70_000)}, ["presence_state_bytes", "frame_bytes"]),
        ({"limits": Limits(recovery_bytes=2**21)}, ["recovery_bytes (2097152)", "outbox_bytes"]),
        ({"limits": Limits(frame_bytes=2**21)}, ["limits.frame_bytes", "limits.outbox_bytes"]),
        (
            {"limits": Limits(frame_bytes=2**25, outbox_bytes=2**27)},
            ["frame_bytes must be at most"],
        ),
        ({"limits": Limits(frame_bytes=512)}, ["limits.frame_bytes must be at least 1024"]),
        ({"limits": Limits(subscriptions=0)}, ["limits.subscriptions must be above 0"]),
        ({"limits": Limits(messages_per_s=0.0)}, ["limits.messages_per_s"]),
        (
            {"timing": Timing(node_beat_s=8)},
            ["timing.node_dead_s (15)", "timing.node_beat_s (8)"],
        ),
        ({"timing": Timing(ping_s=0.2)}, ["timing.ping_s", "timing.tick_s"]),
        ({"timing": Timing(slow_client_s=0.1)}, ["timing.tick_s", "timing.slow_client_s"]),
        ({"timing": Timing(hello_s=0.0)}, ["timing.hello_s must be above 0"]),
        ({"timing": Timing(tick_s=0.001)}, ["timing.tick_s must be at least 0.01"]),
        ({"timing": Timing(close_s=20.0)}, ["timing.close_s (20)", "timing.stop_s (10)"]),
        ({"tls_cert": __file__}, ["server.tls_cert", "server.tls_key"]),
        ({"tls_cert": __file__, "tls_key": "/nowhere"}, ["server.tls_key: there is no file"]),
        (
            {"tls_cert": __file__, "tls_key": __file__, "driver": "epoll"},
            ["server.tls_cert", "server.driver"],
        ),
        ({"driver": "kqueue"}, ["server.driver must be one of auto, epoll, stream"]),
        ({"log_format": "xml"}, ["server.log_format"]),
        ({"log_level": "loud"}, ["server.log_level"]),
        ({"db": ""}, ["server.db"]),
        ({"api_listen": Address()}, ["server.api_listen", "server.listen"]),
        ({"origins": ("app.example.com",)}, ["server.origins"]),
        ({"origins": ("https://app.example.com/path",)}, ["server.origins"]),
        ({"trusted_proxies": ("10.0.0.1/8",)}, ["server.trusted_proxies"]),
        ({"auth": AuthSettings(anonymous=False)}, ["auth.anonymous", "auth.hmac_secret"]),
        ({"auth": AuthSettings(algorithms=("RS256",))}, ["auth.algorithms", "auth.public_keys"]),
        ({"api_keys": {"a": "x y"}}, ["server.api_keys.a"]),
        ({"api_keys": {"a": API_KEY, "b": API_KEY}}, ["two names have the same key"]),
        (ns(mode=Mode.EPHEMERAL), ["namespaces.a.mode is ephemeral", "namespaces.a.history"]),
        (
            ns(mode=Mode.LATEST, history=HistoryKind.NONE),
            ["namespaces.a.mode is latest", "history"],
        ),
        (ns(history=HistoryKind.DURABLE, history_size=0), ["namespaces.a.history", "history_size"]),
        (ns(max_data_bytes=2**20), ["namespaces.a.max_data_bytes", "limits.outbox_bytes"]),
        (ns(max_data_bytes=0), ["namespaces.a.max_data_bytes"]),
        (ns(allow={Action.PRESENCE: ("anyone",)}), ["allow.presence", "namespaces.a.presence"]),
        (
            ns(history=HistoryKind.NONE, allow={Action.HISTORY: ("anyone",)}),
            ["allow.history", "namespaces.a.history"],
        ),
        (ns(allow={Action.PUBLISH: ("nobody",)}), ["namespaces.a.allow.publish", "no rule"]),
    ],
)
def test_a_relation_that_does_not_hold_is_told_with_the_names_of_both(changes, names):
    told = problems(**changes)
    assert all(name in told for name in names), told


def test_all_problems_are_told_at_once():
    assert len(problems(driver="x", log_level="y", db="").splitlines()) == 3


def test_listening_to_others_without_authentication_is_refused_with_the_way_out():
    told = problems(listen=Address("0.0.0.0"), api_keys={"default": API_KEY})
    for way_out in ("auth.hmac_secret", "auth.public_keys", "127.0.0.1", "--insecure"):
        assert way_out in told


@pytest.mark.parametrize(
    "changes",
    [
        {"insecure": True},
        {"auth": AuthSettings(algorithms=("HS256",), hmac_secret=SECRET)},
        {**ns(allow={Action.SUBSCRIBE: ("anyone",)}), "api_keys": {"default": API_KEY}},
    ],
)
def test_listening_to_others_is_allowed_to_those_who_said_how(changes):
    check_config(Config(listen=Address("0.0.0.0"), **changes))


def test_own_namespaces_without_an_api_key_do_not_open_a_node_to_others():
    assert "--insecure" in problems(listen=Address("0.0.0.0"), **ns())


def test_a_short_api_key_is_for_loopback_only():
    check_config(Config(api_keys={"default": "dev"}))
    told = problems(api_listen=Address("0.0.0.0", 9000), api_keys={"default": "dev"})
    assert "SYNCD_API_KEY" in told
    assert "dev" not in told


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"workers": 0}, "1 or more"),
        ({"workers": 2}, "needs server.redis"),
        ({"workers": 2, "redis": "redis://", "listen": Address(path="s")}, "TCP address"),
    ],
)
def test_workers_that_cannot_work_together_are_refused(changes, problem):
    with pytest.raises(ConfigError, match=problem):
        check_config(attrs.evolve(Config(), **changes))
    check_config(attrs.evolve(Config(), workers=2, redis="redis://"))
