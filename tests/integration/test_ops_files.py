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

OPS = Path("docs/ops")
SYSTEMD = shutil.which("systemd-analyze")
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def unit_commands():
    lines = re.findall(
        r"^Exec\w+=\S+/syncd (.*)$", (OPS / "syncd.service").read_text(), re.MULTILINE
    )
    return [shlex.split(line) for line in lines]


def docker_command():
    return json.loads(re.search(r"^CMD (.*)$", (OPS / "Dockerfile").read_text(), re.MULTILINE)[1])


def compose():
    return yaml.safe_load((OPS / "compose.yml").read_text())


def commands():
    nodes = [each for each in compose()["services"].values() if "build" in each]
    assert len(nodes) == 2
    return [*unit_commands(), docker_command(), *(each["command"] for each in nodes)]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_command_line_knows_what_they_say(command):
    name, *arguments = command
    known = cli.get_command(click.Context(cli), name)
    context = known.make_context(name, list(arguments), resilient_parsing=False)
    assert context.command is known


def test_what_compose_names_is_there():
    services = compose()["services"]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (OPS / source).is_file(), source
        if "build" in service:
            root = OPS / service["build"]["context"]
            assert (root / service["build"]["dockerfile"]).is_file()
            assert (root / "pyproject.toml").is_file()
    assert set(services["nginx"]["depends_on"]) == {"node-a", "node-b"}


def test_its_configuration_is_accepted():
    config = load_config(
        str(OPS / "compose-syncd.toml"), {"SYNCD_API_KEY": "k" * 40}, {"listen": "0.0.0.0:8400"}
    )
    check_config(config)
    assert set(config.namespaces) == {"news"}


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (make test installs it)")
def test_its_nginx_finds_nothing_wrong(tmp_path):
    """Names of the compose network are none here."""
    site = (
        (OPS / "compose-nginx.conf")
        .read_text()
        .replace("node-a:", "127.0.0.1:")
        .replace("node-b:", "127.0.0.2:")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {site} }}")
    command = [
        NGINX,
        "-t",
        "-q",
        "-c",
        str(config),
        "-p",
        str(tmp_path),
        "-e",
        str(tmp_path / "log"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


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
