"""The services of a compose file as processes of this machine: the same commands, files, environment and order, with other ports and paths.

What a container sees under a mount lies in a folder here; a bind mount is copied, with hosts, ports and paths of the network as they are
here. nginx is left out: its file is held elsewhere.
"""

import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import yaml

from syncd.testing.process import API_KEY, ServerProcess, free_port
from syncd.testing.redis_process import RedisBase, wait_until

OPS = Path("docs/ops")
_SERVER_PORTS = ("6379", "26379", "8400")
_BUS_ABOVE = 10_000
_STORE_AWAY = 5
_JOB_S = 60.0


def load(name, environment):
    """Return the services of a compose file as docker would: what they extend merged, variables filled in."""
    services = yaml.safe_load((OPS / name).read_text())["services"]
    return {key: _filled(_extended(each), environment) for key, each in services.items()}


def _extended(service):
    base = service.get("extends")
    if base is None:
        return service
    inherited = yaml.safe_load((OPS / base["file"]).read_text())["services"]
    return _merged(inherited[base["service"]], service)


def _merged(base, own):
    """Mappings key by key, lists of mounts one behind the other, anything else as the service itself has it."""
    merged = {**base, **own}
    for key in base.keys() & own.keys():
        if isinstance(base[key], dict):
            merged[key] = _merged(base[key], own[key])
        elif key == "volumes":
            merged[key] = base[key] + own[key]
    return merged


def _filled(value, environment):
    if isinstance(value, dict):
        return {key: _filled(each, environment) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, environment) for each in value]
    if isinstance(value, str):
        pattern = r"\$(?:(\$)|\{(\w+)(?::\?[^}]*)?\})"
        return re.sub(pattern, lambda found: found[1] or environment[found[2]], value)
    return value


class Server(RedisBase):
    """A Redis or a Sentinel of the file."""

    def __init__(self, url, folder, arguments):
        super().__init__(url, folder / "redis.log")
        self.arguments = arguments

    def _arguments(self):
        return self.arguments


class Node(ServerProcess):
    """A node with the command of the file, started again as long as it exits since Redis is not there."""

    def __init__(self, folder, port, arguments, environment):
        folder.mkdir()
        super().__init__(folder, port=port, environment=environment)
        self._command = [sys.executable, "-m", "syncd.cli.main", *arguments]

    def start(self):
        self.spawn()
        wait_until(self._is_ready, "a node that is ready", timeout_s=60.0)

    def _is_ready(self):
        if self.returncode is not None:
            assert self.returncode == _STORE_AWAY, self.tail()
            self.spawn()
        try:
            return self.get("/health/ready")[0] == 200
        except OSError:
            return False


@attrs.define
class Composed:
    """One compose file.

    Args:
        folder: For volumes and logs.
        name: Of the file in `docs/ops`.
        secrets: What `.env` holds.
        host: What the services are called here.
        edits: Of copied files, by their names, for tests in a hurry: what is there, by what is there instead.
    """

    folder: Path
    name: str
    secrets: dict[str, str]
    host: str = "127.0.0.1"
    edits: dict[str, dict[str, str]] = attrs.field(factory=dict)
    services: dict = attrs.field(init=False)
    ports: dict[str, int] = attrs.field(init=False)
    running: dict = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self):
        services = load(self.name, {"SYNCD_API_KEY": API_KEY, **self.secrets})
        self.services = {key: each for key, each in services.items() if key != "nginx"}
        self.ports = {key: free_port(_BUS_ABOVE) for key in self.services}
        for service in self.services.values():
            for volume in service.get("volumes", []):
                self._mount(*volume.split(":")[:2])

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.down()

    # ------------------------------------------------------------ files and names

    def _mount(self, source, target):
        """Make what a mount shows."""
        place = self._place(source)
        if source.startswith("./"):
            there = OPS / source
            for path in [there] if there.is_file() else there.iterdir():
                copy = place if there.is_file() else place / path.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(self._here(self._edited(path), self._mounts_of_all()))
            return
        place.mkdir(parents=True, exist_ok=True)
        for parent, outer in self._mounts_of_all().items():
            inner = outer / os.path.relpath(target, parent)
            if target.startswith(f"{parent}/") and not inner.is_symlink():
                outer.mkdir(parents=True, exist_ok=True)
                inner.symlink_to(place)

    def _edited(self, path):
        text = path.read_text()
        for old, new in self.edits.get(path.name, {}).items():
            assert old in text
            text = text.replace(old, new)
        return text

    def _place(self, source):
        """Where a mount lies: volumes apart from files, which may have the same names."""
        is_file = source.startswith("./")
        return self.folder / ("files" if is_file else "volumes") / source.removeprefix("./")

    def _mounts(self, service):
        pairs = (volume.split(":")[:2] for volume in service.get("volumes", []))
        return {target: self._place(source) for source, target in pairs}

    def _mounts_of_all(self):
        """But for `/data`, which is another one in each."""
        every = {}
        for service in self.services.values():
            every |= self._mounts(service)
        every.pop("/data", None)
        return every

    def _here(self, text, mounts):
        """Return a text with paths, hosts and ports as they are here."""
        for target in sorted(mounts, key=len, reverse=True):
            text = re.sub(rf"(?<![\w/.]){re.escape(target)}(?![\w.-])", str(mounts[target]), text)
        for key, service in self.services.items():
            address = service.get("networks", {}).get("default", {}).get("ipv4_address", key)
            for port in _SERVER_PORTS:
                pattern = rf"(?<![\w./-]){re.escape(address)}([: ]|\s-p ){port}\b"
                text = re.sub(pattern, rf"{self.host}\g<1>{self.ports[key]}", text)
            text = re.sub(rf"(?<![\w./-]){re.escape(address)}(?![\w.:/-])", self.host, text)
        return text

    def words(self, key, words):
        """Return words of a service's command as they are here; a path that it does not see is an error."""
        mounts = self._mounts(self.services[key])
        for word in words:
            seen = any(word == each or word.startswith(f"{each}/") for each in mounts)
            assert seen or not word.startswith("/"), f"{key} does not see {word}"
        return [self._here(word, mounts) for word in words]

    # ------------------------------------------------------------ up and down

    def up(self):
        """Start everything, each as soon as what it depends on is as it is said there."""
        graph = {key: set(each.get("depends_on", {})) for key, each in self.services.items()}
        for key in graphlib.TopologicalSorter(graph).static_order():
            self.start(key)

    def start(self, key):
        """Start one service and wait until it does its work, or has done it."""
        service = self.services[key]
        if "image" not in service and "entrypoint" not in service:
            self._start_node(key)
        elif service.get("command", [""])[:1] == ["redis-server"]:
            self._start_server(key)
        else:
            words = [*service.get("entrypoint", []), *service["command"]]
            result = self._run(key, self.words(key, words))
            assert result.returncode == 0, result.stdout + result.stderr

    def _start_node(self, key):
        node = self.running.get(key)
        if node is None:
            mounts = self._mounts(self.services[key])
            listen = {"0.0.0.0:8400": f"127.0.0.1:{self.ports[key]}"}
            words = [listen.get(word, word) for word in self.services[key]["command"]]
            environment = {
                name: self._here(value, mounts)
                for name, value in self.services[key]["environment"].items()
            }
            folder = self.folder / key
            node = Node(folder, self.ports[key], self.words(key, words), environment)
            self.running[key] = node
        node.start()

    def _start_server(self, key):
        service = self.services[key]
        if key not in self.running:
            _, path, *options = self.words(key, service["command"])
            port = self.ports[key]
            is_tls = "/etc/redis/tls" in self._mounts(service)
            where = ["--tls-port", str(port), "--port", "0"] if is_tls else ["--port", str(port)]
            folder = self._mounts(service).get("/data") or self.folder / key
            folder.mkdir(exist_ok=True)
            # The image binds all addresses and starts in /data.
            options += [*where, "--bind", "127.0.0.1", "--dir", str(folder)]
            self.running[key] = Server(self._url(key, is_tls), folder, [path, *options])
        self.running[key].start()
        if "healthcheck" in service:
            _, program, *arguments = self.words(key, service["healthcheck"]["test"])
            words = [program, "-p", str(self.ports[key]), *arguments]
            wait_until(lambda: self._run(key, words).returncode == 0, f"health of {key}")

    def _url(self, key, is_tls):
        """Where a test asks as the operator."""
        place = f"{self.host}:{self.ports[key]}"
        if key.startswith("sentinel"):
            return f"redis://:{self.secrets['SENTINELS_PASSWORD']}@{place}"
        url = f"redis://admin:{self.secrets['ADMIN_PASSWORD']}@{place}"
        ca = self._mounts(self.services[key]).get("/etc/redis/tls")
        return f"{url.replace('redis:', 'rediss:', 1)}?ssl_ca_certs={ca}/ca.crt" if is_tls else url

    def _run(self, key, words):
        environment = {**os.environ, **self.services[key].get("environment", {})}
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False, timeout=_JOB_S
        )

    def down(self):
        """Kill everything; volumes stay."""
        for each in self.running.values():
            each.kill()
