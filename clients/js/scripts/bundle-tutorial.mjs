// Write the tutorial of docs/javascript-client.md to stdout as one script, for a page of the node itself: tests run it.
// Usage: bundle-tutorial.mjs [COMPONENT]: show this one of the page, in the room `pointers`, in place of the tutorial's board.
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { writeDocsCode } from "./docs-code.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = `${root}node_modules/.cache/tutorial-${process.pid}/`; // tests run side by side
const [component] = process.argv.slice(2);

const one = `
  import { createRoot } from "react-dom/client";
  import { SyncProvider } from "syncd-client/react";
  import { ${component} } from "./src/${component}";
  import { client } from "./src/sync";

  const shown = <SyncProvider client={client}><${component} room="pointers" /></SyncProvider>;
  createRoot(document.getElementById("root")).render(shown);`;

writeDocsCode(folder);
const { outputFiles } = await build({
  ...(component
    ? { stdin: { contents: one, resolveDir: folder, loader: "tsx" } }
    : { entryPoints: [`${folder}src/main.tsx`] }),
  bundle: true,
  write: false,
  format: "iife",
  jsx: "automatic",
  target: "es2022",
  // The development build: StrictMode does nothing in the other.
  define: { "process.env.NODE_ENV": '"development"' },
  alias: {
    "syncd-client/channels": `${root}src/channels/index.ts`,
    "syncd-client/react": `${root}src/react/index.ts`,
    "syncd-client/storage": `${root}src/storage/index.ts`,
    "syncd-client/tabs": `${root}src/tabs/index.ts`,
    "syncd-client": `${root}src/index.ts`,
  },
});
rmSync(folder, { recursive: true });
process.stdout.write(outputFiles[0].text.replaceAll("ws://127.0.0.1:8400/ws", "/ws"));
