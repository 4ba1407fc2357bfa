"""What is read from file, environment and flags, and which of them wins."""

import functools

import attrs
import pytest

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
from syncd.config_check import check_config
from syncd.config_load import ensure_api_key, find_config, load_config
from tests.model.config_files import API_KEY, SECRET, load_text, public_pem


@pytest.fixture
def load(tmp_path):
    return functools.partial(load_text, tmp_path)


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
