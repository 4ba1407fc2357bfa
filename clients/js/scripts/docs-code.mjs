// The code of docs/javascript-client.md: each block that begins with the name of its file is one.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const PAGE = new URL("../../../docs/javascript-client.md", import.meta.url);

/** Write the files into a folder, which is emptied before; return their names. */
export function writeDocsCode(folder) {
  const blocks = readFileSync(PAGE, "utf8").matchAll(/^```tsx?\n\/\/ (src\/\S+)\n(.*?)^```$/gms);
  rmSync(folder, { recursive: true, force: true });
  const names = [];
  for (const [, name, code] of blocks) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), code);
    names.push(name);
  }
  return names;
}
