// Drives Chromium for the tests in Python: one JSON command a line on stdin, one JSON answer a line on stdout.
// A command is {on, method, args}; `on` is "driver" or the number of a page. What pages print is kept and can be asked for.

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const [, , executablePath, profile] = process.argv;
// Playwright turns the back/forward cache off; users have it.
const ignoreDefaultArgs = ["--disable-back-forward-cache"];
const options = { executablePath, headless: true, args: FLAGS, ignoreDefaultArgs };
// With a profile, all windows share its storage, and whoever opens it next finds what is left.
const browser = profile ? await chromium.launchPersistentContext(profile, options) : await chromium.launch(options);
const pages = [];
const printed = [];
const frozen = [];
const counted = [];

function adopt(page) {
  const number = pages.push(page) - 1;
  printed.push([]);
  page.setDefaultTimeout(20_000);
  page.on("console", (message) => printed[number].push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => printed[number].push(`pageerror: ${error}`));
  return number;
}

const driver = {
  // A window of its own: own cookies, own storage.
  async open({ url, ...options }) {
    const context = profile ? browser : await browser.newContext(options);
    const page = await context.newPage();
    const number = adopt(page);
    await page.goto(url);
    return number;
  },
  // Another tab that the page opens itself: with a copy of its sessionStorage.
  async openFrom({ opener, url }) {
    const coming = pages[opener].waitForEvent("popup");
    await pages[opener].evaluate((address) => void window.open(address, "_blank"), url);
    const page = await coming;
    const number = adopt(page);
    await page.waitForLoadState();
    return number;
  },
  // Another tab of the same window and storage that the page does not know of: in a process of its own.
  async openBeside({ opener, url }) {
    const page = await pages[opener].context().newPage();
    const number = adopt(page);
    await page.goto(url);
    return number;
  },
  // What Chromium counts of a page: seconds of its main thread, by what they went into, since this was first asked.
  async metrics({ page }) {
    if (!counted[page]) {
      counted[page] = await pages[page].context().newCDPSession(pages[page]);
      await counted[page].send("Performance.enable", { timeDomain: "threadTicks" });
    }
    const { metrics } = await counted[page].send("Performance.getMetrics");
    return Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
  },
  // As a tab that the browser has frozen: nothing in it runs, until `thaw`. Chromium's own freezing takes hidden tabs only.
  async freeze({ page }) {
    const session = await pages[page].context().newCDPSession(pages[page]);
    const paused = new Promise((resolve) => session.once("Debugger.paused", resolve));
    await session.send("Debugger.enable");
    await session.send("Debugger.pause");
    session.send("Runtime.evaluate", { expression: "0" }).catch(() => undefined);
    await paused;
    frozen[page] = session;
  },
  async thaw({ page }) {
    await frozen[page].send("Debugger.disable");
    await frozen[page].detach();
  },
  // Playwright's own waitForFunction evaluates a string within the page, which the page's policy forbids.
  async waitFor({ page, condition, timeoutMs }) {
    const deadline = Date.now() + timeoutMs;
    // While the page navigates there is nowhere to ask.
    const ask = () =>
      pages[page].evaluate(condition).catch((error) => {
        if (!String(error).includes("context was destroyed")) throw error;
      });
    while (!(await ask())) {
      if (Date.now() > deadline) throw new Error("not in time");
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  },
  // What a person does with a keyboard, wherever the focus is.
  async type({ page, text }) {
    await pages[page].keyboard.type(text);
  },
  async press({ page, key }) {
    await pages[page].keyboard.press(key);
  },
  printed: async ({ page }) => printed[page],
  async closePages() {
    await Promise.all(browser.contexts().map((context) => context.close()));
  },
};

async function run({ on, method, args }) {
  const answer = on === "driver" ? await driver[method](...args) : await pages[on][method](...args);
  return answer === undefined || typeof answer !== "object" || Array.isArray(answer) || answer.constructor === Object ? answer : null;
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { value: (await run(JSON.parse(line))) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
