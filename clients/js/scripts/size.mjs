// Bundle what an application would import, minify and gzip it, and fail when a budget is exceeded.
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const KB = 1000;

/** What applications import, and how many bytes it may cost. */
const BUDGETS = [
  { name: "all of ./channels", code: 'export * from "./dist/channels/index.js";', maxBytes: 14 * KB },
  { name: "all of .", code: 'export * from "./dist/index.js";', maxBytes: 20 * KB },
  {
    name: "./react over .",
    code: 'export * from "./dist/index.js"; export * from "./dist/react/index.js";',
    over: 'export * from "./dist/index.js";',
    maxBytes: 3 * KB,
  },
  {
    name: "./mutations over .",
    code: 'export * from "./dist/index.js"; export * from "./dist/mutations/index.js";',
    over: 'export * from "./dist/index.js";',
    maxBytes: 0.6 * KB,
  },
  {
    name: "./react/mutations over . with ./react and ./mutations",
    code: `
      export * from "./dist/index.js"; export * from "./dist/react/index.js"; export * from "./dist/mutations/index.js";
      export * from "./dist/react/mutations/index.js";`,
    over: `
      export * from "./dist/index.js"; export * from "./dist/react/index.js"; export * from "./dist/mutations/index.js";`,
    maxBytes: 0.1 * KB,
  },
  { name: "all of ./storage", code: 'export * from "./dist/storage/index.js";', maxBytes: 4.4 * KB },
  {
    name: "all of . with ./tabs",
    code: 'export * from "./dist/index.js"; export * from "./dist/tabs/index.js";',
    maxBytes: 29 * KB,
  },
];

/** Bytes of this code as an application ships it, without React. */
async function sizeOf(code) {
  const bundle = await build({
    stdin: { contents: code, resolveDir: new URL("..", import.meta.url).pathname },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
    external: ["react"],
  });
  return gzipSync(bundle.outputFiles[0].contents, { level: 9 }).length;
}

let isWithin = true;
for (const { name, code, over, maxBytes } of BUDGETS) {
  const bytes = (await sizeOf(code)) - (over ? await sizeOf(over) : 0);
  const verdict = bytes <= maxBytes ? "ok" : "TOO LARGE";
  console.log(`${name}: ${(bytes / KB).toFixed(2)} kB min+gzip of ${maxBytes / KB} kB - ${verdict}`);
  isWithin &&= bytes <= maxBytes;
}
process.exitCode = isWithin ? 0 : 1;
