"""The command line's base: exit codes, lazy imports, serve, token, check."""

import logging
import subprocess
import sys
import time
import types

import click
import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from syncd.backend import Publisher
from syncd.cli import main as main_module
from syncd.cli.exits import ExitCode, Failed, exit_code_of
from syncd.cli.main import main
from syncd.codes import ErrorCode
from syncd.config import Address, AuthSettings, Config
from syncd.config_load import load_config
from syncd.errors import ConfigError, RequestRejected, StoreUnavailable, StoreUnreachable
from syncd.model.tokens import TokenVerifier

SECRET = "an hmac secret of thirty-two bytes or more"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No configuration, environment or log set-up of one test reaches another."""
    monkeypatch.chdir(tmp_path)
    for name in ("SYNCD_CONFIG", "SYNCD_API_KEY", "SYNCD_HMAC_SECRET", "SYNCD_LISTEN", "SYNCD_DB"):
        monkeypatch.delenv(name, raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def started(monkeypatch):
    """Stand in for the server; holds the configurations it was started with."""
    configs = []

    def serve(config, app):
        configs.append(config)
        return 0

    server = types.ModuleType("syncd.server")
    server.serve = serve
    monkeypatch.setitem(sys.modules, "syncd.server", server)
    return configs


@pytest.fixture
def command(monkeypatch):
    """Add a command `probe` that runs what the test gives it."""

    def add(run):
        module = types.ModuleType("syncd_probe")
        module.probe = click.command()(run)
        monkeypatch.setitem(sys.modules, "syncd_probe", module)
        monkeypatch.setitem(main_module.COMMANDS, "probe", "syncd_probe:probe")

    return add


def pem():
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


# ------------------------------------------------------------------------------------------------ base


def _raise(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Failed("not found"), 1, "not found"),
        (Failed("no server", ExitCode.UNREACHABLE), 4, "no server"),
        (ConfigError("one\ntwo"), 2, "Error: one\nError: two\n"),
        (RequestRejected(ErrorCode.UNAUTHORIZED), 3, "token or key"),
        (RequestRejected(ErrorCode.PERMISSION_DENIED), 3, "may not do that"),
        (RequestRejected(ErrorCode.BAD_CHANNEL), 2, "namespace:name"),
        (RequestRejected(ErrorCode.TOO_LARGE), 1, "larger"),
        (StoreUnreachable("redis.url: away"), 5, "redis.url: away"),
        (StoreUnavailable("away"), 5, "away"),
        (ConnectionRefusedError(111, "Connection refused"), 4, "Connection refused"),
        (TimeoutError("took too long"), 4, "took too long"),
        (OSError(98, "Address already in use"), 1, "Address already in use"),
        (FileNotFoundError(2, "No such file", "x.db"), 1, "No such file: x.db"),
        (KeyboardInterrupt(), 130, ""),
        (click.UsageError("bad flag"), 2, "bad flag"),
    ],
)
def test_each_way_to_fail_has_its_exit_code_and_tells_on_standard_error(
    command, capsys, error, code, told
):
    command(_raise(error))
    assert main(["probe"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("returned", "code"), [(None, 0), (0, 0), (1, 1), (ExitCode.UNREACHABLE, 4)]
)
def test_a_command_returns_its_exit_code_or_nothing(command, returned, code):
    command(lambda: returned)
    assert main(["probe"]) == code


def test_a_bug_shows_itself(command):
    command(_raise(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["probe"])


def test_every_error_code_has_an_exit_code_that_is_not_success():
    assert all(exit_code_of(RequestRejected(code)) is not ExitCode.OK for code in ErrorCode)


def test_an_unknown_command_or_flag_is_a_usage_error(capsys):
    assert main(["sevre"]) == 2
    assert main(["check", "--confg"]) == 2
    assert "--config" in capsys.readouterr().err


def test_help_tells_every_command_and_exit_code(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in main_module.COMMANDS:
        assert f"\n  {name} " in out
    for text in ("Exit codes:", "3  the key", "5  the store", "SYNCD_API_KEY"):
        assert text in out


@pytest.mark.parametrize("name", list(main_module.COMMANDS))
def test_every_command_has_help_with_an_example(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"syncd {name}" in capsys.readouterr().out.partition("\n")[2]


def test_one_command_does_not_import_the_others():
    script = (
        "import sys; from syncd.cli.main import main; main(['check', '--quiet']); "
        "print([m for m in ('trio', 'httpx', 'quart', 'syncd.cli.publish', 'syncd.server') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_reader_that_went_away_ends_a_command_quietly():
    script = "import sys; from syncd.cli.main import main; sys.exit(main(['check']))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


# ------------------------------------------------------------------------------------------------ serve


def test_serve_without_anything_starts_the_default_node_and_prints_a_key(started, capsys):
    assert main(["serve"]) == 0
    (config,) = started
    key = config.api_keys["default"]
    out, err = capsys.readouterr()
    assert len(key) >= 32
    assert key in err
    assert out == ""
    assert config == Config(api_keys={"default": key})


def test_two_nodes_do_not_make_the_same_key(started):
    main(["serve"])
    main(["serve"])
    assert started[0].api_keys != started[1].api_keys


def test_a_configured_key_is_not_printed(started, monkeypatch, capsys):
    monkeypatch.setenv("SYNCD_API_KEY", "the-key-of-the-operator")
    assert main(["serve"]) == 0
    assert started[0].api_keys == {"default": "the-key-of-the-operator"}
    assert "the-key" not in "".join(capsys.readouterr())


def test_every_flag_of_serve_reaches_the_node(started, tmp_path):
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).touch()
    flags = "--listen 0.0.0.0:1 --api-listen 127.0.0.1:2 --db x.db --insecure --log-format json --log-level error"
    assert (
        main(
            [
                "serve",
                *flags.split(),
                "--tls-cert",
                "c.pem",
                "--tls-key",
                "k.pem",
                "--driver",
                "stream",
            ]
        )
        == 0
    )
    (config,) = started
    assert config.listen == Address("0.0.0.0", 1)
    assert config.api_listen == Address("127.0.0.1", 2)
    assert (config.db, config.tls_cert, config.tls_key) == ("x.db", "c.pem", "k.pem")
    assert (config.insecure, config.log_format, config.log_level) == (True, "json", "error")
    assert config.driver == "stream"


def test_the_file_beside_is_read_and_the_flag_wins(started, tmp_path):
    (tmp_path / "syncd.toml").write_text('[server]\nlisten = "127.0.0.1:7"\ninsecure = true')
    main(["serve"])
    main(["serve", "--listen", "127.0.0.1:8"])
    assert [config.listen.port for config in started] == [7, 8]
    assert all(config.insecure for config in started)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--listen", "0.0.0.0:1"], "--insecure"),
        (["--listen", "nonsense"], "--listen must be HOST:PORT"),
        (["--config", "nowhere.toml"], "cannot read nowhere.toml"),
        (["--tls-cert", "nowhere.pem"], "tls_key"),
    ],
)
def test_a_node_that_could_not_keep_its_promises_is_not_started(started, capsys, args, told):
    assert main(["serve", *args]) == 2
    out, err = capsys.readouterr()
    assert told in err
    assert "API key" not in err + out
    assert started == []


# ------------------------------------------------------------------------------------------------ token


def test_a_token_is_signed_with_the_configured_secret_for_the_configured_parties(capsys, tmp_path):
    (tmp_path / "syncd.toml").write_text(
        f'[auth]\nhmac_secret = "{SECRET}"\naudience = "aud"\nissuer = "iss"'
    )
    args = "--user ann --role a --role b --channels x:* --ttl 10min --jti j1"
    assert main(["token", *args.split()]) == 0
    made = capsys.readouterr().out.strip()
    auth = load_config("syncd.toml", {}).auth
    identity = TokenVerifier(auth).verify(made, time.time())
    assert (identity.user, identity.roles, identity.token_id) == ("ann", {"a", "b"}, "j1")
    assert identity.claims["channels"] == ["x:*"]
    assert identity.claims["exp"] - identity.claims["iat"] == 600


def test_a_token_is_signed_with_a_private_key_file(capsys, tmp_path):
    private, public = pem()
    (tmp_path / "key.pem").write_text(private)
    assert main(["token", "--user", "ann", "--key-file", "key.pem", "--kid", "k1"]) == 0
    auth = AuthSettings(algorithms=("EdDSA",), public_keys={"k1": public})
    made = capsys.readouterr().out.strip()
    assert TokenVerifier(auth).verify(made, time.time()).user == "ann"


def test_a_token_the_server_would_refuse_is_not_handed_out(capsys, tmp_path):
    private, public = pem()
    (tmp_path / "key.pem").write_text(private)
    (tmp_path / "pub.pem").write_text(public)
    (tmp_path / "syncd.toml").write_text('[auth]\npublic_keys = { k1 = "pub.pem" }')
    assert main(["token", "--user", "ann", "--key-file", "key.pem"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "kid" in err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "SYNCD_HMAC_SECRET"),
        (["--key-file", "nowhere.pem"], "cannot read nowhere.pem"),
        (["--key-file", "junk.pem"], "PEM"),
        (["--ttl", "soon"], "--ttl must be a duration"),
    ],
)
def test_what_cannot_be_signed_is_a_usage_error(capsys, tmp_path, args, told):
    (tmp_path / "junk.pem").write_text("junk")
    assert main(["token", "--user", "ann", *args]) == 2
    assert told in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ check


def test_what_check_prints_is_a_configuration_that_loads_to_the_same(capsys, tmp_path):
    (tmp_path / "syncd.toml").write_text(
        '[server]\norigins = ["https://a.example"]\nlisten = "[::1]:9"\n[timing]\nping_s = "20 s"\n'
        '[namespaces.x]\nmode = "latest"\nallow = { subscribe = ["role:q"] }\n'
    )
    assert main(["check"]) == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    assert "seat" not in printed.read_text()  # of a worker, and nobody's to set
    again = load_config(str(printed), {})
    expected = load_config("syncd.toml", {})
    assert again.namespaces == expected.namespaces
    assert (again.listen, again.origins, again.timing) == (
        expected.listen,
        expected.origins,
        expected.timing,
    )
    assert (again.limits, again.auth) == (expected.limits, expected.auth)


def test_check_prints_no_secret(capsys, monkeypatch):
    monkeypatch.setenv("SYNCD_HMAC_SECRET", SECRET)
    monkeypatch.setenv("SYNCD_API_KEY", "hush-hush-hush-hush")
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert SECRET not in out
    assert "hush-hush" not in out
    assert 'hmac_secret = "***"' in out
    assert 'api_keys = { "default" = "***" }' in out


def test_check_tells_every_problem_and_exits_with_2(capsys, tmp_path):
    (tmp_path / "syncd.toml").write_text('[server]\nlisten = "0.0.0.0:1"\ndriver = "x"')
    assert main(["check", "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 2
    assert main(["check", "--quiet", "--insecure", "--config", "nowhere"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", "demo:a", "1"],
        ["mutate", "orders.ship", "[]"],
        ["get", "orders", "a"],
        ["watch", "orders", "--wait", "0", "--quiet"],
        ["cache", "stats"],
        ["info"],
        ["backup", "copy.db"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_whom_nobody_answers_says_what_to_do(arguments, capsys, monkeypatch):
    waits = []
    monkeypatch.setitem(Publisher.__init__.__kwdefaults__, "sleep", waits.append)
    assert main([*arguments, "--url", "http://127.0.0.1:1"]) == ExitCode.UNREACHABLE
    told = capsys.readouterr().err
    assert "http://127.0.0.1:1" in told
    assert "syncd serve" in told
    assert "--url" in told
    is_tried_again = arguments[0] in ("publish", "mutate", "get", "cache")
    assert len(waits) == (3 if is_tried_again else 0)
    assert sum(waits) < 2
