"""Tabs of the JavaScript client that share a connection, in a real Chromium, against a real node."""

import subprocess
import time

import pytest

from tests.e2e.browser import PATIENCE_S

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.slow]

START = """() => {
    window.told = [];
    window.numSockets = 0;
    const Real = WebSocket;
    class Counted extends Real {
        constructor(...args) {
            super(...args);
            window.numSockets += 1;
            window.socket = this;
        }
    }
    window.shared = tabs.sharedTabs({user: "ann"});
    window.client = syncd.createClient({url: "/ws", tabs: shared, environment: {WebSocket: Counted}});
    window.room = client.channel("demo:js");
    room.subscribe({
        onEvent: (event) => told.push(event.data.n),
        onReset: ({cause}) => told.push(cause),
    });
    client.connect();
}"""
IS_LIVE = "() => room.state === 'subscribed'"
HAS_TOLD = "(num) => told.length >= num"
REPLACED_S = 5.0


def bundled(*arguments):
    command = ["node", "scripts/bundle.mjs", *arguments]
    done = subprocess.run(
        command, cwd="clients/js", capture_output=True, check=True, timeout=PATIENCE_S
    )
    return done.stdout.decode()


@pytest.fixture
def node(standing_node):
    return standing_node


@pytest.fixture(scope="session")
def bundle():
    return f"(() => {{ {bundled()} {bundled('tabs/index.ts', 'tabs')} }})()"


def begin(page, bundle):
    page.do("evaluate", bundle)
    page.evaluate(START)
    page.wait_for(IS_LIVE)
    return page


@pytest.fixture
def pages(browser, node, bundle):
    """Three tabs of one window; the first one leads."""
    first = begin(browser.open(node.url), bundle)
    return [first, *(begin(first.open_beside(node.url), bundle) for _ in range(2))]


def roles(pages):
    return [page.evaluate("() => shared.role") for page in pages]


def publish(publisher, *numbers):
    for number in numbers:
        publisher.publish("demo:js", {"n": number})


def wait_told(pages, numbers):
    for page in pages:
        page.wait_for(HAS_TOLD, len(numbers))
        assert page.evaluate("() => told") == numbers


def test_three_tabs_have_one_connection_and_are_told_the_same(pages, publisher):
    assert roles(pages) == ["leader", "follower", "follower"]
    publish(publisher, 1, 2)
    wait_told(pages, [1, 2])
    assert [page.evaluate("() => numSockets") for page in pages] == [1, 0, 0]
    pages[2].evaluate("() => room.publish({n: 3})")
    wait_told(pages, [1, 2, 3])
    assert [page.printed() for page in pages] == [[], [], []]


def test_presence_shows_each_tab_s_client_and_takes_it_back_when_the_tab_is_closed(pages):
    for page in pages:
        page.evaluate(
            "(name) => { room.presence.subscribe(() => 0); void room.presence.set(name); }",
            page.number,
        )
    for page in pages:
        page.wait_for("() => room.presence.members.length === 3")
        assert page.evaluate("() => room.presence.others.length") == 2
    pages[2].do("close")
    for page in pages[:2]:
        page.wait_for("() => room.presence.members.length === 2")


def test_a_leader_that_is_closed_is_followed_and_nothing_is_missed(pages, publisher):
    publish(publisher, 1)
    wait_told(pages, [1])
    pages[0].do("close")
    publish(publisher, 2)
    wait_told(pages[1:], [1, 2])
    for page in pages[1:]:
        page.wait_for(IS_LIVE)
    assert sorted(roles(pages[1:])) == ["follower", "leader"]


def test_a_leader_that_hangs_is_replaced_in_time_and_follows_when_it_goes_on(pages, publisher):
    publish(publisher, 1)
    wait_told(pages, [1])
    pages[0].freeze()
    publish(publisher, 2)
    began = time.monotonic()
    wait_told(pages[1:], [1, 2])
    assert time.monotonic() - began < REPLACED_S + 2
    pages[0].thaw()
    publish(publisher, 3)
    wait_told(pages, [1, 2, 3])
    assert roles(pages).count("leader") == 1
    assert roles(pages)[0] == "follower"


def test_all_tabs_come_back_when_the_node_is_killed(pages, node, publisher):
    publish(publisher, 1)
    wait_told(pages, [1])
    node.kill()
    for page in pages:
        page.wait_for("() => client.state === 'offline'")
    node.start()
    publish(publisher, 2)
    wait_told(pages, [1, 2])
    assert roles(pages) == ["leader", "follower", "follower"]


def test_a_page_that_is_left_gives_the_lead_up_and_follows_when_it_comes_back(pages, publisher):
    leave = "(kind) => void dispatchEvent(new PageTransitionEvent(kind, {persisted: true}))"
    pages[0].evaluate(leave, "pagehide")
    publish(publisher, 1)
    wait_told(pages[1:], [1])
    held = """() => navigator.locks.query().then(({held, pending}) =>
        [...held, ...pending].filter(({name}) => name.startsWith('syncd tabs')).length)"""
    # Of the two others: their own, the lead, who waits for it, and the leader who waits for the other's end.
    assert pages[0].evaluate(held) == 5
    pages[0].evaluate(leave, "pageshow")
    wait_told(pages, [1])
    pages[0].wait_for(IS_LIVE)
    assert roles(pages)[0] == "follower"
