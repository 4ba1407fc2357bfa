"""The demo page in a real Chromium, against a real node: what the README's first minutes promise."""

import contextlib
import functools
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from syncd.testing.process import API_KEY
from tests.e2e.browser import PATIENCE_S
from tests.e2e.nodes import Node

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.slow]

NETWORK_ERROR = "WebSocket connection to"
"""What Chromium prints by itself when a node is not there to be dialled."""


def syncd_publish(node, channel, data):
    """Run `syncd publish` as a person in a third terminal does."""
    command = [sys.executable, "-m", "syncd.cli.main", "publish", channel, json.dumps(data)]
    environment = {**os.environ, "SYNCD_URL": node.url, "SYNCD_API_KEY": API_KEY}
    subprocess.run(command, env=environment, check=True, timeout=PATIENCE_S, capture_output=True)


def rename(page, name):
    page.do("fill", "#display-name", name)
    page.do("click", "#name-form button")


def open_live(browser, node, **options):
    page = browser.open(node.url, **options)
    page.wait_state("open")
    page.wait_live()
    return page


def assert_dense(page):
    """Every event shown stands one after the one before: none is missing, none comes twice."""
    offsets = [event["offset"] for event in page.events()]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
    assert (page.text("#gaps"), page.text("#repeats")) == ("0", "0")


def test_two_windows_see_what_is_published_and_each_other(browser, node, publisher):
    one, two = (open_live(browser, node) for _ in range(2))
    rename(one, "Ada")
    rename(two, "Grace")
    syncd_publish(node, "demo:lobby", {"from": "a terminal"})
    publisher.publish("demo:lobby", {"from": "a backend"}, name="order.paid", key="order-7")
    one.do("fill", "#data", '{"from": "the page", "__proto__": 1}')
    one.do("click", "#publish")
    for page in (one, two):
        page.wait_offset(3)
        page.wait_people("Ada", "Grace")
        assert [data["from"] for data in page.data()] == ["a terminal", "a backend", "the page"]
        assert all(event["how"] == "live" for event in page.events())
        assert [event["prev"] for event in page.events()] == ["✓ after 0", "✓ after 1", "✓ after 2"]
        assert page.data()[2]["__proto__"] == 1
        page.wait_text("#people-count", "2")
        assert page.printed() == []
    assert [event["by"] for event in one.events()] == ["backend", "backend", "you"]
    assert two.events()[2]["by"] == "Ada"
    assert "order.paid" in two.text("#rows")
    one.wait_text("#publish-result", "Accepted by demo:lobby at offset 3.")


def test_pages_carry_on_over_kill_9_without_gap_or_repetition(browser, node, backend):
    pages = [open_live(browser, node) for _ in range(2)]
    with backend() as service:
        for page in pages:
            page.wait_for("() => Number(offset.textContent) > 20")
        node.kill()
        for page in pages:
            page.wait_state("waiting")
        assert "Attempt" in pages[0].text("#status-text")
        num_before = len(service.accepted)
        node.start()
        for page in pages:
            page.wait_state("open")
            page.wait_live()
            page.wait_for(f"() => Number(offset.textContent) > {num_before + 20}")
    top = service.accepted[-1][0]
    for page in pages:
        page.wait_offset(top)
        assert_dense(page)
        shown = {event["offset"]: json.loads(event["text"])["n"] for event in page.events()}
        assert shown == dict(service.accepted[-len(shown) :])
        assert any(note.startswith("Recovered") for note in page.notes())
        assert not any("lost" in note for note in page.notes() if note != "Connection lost.")
        assert [line for line in page.printed() if NETWORK_ERROR not in line] == []


def test_a_dropped_connection_comes_back_with_what_was_missed(browser, node, publisher):
    page = open_live(browser, node)
    publisher.publish("demo:lobby", 1)
    page.wait_offset(1)
    page.do("click", "#drop")
    page.wait_state("waiting")
    for number in (2, 3, 4):
        publisher.publish("demo:lobby", number)
    page.do("click", "#connect")
    page.wait_offset(4)
    assert page.data() == [1, 2, 3, 4]
    assert [event["how"] for event in page.events()] == ["live"] + ["recovered"] * 3
    assert page.notes() == ["Subscribed after offset 0.", "Connection lost.", "Recovered 3 events."]
    assert page.text("#recovered") == "3"
    assert "dropped by hand" in page.text("#detail-ended")
    assert page.printed() == []


def test_a_dropped_connection_comes_back_by_itself(browser, node):
    page = open_live(browser, node)
    page.do("click", "#drop")
    page.wait_state("waiting")
    page.wait_state("open")
    page.wait_live()
    assert "Recovered: nothing was missed." in page.notes()


def test_a_reload_keeps_the_client_the_list_and_the_place(browser, node, publisher):
    page = open_live(browser, node)
    client = page.text("#detail-client")
    publisher.publish("demo:lobby", "before")
    page.wait_offset(1)
    page.do("click", "#drop")
    page.wait_state("waiting")
    publisher.publish("demo:lobby", "meanwhile")
    page.do("reload")
    page.wait_offset(2)
    assert page.data() == ["before", "meanwhile"]
    assert page.text("#detail-client") == client
    assert page.notes()[-1] == "Recovered 1 event."
    page.wait_text("#people-count", "1")
    assert page.printed() == []


def test_what_is_published_offline_is_sent_once_even_after_a_reload(browser, node):
    page = open_live(browser, node)
    node.kill()
    page.wait_state("waiting")
    page.do("fill", "#data", '"written offline"')
    page.do("click", "#publish")
    assert page.text("#publish-result").startswith("Queued")
    page.wait_text("#detail-waiting", "1")
    node.start()
    page.do("reload")
    page.wait_offset(1)
    page.wait_text("#detail-waiting", "0")
    page.do("reload")
    page.wait_live()
    assert page.data() == ["written offline"]
    assert node.get("/api/history?channel=demo:lobby")[1]["position"]["offset"] == 1


def test_a_duplicated_tab_becomes_a_client_of_its_own(browser, node):
    one = open_live(browser, node)
    one.wait_for("() => Object.values(sessionStorage).join().includes('secret')")
    two = one.open_tab(node.url)
    two.wait_state("open")
    two.wait_live()
    clients = [page.text("#detail-client") for page in (one, two)]
    assert clients[0] != clients[1]
    assert one.text("#state-text") == "Connected"
    two.wait_text("#people-count", "2")


def test_a_lost_history_is_told_and_the_page_starts_fresh(browser, node, publisher, tmp_path):
    page = open_live(browser, node)
    publisher.publish("demo:lobby", "of the old log")
    page.wait_offset(1)
    node.kill()
    for file in tmp_path.glob("syncd.db*"):
        file.unlink()
    node.start()
    publisher.publish("demo:lobby", "of the new log")
    page.wait_for("() => rows.textContent.includes('of the new log')")
    assert page.data() == ["of the new log"]
    assert any(note.startswith("History lost") for note in page.notes())


def test_several_channels_at_once(browser, node, publisher):
    page = open_live(browser, node)
    page.do("fill", "#channel", "not a channel")
    page.do("press", "#channel", "Enter")
    assert page.do("getAttribute", "#channel", "aria-invalid") == "true"
    for name in ("demo:kitchen", "live:cursors", "nowhere:at-all"):
        page.do("fill", "#channel", name)
        page.do("press", "#channel", "Enter")
    page.wait_text("#subscription", "ended: permission_denied")
    page.do("click", 'button[aria-label="Leave nowhere:at-all"]')
    page.do("click", 'button[title="live:cursors"]')
    page.wait_text("#people-hint", "This channel keeps no presence.")
    page.wait_live()
    publisher.publish("live:cursors", {"x": 1})
    publisher.publish("demo:kitchen", {"temperature": 21.5})
    page.wait_for("() => rows.textContent.includes('\"x\":1')")
    page.wait_text(".unread:not([hidden])", "1")
    page.do("click", 'button[title="demo:kitchen"]')
    page.wait_offset(1)
    assert page.data() == [{"temperature": 21.5}]
    assert page.printed() == []


def test_earlier_events_are_loaded_and_a_reader_is_not_pulled_away(browser, node, publisher):
    for number in range(1, 121):
        publisher.publish("demo:lobby", number)
    page = open_live(browser, node)
    page.wait_for("() => document.querySelectorAll('.row').length === 50")
    page.do("click", "#earlier")
    page.wait_for("() => document.querySelectorAll('.row').length === 100")
    page.do("click", "#earlier")
    page.wait_for("() => document.querySelectorAll('.row').length === 120")
    page.wait_for("() => document.getElementById('earlier').hidden")
    assert page.data() == list(range(1, 121))
    page.evaluate("() => { document.getElementById('events').scrollTop = 300; }")
    page.wait_for("() => !document.getElementById('follow').hidden")
    publisher.publish("demo:lobby", 121)
    page.wait_for("() => document.getElementById('follow').textContent.startsWith('1 new line')")
    assert page.evaluate("() => document.getElementById('events').scrollTop") == 300
    page.do("click", "#follow")
    page.wait_for("() => document.getElementById('follow').hidden")


def test_hostile_text_stays_text(browser, node, publisher):
    page = open_live(browser, node)
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e"
    rename(page, hostile[:40])
    publisher.publish("demo:lobby", {hostile: hostile}, name=hostile, key=hostile)
    page.wait_offset(1)
    assert page.data() == [{hostile: hostile}]
    page.wait_people(hostile[:40])
    assert page.evaluate("() => document.querySelectorAll('main img, main script').length") == 0
    assert page.printed() == []


SECRET = "a secret of the tests that is long enough for HS256"

AUTH = """
[auth]
algorithms = ["HS256"]
hmac_secret = "%s"
anonymous = %s
[namespaces.demo]
history = "durable"
presence = true
allow = { subscribe = ["authenticated"], publish = ["authenticated"], presence = ["authenticated"] }
"""


def make_token(folder):
    command = [sys.executable, "-m", "syncd.cli.main", "token", "--user", "ada", "--config"]
    command.append(str(folder / "syncd.toml"))
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    return done.stdout.strip()


@pytest.mark.parametrize("anonymous", ["false", "true"])
def test_a_node_that_wants_a_token_is_given_one(browser, tmp_path, anonymous):
    """Whether it turns strangers away at the door or at the channel."""
    with Node(tmp_path, AUTH % (SECRET, anonymous)) as server:
        server.start()
        page = browser.open(server.url)
        page.do("waitForSelector", "#token-form:not([hidden])")
        if anonymous == "false":
            page.wait_text("#state-text", "Needs a token")
        page.do("fill", "#token", make_token(tmp_path))
        page.do("press", "#token", "Enter")
        page.wait_state("open")
        page.wait_live()
        page.do("click", "#publish")
        page.wait_offset(1)
        page.do("reload")
        page.wait_state("open")
        page.wait_live()
        assert page.do("isHidden", "#token-form")


# ------------------------------------------------------------------------------------------------ origin and policy

CONNECT = """(url) => new Promise((resolve) => {
    const socket = new WebSocket(url, "syncd.v1");
    socket.onopen = () => resolve("open");
    socket.onerror = () => resolve("refused");
})"""


@contextlib.contextmanager
def foreign_site(folder):
    """Serve a page from another port: another origin."""
    (folder / "site").mkdir()
    (folder / "site" / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    handler = functools.partial(QuietHandler, directory=str(folder / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


def test_a_page_of_another_origin_cannot_connect(browser, node, tmp_path):
    socket_url = f"ws://127.0.0.1:{node.port}/ws"
    with foreign_site(tmp_path) as site:
        assert browser.open(site).evaluate(CONNECT, socket_url) == "refused"
    assert browser.open(node.url).evaluate(CONNECT, socket_url) == "open"


def test_the_policy_lets_nothing_foreign_and_nothing_inline_run(browser, node):
    page = open_live(browser, node)
    assert page.printed() == []
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.wasRun = true";
            document.body.append(script);
        }"""
    )
    assert page.evaluate("() => window.wasRun === undefined")
    assert any("Content Security Policy" in line for line in page.printed())


# ------------------------------------------------------------------------------------------------ codec

CHECK_VECTORS = """async (cases) => {
    const { decodeFrame, encodeFrame } = await import("/static/msgpack.js");
    const bytesOf = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
    const hexOf = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    const isMap = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
    const isSame = (got, wanted) => {
        if (Array.isArray(wanted)) return Array.isArray(got) && got.length === wanted.length && wanted.every((item, i) => isSame(got[i], item));
        if (got instanceof Uint8Array) return isMap(wanted) && hexOf(got) === wanted.$bin;
        if (!isMap(wanted)) return Object.is(got, wanted);
        return isMap(got) && Object.getPrototypeOf(got) === null
            && isSame(Object.keys(got).sort(), Object.keys(wanted).sort())
            && Object.keys(wanted).every((key) => isSame(got[key], wanted[key]));
    };
    const wrong = [];
    for (const { name, hex, decoded, error } of cases) {
        const frame = bytesOf(Array.isArray(hex) ? hex.map(([part, times]) => part.repeat(times)).join("") : hex);
        const result = decodeFrame(frame, 10_000);
        if ((result.error !== null) !== (error === "bad_message")) wrong.push(`${name}: ${result.error}`);
        if (decoded === undefined || error !== undefined) continue;
        if (!isSame(result.messages, decoded)) wrong.push(`${name}: decoded otherwise`);
        if (!isSame(decodeFrame(encodeFrame(result.messages)).messages, decoded)) wrong.push(`${name}: encoded otherwise`);
    }
    return wrong;
}"""


def test_the_page_decodes_and_encodes_as_the_vectors_say(browser, node, root):
    page = browser.open(node.url)
    for path in sorted((root / "protocol/vectors").glob("*.json")):
        cases = json.loads(path.read_text())
        assert len(cases) > 50
        assert page.evaluate(CHECK_VECTORS, cases) == [], path.name


def test_maps_of_a_peer_never_reach_a_prototype(browser, node):
    page = browser.open(node.url)
    script = """async () => {
        const { decodeFrame } = await import("/static/msgpack.js");
        // ["t", {"__proto__": {"polluted": 1}}]
        const hex = "92a17481a95f5f70726f746f5f5f81a8706f6c6c7574656401";
        const { messages: [[, body]] } = decodeFrame(Uint8Array.from(hex.match(/../g), (x) => parseInt(x, 16)));
        return [{}.polluted === undefined, body.polluted === undefined, Object.keys(body)];
    }"""
    assert page.evaluate(script) == [True, True, ["__proto__"]]


# ------------------------------------------------------------------------------------------------ shape

MEASURE = """() => ({
    overflow: document.documentElement.scrollWidth - innerWidth,
    unnamed: [...document.querySelectorAll("button, input, textarea")].filter((control) =>
        !control.labels?.length && !control.textContent.trim() && !control.ariaLabel).map((control) => control.id),
    small: [...document.querySelectorAll("button, input, textarea")].filter((control) =>
        control.offsetParent !== null && control.getBoundingClientRect().height < 36).map((control) => control.id),
})"""


@pytest.mark.parametrize(("width", "height"), [(360, 740), (768, 1024), (1440, 900)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_every_window_and_names_its_controls(browser, node, width, height, scheme):
    size = {"width": width, "height": height}
    page = open_live(browser, node, viewport=size, colorScheme=scheme)
    page.do("fill", "#data", json.dumps({"long": "x" * 3000}))
    page.do("click", "#publish")
    page.wait_offset(1)
    measured = page.evaluate(MEASURE)
    assert measured["overflow"] == 0
    assert measured["unnamed"] == []
    if width < 640:
        assert measured["small"] == []
