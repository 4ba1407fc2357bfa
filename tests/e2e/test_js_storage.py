"""The JavaScript client's durable queue in a real Chromium: real IndexedDB, real Web Locks, real tabs that end."""

import subprocess

import pytest

from tests.e2e.browser import PATIENCE_S, Browser

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.slow]

BEGIN = """(user) => {
    window.queue = storage.durableQueue({user, url: "/ws"});
    window.statuses = [];
    queue.onStatus(({mode}) => statuses.push(mode));
}"""
MADE = """async (ids) => {
    const claim = {client: "c1", secret: "s1"};
    const made = ids.map((id) => ({id, claim, mid: Number(id), name: "orders.put", args: {bytes: new Uint8Array([1])}, madeAtMs: 1}));
    await queue.append(made);
}"""
NUM_HELD = """() => navigator.locks.query().then(({held}) =>
    held.filter(({name}) => name.startsWith("syncd [")).length)"""  # the page under it has a lock of its own
LOADED = "async () => (await queue.load()).map(({id, mid, args}) => [id, mid, args.bytes[0]])"
EXPORTED = "async () => (await queue.exported()).map(({id}) => id)"


@pytest.fixture
def node(standing_node):
    return standing_node


@pytest.fixture(scope="session")
def bundle():
    command = ["node", "scripts/bundle.mjs", "storage/index.ts", "storage"]
    done = subprocess.run(
        command, cwd="clients/js", capture_output=True, check=True, timeout=PATIENCE_S
    )
    return f"(() => {{ {done.stdout.decode()} }})()"


def begin(page, bundle, user="ann"):
    page.do("evaluate", bundle)
    page.evaluate(BEGIN, user)
    return page


@pytest.fixture
def page(browser, node, bundle):
    return begin(browser.open(node.url), bundle)


def test_it_survives_a_reload(page, bundle):
    page.evaluate(MADE, ["1", "2"])
    page.do("reload")
    begin(page, bundle)
    assert page.evaluate(LOADED) == [["1", 1, 1], ["2", 2, 1]]
    page.evaluate("() => queue.remove(['1'])")
    page.do("reload")
    begin(page, bundle)
    assert page.evaluate(LOADED) == [["2", 2, 1]]
    assert page.evaluate("() => statuses") == []


def test_another_tab_takes_over_only_when_the_tab_is_gone(page, node, bundle):
    other = begin(page.open_tab(node.url), bundle)
    stranger = begin(page.open_tab(node.url), bundle, user="bob")
    page.evaluate(MADE, ["1", "2"])
    assert other.evaluate(LOADED) == []
    page.do("close")
    other.wait_for(f"() => ({NUM_HELD})().then((number) => number === 0)")
    assert stranger.evaluate(LOADED) == []
    assert other.evaluate(LOADED) == [["1", 1, 1], ["2", 2, 1]]


def test_a_page_that_has_nothing_pending_holds_no_lock(page):
    page.evaluate(MADE, ["1"])
    assert page.evaluate(NUM_HELD) == 1
    page.evaluate("() => queue.remove(['1'])")
    page.wait_for(f"() => ({NUM_HELD})().then((number) => number === 0)")


def test_it_goes_on_when_the_site_s_data_is_deleted_under_it(page):
    page.evaluate(MADE, ["1"])
    page.evaluate(
        """async () => {
            for (const {name} of await indexedDB.databases()) {
                if (!name.startsWith("syncd")) continue;
                await new Promise((resolve, reject) => {
                    const request = indexedDB.deleteDatabase(name);
                    request.onsuccess = resolve;
                    request.onblocked = reject;
                });
            }
        }"""
    )
    page.evaluate(MADE, ["2"])
    assert sorted(page.evaluate(EXPORTED)) == ["1", "2"]
    assert page.evaluate("() => statuses") == []


def test_it_survives_a_restart_of_the_browser(node, bundle, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        begin(browser.open(node.url), bundle).evaluate(MADE, ["1", "2"])
    with Browser(tmp_path / "profile") as browser:
        page = begin(browser.open(node.url), bundle)
        assert page.evaluate(LOADED) == [["1", 1, 1], ["2", 2, 1]]
