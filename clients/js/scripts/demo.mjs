// Bundle demo/ to the page that `syncd serve --demo` serves; with --check, fail when what is committed is something else.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const TARGET = new URL("../../../syncd/http/static/board/", import.meta.url);
const isCheck = process.argv.includes("--check");

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("../demo/main.ts", import.meta.url))],
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  target: "es2022",
  charset: "utf8",
});
const files = { "board.js": Buffer.from(outputFiles[0].contents) };
for (const name of ["index.html", "board.css"]) {
  files[name] = readFileSync(new URL(`../demo/${name}`, import.meta.url));
}

const stale = [];
mkdirSync(TARGET, { recursive: true });
for (const [name, content] of Object.entries(files)) {
  const path = new URL(name, TARGET);
  if (!isCheck) writeFileSync(path, content);
  else if (!isSame(path, content)) stale.push(name);
}
if (stale.length > 0) {
  console.error(
    `syncd/http/static/board: ${stale.join(", ")} is not what demo/ makes: run \`npm run demo\`.`,
  );
  process.exitCode = 1;
}

function isSame(path, content) {
  try {
    return content.equals(readFileSync(path));
  } catch {
    return false;
  }
}
