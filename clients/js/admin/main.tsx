/** The dashboard: the login, or the pages with what surrounds them. */

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Channels } from "./channels.js";
import { Collections } from "./collections.js";
import { Live } from "./live.js";
import { Log } from "./log.js";
import { Login } from "./login.js";
import { Operator } from "./operator.js";
import { Overview } from "./overview.js";
import { Asking, Chip, Icon, notice, question } from "./parts.js";
import { Sessions } from "./sessions.js";
import { useValue } from "./value.js";

const PAGES = [
  ["overview", "Overview"],
  ["channels", "Channels"],
  ["sessions", "Sessions"],
  ["collections", "Collections"],
  ["log", "Log"],
] as const;

type PageName = (typeof PAGES)[number][0];

/** How long a notice stands. */
const NOTICE_MS = 6000;

/** On an address of its own (`--api-listen`) the page cannot know where the WebSocket is, and is told by `?ws=`. */
function socketUrl(): string {
  return new URLSearchParams(location.search).get("ws") ?? "/ws";
}

function pageOf(hash: string): PageName {
  return PAGES.find(([name]) => `#${name}` === hash)?.[0] ?? "overview";
}

function App({ operator }: { readonly operator: Operator }) {
  const isIn = useValue(operator.pass) !== null;
  return isIn ? <Dashboard operator={operator} /> : <Login operator={operator} />;
}

function Dashboard({ operator }: { readonly operator: Operator }) {
  const [live] = useState(() => new Live(operator.api, socketUrl(), () => operator.token));
  const [page, setPage] = useState(() => pageOf(location.hash));
  const asked = useValue(question);
  const { api } = operator;
  useEffect(() => {
    live.start();
    return () => live.stop();
  }, [live]);
  useEffect(() => {
    const turn = () => setPage(pageOf(location.hash));
    addEventListener("hashchange", turn);
    addEventListener("keydown", shortcut);
    return () => {
      removeEventListener("hashchange", turn);
      removeEventListener("keydown", shortcut);
    };
  }, []);
  return (
    <>
      <button type="button" class="skip" onClick={focusMain}>
        Skip to the page
      </button>
      <Head operator={operator} live={live} page={page} />
      <main id="main" tabIndex={-1}>
        <NotReady live={live} />
        {page === "overview" ? <Overview live={live} api={api} /> : null}
        {page === "channels" ? <Channels api={api} /> : null}
        {page === "sessions" ? <Sessions api={api} live={live} /> : null}
        {page === "collections" ? <Collections api={api} live={live} /> : null}
        {page === "log" ? <Log api={api} /> : null}
      </main>
      <Notice />
      {asked === null ? null : <Asking key={asked.title} asked={asked} />}
    </>
  );
}

function focusMain(): void {
  document.getElementById("main")?.focus();
}

/** `1` to `5` turn to a page, `/` goes to the filter; not while something is typed or a panel is open. */
function shortcut(event: KeyboardEvent): void {
  const { target } = event;
  const isTyped = target instanceof HTMLElement && target.matches("input, select, textarea");
  const isModal = document.querySelector("dialog[open]") !== null;
  if (isTyped || isModal || event.ctrlKey || event.metaKey || event.altKey) return;
  const page = PAGES[Number(event.key) - 1];
  const filter = document.querySelector<HTMLInputElement>("[data-filter]");
  if (page !== undefined) location.hash = page[0];
  else if (event.key === "/" && filter !== null) filter.focus();
  else return;
  event.preventDefault();
}

const LINKS = {
  connecting: ["busy", "Connecting"],
  live: ["good", "Live"],
  away: ["bad", "Node is away"],
  ended: ["bad", "Ended"],
} as const;

function Head(props: { readonly operator: Operator; readonly live: Live; readonly page: PageName }) {
  const link = useValue(props.live.link);
  const now = useValue(props.live.now);
  const [tone, text] = LINKS[link];
  return (
    <header class="top">
      <div class="brand">
        <img src="/static/icon.svg" alt="" width="26" height="26" />
        <h1>
          syncd <span>{now === null ? "" : now.version}</span>
        </h1>
      </div>
      <nav aria-label="Pages">
        {PAGES.map(([name, label], number) => (
          <a
            key={name}
            href={`#${name}`}
            title={`${label} (${number + 1})`}
            {...(name === props.page ? { "aria-current": "page" as const } : {})}
          >
            <Icon name={name} />
            <span>{label}</span>
          </a>
        ))}
      </nav>
      <div class="standing-now">
        <span role="status" data-link={link}>
          <Chip tone={tone}>{text}</Chip>
        </span>
        <button type="button" class="plain" onClick={() => props.operator.logout()}>
          Log out
        </button>
      </div>
    </header>
  );
}

function NotReady({ live }: { readonly live: Live }) {
  const reasons = useValue(live.now)?.not_ready ?? [];
  if (reasons.length === 0) return null;
  return (
    <div class="alert" role="alert">
      <strong>Not ready:</strong> {reasons.join(" ")}
    </div>
  );
}

function Notice() {
  const told = useValue(notice);
  useEffect(() => {
    const timer = told === null ? 0 : window.setTimeout(() => notice.set(null), NOTICE_MS);
    return () => clearTimeout(timer);
  }, [told]);
  return (
    <div class="notice" role="status">
      {told === null ? null : <p class={told.isBad ? "bad" : ""}>{told.text}</p>}
    </div>
  );
}

const root = document.getElementById("app");
if (root !== null) render(<App operator={new Operator()} />, root);
