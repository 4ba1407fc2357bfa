"""`syncd publish | subscribe | presence | history` as a shell sees them: output, exit codes, signals, restarts."""

import json
import signal

import pytest

from tests.integration.cli_server import KEY, Server, assert_refused

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("node"))
    server.start()
    yield server
    server.kill()


def test_what_is_published_is_printed_by_a_subscriber_line_by_line(server):
    with server.follow("demo:a") as follower:
        follower.wait_subscribed()
        published = server.run("publish", "demo:a", '{"n": 1}', "--name", "note", "--key", "k")
        assert published.returncode == 0, published.stderr
        position = json.loads(published.stdout)["position"]
        [line] = follower.lines(1)
        at_ms = line.pop("at_ms")
        assert isinstance(at_ms, int)
        assert line == {
            "type": "event",
            "channel": "demo:a",
            "name": "note",
            "data": {"n": 1},
            "key": "k",
            "position": position,
        }


def test_standard_input_is_published_line_by_line_and_may_be_sent_twice(server):
    lines = '1\n\n"two"\n{"$base64": "AP8="}\n'
    first = server.run("publish", "demo:lines", "-", "--uid", "job", stdin=lines)
    again = server.run("publish", "demo:lines", "-", "--uid", "job", stdin=lines)
    assert first.returncode == again.returncode == 0, first.stderr
    assert first.stdout == again.stdout
    history = server.run("history", "demo:lines")
    data = [json.loads(line)["data"] for line in history.stdout.splitlines()]
    assert data == [1, "two", {"$base64": "AP8="}]


def test_history_pages_forward_from_a_position_and_backward(server):
    server.run("publish", "demo:h", "-", stdin="".join(f"{n}\n" for n in range(6)))

    def data(*options):
        result = server.run("history", "demo:h", *options)
        assert result.returncode == 0, result.stderr
        return [json.loads(line)["data"] for line in result.stdout.splitlines()]

    assert data("--limit", "2") == [0, 1]
    assert data("--limit", "2", "--reverse") == [5, 4]
    first = json.loads(server.run("history", "demo:h", "--limit", "1").stdout)["position"]
    assert data("--since", f"{first['epoch']}:3") == [3, 4, 5]


def test_a_subscriber_goes_on_from_a_position_and_ends_after_a_count(server):
    published = server.run("publish", "demo:s", "-", stdin="1\n2\n3\n")
    epoch = json.loads(published.stdout.splitlines()[0])["position"]["epoch"]
    result = server.run("subscribe", "demo:s", "--since", f"{epoch}:1", "--count", "2", "--quiet")
    assert result.returncode == 0
    assert [json.loads(line)["data"] for line in result.stdout.splitlines()] == [2, 3]
    assert result.stderr == ""


def test_a_position_that_is_lost_is_printed_as_a_reset(server):
    with server.follow("demo:s", "--since", "0000000000000000:1") as follower:
        [line] = follower.lines(1)
        assert (line["type"], line["cause"]) == ("reset", "epoch_changed")


def test_presence_is_printed_by_both_commands(server):
    with server.follow("demo:p", "--presence") as follower:
        [line] = follower.lines(1)
        assert line == {"type": "presence", "channel": "demo:p", "members": []}
    result = server.run("presence", "demo:p")
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["publish", "demo:a", "hello"], 2, "quotes"),
        (["publish", "demo:a", '{"$base64": "!"}'], 2, "base64"),
        (["publish", "demo:a"], 2, "Missing argument"),
        (["publish", "nonamespace", "1"], 2, "namespace:name"),
        (["publish", "nope:a", "1"], 3, "permission_denied"),
        (["publish", "demo:a", "1", "--api-key", "wrong"], 3, "SYNCD_API_KEY"),
        (["publish", "demo:a", "1", "--url", "http://127.0.0.1:1"], 4, "127.0.0.1:1"),
        (["publish", "demo:a", "1", "--url", "nonsense"], 2, "http://"),
        (["history", "demo:a", "--since", "x"], 2, "EPOCH:OFFSET"),
        (["history", "demo:a", "--since", "00:1"], 1, "unrecoverable_position"),
        (["history", "live:a"], 1, "not_supported"),
        (["presence", "live:a"], 1, "not_supported"),
        (["subscribe"], 2, "Missing argument"),
        (["subscribe", "demo:a", "demo:a"], 2, "twice"),
        (["subscribe", "demo:a", "demo:b", "--since", "e:1"], 2, "--since"),
        (["subscribe", "nope:a"], 3, "permission_denied"),
        (["subscribe", "demo:a", "--token", "bad"], 3, "token"),
        (["subscribe", "demo:a", "--url", "http://127.0.0.1:1", "--wait", "0.2"], 4, "127.0.0.1:1"),
        (["subscribe", "demo:a", "--url", "nonsense"], 2, "ws://"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    server, monkeypatch, capsys, arguments, code, text
):
    monkeypatch.setenv("SYNCD_URL", server.url)
    monkeypatch.setenv("SYNCD_API_KEY", KEY)
    assert_refused(capsys, arguments, code, text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_ends_it_quietly(server, number):
    with server.follow("demo:a") as follower:
        follower.wait_subscribed()
        follower.process.send_signal(number)
        assert follower.process.wait(10) == 128 + number
        follower._reader.join(5)
        assert "Traceback" not in "".join(follower.notes)


def test_a_reader_that_goes_away_ends_it_quietly(server):
    server.run("publish", "demo:pipe", "-", stdin="1\n2\n3\n")
    epoch = json.loads(server.run("history", "demo:pipe").stdout.splitlines()[0])["position"][
        "epoch"
    ]
    with server.follow("demo:pipe", "--since", f"{epoch}:0") as follower:
        follower.process.stdout.close()
        server.run("publish", "demo:pipe", "4")
        assert follower.process.wait(10) == 1
        follower._reader.join(5)
        assert "Traceback" not in "".join(follower.notes)


def test_a_subscriber_carries_on_over_kill_9_of_the_server(tmp_path):
    server = Server(tmp_path)
    server.start()
    try:
        with server.follow("demo:k") as follower:
            follower.wait_subscribed()
            for n in range(3):
                assert server.run("publish", "demo:k", str(2 * n)).returncode == 0
                server.kill()
                server.start()
                assert server.run("publish", "demo:k", str(2 * n + 1)).returncode == 0
            lines = follower.lines(6)
        assert [line["data"] for line in lines] == list(range(6))
        assert [line["position"]["offset"] for line in lines] == [1, 2, 3, 4, 5, 6]
    finally:
        server.kill()
