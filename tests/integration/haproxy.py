"""A real HAProxy with the configuration that the documents show."""

import contextlib
import shutil
import subprocess
from pathlib import Path

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
MISSING = "haproxy is not installed (make test installs it)"

DOCUMENTED = Path("docs/haproxy.md").read_text().partition("```haproxy\n")[2].partition("```")[0]
PUBLIC = ":443 ssl crt /etc/haproxy/site.pem"
NODES = ("10.0.0.1:8400", "10.0.0.2:8400")


def documented(port, nodes):
    """What docs/haproxy.md shows, but for its addresses."""
    config = DOCUMENTED
    ours = [f"127.0.0.1:{node}" for node in nodes]
    for shown, here in zip((PUBLIC, *NODES), (f"127.0.0.1:{port}", *ours), strict=True):
        assert config.count(shown) == 1
        config = config.replace(shown, here)
    return config


@contextlib.contextmanager
def running_haproxy(folder, config):
    """Run it while the block is open; it listens a moment later."""
    folder.mkdir(exist_ok=True)
    file = folder / "haproxy.cfg"
    file.write_text(config)
    check = [HAPROXY, "-c", "-q", "-f", str(file)]
    result = subprocess.run(check, capture_output=True, text=True, check=False, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    process = subprocess.Popen(
        [HAPROXY, "-db", "-f", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)
