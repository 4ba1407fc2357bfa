/** The order board: two panes, the event log, the settings page, and which of them is in view. */

import { byId, setText } from "./dom.js";
import { EventLog, type PaneName } from "./log.js";
import { LOBBY, Pane } from "./pane.js";
import { Settings } from "./settings.js";

/** `?panes=A` or `?panes=B` shows one: for two windows side by side. */
function paneNames(search: string): readonly PaneName[] {
  const wanted = new URLSearchParams(search).get("panes");
  if (wanted === "B") return ["B"];
  return wanted === "A" || wanted === "1" ? ["A"] : ["A", "B"];
}

/** On an address of its own (`--api-listen`) the page cannot know where the WebSocket is, and is told by `?ws=`. */
function socketUrl(search: string): string {
  return new URLSearchParams(search).get("ws") ?? "/ws";
}

function start(): void {
  const names = paneNames(location.search);
  const log = new EventLog(byId("lines", HTMLElement), names);
  const panes = names.map((name) => new Pane(name, socketUrl(location.search), log));
  byId("panes", HTMLElement).append(...panes.map((pane) => pane.element));
  byId("columns", HTMLElement).dataset["panes"] = String(names.length);
  byId("lead", HTMLElement).hidden = names.length === 1;
  for (const name of ["A", "B"] as const) {
    if (!names.includes(name)) document.querySelector(`[data-pick="${name}"]`)?.remove();
  }
  pick(names[0] ?? "A");
  const settings = new Settings(panes);
  choosePages(settings);
  choosePanes();
  sayInLobby(panes);
  setText(
    byId("commands", HTMLElement),
    `syncd publish ${LOBBY} '{"n": 1}'\nsyncd mutate orders.ship '["o-1041"]'\nsyncd watch orders`,
  );
}

function choosePages(settings: Settings): void {
  const show = () => {
    const page = location.hash === "#settings" ? "settings" : "board";
    for (const name of ["board", "settings"]) {
      byId(name, HTMLElement).hidden = name !== page;
      const link = document.querySelector(`[data-page="${name}"]`);
      if (name === page) link?.setAttribute("aria-current", "page");
      else link?.removeAttribute("aria-current");
    }
    settings.show(page === "settings");
  };
  addEventListener("hashchange", show);
  show();
}

/** On a narrow window one pane is in view, or the events. */
function choosePanes(): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-pick]")) {
    button.addEventListener("click", () => pick(button.dataset["pick"] ?? "A"));
  }
}

function pick(view: string): void {
  byId("columns", HTMLElement).dataset["view"] = view;
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-pick]")) {
    button.setAttribute("aria-pressed", String(button.dataset["pick"] === view));
  }
}

function sayInLobby(panes: readonly Pane[]): void {
  const input = byId("say-text", HTMLInputElement);
  byId("say", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text !== "") void panes[0]?.say(text);
    input.value = "";
  });
}

start();
