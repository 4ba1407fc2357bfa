/** The few ways in which the page writes to its document. Text goes through textContent alone; nothing is ever parsed as HTML. */

/** Return the element of that id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Make an element with a class and a text, and with children. */
export function make(tag, { className = "", text = null, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (className !== "") element.className = className;
  if (text !== null) element.textContent = text;
  element.append(...children);
  return element;
}

/** Set a text only if it differs, so that nothing is laid out or announced anew for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set a `data-` attribute only if it differs. */
export function setData(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

/** Say something to screen readers. */
export function announce(text) {
  setText(byId("announcer"), text);
}

/** Say what became of something beside the form it belongs to. */
export function say(element, text, tone = "plain") {
  setText(element, text);
  setData(element, "tone", tone);
}

/** Return a function that runs `render` soon, once for any number of calls; in a hidden tab as well. */
export function oncePerFrame(render) {
  let isDue = false;
  const run = () => {
    isDue = false;
    render();
  };
  return () => {
    if (isDue) return;
    isDue = true;
    if (document.hidden) setTimeout(run, 50);
    else requestAnimationFrame(run);
  };
}

/** Return a number with its thousands apart, as everybody reads it here. */
export function count(number) {
  return number.toLocaleString("en");
}

/** Return `1 event`, `2 events`. */
export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Return the last characters of an id, enough to tell it from others: ids made at about the same time begin alike. */
export function short(id) {
  return id.slice(-6);
}
