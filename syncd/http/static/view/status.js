/** The head of the page: how the connection is, why it is not open, and what can be done about it. */

import { announce, byId, count, setData, setText, short } from "./dom.js";

const NAMES = {
  idle: "Starting",
  connecting: "Connecting",
  opening: "Opening",
  open: "Connected",
  waiting: "Reconnecting",
  stopped: "Stopped",
};
const TONES = { waiting: "warn", connecting: "warn", opening: "warn", stopped: "bad" };
const DROP_PAUSE_MS = 3_000;
const KNOWN_ENDS = {
  1000: "closed",
  1002: "protocol error",
  1003: "text refused",
  1006: "connection lost",
  1009: "message too big",
  1012: "restarting",
};

export class StatusView {
  lastState = null;

  /** `isRefused()` tells whether the channel in view is one that this session may not use. */
  constructor(client, { askAgainAs, isRefused }) {
    this.client = client;
    this.isRefused = isRefused;
    byId("drop").addEventListener("click", () => client.connection.drop(DROP_PAUSE_MS));
    byId("connect").addEventListener("click", () => this.connectNow(askAgainAs));
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = byId("token").value.trim();
      if (token === "") return;
      byId("token").value = "";
      client.useToken(token);
    });
  }

  /** After a stop over the client id, only another id helps. */
  connectNow(askAgainAs) {
    const { state, ended } = this.client.connection;
    if (state === "stopped" && (ended.code === 4504 || ended.code === 4505)) askAgainAs(null);
    this.client.connection.dial();
  }

  render() {
    const { connection } = this.client;
    const { state, latencyMs, needsToken } = connection;
    const tone = connection.ended === null && state !== "stopped" ? "plain" : (TONES[state] ?? "plain");
    setData(byId("state"), "state", state);
    setText(byId("state-text"), needsToken ? "Needs a token" : NAMES[state]);
    setText(byId("latency"), latencyMs === null ? "–" : latencyMs.toFixed(latencyMs < 10 ? 1 : 0));
    setData(byId("status"), "tone", tone);
    setText(byId("status-text"), this.sentence());
    byId("drop").disabled = state === "waiting" || state === "stopped" || state === "idle";
    byId("connect").hidden = needsToken || (state !== "waiting" && state !== "stopped");
    byId("token-form").hidden = !needsToken && !this.isRefused();
    this.renderDetails();
    this.announceChange(state, needsToken);
  }

  renderDetails() {
    const { identity, connection, outbox } = this.client;
    setText(byId("detail-client"), identity === null ? "–" : short(identity.client));
    setText(byId("detail-session"), connection.session ?? "–");
    setText(byId("detail-ended"), connection.ended === null ? "none yet" : endText(connection.ended));
    setText(byId("detail-waiting"), count(outbox.items.length));
  }

  sentence() {
    const { connection, outbox } = this.client;
    const { state, ended, retryAt, backoff } = connection;
    const waiting = outbox.items.length > 0 ? ` ${outbox.items.length} unanswered.` : "";
    if (state === "open") return `Session ${connection.session}. The node is heard every ${Math.round(connection.pingMs / 1000)} s.${waiting}`;
    if (state === "stopped") return `${endText(ended)}. ${advice(ended.code)}`;
    if (state === "waiting") {
      const leftS = Math.max(0, retryAt - this.client.env.now()) / 1000;
      return `${endText(ended)}. Attempt ${backoff.attempt} in ${leftS.toFixed(1)} s.${waiting}`;
    }
    return ended === null ? "Connecting to the node." : `${endText(ended)}. Attempt ${backoff.attempt} now.${waiting}`;
  }

  announceChange(state, needsToken) {
    const word = needsToken ? "Needs a token" : NAMES[state];
    const isSettled = state === "open" || state === "waiting" || state === "stopped";
    if (!isSettled || word === this.lastState) return;
    if (this.lastState !== null || state !== "open") announce(word);
    this.lastState = word;
  }
}

function endText({ code, reason }) {
  const text = reason || KNOWN_ENDS[code] || "";
  return text === "" ? `Ended with ${code}` : `Ended with ${code}, ${text.replace(/\.$/, "")}`;
}

function advice(code) {
  if (code === 4401) return "This node asks for a token.";
  if (code === 4504) return "Another tab speaks for this client now.";
  if (code === 4505) return "This client's secret is not accepted.";
  return "The node asks not to come back by itself.";
}
