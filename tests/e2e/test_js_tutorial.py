"""The tutorial of docs/javascript-client.md, React and all, in a real Chromium against `syncd serve examples/orders/app.py`."""

import subprocess

import pytest

from tests.e2e.browser import PATIENCE_S
from tests.e2e.nodes import Node

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.slow]

START = """() => {
    document.body.innerHTML = '<div id="root"></div>';
    window.seen = [];
    new MutationObserver(() => seen.push(root.innerText)).observe(root, {subtree: true, childList: true, characterData: true});
}"""
SHOWS = "(text) => document.querySelector('#root').innerText.includes(text)"
NUM_ORDERS = "(num) => document.querySelectorAll('#root li').length === num"


@pytest.fixture(scope="session")
def tutorial():
    command = ["node", "scripts/bundle-tutorial.mjs"]
    done = subprocess.run(
        command, cwd="clients/js", capture_output=True, check=True, timeout=PATIENCE_S
    )
    return f"(() => {{ {done.stdout.decode()} }})()"


@pytest.fixture
def node(tmp_path):
    with Node(tmp_path, arguments=("examples/orders/app.py",)) as server:
        server.start()
        yield server


@pytest.fixture
def open_board(browser, node, tutorial):
    """Return a function that opens the board in a window of its own."""

    def open_one():
        page = browser.open(node.url)
        page.evaluate(START)
        page.do("evaluate", tutorial)
        page.wait_for(SHOWS, "connected, all saved")
        # Nothing is predicted over orders that were never told.
        page.wait_for("() => !root.innerText.includes('Loading')")
        return page

    return open_one


def click(page, name):
    page.do("click", f"#root button:has-text('{name}')")


def test_two_windows_agree_and_a_rejection_is_taken_back_with_its_reason(open_board):
    one, other = open_board(), open_board()
    click(one, "New order")
    for page in (one, other):
        page.wait_for(NUM_ORDERS, 1)
        page.wait_for(SHOWS, ": new")
    click(other, "Ship")
    for page in (one, other):
        page.wait_for(SHOWS, ": shipped")
        page.wait_for(SHOWS, "all saved")
    click(one, "Ship")
    one.wait_for(SHOWS, "The order is shipped.")
    one.wait_for(SHOWS, "all saved")
    assert not other.evaluate(SHOWS, "The order is shipped.")


def test_a_change_is_shown_before_the_server_has_answered_and_never_flickers(open_board):
    page = open_board()
    click(page, "New order")
    page.wait_for(SHOWS, "all saved")
    page.wait_for(NUM_ORDERS, 1)
    page.evaluate("() => { seen.length = 0; }")
    page.evaluate("""() => {
        [...document.querySelectorAll('#root button')].at(-1).click();
        window.atOnce = null;
        queueMicrotask(() => queueMicrotask(() => { window.atOnce = root.innerText; }));
    }""")
    page.wait_for(SHOWS, "all saved")
    page.wait_for(SHOWS, ": shipped")
    assert ": shipped (not saved yet)" in page.evaluate("() => atOnce")
    assert not any(": new" in text for text in page.evaluate("() => seen"))


def test_what_is_clicked_while_the_node_is_killed_takes_effect_once(open_board, node):
    page = open_board()
    node.kill()
    page.wait_for(SHOWS, "offline")
    for num in (1, 2, 3):
        click(page, "New order")
        page.wait_for(NUM_ORDERS, num)
    page.wait_for(SHOWS, "3 to be saved")
    page.wait_for(SHOWS, "(not saved yet)")
    node.start()
    page.evaluate(
        "() => void dispatchEvent(new Event('focus'))"
    )  # dials at once, as when somebody looks
    page.wait_for(SHOWS, "connected, all saved")
    assert not page.evaluate(SHOWS, "(not saved yet)")
    late = open_board()
    late.wait_for(NUM_ORDERS, 3)
