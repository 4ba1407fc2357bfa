"""A real nginx round a `server` block that the documents show."""

import contextlib
import shutil
import subprocess

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
MISSING = "nginx is not installed (make test installs it)"

_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


def _command(folder, site):
    folder.mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, site=site))
    return [NGINX, "-c", str(config), "-p", str(folder), "-e", str(folder / "start.log")]


def check(folder, site):
    """Have `nginx -t` look at it: it must have nothing to say."""
    command = [*_command(folder, site), "-t", "-q"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@contextlib.contextmanager
def running_nginx(folder, site):
    """Run it while the block is open; it listens a moment later."""
    command = _command(folder, site)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)
