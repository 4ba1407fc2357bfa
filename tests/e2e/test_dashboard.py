"""The dashboard in a real Chromium: who gets in, what moves, what can be done, and a rebuild of 100,000 rows."""

import pytest

from syncd.backend import Publisher
from syncd.testing.process import API_KEY
from tests.e2e.board import ask
from tests.e2e.dashboard import Dashboard
from tests.e2e.nodes import Backend, Node
from tests.integration.hostile.tokens import make

pytestmark = [pytest.mark.process, pytest.mark.browser, pytest.mark.slow]

SECRET = "a secret of at least thirty-two bytes"
CONFIG = f"""
[auth]
hmac_secret = "{SECRET}"

[namespaces.demo]
history = "memory"
presence = true

[namespaces.demo.allow]
subscribe = ["anyone"]
publish = ["anyone"]
presence = ["anyone"]
history = ["anyone"]
"""
NUM_ROWS = 100_000
NUM_CHANNELS = 1000
DASH = "\N{EN DASH}"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """One for all tests: starting it costs seconds, and its database too."""
    folder = tmp_path_factory.mktemp("node")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CATALOGUE_DB", str(folder / "catalogue.db"))
        with Node(folder, CONFIG, arguments=("examples/catalogue/app.py",)) as server:
            server.start()
            yield server


@pytest.fixture
def publisher(node):
    with Publisher(node.url, api_key=API_KEY) as publisher:
        yield publisher


@pytest.fixture
def visitor(browser, node):
    """A session of somebody else: the channel viewer in a window of its own."""
    page = browser.open(f"{node.url}channels")
    page.wait_state("open")
    page.wait_live()
    return page


def session_of(node, channel="demo:lobby"):
    """Return the id of the one session in a channel."""
    (row,) = ask(node, "GET", f"/api/admin/sessions?channel={channel}")["sessions"]
    return row["session"]


# ------------------------------------------------------------------------------------------------ the login


def test_nothing_is_shown_before_the_login_and_a_wrong_key_is_refused(browser, node):
    page = browser.open(f"{node.url}admin")
    board = Dashboard(page)
    board.wait_shown(".login")
    assert page.evaluate("() => document.querySelector('main').className") == "login"
    board.login("a wrong key")
    page.wait_text("[role=alert]", "This is no API key of this server, and no token that it takes.")
    assert page.evaluate("() => document.querySelectorAll('nav, table, .chart').length") == 0
    board.login(API_KEY)
    board.wait_live()
    assert board.printed() == []


def test_a_token_without_the_admin_role_is_refused_and_one_with_it_is_not(browser, node):
    board = Dashboard(browser.open(f"{node.url}admin"))
    board.login(make(SECRET, roles=["support"]))
    board.page.wait_text(
        "[role=alert]", "This token is valid, but it does not have the role admin."
    )
    board.login(make(SECRET, roles=["admin"]))
    board.wait_live()
    assert board.printed() == []


def test_a_reload_asks_nothing_and_logging_out_forgets_everything(browser, node):
    board = Dashboard.open(browser, node)
    board.page.do("reload")
    board.wait_live()
    kept = board.page.evaluate("() => JSON.stringify([sessionStorage, localStorage])")
    assert API_KEY not in kept
    board.page.do("click", 'button:text-is("Log out")')
    board.wait_shown(".login")
    assert board.page.evaluate("() => sessionStorage.length") == 0
    board.page.do("reload")
    board.wait_shown(".login")


def test_everything_comes_from_the_node_and_the_policy_is_strict(browser, node):
    board = Dashboard.open(browser, node)
    board.wait_shown(".chart canvas")
    loaded = (
        "() => performance.getEntriesByType('resource').map((each) => new URL(each.name).origin)"
    )
    assert set(board.page.evaluate(loaded)) == {node.url.rstrip("/")}
    policy = "async () => (await fetch('/admin')).headers.get('content-security-policy')"
    told = board.page.evaluate(policy)
    assert "default-src 'none'" in told
    assert "script-src 'self';" in told
    assert "unsafe" not in told
    assert board.printed() == []


# ------------------------------------------------------------------------------------------------ live numbers


def test_numbers_move_while_somebody_publishes_and_come_to_rest(browser, node, visitor, publisher):
    board = Dashboard.open(browser, node)
    board.wait_number("Connections", "sessions", "value >= 2")
    with Backend(publisher, "demo:lobby"):
        board.wait_number("Work a second", "published", "value > 1")
        board.wait_number("Messages a second", "deliveries", "value > 1")
        board.wait_number("Bytes out a second", "sent", "!Number.isNaN(value) || true")
    board.wait_number("Work a second", "published", "value <= 1.1")
    assert board.number("Latency", "publish to write").endswith(" ms")
    assert board.printed() == []


def test_charts_have_a_past_at_once_and_go_on_behind_a_restart(browser, tmp_path):
    with Node(tmp_path) as node:
        node.start()
        board = Dashboard.open(browser, node)
        board.wait_number("Connections", "sessions", "value >= 1")
        node.kill()
        board.wait_shown("[data-link=away]")
        node.start()
        board.wait_live()
        board.wait_number("Connections", "sessions", "value === 1")
        assert board.printed() == []


def test_every_actor_is_there_and_well(browser, node):
    board = Dashboard.open(browser, node)
    board.wait_shown("[data-actor=rebuild_coordinator]")
    told = board.page.evaluate(
        "() => [...document.querySelectorAll('[data-actor]')].map((row) => [row.dataset.actor, row.querySelector('.chip').textContent])"
    )
    wanted = {item["name"]: item["state"] for item in ask(node, "GET", "/api/info")["actors"]}
    assert dict(told) == wanted


# ------------------------------------------------------------------------------------------------ tables


def test_a_thousand_channels_are_paged_sorted_filtered_and_do_not_flicker(browser, node):
    for first in range(0, NUM_CHANNELS, 500):
        numbers = range(first, first + 500)
        commands = [{"publish": {"channel": f"demo:c{n:04}", "data": n}} for n in numbers]
        ask(node, "POST", "/api/batch", {"commands": commands})
    more = [{"publish": {"channel": "demo:c0777", "data": 0}}] * 5
    ask(node, "POST", "/api/batch", {"commands": more})
    board = Dashboard.open(browser, node, "#channels")
    board.page.do("fill", "[data-filter]", "demo:c")
    board.page.wait_text(".pager p", f"1{DASH}50 of 1,000")
    board.page.do("click", 'button.sort:text-is("Channel")')
    board.wait_channels(*(f"demo:c{n:04}" for n in range(50)))
    board.page.do("click", '.pager button:text-is("Next")')
    board.wait_channels(*(f"demo:c{n:04}" for n in range(50, 100)))
    board.page.do("click", 'button.sort:text-is("Offset")')
    board.page.wait_for(
        "() => document.querySelector('[data-channel]').dataset.channel === 'demo:c0777'"
    )
    board.page.do("fill", "[data-filter]", "c09")
    board.page.wait_text(".pager p", f"1{DASH}50 of 100")
    board.page.do("focus", '[data-channel="demo:c0900"] button')
    mark = "() => { for (const row of document.querySelectorAll('[data-channel]')) row.mark = 1; }"
    board.page.evaluate(mark)
    board.page.evaluate(
        "() => { globalThis.asked = 0; const fetched = fetch; globalThis.fetch = (...all) => { asked += 1; return fetched(...all); }; }"
    )
    board.page.wait_for("() => asked >= 3")
    rows = "() => [...document.querySelectorAll('[data-channel]')].filter((row) => row.mark !== 1).length"
    assert board.page.evaluate(rows) == 0, "a refresh changes numbers, not rows"
    focused = "() => document.activeElement.closest('[data-channel]')?.dataset.channel"
    assert board.page.evaluate(focused) == "demo:c0900"
    assert board.printed() == []


def test_a_channels_panel_tells_who_is_present_and_who_is_subscribed(browser, node, visitor):
    board = Dashboard.open(browser, node, "#channels")
    board.page.do("click", '[data-channel="demo:lobby"] button')
    session = session_of(node)
    board.wait_shown(f'dialog.side button[aria-label="Unsubscribe {session}"]')
    board.page.wait_for(
        "() => [...document.querySelectorAll('dialog h3')].some((each) => each.textContent === 'Present (1)')"
    )
    (member,) = ask(node, "GET", "/api/presence?channel=demo:lobby")["members"]
    (state,) = member["states"]
    board.page.wait_for(
        "(texts) => texts.every((text) => document.querySelector('dialog .state').textContent.includes(text))",
        [state["client"], state["state"]["name"]],
    )
    assert board.printed() == []


# ------------------------------------------------------------------------------------------------ acting


def test_a_session_is_disconnected_from_the_table(browser, node, visitor):
    board = Dashboard.open(browser, node, "#sessions")
    session = session_of(node)
    board.page.do("click", f'[data-session="{session}"] button[aria-label^="Disconnect"]')
    board.confirm("Disconnect")
    board.wait_notice(f"{session} is disconnected.")
    visitor.wait_for("() => document.querySelector('#state').dataset.state !== 'open'")
    board.wait_gone(f'[data-session="{session}"]')
    board.go("log")
    board.page.wait_for(
        "(session) => document.querySelector('[data-log=audit] li')?.textContent.includes(session)",
        session,
    )
    assert board.printed() == []


def test_a_subscription_is_ended_from_the_sessions_panel(browser, node, visitor):
    board = Dashboard.open(browser, node, "#sessions")
    session = session_of(node)
    board.page.do("click", f'[data-session="{session}"] button.link')
    board.page.do("click", 'button[aria-label="Unsubscribe from demo:lobby"]')
    board.confirm("Unsubscribe")
    board.wait_notice(f"{session} has left demo:lobby.")
    visitor.wait_for("() => document.querySelector('#subscription').dataset.state !== 'live'")
    assert board.printed() == []


def test_a_setting_is_changed_and_in_force(browser, node):
    board = Dashboard.open(browser, node, "#collections")
    board.page.do("click", board.in_card("products", "summary"))
    board.page.do("fill", board.in_card("products", "input[name=max_entries]"), "60000")
    board.page.do("click", board.in_card("products", ".settings button[type=submit]"))
    board.wait_notice("Settings of products are changed, until the node restarts.")
    settings = ask(node, "GET", "/api/cache/config")["collections"]["products"]
    assert settings["max_entries"] == 60_000
    board.page.do("fill", board.in_card("products", "input[name=ttl_s]"), "0")
    board.page.do("click", board.in_card("products", ".settings button[type=submit]"))
    board.page.wait_for("() => document.querySelector('.notice .bad') !== null")
    assert ask(node, "GET", "/api/cache/config")["collections"]["products"] == settings


def test_the_cache_is_invalidated_warmed_and_cleared(browser, node):
    ask(node, "GET", "/api/entries?collection=products&key=p-000001&key=p-000002")
    board = Dashboard.open(browser, node, "#collections")
    board.page.do("click", board.in_card("products", 'button:text-is("Invalidate…")'))
    board.page.do("fill", "dialog input", "p-000001 p-000002")
    board.page.do("click", "dialog button[type=submit]")
    board.wait_notice("2 keys of products are invalid.")
    board.page.do("click", board.in_card("products", 'button:text-is("Warm")'))
    board.page.wait_for(
        "() => document.querySelector('.notice p')?.textContent.includes('brought into memory')"
    )
    board.page.do("click", board.in_card("products", 'button:text-is("Clear…")'))
    board.confirm("Clear")
    board.page.wait_for(
        "() => document.querySelector('.notice p')?.textContent.includes('left memory')"
    )
    counts = ask(node, "GET", "/api/cache/stats")["collections"]["products"]
    assert counts["num_entries"] == 0
    assert board.printed() == []


# ------------------------------------------------------------------------------------------------ rebuilds


def test_100000_rows_are_rebuilt_from_a_button_with_progress_and_history(browser, node):
    board = Dashboard.open(browser, node, "#collections")
    board.page.evaluate(
        """() => { globalThis.seen = []; const look = () => {
            const value = document.querySelector(".progress progress")?.value;
            if (value > 0 && value !== seen.at(-1)) seen.push(value);
            requestAnimationFrame(look); }; look(); }"""
    )
    board.page.do("click", board.in_card("products", '.rebuilds button:text-is("Rebuild")'))
    board.wait_shown(board.in_card("products", ".history tbody tr .chip.good"))
    seen = board.page.evaluate("() => seen")
    assert seen == sorted(seen)
    assert sum(value < 1 for value in seen) >= 2, "a person sees it move"
    row = board.page.evaluate(
        "() => [...document.querySelectorAll('.history tbody tr:first-child td')].map((cell) => cell.textContent.trim())"
    )
    assert (row[1], row[2], row[3]) == ("done", "full", f"{NUM_ROWS:,}")
    assert ask(node, "GET", "/api/rebuild")["jobs"][-1]["done"] == NUM_ROWS
    assert board.printed() == []


def test_a_rebuild_is_cancelled_from_the_dashboard(browser, node):
    board = Dashboard.open(browser, node, "#collections")
    board.page.do("click", board.in_card("products", '.rebuilds button:text-is("Rebuild")'))
    board.page.do("click", ".progress button")
    board.confirm("Cancel the rebuild")
    board.page.wait_for(
        "() => document.querySelector('.history tbody tr:first-child .chip')?.textContent === 'cancelled'"
    )
    assert ask(node, "GET", "/api/rebuild")["jobs"][-1]["state"] == "cancelled"


# ------------------------------------------------------------------------------------------------ the keyboard


def test_it_is_used_without_a_mouse(browser, node, visitor):
    page = browser.open(f"{node.url}admin")
    board = Dashboard(page)
    board.wait_shown("input[name=secret]")
    page.browser.ask("driver", "type", {"page": page.number, "text": API_KEY})
    page.browser.ask("driver", "press", {"page": page.number, "key": "Enter"})
    board.wait_live()

    def press(*keys):
        for key in keys:
            page.browser.ask("driver", "press", {"page": page.number, "key": key})

    press("3")
    board.wait_shown("#sessions-title")
    session = session_of(node)
    press("/")
    page.browser.ask("driver", "type", {"page": page.number, "text": session})
    page.wait_for("(session) => document.querySelectorAll('[data-session]').length === 1", session)
    focused = "() => document.activeElement.textContent"
    for _ in range(20):
        press("Tab")
        if page.evaluate(focused) == session:
            break
    press("Enter")
    board.wait_shown("dialog.side")
    press("Escape")
    board.wait_gone("dialog.side")
    assert page.evaluate(focused) == session, "the focus goes back where it was"
    press("5")
    board.wait_shown("#audit-title")
    assert board.printed() == []


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["overview", "channels", "sessions", "collections", "log"])
def test_no_page_is_wider_than_its_window(browser, node, width, name):
    board = Dashboard.open(browser, node, f"#{name}", viewport={"width": width, "height": 900})
    board.wait_shown("main .box, main .chart")
    over = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert board.page.evaluate(over) <= 0
