"""The files of docs/ops say nothing that syncd, systemd or nginx would not understand."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from syncd.cli.main import cli
from syncd.config_load import check_config, load_config
from tests.integration.composed import load
from tests.integration.nginx import MISSING, NGINX, check

OPS = Path("docs/ops")
SYSTEMD = shutil.which("systemd-analyze")


def unit_commands():
    lines = re.findall(
        r"^Exec\w+=\S+/syncd (.*)$", (OPS / "syncd.service").read_text(), re.MULTILINE
    )
    return [shlex.split(line) for line in lines]


def docker_command():
    return json.loads(re.search(r"^CMD (.*)$", (OPS / "Dockerfile").read_text(), re.MULTILINE)[1])


COMPOSE = ["compose.yml", "compose-sentinel.yml", "compose-cluster.yml", "compose-tls.yml"]


class AllSet(dict):
    """Whatever a variable is set to."""

    def __missing__(self, _name):
        return "x"


def nodes(name):
    services = load(name, AllSet())
    return {key: each for key, each in services.items() if key.startswith("node-")}


def commands():
    of_nodes = [each["command"] for name in COMPOSE for each in nodes(name).values()]
    assert len(of_nodes) == 2 * len(COMPOSE)
    return [*unit_commands(), docker_command(), *of_nodes]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_command_line_knows_what_they_say(command):
    name, *arguments = command
    known = cli.get_command(click.Context(cli), name)
    context = known.make_context(name, list(arguments), resilient_parsing=False)
    assert context.command is known


def test_every_compose_file_is_looked_at():
    assert {path.name for path in OPS.glob("compose*.yml")} == {*COMPOSE, "compose-parts.yml"}


@pytest.mark.parametrize("name", COMPOSE)
def test_what_compose_names_is_there(name):
    services = load(name, AllSet())
    volumes = yaml.safe_load((OPS / name).read_text())["volumes"]
    used = set()
    for service in services.values():
        for source in (volume.partition(":")[0] for volume in service.get("volumes", [])):
            assert (OPS / source).exists() if source.startswith("./") else source in volumes
            used.add(source)
        if "build" in service:
            root = OPS / service["build"]["context"]
            assert (root / service["build"]["dockerfile"]).is_file()
            assert (root / "pyproject.toml").is_file()
    assert set(volumes) <= used
    upstream = re.findall(r"server ([\w-]+):8400", (OPS / "compose-nginx.conf").read_text())
    assert services["nginx"]["depends_on"] == upstream == [*nodes(name)]


@pytest.mark.parametrize("name", COMPOSE)
def test_what_a_service_waits_for_will_come(name):
    services = load(name, AllSet())
    for service in services.values():
        waits = service.get("depends_on", [])
        assert set(waits) <= services.keys()
        for other in waits if isinstance(waits, dict) else []:
            if waits[other]["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"]


def test_its_configuration_is_accepted():
    config = load_config(
        str(OPS / "compose-syncd.toml"), {"SYNCD_API_KEY": "k" * 40}, {"listen": "0.0.0.0:8400"}
    )
    check_config(config)
    assert set(config.namespaces) == {"news"}


@pytest.mark.skipif(NGINX is None, reason=MISSING)
def test_its_nginx_finds_nothing_wrong(tmp_path):
    """Names of the compose network are none here."""
    site = (
        (OPS / "compose-nginx.conf")
        .read_text()
        .replace("node-a:", "127.0.0.1:")
        .replace("node-b:", "127.0.0.2:")
    )
    check(tmp_path, site)


@pytest.mark.skipif(SYSTEMD is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    """But that syncd is elsewhere."""
    unit = tmp_path / "syncd.service"
    syncd = tmp_path / "syncd"
    syncd.write_text(f"#!{sys.executable}\n")
    syncd.chmod(0o755)
    unit.write_text((OPS / "syncd.service").read_text().replace("/opt/syncd/bin/syncd", str(syncd)))
    command = [SYSTEMD, "verify", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    ours = [line for line in result.stderr.splitlines() if "syncd.service" in line]
    assert (result.returncode, ours) == (0, []), result.stderr


def documented_commands():
    """Every command of syncd in the pages, `PLACE` for what the reader fills in."""
    for page in sorted(OPS.glob("*.md")):
        text = page.read_text()
        found = re.findall(r"`(syncd [^`]+)`", text) + re.findall(
            r"^\$ (syncd .+)$", text, re.MULTILINE
        )
        yield from (line for line in found if not line.startswith("syncd.db"))


@pytest.mark.parametrize("line", sorted(set(documented_commands())))
def test_a_command_in_the_pages_is_one(line):
    _, *rest = shlex.split(line)
    group, context = cli, click.Context(cli)
    while isinstance(group, click.Group):
        name, *rest = rest
        command = group.get_command(context, name)
        assert command is not None, line
        group = command
    try:
        command.make_context(name, rest)
    except click.MissingParameter:
        assert not rest, "only a name in a sentence may do without what the command needs"
    except click.BadParameter as error:
        if "does not exist" not in error.message:  # a file of the reader's
            raise
