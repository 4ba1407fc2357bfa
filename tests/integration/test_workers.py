"""`syncd serve --workers`: several processes on one port, kept alive by a parent that drains them and gives up when it must."""

import contextlib
import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from syncd.testing.process import API_KEY, ServerProcess
from syncd.testing.redis_process import RedisProcess, redis_executable, wait_until

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
CONFIG = """
[namespaces.demo]
history = "durable"
allow = { subscribe = ["anyone"], publish = ["anyone"], history = ["anyone"] }
"""


@pytest.fixture
def redis(tmp_path):
    with RedisProcess(tmp_path) as redis:
        yield redis


def serving(folder, redis, count, **options):
    arguments = ("--redis", redis.url, "--workers", str(count))
    return ServerProcess(folder, CONFIG, arguments=arguments, **options)


def started(server):
    """Workers by seat, as the parent logged their last start."""
    lines = [line for line in server.log_lines() if line.get("event") == "worker_started"]
    return {line["worker"]: line["pid"] for line in lines}


def is_alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def children(server):
    """Of the parent, whichever of its threads started them."""
    lists = Path(f"/proc/{server.pid}/task").glob("*/children")
    return {int(pid) for each in lists for pid in each.read_text().split()}


def call(server, path, body=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}",
        data=body,
        headers={"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode()


def metrics(server):
    """`/metrics` of whichever worker answers; empty while none does."""
    with contextlib.suppress(OSError):
        return call(server, "/metrics")
    return ""


def all_up(server, count):
    ups = re.findall(r'syncd_worker_up\{worker="\d"\} ([\d.]+)', metrics(server))
    return [float(each) for each in ups] == [1.0] * count


def test_workers_share_the_port_and_one_that_is_killed_comes_back(tmp_path, redis):
    with serving(tmp_path, redis, 2) as server:
        server.start()
        wait_until(lambda: all_up(server, 2), "two workers that tell their metrics")
        text = metrics(server)
        for worker in ("0", "1"):
            assert f'syncd_ready{{worker="{worker}"}} 1.0' in text
            assert f'process_resident_memory_bytes{{worker="{worker}"}}' in text
        assert text.count("# TYPE syncd_connections ") == 1
        before = started(server)
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: started(server)[0] != before[0], "another start of the killed one")
        wait_until(lambda: all_up(server, 2), "both workers again")
        assert started(server)[1] == before[1]
        code, took_s = server.stop()
        assert code == 0
        assert took_s < 10
        assert not any(is_alive(pid) for pid in started(server).values())


def test_what_one_worker_was_told_the_others_know(tmp_path, redis):
    """Every request is a connection of its own: the system gives it to either worker."""
    with serving(tmp_path, redis, 2) as server:
        server.start()
        wait_until(lambda: all_up(server, 2), "two workers")
        for number in range(20):
            call(server, "/api/publish", b'{"channel": "demo:w", "data": %d}' % number)
        for _ in range(10):
            history = call(server, "/api/history?channel=demo:w&limit=100")
            assert [int(n) for n in re.findall(r'"data":\s*(\d+)', history)] == list(range(20))
        published = re.findall(r'syncd_published_total\{worker="\d"\} (\d+)', metrics(server))
        assert sum(int(each) for each in published) == 20


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path, redis):
    with serving(tmp_path, redis, 2) as server:
        server.start()
        wait_until(lambda: all_up(server, 2), "two workers")
        pids = started(server).values()
        server.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in pids), "the end of orphans")


def test_a_worker_that_never_lasts_makes_the_parent_give_up(tmp_path, redis):
    application = tmp_path / "broken.py"
    application.write_text(
        "import os\nfrom syncd import App\napp = App()\n"
        "if 'SYNCD_WORKER_SEAT' in os.environ: os._exit(7)\n"
    )
    arguments = ("--redis", redis.url, "--workers", "2", str(application))
    with ServerProcess(tmp_path, CONFIG, arguments=arguments) as server:
        server.spawn()
        assert server.wait(30) == 1
        events = [line.get("event") for line in server.log_lines()]
        assert "worker_given_up" in events
        assert 5 <= events.count("worker_ended") <= 12


def lines_of(server, event):
    return [line for line in server.log_lines() if line.get("event") == event]


def test_a_worker_that_dies_while_redis_is_away_comes_back_with_it_and_the_others_stay(
    tmp_path, redis
):
    """It cannot start without Redis. The parent used to count that as six quick ends, and stopped the healthy worker too."""
    with serving(tmp_path, redis, 2) as server:
        server.start()
        wait_until(lambda: all_up(server, 2), "two workers")
        before = started(server)
        redis.kill()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: lines_of(server, "worker_waits_for_store"), "a try without Redis")
        # More tries than were given up before, told by nothing but what the parent does: it starts processes.
        tries = set()

        def tried_enough():
            tries.update(pid for pid in children(server) if pid != before[1])
            return len(tries) > 6

        wait_until(tried_enough, "tries that go on", timeout_s=60.0)
        assert server.returncode is None
        assert is_alive(before[1])
        assert call(server, "/health/live")
        assert len(lines_of(server, "worker_waits_for_store")) == 1
        assert len(lines_of(server, "worker_ended")) == 2
        assert len(lines_of(server, "worker_started")) == 3
        assert server.log.read_text().count("Error: redis.url") == 1
        redis.start()
        wait_until(lambda: all_up(server, 2), "the dead one again", timeout_s=30.0)
        wait_until(lambda: started(server)[0] in children(server), "the word of it in the log")
        assert len(lines_of(server, "worker_started")) == 4
        assert started(server)[1] == before[1]
        assert server.stop()[0] == 0


def test_workers_that_all_died_without_redis_come_back_and_a_stop_meanwhile_is_clean(
    tmp_path, redis
):
    with serving(tmp_path, redis, 2) as server:
        server.start()
        wait_until(lambda: all_up(server, 2), "two workers")
        waiting = "both waiting for Redis"
        with redis.stopped():
            for pid in children(server):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: len(lines_of(server, "worker_waits_for_store")) == 2, waiting)
        wait_until(lambda: all_up(server, 2), "both again", timeout_s=30.0)
        redis.kill()
        for pid in children(server):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(lines_of(server, "worker_waits_for_store")) == 4, waiting)
        assert server.stop()[0] == 0


def test_a_password_that_is_wrong_by_now_ends_all_as_any_broken_configuration(tmp_path, redis):
    with serving(tmp_path, redis, 2) as server:
        server.start()
        wait_until(lambda: all_up(server, 2), "two workers")
        redis.ask("CONFIG", "SET", "requirepass", "changed")
        os.kill(started(server)[0], signal.SIGKILL)
        assert server.wait(60) == 1
        assert lines_of(server, "worker_given_up")
        assert not lines_of(server, "worker_waits_for_store")
        assert "Redis does not let us in" in server.log.read_text()


def test_without_redis_from_the_first_a_start_fails(tmp_path, redis):
    redis.kill()
    with ServerProcess(tmp_path, CONFIG, arguments=("--redis", redis.url)) as server:
        server.spawn()
        assert server.wait(20) == 5
        assert "redis.url: Redis cannot be used now (" in server.tail()
    with serving(tmp_path, redis, 2) as server:
        server.spawn()
        assert server.wait(60) == 1
        assert lines_of(server, "worker_given_up")


def test_workers_without_a_redis_and_a_taken_port_are_refused_at_the_start(tmp_path, redis):
    with ServerProcess(tmp_path, CONFIG, arguments=("--workers", "2")) as server:
        server.spawn()
        assert server.wait(20) == 2
        assert "server.workers above 1 needs server.redis" in server.tail()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with serving(first, redis, 2) as server:
        server.start()
        with serving(second, redis, 2, port=server.port) as other:
            other.spawn()
            assert other.wait(20) == 2
            assert "Cannot listen" in other.tail()
