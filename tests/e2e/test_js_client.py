"""The JavaScript client in a real Chromium, with nothing injected, against a real node."""

import subprocess

import pytest

from tests.e2e.browser import PATIENCE_S

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.slow]

START = """() => {
    window.told = [];
    window.states = [];
    window.client = syncd.createClient({url: "/ws"});
    client.onState(({state}) => states.push(state));
    window.room = client.channel("demo:js");
    room.subscribe({
        onEvent: (event) => told.push(event.data.n),
        onReset: ({cause}) => told.push(cause),
    });
    client.connect();
}"""
IS_LIVE = "() => room.state === 'subscribed'"
HAS_TOLD = "(num) => told.length >= num"


@pytest.fixture
def node(standing_node):
    return standing_node


@pytest.fixture(scope="session")
def bundle():
    command = ["node", "scripts/bundle.mjs"]
    done = subprocess.run(
        command, cwd="clients/js", capture_output=True, check=True, timeout=PATIENCE_S
    )
    return f"(() => {{ {done.stdout.decode()} }})()"


@pytest.fixture
def page(browser, node, bundle):
    """The demo's page, which is of the node's own origin and may connect to it, with a client of ours beside its own."""
    page = browser.open(node.url)
    page.do("evaluate", bundle)
    page.evaluate(START)
    page.wait_for(IS_LIVE)
    return page


def publish(publisher, *numbers):
    for number in numbers:
        publisher.publish("demo:js", {"n": number})


def test_it_connects_publishes_and_sees_who_is_present(page, publisher):
    publish(publisher, 1)
    page.evaluate("() => void room.publish({n: 2, text: 'grüß'})")
    page.wait_for(HAS_TOLD, 2)
    assert sorted(page.evaluate("() => told")) == [1, 2]
    page.evaluate("() => { room.presence.subscribe(() => 0); void room.presence.set('here'); }")
    page.wait_for("() => room.presence.members.length === 1")
    assert page.evaluate("() => room.presence.others.length") == 0
    assert page.printed() == []


def test_it_misses_nothing_when_the_node_is_killed_and_comes_back(page, node, publisher):
    publish(publisher, 1)
    page.wait_for(HAS_TOLD, 1)
    node.kill()
    page.wait_for("() => client.state === 'offline'")
    page.evaluate("() => void room.publish({n: 3})")
    node.start()
    publish(publisher, 2)
    page.wait_for(HAS_TOLD, 3)
    told = page.evaluate("() => told")
    assert (told[0], sorted(told)) == (1, [1, 2, 3])


def test_a_page_that_is_left_closes_its_socket_and_goes_on_when_it_comes_back(page, publisher):
    page.evaluate(
        "() => void dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))"
    )
    assert page.evaluate("() => [client.state, client.status.retryAt]") == ["offline", None]
    publish(publisher, 1)
    page.evaluate(
        "() => void dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))"
    )
    page.wait_for(HAS_TOLD, 1)
    states = page.evaluate("() => states")
    assert states == ["connecting", "connected", "offline", "connecting", "connected"]
    page.evaluate("() => client.close()")
    assert page.evaluate("() => client.state") == "closed"


def test_a_page_comes_back_from_the_back_forward_cache_as_it_was(page, node, publisher):
    page.evaluate(
        "() => addEventListener('pageshow', ({persisted}) => { window.wasPersisted = persisted; })"
    )
    publish(publisher, 1)
    page.wait_for(HAS_TOLD, 1)
    page.do("goto", f"{node.url}openapi.json")
    publish(publisher, 2)
    page.evaluate("() => void setTimeout(() => history.back(), 0)")
    page.wait_for("() => window.told?.length >= 2")
    assert page.evaluate("() => [wasPersisted, told]") == [True, [1, 2]]
    page.evaluate("() => void setTimeout(() => history.forward(), 0)")
    page.wait_for("() => window.told === undefined && document.readyState === 'complete'")
    publish(publisher, 3)
    page.evaluate("() => void setTimeout(() => history.back(), 0)")
    page.wait_for("() => window.told?.length >= 3")
    assert page.evaluate("() => told") == [1, 2, 3]


def test_a_page_that_gets_the_network_back_does_not_wait(page, node):
    node.kill()
    page.wait_for("() => client.status.attempt >= 4 && client.state === 'offline'")
    node.start()
    page.evaluate("() => void dispatchEvent(new Event('online'))")
    page.wait_for(IS_LIVE)
