"""Mutations of the JavaScript client in several tabs of a real Chromium, while a real node is away."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.browser import PATIENCE_S
from tests.e2e.nodes import Node

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.slow]

APP = Path("clients/js/test/node/shop_app.py").resolve()
START = """() => {
    window.store = storage.durableQueue({user: "ann", url: "/ws"});
    window.shared = tabs.sharedTabs({user: "ann"});
    window.client = syncd.createClient({url: "/ws", store, tabs: shared});
    window.counters = client.collection("counters");
    window.outcomes = [];
    client.onOutcome(({name, status}) => outcomes.push(`${name} ${status}`));
    window.shown = [];
    counters.subscribe(() => shown.at(-1) === counters.get("a") || shown.push(counters.get("a")));
    counters.watch();
    client.connect();
}"""
IS_LIVE = "() => counters.status() === 'current'"
SHOWS = "(value) => counters.get('a') === value"
IS_SETTLED = "(value) => counters.get('a') === value && counters.pending('a').length === 0"
IS_OFFLINE = "() => client.state === 'offline'"


def bundled(*arguments):
    command = ["node", "scripts/bundle.mjs", *arguments]
    done = subprocess.run(
        command, cwd="clients/js", capture_output=True, check=True, timeout=PATIENCE_S
    )
    return done.stdout.decode()


@pytest.fixture(scope="session")
def bundle():
    parts = [
        bundled(),
        bundled("tabs/index.ts", "tabs"),
        bundled("storage/index.ts", "storage"),
    ]
    return f"(() => {{ {' '.join(parts)} }})()"


@pytest.fixture
def node(tmp_path):
    with Node(tmp_path, arguments=(str(APP),)) as server:
        server.start()
        yield server


def begin(page, bundle):
    page.do("evaluate", bundle)
    page.evaluate(START)
    return page


@pytest.fixture
def pages(browser, node, bundle):
    """Two tabs that watch the counters; the first one leads."""
    first = browser.open(node.url)
    pages = [begin(first, bundle), begin(first.open_beside(node.url), bundle)]
    for page in pages:
        page.wait_for(IS_LIVE)
    return pages


def test_a_mutation_shows_in_the_other_tab_while_the_node_is_away_and_is_done_once(pages, node):
    one, two = pages
    node.kill()
    for page in pages:
        page.wait_for(IS_OFFLINE)
    two.evaluate("() => void counters.incr('a', 5).server")
    for page in pages:
        page.wait_for(SHOWS, 5)
        assert page.evaluate("() => counters.pending('a').length") == 1
    node.start()
    for page in pages:
        page.wait_for(IS_SETTLED, 5)
        assert page.evaluate("() => shown") == [5]
    assert (one.evaluate("() => outcomes"), two.evaluate("() => outcomes")) == (
        [],
        ["counters.incr ok"],
    )


def test_twenty_mutations_made_offline_are_done_once_and_in_order_after_reloads(
    pages, node, bundle
):
    one, two = pages
    node.kill()
    for page in pages:
        page.wait_for(IS_OFFLINE)
    make = """(from) => {
        for (let n = from; n < from + 10; n += 1) {
            void counters.incr('a').server;
            void counters.put(`order-${from}`, n).server;
        }
    }"""
    one.evaluate(make, 0)
    two.evaluate(make, 100)
    for page in pages:
        page.wait_for(SHOWS, 20)
    two.wait_for("() => store.exported().then((all) => all.length === 40)")
    # Whatever an app's page holds: it is reloaded from elsewhere, as the node is away.
    node.start()
    one.do("reload")
    begin(one, bundle)
    for page in pages:
        page.wait_for(IS_SETTLED, 20)
        assert page.evaluate("() => [counters.get('order-0'), counters.get('order-100')]") == [
            9,
            109,
        ]
    two.wait_for("() => store.exported().then((all) => all.length === 0)")


def test_what_a_closed_tab_left_is_sent_by_the_one_that_lives(pages, node):
    one, two = pages
    node.kill()
    for page in pages:
        page.wait_for(IS_OFFLINE)
    two.evaluate("() => void counters.incr('a', 3).server")
    two.wait_for("() => store.exported().then((all) => all.length === 1)")
    two.do("close")
    node.start()
    one.wait_for(IS_LIVE)
    one.wait_for(IS_SETTLED, 3)
    one.wait_for("() => store.exported().then((all) => all.length === 0)")
