/** The form that publishes to the channel in view, and what became of the last publication. */

import { valueFromText } from "../values.js";
import { byId, count, say } from "./dom.js";

export class PublishView {
  lastItem = null;

  /** `publish({name, key, text})` queues a publication and returns its item, or null when too many wait. */
  constructor({ publish, isOpen }) {
    this.publish = publish;
    this.isOpen = isOpen;
    this.data = byId("data");
    this.result = byId("publish-result");
    byId("publish-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.data.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.submit();
    });
    this.data.addEventListener("input", () => this.data.setAttribute("aria-invalid", "false"));
  }

  submit() {
    const text = this.data.value.trim();
    try {
      valueFromText(text);
    } catch (error) {
      this.data.setAttribute("aria-invalid", "true");
      say(this.result, `Not JSON: ${error.message}`, "bad");
      this.data.focus();
      return;
    }
    this.data.setAttribute("aria-invalid", "false");
    const item = this.publish({ name: byId("name").value.trim(), key: byId("key").value.trim(), text });
    if (item === null) {
      say(this.result, "Too many publications wait for an answer; this one was not queued.", "bad");
      return;
    }
    this.lastItem = item;
    if (!this.isOpen()) say(this.result, "Queued: it is sent when the connection is back.", "warn");
  }

  /** A publication was answered. */
  settled(item, answer) {
    if (answer.code !== undefined) say(this.result, `Refused, ${answer.code}: ${answer.message}`, "bad");
    else if (item === this.lastItem || this.lastItem === null) {
      const where = answer.position === null ? "" : ` at offset ${count(answer.position.offset)}`;
      say(this.result, `Accepted by ${item.channel}${where}.`, "good");
    }
  }
}
