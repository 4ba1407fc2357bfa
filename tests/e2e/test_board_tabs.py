"""The order board in several tabs, and over reloads: one connection for all tabs, what is pending in all of them and kept."""

import pytest

from tests.e2e.board import Board, ask, mutate, order, top

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.slow]

NODE_ARGUMENTS = ("--demo",)
NETWORK_ERROR = "WebSocket connection to"
"""What Chromium prints by itself when a node is not there to be dialled."""


@pytest.fixture
def node(standing_node):
    """One for all tests, which make orders of their own."""
    return standing_node


@pytest.fixture
def key(node, request):
    """Return the key of an order that no other test touches, of three pieces."""
    name = f"o-{len(request.node.name)}-{request.node.name[-12:]}"
    mutate(node, "create", name, "Test", "Slide rule", 6_400)
    mutate(node, "incr", name, 2, "quantity")
    return name


@pytest.fixture
def tabs(browser, node, key):
    """Two tabs of one browser, in processes of their own; the first one leads in both panes."""
    first = Board.open(browser, node)
    tabs = [first, first.open_beside(node)]
    for tab in tabs:
        for pane in "AB":
            tab.wait_card(pane, key, quantity=3)
    assert [roles(tab) for tab in tabs] == [["leader"] * 2, ["follower"] * 2]
    return tabs


def roles(tab):
    return tab.page.evaluate(
        "() => [...document.querySelectorAll('.pane')].map((pane) => pane.dataset.role)"
    )


def sockets(node):
    """Return how many connections the server has from boards."""
    return len(ask(node, "GET", "/api/admin/sessions?channel=demo:lobby")["sessions"])


def clean(board):
    return [line for line in board.page.printed() if NETWORK_ERROR not in line] == []


# ------------------------------------------------------------------------------------------------ one connection


def test_tabs_share_one_socket_for_each_pane_and_what_a_user_is(tabs, node, key):
    one, two = tabs
    assert sockets(node) == 2
    assert two.page.text('[data-pane="A"] .via') == "Socket of another tab"
    two.press("A", key, "ship")
    for tab in tabs:
        for pane in "AB":
            tab.wait_card(pane, key, state="shipped", pending="")
    two.rename("A", "Lise")
    one.page.wait_for("() => document.querySelector('[data-pane=\"A\"] .name').value === 'Lise'")
    # To the server they are four clients; to each other they are two people.
    for tab in tabs:
        tab.page.wait_text('[data-pane="A"] .people-count', "1 other")
        tab.wait_other("B", "Lise")
    assert [clean(tab) for tab in tabs] == [True, True]


def test_a_change_shows_in_the_other_tab_while_the_network_is_cut(tabs, node, key):
    one, two = tabs
    two.switch("A")
    for tab in tabs:
        tab.wait_state("A", "offline")
    before = top(node)
    two.press("A", key, "more")
    two.press("A", key, "ship")
    for tab in tabs:
        tab.wait_card("A", key, state="shipped", pending="2 pending")
        tab.page.wait_text('[data-pane="A"] .saved', "2 changes pending.")
    assert order(node, key)["status"] == "new"
    assert one.cards("B")[key]["state"] == "new"
    one.switch("A")
    for tab in tabs:
        tab.wait_saved("A")
        tab.wait_card("B", key, state="shipped", pending="")
        assert tab.cards("A")[key]["pending"] == ""
    assert top(node) == before + 2
    assert [clean(tab) for tab in tabs] == [True, True]


def test_a_leader_that_is_closed_is_followed_and_loses_nothing(tabs, node, key):
    one, two = tabs
    before = top(node)
    two.delay("A", 2000)
    two.press("A", key, "more")
    assert two.cards("A")[key] == {
        "state": "new",
        "pending": "1 pending",
        "quantity": 4,
        "problem": "",
    }
    one.page.do("close")
    two.delay("A", 0)
    two.wait_saved("A")
    two.wait_card("B", key, quantity=4, pending="")
    two.page.wait_for("() => document.querySelectorAll('[data-role=leader]').length === 2")
    assert sockets(node) == 2
    mutate(node, "incr", key, 1, "quantity")
    for pane in "AB":
        two.wait_card(pane, key, quantity=5)
    assert top(node) == before + 2
    assert "Now over the socket of this tab." in two.notes()
    assert clean(two)


def test_a_leader_that_is_frozen_is_replaced_and_follows_when_it_thaws(tabs, node, key):
    one, two = tabs
    one.page.freeze()
    mutate(node, "incr", key, 4, "quantity")
    two.press("B", key, "more")
    two.page.wait_for("() => document.querySelectorAll('[data-role=leader]').length === 2")
    for pane in "AB":
        two.wait_card(pane, key, quantity=8, pending="")
    assert order(node, key)["quantity"] == 8
    one.page.thaw()
    for pane in "AB":
        one.wait_card(pane, key, quantity=8)
    one.page.wait_for("() => document.querySelectorAll('[data-role=follower]').length === 2")
    mutate(node, "incr", key, 1, "quantity")
    for tab in tabs:
        for pane in "AB":
            tab.wait_card(pane, key, quantity=9)
    assert roles(two) == ["leader"] * 2
    assert [clean(tab) for tab in tabs] == [True, True]


def test_tabs_come_back_from_a_killed_server_with_what_they_changed_meanwhile(tabs, node, key):
    before = top(node)
    node.kill()
    for tab in tabs:
        tab.wait_state("A", "offline")
    for tab in tabs:
        tab.press("A", key, "more")
    for tab in tabs:
        tab.wait_card("A", key, quantity=5, pending="2 pending")
    node.start()
    for tab in tabs:
        tab.page.evaluate("() => void dispatchEvent(new Event('online'))")
    for tab in tabs:
        tab.wait_saved("A")
        for pane in "AB":
            tab.wait_card(pane, key, quantity=5, pending="")
    assert top(node) == before + 2
    assert [clean(tab) for tab in tabs] == [True, True]


# ------------------------------------------------------------------------------------------------ over reloads


@pytest.fixture
def board(browser, node, key):
    board = Board.open(browser, node)
    board.wait_card("A", key, quantity=3)
    return board


def test_what_was_changed_offline_is_still_pending_after_a_reload_and_sent_once(board, node, key):
    before = top(node)
    board.switch("A")
    board.wait_state("A", "offline")
    board.press("A", key, "ship")
    board.click("A", ".create")
    [made] = set(board.cards("A")) - set(board.cards("B"))
    state = board.cards("A")[made]["state"]  # chance decides whether it is so dear that it waits
    board.wait_kept("A", 2)
    for _ in range(2):
        board.page.do("reload")
        board.wait_state("A", "offline")
        board.page.wait_text('[data-pane="A"] .saved', "2 changes pending.")
        # Over orders that never came nothing is predicted: what waits is listed.
        board.wait_waiting("A", f"Ship #{key[-4:]}", f"New order #{made[-4:]}: ")
        assert board.cards("A") == {}
    assert (order(node, key)["status"], order(node, made)) == ("new", None)
    board.switch("A")
    board.wait_saved("A")
    for pane in "AB":
        board.wait_card(pane, key, state="shipped", pending="")
        board.wait_card(pane, made, state=state, pending="")
    assert top(node) == before + 2
    board.wait_kept("A", 0)
    board.page.do("reload")
    board.wait_live()
    board.wait_saved("A")
    assert top(node) == before + 2
    assert clean(board)


def test_twenty_changes_made_offline_are_sent_once_and_in_order_after_a_reload(board, node, key):
    before = top(node)
    board.switch("A")
    board.wait_state("A", "offline")
    for _ in range(13):
        board.press("A", key, "more")
    board.press("A", key, "approve")
    board.press("A", key, "ship")  # refused unless it comes after
    board.click("A", ".create")
    [made] = set(board.cards("A")) - set(board.cards("B"))
    for _ in range(3):
        board.press("A", made, "more")
    board.press("A", made, "delete")  # what comes after would bring it back
    board.wait_kept("A", 20)
    board.page.do("reload")
    board.page.wait_text('[data-pane="A"] .saved', "20 changes pending.")
    one, other = f"#{key[-4:]}", f"#{made[-4:]}"
    ways = [*[f"One more of {one}"] * 13, f"Approve {one}", f"Ship {one}"]
    ways += [f"New order {other}: ", *[f"One more of {other}"] * 3, f"Delete {other}"]
    board.wait_waiting("A", *ways)
    board.switch("A")
    board.wait_saved("A")
    for pane in "AB":
        board.wait_card(pane, key, quantity=16, state="shipped", pending="", problem="")
        assert made not in board.cards(pane)
    assert top(node) == before + 20
    assert not [note for note in board.notes() if note.startswith("Rolled back")]
    assert clean(board)


def test_a_change_that_is_refused_after_a_reload_is_told(board, node, key):
    board.switch("A")
    board.wait_state("A", "offline")
    board.press("A", key, "ship")
    board.wait_kept("A", 1)
    board.page.do("reload")
    board.page.wait_text('[data-pane="A"] .saved', "1 change pending.")
    mutate(node, "ship", key)
    board.switch("A")
    board.wait_saved("A")
    board.page.wait_text(
        '[data-pane="A"] .alerts p',
        "Rolled back. orders.ship: Somebody has shipped this order already.",
    )
    board.wait_card("A", key, state="shipped", pending="")
    assert clean(board)


def test_a_page_comes_back_from_the_back_forward_cache_with_what_it_missed(board, node, key):
    page = board.page
    page.evaluate(
        "() => { window.isSame = true; addEventListener('pageshow', ({persisted}) => { window.wasPersisted = persisted; }); }"
    )
    page.do("goto", f"{node.url}channels")
    mutate(node, "incr", key, 1, "quantity")
    page.evaluate("() => void setTimeout(() => history.back(), 0)")
    page.wait_for("() => window.isSame === true")
    for pane in "AB":
        board.wait_card(pane, key, quantity=4)
        board.wait_state(pane, "connected")
    assert page.evaluate("() => wasPersisted")
    board.press("A", key, "more")
    board.wait_card("B", key, quantity=5, pending="")
    page.evaluate("() => void setTimeout(() => history.forward(), 0)")
    page.wait_for("() => window.isSame === undefined && document.readyState === 'complete'")
    mutate(node, "ship", key)
    page.evaluate("() => void setTimeout(() => history.back(), 0)")
    page.wait_for("() => window.isSame === true")
    for pane in "AB":
        board.wait_card(pane, key, quantity=5, state="shipped")
    assert clean(board)


def test_two_windows_of_two_users_have_a_connection_each_and_see_each_other(browser, node, key):
    """One pane each: the two panes of one browser are users of their own, with stores of their own."""
    ada = Board.open(browser, node, "?panes=A")
    emmy = ada.open_beside(node, "?panes=B")
    assert (ada.panes, emmy.panes) == (["A"], ["B"])
    ada.rename("A", "Vera")
    emmy.rename("B", "Rosalind")
    assert sockets(node) == 2
    ada.switch("A")
    ada.wait_state("A", "offline")
    ada.press("A", key, "ship")
    emmy.press("B", key, "more")
    emmy.wait_saved("B")
    emmy.wait_card("B", key, state="new", quantity=4, pending="")
    # The other's queue is no business of this one, not even after a reload.
    emmy.page.do("reload")
    emmy.wait_live()
    emmy.wait_saved("B")
    assert emmy.cards("B")[key]["state"] == "new"
    ada.switch("A")
    for board, pane, other in ((ada, "A", "Rosalind"), (emmy, "B", "Vera")):
        board.wait_card(pane, key, state="shipped", quantity=4, pending="")
        board.wait_other(pane, other)
    assert [clean(ada), clean(emmy)] == [True, True]
