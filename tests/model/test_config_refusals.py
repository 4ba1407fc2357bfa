"""What cannot be read is refused, and the refusal names the setting and no secret."""

import functools
import re

import pytest

from syncd.config_check import check_config
from syncd.config_load import load_config
from syncd.errors import ConfigError
from tests.model.config_files import API_KEY, SECRET, load_text


@pytest.fixture
def load(tmp_path):
    return functools.partial(load_text, tmp_path)


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
