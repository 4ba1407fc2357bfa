"""The order board of `syncd serve --demo` in a real Chromium: optimistic changes, two clients, offline work, a killed server."""

import json

import pytest

from syncd.actors.rebuild_coordinator.actor import LEFT
from syncd.testing.process import API_KEY
from tests.e2e.board import Board, ask, mutate, order, top
from tests.e2e.nodes import Node

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.slow]

NODE_ARGUMENTS = ("--demo",)
NUM_SEEDS = 6
NETWORK_ERROR = "WebSocket connection to"
"""What Chromium prints by itself when a node is not there to be dialled."""


@pytest.fixture
def node(tmp_path):
    with Node(tmp_path, arguments=NODE_ARGUMENTS) as server:
        server.start()
        yield server


@pytest.fixture
def board(browser, node):
    return Board.open(browser, node)


@pytest.fixture
def standing_board(browser, standing_node):
    return Board.open(browser, standing_node)


# ------------------------------------------------------------------------------------------------ changes


def test_a_change_shows_before_the_server_has_it_and_stays(board, node):
    board.delay("A", 2000)
    board.press("A", "o-1042", "ship")
    shown = board.cards("A")["o-1042"]
    assert (shown["state"], shown["pending"]) == ("shipped", "1 pending")
    assert order(node, "o-1042")["status"] == "new"
    assert board.cards("B")["o-1042"]["state"] == "new"
    board.wait_card("B", "o-1042", state="shipped", pending="")
    board.wait_saved("A")
    assert board.cards("A")["o-1042"] == {**shown, "pending": ""}
    assert order(node, "o-1042")["status"] == "shipped"
    assert board.page.printed() == []


def test_a_refused_change_is_taken_back_with_the_servers_message(board, node):
    board.delay("A", 500)
    board.press("A", "o-1043", "ship")
    assert board.cards("A")["o-1043"]["state"] == "shipped"
    board.wait_card("A", "o-1043", state="waiting", pending="")
    board.wait_saved("A")
    message = "Orders above 1,000 € ship only once they are approved."
    assert board.cards("A")["o-1043"]["problem"] == f"Rolled back. {message}"
    assert f"Rolled back: {message}" in board.notes()
    assert order(node, "o-1043")["status"] == "new"
    board.press("B", "o-1043", "approve")
    board.wait_card("A", "o-1043", state="approved")
    board.press("A", "o-1043", "ship")
    board.wait_card("B", "o-1043", state="shipped", pending="")
    assert board.page.printed() == []


def test_two_panes_and_two_windows_show_the_same(browser, node, board):
    other = Board.open(browser, node, "?panes=1")
    assert (board.panes, other.panes) == (["A", "B"], ["A"])
    board.press("A", "o-1041", "more")
    board.click("B", ".create")
    other.press("A", "o-1046", "delete")
    mutate(node, "ship", "o-1044")
    for each in (board, other):
        each.wait_seen("orders", NUM_SEEDS + 4, "".join(each.panes))
        for pane in each.panes:
            cards = each.cards(pane)
            assert len(cards) == NUM_SEEDS
            assert "o-1046" not in cards
            assert cards["o-1041"]["quantity"] == 3
            assert cards["o-1044"]["state"] == "shipped"
            assert all(card["pending"] == "" for card in cards.values())
        assert each.page.printed() == []


def test_changes_made_offline_take_effect_once_and_in_their_order(board, node):
    board.switch("B")
    board.wait_state("B", "offline")
    board.press("B", "o-1043", "approve")
    board.press("B", "o-1043", "ship")  # refused unless it comes after
    board.click("B", ".create")
    [made] = set(board.cards("B")) - set(board.cards("A"))
    board.press("B", made, "more")
    board.press("B", made, "delete")  # what comes after would bring it back
    for _ in range(14):
        board.press("B", "o-1041", "more")
    board.press("B", "o-1041", "fewer")
    assert board.page.text('[data-pane="B"] .saved') == "20 changes pending."
    assert board.cards("B")["o-1041"] == {
        "state": "new",
        "pending": "15 pending",
        "quantity": 15,
        "problem": "",
    }
    assert top(node) == NUM_SEEDS
    board.switch("B")
    board.wait_saved("B")
    board.wait_card("A", "o-1041", quantity=15)
    assert (order(node, "o-1043")["status"], order(node, made)) == ("shipped", None)
    assert order(node, "o-1041")["quantity"] == 15
    assert top(node) == NUM_SEEDS + 20
    assert made not in board.cards("A")
    assert not [note for note in board.notes() if note.startswith("Rolled back")]
    assert board.page.printed() == []


def test_a_change_that_came_too_late_is_taken_back(board, node):
    board.switch("B")
    board.wait_state("B", "offline")
    board.press("B", "o-1041", "ship")
    board.press("A", "o-1041", "ship")
    board.wait_saved("A")
    board.switch("B")
    board.wait_saved("B")
    problem = board.cards("B")["o-1041"]["problem"]
    assert problem == "Rolled back. Somebody has shipped this order already."
    assert top(node) == NUM_SEEDS + 1


# ------------------------------------------------------------------------------------------------ the server's end


def publish(node, *numbers):
    with node.publisher() as publisher:
        for number in numbers:
            publisher.publish("demo:lobby", {"n": number})


def test_nothing_is_missed_when_the_server_is_killed(board, node, tmp_path):
    publish(node, 1, 2, 3)
    mutate(node, "incr", "o-1046", 4, "quantity")
    board.wait_seen("demo:lobby", 3)
    board.wait_card("B", "o-1046", quantity=7)
    node.kill()
    for pane in "AB":
        board.wait_state(pane, "offline")
    board.press("A", "o-1042", "ship")
    board.press("B", "o-1045", "approve")
    assert board.cards("A")["o-1042"]["pending"] == "1 pending"
    with Node(tmp_path, arguments=NODE_ARGUMENTS) as elsewhere:  # where the panes do not look
        elsewhere.start()
        publish(elsewhere, 4, 5, 6)
        mutate(elsewhere, "ship", "o-1044")
    node.start()
    publish(node, 7)
    board.wait_seen("demo:lobby", 7)
    for pane in "AB":
        board.wait_state(pane, "connected")
        board.wait_saved(pane)
        board.wait_card(pane, "o-1042", state="shipped", pending="")
        board.wait_card(pane, "o-1044", state="shipped")
        board.wait_card(pane, "o-1045", state="approved", pending="")
    lines = board.lines("demo:lobby")
    assert [(line["offset"], json.loads(line["text"])["n"]) for line in lines] == [
        (number, number) for number in range(1, 8)
    ]
    assert {line["seen"] for line in lines} == {"AB"}
    assert top(node) == NUM_SEEDS + 4
    assert [note for note in board.notes() if note.startswith("Back")]
    assert not [note for note in board.notes() if "afresh" in note]
    assert [line for line in board.page.printed() if NETWORK_ERROR not in line] == []


def test_a_server_that_lost_its_database_is_told_and_shown_as_it_is(board, node, tmp_path):
    board.press("A", "o-1042", "ship")
    board.wait_saved("A")
    node.kill()
    for file in tmp_path.glob("syncd.db*"):
        file.unlink()
    node.start()
    board.page.evaluate("() => void dispatchEvent(new Event('online'))")  # saves the backoff's wait
    for pane in "AB":
        board.wait_state(pane, "connected")
        board.wait_card(pane, "o-1042", state="new")
    assert [note for note in board.notes() if "afresh" in note]


# ------------------------------------------------------------------------------------------------ who is there, and events


def test_what_a_terminal_publishes_appears_in_both_windows_and_who_is_there(
    browser, node, board, publisher
):
    other = Board.open(browser, node, "?panes=1")
    other.rename("A", "Ada")
    publisher.publish("demo:lobby", {"from": "a terminal"})
    board.page.do("fill", "#say-text", "from the page")
    board.page.do("press", "#say-text", "Enter")
    for each in (board, other):
        each.wait_seen("demo:lobby", 2, "".join(each.panes))
        texts = [line["text"] for line in each.lines("demo:lobby")]
        assert texts == ['{"from":"a terminal"}', '{"text":"from the page"}']
    for pane in "AB":
        board.page.wait_text(f'[data-pane="{pane}"] .people-count', "2 others")
        board.wait_other(pane, "Ada")


def test_others_see_where_somebody_points(standing_board):
    board = standing_board
    board.rename("A", "Grace")
    board.page.do("hover", '[data-pane="A"] [data-key="o-1045"] .item')
    board.page.wait_text('[data-pane="B"] .cursor span', "Grace")
    offset = """() => { const [card, cursor] = ['[data-key="o-1045"]', ".cursor"].map((part) =>
        document.querySelector(`[data-pane="B"] ${part}`).getBoundingClientRect());
        return [cursor.top - card.top, card.bottom - cursor.top]; }"""
    assert all(distance > 0 for distance in board.page.evaluate(offset))
    board.page.do("hover", "h1")
    board.page.wait_for("() => document.querySelector('.cursor') === null")


def test_hostile_text_stays_text(standing_board, standing_node):
    board, node = standing_board, standing_node
    num_before = len(board.cards("A"))
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    mutate(node, "create", hostile[:20], hostile, hostile, 1)
    mutate(node, "put", "o-no-order", ["not", "an", "order"])
    board.page.wait_for(
        "(text) => [...document.querySelectorAll('.customer')].some((x) => x.textContent === text)",
        hostile,
    )
    assert (
        board.page.evaluate("() => document.querySelectorAll('main img, main script').length") == 0
    )
    assert len(board.cards("A")) == num_before + 1
    assert board.page.printed() == []


# ------------------------------------------------------------------------------------------------ settings


def counts(node):
    return ask(node, "GET", "/api/cache/stats")["collections"]["orders"]


def test_cache_statistics_are_for_those_who_have_the_key(standing_board, standing_node):
    node, page = standing_node, standing_board.page
    before = counts(node)
    page.do("click", '[data-page="settings"]')
    page.wait_for("() => document.querySelectorAll('#clients tr').length === 2")
    assert page.do("isHidden", "#cache")
    page.do("fill", "#key", "a wrong key")
    page.do("press", "#key", "Enter")
    page.wait_text("#key-error", "The server does not take this key.")
    page.do("fill", "#key", API_KEY)
    page.do("press", "#key", "Enter")
    page.wait_text("#cache-rows td", str(before["num_entries"]))
    mutate(node, "approve", "o-1045")
    page.wait_text("#cache-rows td:nth-child(8)", str(before["mutations_ok"] + 1))
    assert counts(node)["mutations_ok"] == before["mutations_ok"] + 1
    page.do("click", "#forget-key")
    assert page.do("isHidden", "#cache")
    assert (
        page.evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}])").count(
            API_KEY
        )
        == 0
    )


def test_a_rebuild_is_hidden_without_the_key_and_is_followed_to_its_end_with_it(
    standing_board, standing_node
):
    page = standing_board.page
    page.do("click", '[data-page="settings"]')
    assert page.do("isHidden", "#rebuild")
    page.do("fill", "#key", API_KEY)
    page.do("press", "#key", "Enter")
    page.wait_for("() => !document.querySelector('#rebuild').hidden")
    page.do("click", "#rebuild-start")
    page.wait_for(
        "() => { const bar = document.querySelector('#rebuild-bar'); return bar.value > 0 && bar.value < bar.max; }"
    )
    assert page.do("isDisabled", "#rebuild-start")
    page.wait_text("#rebuild-state", "Done: 2,400 of 2,400 rows read, 2,400 entries changed.")
    assert page.do("isEnabled", "#rebuild-start")
    assert ask(standing_node, "GET", "/api/rebuild")["jobs"][-1]["state"] == "done"
    page.do("click", "#rebuild-start")
    page.do("click", "#rebuild-cancel")
    page.wait_for("() => document.querySelector('#rebuild').dataset.state === 'cancelled'")
    page.do("click", "#forget-key")
    assert page.do("isHidden", "#rebuild")


def test_a_rebuild_that_cannot_be_started_says_so(board, node):
    page = board.page
    page.do("click", '[data-page="settings"]')
    page.do("fill", "#key", API_KEY)
    page.do("press", "#key", "Enter")
    page.wait_for("() => !document.querySelector('#rebuild').hidden")
    node.kill()
    page.do("click", "#rebuild-start")
    page.wait_for("() => document.querySelector('#rebuild-error').textContent !== ''")
    assert page.do("isEnabled", "#rebuild-start")
    assert page.do("isHidden", "#rebuild-cancel")


def test_a_rebuild_whose_node_is_killed_has_failed_with_its_reason_once_the_node_is_back(
    board, node
):
    page = board.page
    page.do("click", '[data-page="settings"]')
    page.do("fill", "#key", API_KEY)
    page.do("press", "#key", "Enter")
    page.wait_for("() => !document.querySelector('#rebuild').hidden")
    page.do("click", "#rebuild-start")
    page.wait_for("() => document.querySelector('#rebuild-bar').value > 0")
    node.kill()
    page.wait_for("() => document.querySelector('#rebuild-error').textContent !== ''")
    node.start()
    page.wait_for("() => document.querySelector('#rebuild').dataset.state === 'failed'")
    page.wait_text("#rebuild-error", LEFT)
    assert page.do("isEnabled", "#rebuild-start")
    assert page.do("isHidden", "#rebuild-cancel")


# ------------------------------------------------------------------------------------------------ shape

MEASURE = """() => {
    const seen = (node) => node.checkVisibility() && !node.closest(".hidden, .skip");
    const controls = [...document.querySelectorAll("button, input, select, a")].filter(seen);
    const named = (control) => control.labels?.length || control.textContent.trim() || control.ariaLabel;
    return {
        overflow: document.documentElement.scrollWidth - innerWidth,
        unnamed: controls.filter((control) => !named(control)).map((control) => control.outerHTML),
        small: controls.filter((control) => control.matches("button, select, input:not([type=checkbox])")
            && control.getBoundingClientRect().height < 36).map((control) => control.outerHTML),
    };
}"""

FAINT = """() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const light = (color) => {
        const [r, g, b] = [...rgba(color)].map((x) => x / 255).map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const under = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor;
            if (rgba(color)[3] > 0) return color;
        }
        return "white";
    };
    const faint = [];
    for (const node of document.querySelectorAll("body *")) {
        const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
        if (!hasText || !node.checkVisibility() || node.closest(".hidden, .skip, :disabled, script, noscript")) continue;
        const [one, two] = [getComputedStyle(node).color, under(node)].map(light).sort();
        const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${node.className} ${node.textContent.slice(0, 30)}`);
    }
    return faint;
}"""


SIZES = ((390, 844), (800, 1024), (1280, 800))
FITS = {"overflow": 0, "unnamed": [], "small": []}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_board_fits_every_window_and_can_be_read(browser, standing_node, scheme):
    for width, height in SIZES:
        size = {"width": width, "height": height}
        board = Board.open(
            browser, standing_node, viewport=size, colorScheme=scheme, reducedMotion="reduce"
        )
        board.press("A", "o-1043", "ship")
        board.page.wait_for("() => document.querySelector('.problem p') !== null")
        board.switch("A")
        board.press("A", "o-1041", "more")
        for view in ["A", "B", "log"] if width < 760 else ["A"]:
            if width < 760:
                board.page.do("click", f'[data-pick="{view}"]')
            assert board.page.evaluate(MEASURE) == FITS
            assert board.page.evaluate(FAINT) == []
        board.page.do("click", '[data-page="settings"]')
        board.page.wait_for("() => document.querySelectorAll('#clients tr').length === 2")
        assert board.page.evaluate(MEASURE) == FITS
        assert board.page.evaluate(FAINT) == []
        assert board.page.printed() == []
