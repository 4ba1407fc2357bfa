/** The list of events of the channel in view. Follows the newest until somebody scrolls up; then says how many came meanwhile. */

import { byId, count, counted, make, setData, setText, short } from "./dom.js";

const LONG_CHARS = 240;
const NEAR_END_PX = 40;
const HOW = { live: "live", recovered: "recovered", history: "from the history", state: "present state" };

export class EventsView {
  log = null;
  version = -1;
  numShown = 0; // of log.numAdded
  numDropped = 0; // of log.numTrimmed
  isFollowing = true;
  numSeen = 0; // log.numAdded when the list was last at its end

  /** `ownClient()` returns this tab's client id; `loadEarlier()` asks for older events. */
  constructor({ ownClient, loadEarlier }) {
    this.ownClient = ownClient;
    this.scroller = byId("events");
    this.list = byId("rows");
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    byId("follow").addEventListener("click", () => {
      this.follow();
      this.scroller.focus({ preventScroll: true });
    });
    byId("earlier").addEventListener("click", () => {
      this.isFollowing = false; // what is in view stays in view
      loadEarlier();
    });
    new ResizeObserver(() => this.isFollowing && this.toEnd()).observe(this.scroller);
  }

  follow() {
    this.isFollowing = true;
    this.toEnd();
    this.renderFollow();
  }

  scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    this.isFollowing = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (this.isFollowing) this.numSeen = this.log?.numAdded ?? 0;
    this.renderFollow();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.numSeen = this.log?.numAdded ?? 0;
  }

  render(log, { canLoadEarlier }) {
    const isOther = log !== this.log;
    if (isOther) {
      this.log = log;
      this.isFollowing = true;
    }
    if (isOther || log.version !== this.version) this.rebuild();
    else this.extend();
    byId("earlier").hidden = !canLoadEarlier;
    byId("empty").hidden = log.rows.length > 0;
    if (this.scroller.scrollHeight <= this.scroller.clientHeight) this.isFollowing = true;
    if (this.isFollowing) this.toEnd();
    this.renderFollow();
  }

  rebuild() {
    const fromEnd = this.scroller.scrollHeight - this.scroller.scrollTop;
    this.list.replaceChildren(...this.log.rows.map((row) => this.makeRow(row)));
    if (!this.isFollowing) this.scroller.scrollTop = this.scroller.scrollHeight - fromEnd;
    this.version = this.log.version;
    this.numShown = this.log.numAdded;
    this.numDropped = this.log.numTrimmed;
  }

  extend() {
    const { log, list } = this;
    const numNew = Math.min(log.numAdded - this.numShown, log.rows.length);
    let numOld = Math.min(log.numTrimmed - this.numDropped, list.childElementCount);
    for (; numOld > 0; numOld -= 1) list.firstElementChild.remove();
    if (numNew > 0) list.append(...log.rows.slice(-numNew).map((row) => this.makeRow(row)));
    this.numShown = log.numAdded;
    this.numDropped = log.numTrimmed;
  }

  renderFollow() {
    const button = byId("follow");
    const numNew = (this.log?.numAdded ?? 0) - this.numSeen;
    button.hidden = this.isFollowing;
    setText(button, numNew > 0 ? `${counted(numNew, "new line")} ↓` : "Paused: back to the newest ↓");
  }

  makeRow(row) {
    return row.kind === "note" ? makeNote(row) : this.makeEvent(row);
  }

  makeEvent(row) {
    const isOffset = row.offset !== null;
    const place = make("span", { className: "offset", text: isOffset ? count(row.offset) : "–" });
    if (row.prev !== null) place.append(makePrev(row));
    const item = make("li", { className: "row" }, place, makeWhat(row), this.makeMeta(row));
    setData(item, "how", row.how);
    if (isOffset) setData(item, "offset", String(row.offset));
    item.title = isOffset ? `Epoch ${row.epoch}, offset ${row.offset}, ${HOW[row.how]}` : "No position: this channel keeps nothing";
    return item;
  }

  makeMeta(row) {
    const time = make("time", { text: timeText(row.atMs), dateTime: new Date(row.atMs).toISOString() });
    return make("span", { className: "meta" }, this.makeBy(row), time);
  }

  makeBy({ by, byName }) {
    if (by === null) return make("span", { className: "by backend", text: "backend" });
    const text = by === this.ownClient() ? "you" : (byName ?? short(by));
    return make("span", { className: "by", text, title: by });
  }
}

function makePrev({ prev, isChecked }) {
  const word = make("span", { className: "word", text: isChecked ? "✓ after " : "after " });
  const mark = make("span", { className: "mark", text: isChecked ? "✓ " : "" });
  mark.setAttribute("aria-hidden", "true");
  const title = isChecked ? "prev was the offset before: nothing is missing" : "";
  return make("span", { className: isChecked ? "prev ok" : "prev", title }, mark, word, count(prev));
}

function makeWhat(row) {
  const tags = make("span", { className: "tags" });
  if (row.name !== null) tags.append(make("span", { className: "tag", text: row.name, title: "Name" }));
  if (row.key !== null) tags.append(make("span", { className: "tag key", text: row.key, title: "Key" }));
  const code = make("code", { text: row.isCut ? `${row.text} …` : row.text });
  const what = make("div", { className: "what" });
  if (tags.childElementCount > 0) what.append(tags);
  what.append(code);
  if (row.text.length > LONG_CHARS) what.append(makeMore(code));
  return what;
}

function makeMore(code) {
  const button = make("button", { className: "more", type: "button", text: "Show all" });
  code.classList.add("long");
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const isOpen = code.classList.toggle("open");
    button.setAttribute("aria-expanded", String(isOpen));
    setText(button, isOpen ? "Show less" : "Show all");
  });
  return button;
}

function makeNote({ text, tone }) {
  const item = make("li", { className: "note" }, make("span", { text }));
  setData(item, "tone", tone);
  return item;
}

function timeText(atMs) {
  const date = new Date(atMs);
  const two = (number) => String(number).padStart(2, "0");
  const ms = String(date.getMilliseconds()).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}
