/**
 * Publications without an answer, oldest first (protocol/SPEC.md, section 7): each has a `uid`, is sent again on every new
 * session until it is answered, and survives a reload. Bounded: what comes when it is full is refused.
 */

import { valueFromText } from "./values.js";

export const MAX_WAITING = 100;

export class Outbox {
  /** `{uid, channel, name, key, text, requestId}`; text is the data as JSON, requestId null while it is not under way. */
  items = [];

  constructor(randomBytes) {
    this.randomBytes = randomBytes;
  }

  /** Queue a publication; return its item, or null when the queue is full. */
  add({ channel, name, key, text }) {
    if (this.items.length >= MAX_WAITING) return null;
    const uid = [...this.randomBytes(16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const item = { uid, channel, name, key, text, requestId: null };
    this.items.push(item);
    return item;
  }

  /** Return the body of `publish` for an item that goes out as request `id`. */
  body(item, id) {
    item.requestId = id;
    return {
      id,
      channel: item.channel,
      name: item.name || undefined,
      key: item.key || undefined,
      data: valueFromText(item.text),
      uid: item.uid,
    };
  }

  /** The answer is there, whatever it says. */
  settle(item) {
    this.items = this.items.filter((other) => other !== item);
  }

  /** The connection is gone: nothing is under way any more. */
  disconnected() {
    for (const item of this.items) item.requestId = null;
  }

  saved() {
    return this.items.map(({ uid, channel, name, key, text }) => ({ uid, channel, name, key, text }));
  }

  restore(items) {
    this.items = items.map((item) => ({ ...item, requestId: null }));
  }
}
