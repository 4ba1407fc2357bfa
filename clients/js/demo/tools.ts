/** The controls of a pane: who you are, how slow the network is, and whether there is one. What tabs share changes in all of them. */

import { h, setText } from "./dom.js";
import type { Kept } from "./kept.js";
import type { PaneName } from "./log.js";
import type { Network } from "./network.js";
import { anyName, hueOf, initialsOf } from "./people.js";

const DELAYS = [
  [0, "No delay"],
  [500, "0.5 s delay"],
  [2000, "2 s delay"],
] as const;

/** Who uses a pane. */
export interface Me {
  readonly user: string;
  readonly called: Kept;
}

/** Make the switch that cuts the network. */
export function offlineSwitch(network: Network): HTMLElement {
  const input = h("input", {
    type: "checkbox",
    role: "switch",
    change: () => {
      network.isCut = input.checked;
    },
  });
  const show = () => {
    input.checked = network.isCut;
  };
  network.onCut(show);
  show();
  return h("label", { class: "switch" }, input, h("span", {}, "Go offline"));
}

/** Make the choice of a delay. */
export function delaySelect(pane: PaneName, network: Network): HTMLElement {
  const select = h("select", {
    "aria-label": `Network delay of pane ${pane}`,
    change: () => {
      network.delayMs = Number(select.value);
    },
  });
  select.append(...DELAYS.map(([ms, text]) => h("option", { value: ms }, text)));
  const show = () => {
    select.value = String(network.delayMs);
  };
  network.onDelay(show);
  show();
  return select;
}

/** Make the avatar and the field of the name. */
export function nameField(pane: PaneName, { user, called }: Me): HTMLElement {
  const badge = h("span", { class: "avatar", "data-hue": hueOf(user), "aria-hidden": "true" });
  const input = h("input", {
    class: "name",
    maxlength: 24,
    autocomplete: "off",
    "aria-label": `Your name in pane ${pane}`,
    change: () => called.set(input.value.trim() || anyName()),
  });
  const show = () => {
    input.value = called.value ?? "";
    setText(badge, initialsOf(input.value));
  };
  called.onChange(show);
  show();
  return h("div", { class: "me" }, badge, input);
}
