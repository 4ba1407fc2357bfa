/** The list of channels that this tab is subscribed to, and the form that adds one. */

import { byId, count, make, say, setData, setText } from "./dom.js";

const NAME = /^[a-z0-9][a-z0-9_-]{0,63}:[A-Za-z0-9_.:@#=+~,/-]+$/;
const STATES = { wanted: "waiting", subscribing: "subscribing", live: "live", ended: "ended" };
const HINT = "namespace:name";

/** Tell whether a text can be a channel's name (SPEC section 3). */
export function isChannelName(text) {
  const [, ...rest] = text.split(":");
  return text.length <= 255 && NAME.test(text) && !rest.join(":").split("/").includes("..");
}

export class ChannelsView {
  items = new Map();

  /** `handlers`: `add(name)`, `pick(name)`, `leave(name)`. */
  constructor(handlers) {
    this.handlers = handlers;
    byId("subscribe-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(byId("channel"));
    });
    byId("channel").addEventListener("input", () => this.hint(HINT, "plain"));
  }

  submit(input) {
    const name = input.value.trim();
    if (!isChannelName(name)) {
      this.hint("A channel is named namespace:name, with letters, digits and _.:@#=+~,-/ in the name.", "bad");
      input.focus();
      return;
    }
    input.value = "";
    this.hint(HINT, "plain");
    this.handlers.add(name);
  }

  hint(text, tone) {
    say(byId("channel-hint"), text, tone);
    byId("channel").setAttribute("aria-invalid", String(tone === "bad"));
  }

  /** `channels`: of `{name, state, unread, isCurrent}`. */
  render(channels) {
    const names = new Set(channels.map(({ name }) => name));
    for (const [name, item] of this.items) {
      if (names.has(name)) continue;
      item.element.remove();
      this.items.delete(name);
    }
    for (const channel of channels) this.renderOne(channel);
  }

  renderOne({ name, state, unread, isCurrent }) {
    if (!this.items.has(name)) this.items.set(name, this.makeItem(name));
    const { pick, badge, word } = this.items.get(name);
    setData(pick, "state", state);
    setText(word, `, ${STATES[state]}`);
    pick.setAttribute("aria-current", String(isCurrent));
    badge.hidden = unread === 0;
    setText(badge, unread > 999 ? "999+" : count(unread));
  }

  makeItem(name) {
    const word = make("span", { className: "hidden" });
    const badge = make("span", { className: "unread", hidden: true });
    const pick = make(
      "button",
      { className: "pick", type: "button", title: name },
      make("span", { className: "dot" }),
      make("span", { className: "what", text: name }),
      word,
      badge,
    );
    const leave = make("button", { className: "leave", type: "button", text: "×", title: `Leave ${name}` });
    leave.setAttribute("aria-label", `Leave ${name}`);
    pick.addEventListener("click", () => this.handlers.pick(name));
    leave.addEventListener("click", () => this.handlers.leave(name));
    const element = make("li", {}, pick, leave);
    byId("channel-list").append(element);
    return { element, pick, badge, word };
  }
}
