// Write src/index.ts to stdout as one script that sets the global `syncd`: for pages without modules, as tests use it.
import { build } from "esbuild";

const { outputFiles } = await build({
  entryPoints: [new URL("../src/index.ts", import.meta.url).pathname],
  bundle: true,
  write: false,
  format: "iife",
  globalName: "syncd",
  target: "es2022",
});
process.stdout.write(`${outputFiles[0].text}\nglobalThis.syncd = syncd;\n`);
