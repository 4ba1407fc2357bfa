"""`syncd doctor` finds what is wrong with a machine, and says so with its exit code; `syncd info` prints what a node tells."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from syncd.cli.doctor import findings
from syncd.config import Config
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_rights import IN_CLUSTERS, KEEPS_ALL, user_rules
from syncd.testing.redis_process import RedisProcess, redis_executable, wait_until
from syncd.testing.redis_server import RedisServer
from tests.integration.cli_server import Server, environment

OPTIONAL = f"+{KEEPS_ALL}"


def run(*arguments, prefix=(), **env):
    command = [*prefix, sys.executable, "-m", "syncd", "doctor", *arguments]
    return subprocess.run(
        command, env=environment(**env), capture_output=True, text=True, timeout=60, check=False
    )


def problems(result):
    lines = [line for line in result.stdout.splitlines() if line.startswith("PROBLEM")]
    return [line.split()[1:] for line in lines]


def test_a_sound_machine_is_told_so(tmp_path):
    result = run("--db", str(tmp_path / "x.db"))
    assert (result.returncode, problems(result)) == (0, []), result.stdout + result.stderr
    assert not (tmp_path / "x.db").exists()


def test_a_low_file_limit_is_found_with_the_way_out(tmp_path):
    limited = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    result = run("--db", str(tmp_path / "x.db"), prefix=limited)
    assert result.returncode == 1
    assert [words[:2] for words in problems(result)] == [["open", "files:"]]
    assert "LimitNOFILE" in result.stdout


def test_a_missing_folder_and_a_missing_key_are_found(tmp_path):
    result = run("--db", str(tmp_path / "nowhere" / "x.db"), SYNCD_API_KEY="")
    assert result.returncode == 1
    assert ["database:"] in [words[:1] for words in problems(result)]


def test_a_wrong_configuration_is_found(tmp_path):
    config = tmp_path / "syncd.toml"
    config.write_text("[limits]\nnonsense = 1\n")
    result = run("--config", str(config))
    assert result.returncode == 1
    assert [words[0] for words in problems(result)] == ["configuration:"]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(redis_executable() is None, reason="no redis-server (make test installs it)")
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), []),
        (("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), ["memory:"]),
        (("--rename-command", "EVALSHA", ""), ["rights:"]),
    ],
)
def test_the_redis_of_a_node_is_looked_at(options, wanted):
    with (
        tempfile.TemporaryDirectory(prefix="syncd-redis-") as folder,
        RedisServer(Path(folder), *options) as server,
    ):
        result = run("--redis", server.url)
        with server.client() as client:
            assert client.dbsize() == 0
    assert [words[1] for words in problems(result)] == wanted, result.stdout + result.stderr
    assert result.returncode == (1 if wanted else 0)
    for subject in ("version", "latency", "clock"):
        assert subject in result.stdout


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(redis_executable() is None, reason="no redis-server (make test installs it)")
def test_replicas_are_told_with_what_they_mean_for_a_restart(tmp_path):
    """A hint and no problem: it is what replicas are for, but nobody would look for it in the first restart."""
    with RedisProcess(tmp_path) as master:
        config = Config(redis=master.url)
        assert "Redis replicas" not in {each.subject for each in findings(config)}
        with RedisProcess(tmp_path, "--replicaof", f"127.0.0.1 {master.port}"):
            wait_until(lambda: b"state=online" in master.ask("INFO", "replication"), "a replica")
            found = {each.subject: each for each in findings(config)}["Redis replicas"]
    assert found.is_well
    assert "each restart of Redis begins a new era" in found.text


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(redis_executable() is None, reason="no redis-server (make test installs it)")
def test_the_setting_by_which_commits_may_be_lost_is_named(tmp_path):
    with RedisServer(Path(tempfile.mkdtemp(dir=tmp_path)) / "r", appendfsync="always") as server:
        for setting, value, says in (
            ("appendfsync", "always", "every commit is on disk"),
            ("no-appendfsync-on-rewrite", "yes", "no-appendfsync-on-rewrite no"),
            ("appendfsync", "everysec", "appendfsync always"),
        ):
            server.ask("CONFIG", "SET", setting, value)
            told = {each.subject: each for each in findings(Config(redis=server.url))}
            assert told["Redis durability"].is_well
            assert says in told["Redis durability"].text


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(redis_executable() is None, reason="no redis-server (make test installs it)")
def test_a_policy_that_evicts_is_told_before_there_is_a_limit(tmp_path):
    """A hint and no problem: nothing is thrown away until somebody sets `maxmemory`."""
    policy = ("--maxmemory-policy", "allkeys-lru")
    with RedisServer(Path(tempfile.mkdtemp(dir=tmp_path)) / "r", *policy) as server:
        told = {each.subject: each for each in findings(Config(redis=server.url))}["Redis memory"]
        assert told.is_well
        assert "maxmemory-policy allkeys-lru would throw away" in told.text
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        told = {each.subject: each for each in findings(Config(redis=server.url))}["Redis memory"]
    assert told.text == "nothing is thrown away when it is full"


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(redis_executable() is None, reason="no redis-server (make test installs it)")
def test_every_right_that_a_node_needs_is_asked_for_and_named(tmp_path):
    """One read-only script was tried: a user without `xadd`, `publish` and `subscribe` was told that all was well."""
    rules = user_rules(RedisNames())
    rights = [rule for rule in rules if rule[0] in "+~&" and rule not in ("+@connection", OPTIONAL)]
    in_clusters = {f"+{name}" for name in IN_CLUSTERS}
    with RedisServer(Path(tempfile.mkdtemp(dir=tmp_path)) / "r") as server:
        config = Config(redis=f"unix://syncd:x@{server.path}")
        for right in [None, OPTIONAL, *rights]:
            kept = [rule for rule in rules if rule != right]
            server.ask("ACL", "SETUSER", "syncd", "reset", "on", ">x", *kept)
            found = {each.subject: each for each in findings(config)}
            is_well = right in (None, OPTIONAL) or right in in_clusters
            told = found["Redis rights"]
            assert told.is_well == is_well, (right, told)
            assert is_well or right.removeprefix("+") in told.text
            assert server.ask("DBSIZE") == 0
        server.ask("ACL", "SETUSER", "syncd", "reset", "on", ">x", *rules)
        commands = ["-xadd", "-zadd", "-publish", "-subscribe"]
        for gone, lacks in (
            (commands, "lacks +zadd +xadd +publish +subscribe &{syncd}:* &syncd:*. Give"),
            (["resetkeys", "~{other}:*"], "~{syncd}:*"),
        ):
            server.ask("ACL", "SETUSER", "syncd", *gone)
            result = run("--redis", config.redis)
            assert (result.returncode, [w[1] for w in problems(result)]) == (1, ["rights:"])
            assert lacks in result.stdout


def test_a_redis_that_is_not_there_is_found(tmp_path):
    result = run("--redis", f"unix://{tmp_path}/none.sock")
    assert (result.returncode, [words[0] for words in problems(result)]) == (1, ["Redis:"])


@pytest.mark.process
@pytest.mark.slow
def test_info_prints_what_the_node_tells(tmp_path):
    server = Server(tmp_path)
    server.start()
    try:
        told = json.loads(server.run("info").stdout)
        assert told["not_ready"] == []
        [node] = map(json.loads, server.run("info", "--cluster").stdout.splitlines())
        assert (node["state"], node["version"]) == ("alive", told["version"])
        assert server.run("info", SYNCD_API_KEY="wrong").returncode == 3
    finally:
        server.kill()
    assert server.run("info").returncode == 4


def subjects_not_well(tmp_path):
    return [each.subject for each in findings(config_of(tmp_path)) if not each.is_well]


def config_of(tmp_path):
    return Config(db=str(tmp_path / "x.db"), api_keys={"a": "k"})


def test_a_clock_that_was_never_set_is_found(tmp_path, monkeypatch):
    assert subjects_not_well(tmp_path) == []
    monkeypatch.setattr("syncd.cli.doctor.time.time", lambda: 1_000_000.0)
    assert subjects_not_well(tmp_path) == ["clock"]


def test_a_disk_that_is_nearly_full_is_found(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100 * 2**20)
    monkeypatch.setattr("syncd.cli.doctor.shutil.disk_usage", lambda _folder: usage)
    assert subjects_not_well(tmp_path) == ["disk"]
    (found,) = [each for each in findings(config_of(tmp_path)) if each.subject == "disk"]
    assert found.text.startswith("100 MiB free. Free some")


def test_an_old_sqlite_is_found_with_the_version_that_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("syncd.cli.doctor.sqlite3.sqlite_version_info", (3, 31, 1))
    assert subjects_not_well(tmp_path) == ["SQLite"]
    (found,) = [each for each in findings(config_of(tmp_path)) if not each.is_well]
    assert "3.37.0" in found.text
