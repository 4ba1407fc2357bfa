"""The dashboard as tests see it: its login, its pages, its tables and cards."""

from syncd.testing.process import API_KEY

ROWS = """([selector, attribute]) => [...document.querySelectorAll(selector)].map((row) => row.dataset[attribute])"""


class Dashboard:
    """One window with the dashboard in it."""

    def __init__(self, page):
        self.page = page

    @classmethod
    def open(cls, browser, node, path="", *, secret=API_KEY, **options):
        board = cls(browser.open(f"{node.url}admin{path}", **options))
        board.login(secret)
        board.wait_live()
        return board

    def login(self, secret):
        self.page.do("fill", "input[name=secret]", secret)
        self.page.do("click", ".login button[type=submit]")

    def wait_live(self):
        """Wait until the samples come over the WebSocket."""
        self.page.do("waitForSelector", "[data-link=live]")

    def go(self, name):
        self.page.do("click", f'nav a[href="#{name}"]')

    def wait_shown(self, selector):
        self.page.do("waitForSelector", selector)

    def wait_gone(self, selector):
        self.page.wait_for("(selector) => document.querySelector(selector) === null", selector)

    def number(self, chart, line):
        """Return what a chart says of a line."""
        source = """([chart, line]) => {
            const figure = [...document.querySelectorAll(".chart")].find((each) => each.querySelector("h3").textContent === chart);
            const key = [...figure.querySelectorAll(".key")].find((each) => each.querySelector("dt").textContent === line);
            return key.querySelector("dd").textContent; }"""
        return self.page.evaluate(source, [chart, line])

    def wait_number(self, chart, line, holds):
        """Wait until a chart's number, as JavaScript sees it in `value`, is as said."""
        source = f"""([chart, line]) => {{
            const figure = [...document.querySelectorAll(".chart")].find((each) => each.querySelector("h3")?.textContent === chart);
            const key = [...(figure?.querySelectorAll(".key") ?? [])].find((each) => each.querySelector("dt").textContent === line);
            const value = Number(key?.querySelector("dd").textContent.replaceAll(",", ""));
            return {holds}; }}"""
        self.page.wait_for(source, [chart, line])

    def channels(self):
        return self.page.evaluate(ROWS, ["[data-channel]", "channel"])

    def sessions(self):
        return self.page.evaluate(ROWS, ["[data-session]", "session"])

    def wait_channels(self, *names):
        """Wait until the table has exactly these rows, in this order."""
        condition = f"(names) => String(({ROWS})(['[data-channel]', 'channel'])) === String(names)"
        self.page.wait_for(condition, list(names))

    def wait_notice(self, text):
        self.page.wait_text(".notice p", text)

    def confirm(self, verb):
        """Say yes to the question that is open."""
        self.page.do("click", f'dialog.ask button:text-is("{verb}")')
        self.wait_gone("dialog.ask")

    def in_card(self, collection, selector):
        return f'[data-collection="{collection}"] {selector}'

    def printed(self):
        """Return what the page printed, besides what Chromium says of a refused login and of a node that is away."""
        usual = (
            "a status of 401",
            "a status of 403",
            "WebSocket connection to",
            "ERR_CONNECTION",
        )
        return [line for line in self.page.printed() if not any(each in line for each in usual)]
