"""The order board as tests see it: panes, cards, the event log, and what the server itself says."""

import http.client
import json

from syncd.testing.process import API_KEY

CARDS = """(pane) => Object.fromEntries([...document.querySelectorAll(`[data-pane="${pane}"] .card`)].map((card) => [
    card.dataset.key, {state: card.dataset.state, pending: card.querySelector(".pending").textContent,
    quantity: Number(card.querySelector(".quantity").value), problem: card.querySelector(".problem").textContent}]))"""

LINES = """() => [...document.querySelectorAll("#lines > [data-offset]")].map((line) => ({
    channel: line.dataset.channel, offset: Number(line.dataset.offset), text: line.querySelector("p").textContent,
    seen: [...line.querySelectorAll("[data-lit]")].map((light) => light.textContent).join("")})).reverse()"""


class Board:
    """One window with the board in it."""

    def __init__(self, page):
        self.page = page

    @classmethod
    def open(cls, browser, node, path="", **options):
        board = cls(browser.open(f"{node.url}{path}", **options))
        board.wait_live()
        return board

    def open_beside(self, node, path=""):
        """Open the board in another tab of the same browser, in a process of its own."""
        board = Board(self.page.open_beside(f"{node.url}{path}"))
        board.wait_live()
        return board

    @property
    def panes(self):
        return self.page.evaluate(
            "() => [...document.querySelectorAll('.pane')].map((pane) => pane.dataset.pane)"
        )

    def wait_live(self):
        """Wait until every pane is connected and shows orders."""
        for pane in self.panes:
            self.wait_state(pane, "connected")
            self.page.wait_for(
                "(pane) => document.querySelector(`[data-pane='${pane}'] .card`) !== null", pane
            )

    def wait_state(self, pane, state):
        condition = "([pane, state]) => document.querySelector(`[data-pane='${pane}']`).dataset.state === state"
        self.page.wait_for(condition, [pane, state])

    def rename(self, pane, name):
        self.page.do("fill", f'[data-pane="{pane}"] .name', name)
        self.page.do("press", f'[data-pane="{pane}"] .name', "Enter")

    def wait_other(self, pane, name):
        """Wait until somebody of this name is on the board."""
        condition = "([pane, name]) => document.querySelector(`[data-pane='${pane}'] .badges [title='${name}']`) !== null"
        self.page.wait_for(condition, [pane, name])

    def wait_waiting(self, pane, *starts):
        """Wait until an empty pane lists changes that begin so, in this order and no others."""
        condition = """([pane, starts]) => {
            const texts = [...document.querySelectorAll(`[data-pane='${pane}'] .empty li`)].map((item) => item.lastChild.textContent);
            return texts.length === starts.length && texts.every((text, place) => text.startsWith(starts[place])); }"""
        self.page.wait_for(condition, [pane, list(starts)])

    def wait_kept(self, pane, num):
        """Wait until so many changes are in the browser's database: what is not would not survive a reload."""
        condition = """async ([pane, num]) => {
            const name = `syncd ["/ws","${pane}"]`;
            if (!(await indexedDB.databases()).some((one) => one.name === name)) return num === 0;
            const answer = (request) => new Promise((resolve, reject) => {
                request.onsuccess = () => resolve(request.result);
                request.onerror = () => reject(request.error);
            });
            const database = await answer(indexedDB.open(name));
            const [store] = database.objectStoreNames;
            const found = await answer(database.transaction(store).objectStore(store).count());
            database.close();
            return found === num; }"""
        self.page.wait_for(condition, [pane, num])

    def wait_saved(self, pane):
        condition = "(pane) => !document.querySelector(`[data-pane='${pane}']`).hasAttribute('data-pending')"
        self.page.wait_for(condition, pane)

    def click(self, pane, what):
        self.page.do("click", f'[data-pane="{pane}"] {what}')

    def press(self, pane, key, what):
        """Press a button of an order's card: ship, approve, more, fewer, delete."""
        word = {"more": "One more of", "fewer": "One less of"}.get(what, what.capitalize())
        self.click(pane, f'[data-key="{key}"] button[aria-label^="{word} #"]')

    def switch(self, pane):
        self.click(pane, "[role=switch]")

    def delay(self, pane, ms):
        self.page.do("selectOption", f'[data-pane="{pane}"] select', str(ms))

    def cards(self, pane):
        return self.page.evaluate(CARDS, pane)

    def wait_card(self, pane, key, **wanted):
        """Wait until a card is as said; None: until there is none."""
        condition = f"([pane, key, wanted]) => {{ const card = ({CARDS})(pane)[key] ?? {{}}; "
        condition += (
            "return Object.entries(wanted).every(([name, value]) => card[name] === value); }"
        )
        self.page.wait_for(condition, [pane, key, wanted])

    def lines(self, channel=None):
        lines = self.page.evaluate(LINES)
        return [line for line in lines if channel in (None, line["channel"])]

    def wait_seen(self, channel, offset, by="AB"):
        condition = f"([channel, offset, by]) => ({LINES})().some((line) => line.channel === channel && line.offset >= offset && line.seen === by)"
        self.page.wait_for(condition, [channel, offset, by])

    def notes(self):
        return self.page.evaluate(
            "() => [...document.querySelectorAll('#lines > .note p')].map((p) => p.textContent).reverse()"
        )


def ask(node, method, path, body=None):
    """Ask the node's HTTP API as a backend does, and return what it answers."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    assert response.status == 200, answer
    return answer


def mutate(node, name, *args):
    return ask(node, "POST", "/api/mutate", {"name": f"orders.{name}", "args": list(args)})


def order(node, key):
    """Return an order as the server has it, and None for none."""
    answer = ask(node, "GET", f"/api/entries?collection=orders&key={key}")
    return answer["entries"][0].get("value")


def top(node):
    """Return the offset of the collection's newest event."""
    return ask(node, "GET", "/api/entries?collection=orders&key=o-1041")["position"]["offset"]
