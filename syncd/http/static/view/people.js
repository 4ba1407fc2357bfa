/** Who is present in the channel in view, and the form that changes this tab's own name. */

import { byId, counted, make, setText, short } from "./dom.js";

const MAX_PEOPLE = 100;
const NUM_HUES = 8;

export class PeopleView {
  shown = "";

  constructor({ rename }) {
    const input = byId("display-name");
    byId("name-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = input.value.trim();
      if (name !== "") rename(name);
      input.blur();
    });
  }

  setName(name) {
    byId("display-name").value = name;
  }

  render(presence, { hasPresence, ownClient }) {
    const people = hasPresence ? presence.people() : [];
    setText(byId("people-count"), String(people.length));
    byId("people").classList.toggle("outdated", !presence.isCurrent && people.length > 0);
    setText(byId("people-hint"), hintText(people.length, hasPresence));
    const key = JSON.stringify([people, ownClient]);
    if (key === this.shown) return; // so that nothing blinks, and a selection stays
    this.shown = key;
    byId("people").replaceChildren(...people.slice(0, MAX_PEOPLE).map((person) => makePerson(person, ownClient)));
  }
}

function hintText(numPeople, hasPresence) {
  if (!hasPresence) return "This channel keeps no presence.";
  return numPeople > MAX_PEOPLE ? `and ${numPeople - MAX_PEOPLE} more` : "";
}

function makePerson({ id, name, clients }, ownClient) {
  const shownName = name ?? short(id);
  const face = make("span", { className: "face", text: initial(shownName) });
  face.dataset.hue = String(hue(id));
  face.setAttribute("aria-hidden", "true");
  const item = make("li", { title: id }, face, make("span", { className: "who", text: shownName }));
  const remarks = [];
  if (clients.includes(ownClient)) remarks.push("you");
  if (clients.length > 1) remarks.push(counted(clients.length, "tab"));
  if (remarks.length > 0) item.append(make("span", { className: "you", text: `(${remarks.join(", ")})` }));
  return item;
}

function initial(name) {
  return (String.fromCodePoint(name.trim().codePointAt(0) ?? 63)).toUpperCase();
}

function hue(id) {
  let sum = 0;
  for (const char of id) sum = (sum * 31 + char.codePointAt(0)) % 65_521;
  return sum % NUM_HUES;
}
