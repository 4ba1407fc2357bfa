/** The order board: two panes, the event log, the settings page, and which of them is in view. */

import { byId, setText } from "./dom.js";
import { EventLog, type PaneName } from "./log.js";
import { LOBBY, Pane } from "./pane.js";
import { Settings } from "./settings.js";

/** `?panes=1` shows one: for two windows side by side. */
function paneNames(search: string): readonly PaneName[] {
  return new URLSearchParams(search).get("panes") === "1" ? ["A"] : ["A", "B"];
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
  if (names.length === 1) document.querySelector('[data-pick="B"]')?.remove();
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
  const buttons = document.querySelectorAll<HTMLButtonElement>("[data-pick]");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      byId("columns", HTMLElement).dataset["view"] = button.dataset["pick"] ?? "A";
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    });
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
