/** Command lines that publish to the channel in view, ready to be copied. */

import { byId, setText } from "./dom.js";

const DEFAULT_ORIGIN = "http://127.0.0.1:8400";
const COPIED_MS = 1_600;

export class TerminalView {
  constructor(origin) {
    this.origin = origin;
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => copy(button, byId(button.dataset.copy)));
    }
  }

  render(channel) {
    const data = '{"hello": "world"}';
    const url = this.origin === DEFAULT_ORIGIN ? "" : ` --url ${quoted(this.origin)}`;
    setText(byId("command-syncd"), `syncd publish${url} ${quoted(channel)} \\\n  '${data}'`);
    setText(
      byId("command-curl"),
      `curl -X POST \\\n  ${quoted(`${this.origin}/api/publish`)} \\\n  -H "Authorization: Bearer $SYNCD_API_KEY" \\\n` +
        `  -H "Content-Type: application/json" \\\n` +
        `  -d '{"channel": "${channel}", "data": ${data}}'`,
    );
  }
}

/** Quote for a POSIX shell. Channel names and origins hold no single quote. */
function quoted(text) {
  return /^[A-Za-z0-9_.:@,/-]+$/.test(text) ? text : `'${text}'`;
}

async function copy(button, source) {
  const isCopied = await write(source);
  const word = button.firstChild;
  word.data = isCopied ? "Copied" : "Selected";
  setTimeout(() => {
    word.data = "Copy";
  }, COPIED_MS);
}

/** Copy a text; where the clipboard is closed to the page, select it instead. */
async function write(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return false;
  }
}
