/** What stands over the list: the channel, its subscription's state, its position, and whether the sequence held. */

import { byId, count, setData, setText } from "./dom.js";

const STATES = { wanted: "waiting", subscribing: "subscribing", live: "live" };

export class HeadView {
  constructor({ resubscribe }) {
    byId("resubscribe").addEventListener("click", resubscribe);
  }

  render(subscription, log) {
    const { channel, state, position, ended } = subscription;
    setText(byId("viewer-title"), channel);
    setData(byId("subscription"), "state", state);
    setText(byId("subscription"), state === "ended" ? `ended: ${ended.code}` : STATES[state]);
    byId("subscription").title = ended?.message ?? "";
    byId("resubscribe").hidden = state !== "ended";
    setText(byId("offset"), position === null ? "–" : count(position.offset));
    setText(byId("epoch"), position === null ? "–" : position.epoch.slice(0, 8));
    byId("epoch").title = position?.epoch ?? "";
    setText(byId("checked"), count(subscription.numChecked));
    setNumber("recovered", log.numRecovered, "warn");
    setNumber("gaps", subscription.numGaps, "bad");
    setNumber("repeats", subscription.numDuplicates, "warn");
    document.title = `${channel} · syncd`;
  }
}

function setNumber(id, number, tone) {
  setText(byId(id), count(number));
  setData(byId(id), "tone", number > 0 ? tone : "plain");
}
