// Bundle what an application would import, minify and gzip it, and fail when a budget is exceeded.
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const KB = 1000;

/** What is measured: the code of an application that uses that much, and how many bytes it may cost. */
const BUDGETS = [
  {
    name: "core with channels and codec",
    code: `
      import { Channel } from "./dist/channel.js";
      import { ClientCore } from "./dist/core/core.js";
      import { openNoEntries } from "./dist/core/entries.js";
      import { Engine } from "./dist/shell/engine.js";
      import { completeEnvironment } from "./dist/shell/environment.js";
      globalThis.made = [Channel, ClientCore, openNoEntries, Engine, completeEnvironment];`,
    maxBytes: 14 * KB,
  },
  // The aim is 20 kB; collections and mutations take 11.
  { name: "all of .", code: 'export * from "./dist/index.js";', maxBytes: 24 * KB },
];

let isWithin = true;
for (const { name, code, maxBytes } of BUDGETS) {
  const bundle = await build({
    stdin: { contents: code, resolveDir: new URL("..", import.meta.url).pathname },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
  });
  const bytes = gzipSync(bundle.outputFiles[0].contents, { level: 9 }).length;
  const verdict = bytes <= maxBytes ? "ok" : "TOO LARGE";
  console.log(`${name}: ${(bytes / KB).toFixed(1)} kB min+gzip of ${maxBytes / KB} kB - ${verdict}`);
  isWithin &&= bytes <= maxBytes;
}
process.exitCode = isWithin ? 0 : 1;
