// Write the tutorial of docs/javascript-client.md to stdout as one script, for a page of the node itself: tests run it.
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { writeDocsCode } from "./docs-code.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = `${root}node_modules/.cache/tutorial/`;
writeDocsCode(folder);
const { outputFiles } = await build({
  entryPoints: [`${folder}src/main.tsx`],
  bundle: true,
  write: false,
  format: "iife",
  jsx: "automatic",
  target: "es2022",
  // The development build: StrictMode does nothing in the other.
  define: { "process.env.NODE_ENV": '"development"' },
  alias: { "syncd-client/react": `${root}src/react/index.ts`, "syncd-client": `${root}src/index.ts` },
});
process.stdout.write(outputFiles[0].text.replaceAll("ws://127.0.0.1:8400/ws", "/ws"));
