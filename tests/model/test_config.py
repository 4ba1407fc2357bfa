"""Configuration: what is read, what is refused, and that refusals name the setting and the way out."""

import enum
import functools
import json
import re
from pathlib import Path

import attrs
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from syncd.config import (
    Action,
    Address,
    AuthSettings,
    CollectionSettings,
    Config,
    HistoryKind,
    Limits,
    Mode,
    Namespace,
    Timing,
)
from syncd.config_check import check_config, is_loopback
from syncd.config_load import ensure_api_key, find_config, load_config
from syncd.config_values import parse_address, parse_duration, parse_size
from syncd.errors import ConfigError

SECRET = "an hmac secret of thirty-two bytes or more"
API_KEY = "an-api-key-of-some-length"


@functools.cache
def public_pem():
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


@pytest.fixture
def load(tmp_path):
    def load_text(text, environ=None, **overrides):
        path = tmp_path / "syncd.toml"
        path.write_text(text)
        return load_config(str(path), environ or {}, overrides)

    return load_text


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10 s", 10),
        ("250ms", 0.25),
        ("24h", 86_400),
        ("5 min", 300),
        ("1.5 d", 129_600),
        (0, 0),
        (2.5, 2.5),
    ],
)
def test_durations_are_numbers_of_seconds_or_carry_their_unit(text, seconds):
    assert parse_duration(text, "x") == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("256 KiB", 262_144), ("1 MB", 1_000_000), ("4096 b", 4096), ("1.5 KiB", 1536), (77, 77)],
)
def test_sizes_are_numbers_of_bytes_or_carry_their_unit(text, size):
    assert parse_size(text, "x") == size


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10",
        "s",
        "-1 s",
        "1e3 s",
        "10 s s",
        "10 weeks",
        "\u0661 s",
        True,
        None,
        -1,
        float("nan"),
        [],
    ],
)
def test_what_is_neither_is_refused_by_name(value):
    with pytest.raises(ConfigError, match=r"timing\.x must be a duration"):
        parse_duration(value, "timing.x")
    with pytest.raises(ConfigError, match=r"limits\.x must be a size"):
        parse_size(value, "limits.x")


def test_a_size_is_whole_bytes():
    with pytest.raises(ConfigError):
        parse_size("0.3 KiB", "x")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8400", Address("127.0.0.1", 8400)),
        ("example.org:0", Address("example.org", 0)),
        ("[::1]:8400", Address("::1", 8400)),
        ("unix:/run/syncd.sock", Address(path="/run/syncd.sock")),
    ],
)
def test_addresses_are_tcp_or_unix(text, address):
    assert parse_address(text, "x") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8400",
        ":8400",
        "host",
        "host:",
        "host:http",
        "host:65536",
        "host:-1",
        "unix:",
        "http://h:1",
        8400,
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text, "x")


@given(st.text(max_size=30))
def test_no_text_breaks_the_parsers(text):
    for parse in (parse_duration, parse_size, parse_address):
        try:
            parse(text, "x")
        except ConfigError:
            continue


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (Address("127.0.0.1"), True),
        (Address("127.9.9.9"), True),
        (Address("::1"), True),
        (Address("localhost"), True),
        (Address("0.0.0.0"), False),
        (Address("::"), False),
        (Address("10.0.0.1"), False),
        (Address("localhost.evil.example"), False),
        (Address("0.0.0.0", path="/x"), True),
    ],
)
def test_only_loopback_and_unix_addresses_are_local(address, expected):
    assert is_loopback(address) is expected


# ------------------------------------------------------------------------------------------------ loading


def test_nothing_configured_is_the_default_and_can_work():
    config = load_config(None, {})
    assert config == Config()
    check_config(config)


def test_every_section_is_read(load):
    config = load(
        f"""
        [server]
        listen = "127.0.0.1:9000"
        origins = ["https://app.example.com"]
        log_format = "json"
        [server.api_keys]
        billing = "{API_KEY}"
        [auth]
        hmac_secret = "{SECRET}"
        audience = "syncd"
        leeway_s = "5 s"
        anonymous = false
        [limits]
        frame_bytes = "128 KiB"
        messages_per_s = 50
        [timing]
        ping_s = "20 s"
        [namespaces.orders]
        mode = "latest"
        history = "durable"
        history_age_s = "7d"
        presence = true
        allow = {{ subscribe = ["claim"], publish = "role:editor" }}
        """
    )
    assert config.listen == Address("127.0.0.1", 9000)
    assert config.origins == ("https://app.example.com",)
    assert config.api_keys == {"billing": API_KEY}
    assert config.auth == AuthSettings(
        algorithms=("HS256",), hmac_secret=SECRET, audience="syncd", leeway_s=5.0, anonymous=False
    )
    assert config.limits == Limits(frame_bytes=131_072, messages_per_s=50.0)
    assert config.timing == Timing(ping_s=20.0)
    assert config.namespaces == {
        "orders": Namespace(
            "orders",
            mode=Mode.LATEST,
            history=HistoryKind.DURABLE,
            history_age_s=604_800.0,
            presence=True,
            allow={Action.SUBSCRIBE: ("claim",), Action.PUBLISH: ("role:editor",)},
        )
    }
    check_config(config)


def test_every_setting_of_the_tree_can_be_written_in_the_file(load):
    for section, cls in (("limits", Limits), ("timing", Timing)):
        for field in attrs.fields(cls):
            loaded = getattr(load(f"[{section}]\n{field.name} = 7"), section)
            assert getattr(loaded, field.name) == 7


def test_later_sources_win(load):
    text = '[server]\nlisten = "127.0.0.1:1"\nlog_level = "debug"\ndb = ":memory:"'
    config = load(
        text, {"SYNCD_LISTEN": "127.0.0.1:2", "SYNCD_LOG_LEVEL": "error"}, listen="127.0.0.1:3"
    )
    assert config.listen.port == 3
    assert config.log_level == "error"
    assert config.db == ":memory:"
    assert load(text, listen=None).listen.port == 1


def test_the_api_key_of_the_environment_is_the_default_one(load):
    config = load('[server.api_keys]\ndefault = "old"\nother = "o"', {"SYNCD_API_KEY": API_KEY})
    assert config.api_keys == {"default": API_KEY, "other": "o"}


def test_a_key_is_made_only_when_there_is_none():
    config, made = ensure_api_key(Config(), lambda: "made-key")
    assert made == "made-key"
    assert config.api_keys == {"default": "made-key"}
    assert ensure_api_key(config, lambda: "another") == (config, None)


def test_paths_in_the_file_are_relative_to_the_file(load, tmp_path):
    (tmp_path / "pub.pem").write_text(public_pem())
    (tmp_path / "secret").write_text(SECRET + "\n")
    config = load(
        '[server]\ndb = "data/log.db"\ntls_cert = "/abs/cert.pem"\nlisten = "unix:syncd.sock"\n'
        '[auth]\nhmac_secret_file = "secret"\npublic_keys = { k1 = "pub.pem" }',
    )
    assert config.db == str(tmp_path / "data/log.db")
    assert config.tls_cert == "/abs/cert.pem"
    assert config.listen.path == str(tmp_path / "syncd.sock")
    assert config.auth.hmac_secret == SECRET
    assert config.auth.public_keys == {"k1": public_pem()}
    assert config.auth.algorithms == ("HS256", "EdDSA")


def test_an_ephemeral_namespace_needs_no_word_about_history(load):
    config = load('[namespaces.cursors]\nmode = "ephemeral"')
    assert config.namespaces["cursors"].history is HistoryKind.NONE
    check_config(config)


def test_the_built_in_namespaces_close_as_soon_as_authentication_is_configured(load):
    closed = load("[auth]\n", {"SYNCD_HMAC_SECRET": SECRET})
    assert set(closed.namespaces) == {"demo", "live"}
    assert {
        rule for ns in closed.namespaces.values() for rules in ns.allow.values() for rule in rules
    } == {"authenticated"}
    insecure = load("[auth]\n", {"SYNCD_HMAC_SECRET": SECRET}, insecure=True)
    assert insecure.namespaces == Config().namespaces


def test_own_namespaces_replace_the_built_in_ones_unless_insecure(load):
    assert set(load("[namespaces.a]\n").namespaces) == {"a"}
    config = load('[namespaces.demo]\nmode = "ephemeral"', insecure=True)
    assert set(config.namespaces) == {"demo", "live"}
    assert config.namespaces["demo"].mode is Mode.EPHEMERAL


def test_the_file_is_found_by_variable_or_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config({}) is None
    (tmp_path / "syncd.toml").touch()
    assert find_config({}) == "syncd.toml"
    assert find_config({"SYNCD_CONFIG": "/etc/syncd.toml"}) == "/etc/syncd.toml"


def test_everything_that_is_wrong_with_a_file_is_told_at_once(tmp_path):
    path = tmp_path / "syncd.toml"
    path.write_text(
        """
        [sever]
        [limits]
        errors = "many"
        frame_byte = 1
        framents = 2
        [timing]
        ping_s = "soon"
        [namespaces.a]
        mode = "strem"
        [collections.A]
        """
    )
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {}, {"driver": 7})
    told = str(caught.value).splitlines()
    for name in (
        "sever",
        "limits.errors",
        "frame_byte",
        "framents",
        "ping_s",
        "a.mode",
        "A",
        "--driver",
    ):
        assert [name in line for line in told].count(True) == 1, name
    assert len(told) == 8


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[sever]", "no setting sever (did you mean server?)"),
        ("[limits]\nframe_byte = 1", "no setting limits.frame_byte (did you mean frame_bytes?)"),
        ("[timing]\nxyzzy = 1", "no setting timing.xyzzy."),
        ("[server]\nlimits = {}", "no setting server.limits"),
        ("[namespaces.a]\nallows = {}", "no setting namespaces.a.allows (did you mean allow?)"),
        ("[namespaces.a]\nname = 'b'", "no setting namespaces.a.name"),
        ("[namespaces.a.allow]\nsubscrbe = []", "(did you mean subscribe?)"),
        (
            "[namespaces.a.allow]\nsubscribe = ['anyon']",
            "namespaces.a.allow.subscribe: There is no rule",
        ),
        (
            "[namespaces.a.allow]\nsubscribe = [1]",
            "namespaces.a.allow.subscribe must be a list of texts",
        ),
        (
            "[namespaces.a]\nmode = 'strem'",
            "must be one of stream, latest, ephemeral (did you mean stream?)",
        ),
        ("[namespaces.a]\nmode = 1", "must be one of"),
        ("[namespaces.A]", "namespaces.A: a name is"),
        ("[namespaces]\na = 1", "namespaces.a must be a table"),
        ("namespaces = 1", "[namespaces] must be a table"),
        ("[server]\ninsecure = 1", "server.insecure must be true or false"),
        ("[server]\norigins = 'x'", "server.origins must be a list"),
        ("[server]\nlisten = 'x'", "server.listen must be HOST:PORT"),
        ("[server.api_keys]\na = 1", "server.api_keys must be a table of texts"),
        ("[limits]\nsubscriptions = 1.5", "limits.subscriptions must be a whole number"),
        ("[limits]\nsubscriptions = true", "limits.subscriptions must be a whole number"),
        ("[limits]\nmessages_per_s = '10 s'", "limits.messages_per_s must be a number"),
        ("[limits]\nframe_bytes = '10 s'", "limits.frame_bytes must be a size"),
        ("[timing]\nping_s = '10 KiB'", "timing.ping_s must be a duration"),
        ("[auth]\nhmac_secret_file = 'nowhere'", "auth.hmac_secret_file: cannot read"),
        ("[auth]\npublic_keys = { k = 'nowhere.pem' }", "auth.public_keys.k: cannot read"),
        ("[auth]\nhmac_secret = 'a'\nhmac_secret_file = 'b'", "are both set"),
        ("[server", "is not valid TOML"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_setting(load, text, told):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert told in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(str(tmp_path / "none.toml"), {})


def test_an_environment_variable_and_a_flag_are_told_by_their_own_name():
    with pytest.raises(ConfigError, match=r"^SYNCD_LISTEN must be"):
        load_config(None, {"SYNCD_LISTEN": "x"})
    with pytest.raises(ConfigError, match=r"^--api-listen must be"):
        load_config(None, {}, {"api_listen": "x"})


def test_secrets_are_in_no_representation_and_no_message(load):
    config = load(f'[auth]\nhmac_secret = "{SECRET}"', {"SYNCD_API_KEY": API_KEY})
    assert SECRET not in repr(config)
    assert API_KEY not in repr(config)
    for text in ('[auth]\nhmac_secret = ["hush-hush"]', '[server]\napi_keys = ["hush-hush"]'):
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert "hush-hush" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ relations


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


# ------------------------------------------------------------------------------------------------ collections


def test_the_operators_side_of_a_collection_is_read_and_the_rest_left_open(load):
    config = load(
        '[collections.orders]\nread = "authenticated"\nwrite = ["role:a", "owner"]\nmax_bytes = "1 GiB"'
    )
    assert config.collections == {
        "orders": CollectionSettings(
            "orders", read=("authenticated",), write=("role:a", "owner"), max_bytes=2**30
        )
    }
    check_config(config)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[collections.A]", "collections.A: a name is"),
        ("[collections]\norders = 1", "collections.orders must be a table"),
        ("[collections.a]\nttl = 1", "no setting collections.a.ttl"),
        ("[collections.a]\nreed = 'anyone'", "did you mean read?"),
        ("[collections.a]\nread = 'nobody'", "collections.a.read: There is no rule 'nobody'"),
        ("[collections.a]\nread = 1", "collections.a.read must be a list of texts"),
        ("[collections.a]\nmax_entries = '5'", "collections.a.max_entries must be a whole number"),
        ("[collections.a]\nmax_entries = 0", "collections.a.max_entries must be above 0"),
        ("[collections.a]\nmax_bytes = 'much'", "collections.a.max_bytes must be a size"),
        ("[collections.a]\n[namespaces.a]", "collections.a has the name of namespaces.a"),
    ],
)
def test_a_collection_that_cannot_be_is_refused_by_its_key(load, text, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        check_config(load(text))


# ------------------------------------------------------------------------------------------------ documentation


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


def _documented(section):
    """Return the default column of one table of docs/configuration.md, by key."""
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    table = text.partition(f"\n## [{section}]\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE))


def _told(value):
    if value is None:
        return "not set"
    if isinstance(value, Address):
        return f'`"{value.host}:{value.port}"`'
    if isinstance(value, enum.Enum):
        return f'`"{value.value}"`'
    if isinstance(value, float):
        return f"`{value:.12g}`"
    return f"`{json.dumps(value)}`"


@pytest.mark.parametrize(
    ("section", "defaults", "extra", "apart"),
    [
        (
            "server",
            Config(),
            set(),
            {"auth", "limits", "timing", "namespaces", "collections", "seat"},
        ),
        ("auth", AuthSettings(), {"hmac_secret_file"}, set()),
        ("namespaces.NAME", Namespace("x"), set(), {"name"}),
        ("collections.NAME", CollectionSettings("x"), set(), {"name"}),
        ("limits", Limits(), set(), set()),
        ("timing", Timing(), set(), set()),
    ],
)
def test_every_setting_is_documented_with_its_default(section, defaults, extra, apart):
    documented = _documented(section)
    settable = {field.name for field in attrs.fields(type(defaults))} - apart
    assert set(documented) == settable | extra
    for name in settable - {"algorithms"}:
        assert documented[name] == _told(getattr(defaults, name)), name


def test_the_documented_example_loads_and_can_work(load, tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "2026-01.pem").write_text(public_pem())
    config = load(example)
    check_config(config)
    assert set(config.namespaces) == {"orders", "cursors"}
