// Write an entry point to stdout as one script that sets a global: for pages without modules, as tests use it.
// Arguments: the entry below src (index.ts) and the global's name (syncd).
import { build } from "esbuild";

const [entry = "index.ts", globalName = "syncd"] = process.argv.slice(2);
const { outputFiles } = await build({
  entryPoints: [new URL(`../src/${entry}`, import.meta.url).pathname],
  bundle: true,
  write: false,
  format: "iife",
  globalName,
  target: "es2022",
});
process.stdout.write(`${outputFiles[0].text}\nglobalThis.${globalName} = ${globalName};\n`);
