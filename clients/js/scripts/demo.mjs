// Bundle demo/ and admin/ to the pages that the server has of them; with --check, fail when what is committed is something else.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const isCheck = process.argv.includes("--check");

const at = (path) => new URL(`../${path}`, import.meta.url);

async function bundled(path, options = {}) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(at(path))],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    ...options,
  });
  return Buffer.from(outputFiles[0].contents);
}

/** What the dashboard has of others, and under which terms. */
function licenses(...packages) {
  const texts = packages.map(
    (name) => `${name}\n\n${readFileSync(at(`node_modules/${name}/LICENSE`), "utf8")}`,
  );
  return Buffer.from(texts.join("\n----\n\n"));
}

const jsx = { jsx: "automatic", jsxImportSource: "preact" };
const pages = {
  board: {
    "board.js": await bundled("demo/main.ts"),
    "board.css": readFileSync(at("demo/board.css")),
    "index.html": readFileSync(at("demo/index.html")),
  },
  admin: {
    "admin.js": await bundled("admin/main.tsx", jsx),
    "admin.css": await bundled("admin/admin.css"),
    "index.html": readFileSync(at("admin/index.html")),
    "licenses.txt": licenses("preact", "uplot"),
  },
};

for (const [name, files] of Object.entries(pages)) {
  const target = new URL(`../../../syncd/http/static/${name}/`, import.meta.url);
  mkdirSync(target, { recursive: true });
  const stale = [];
  for (const [file, content] of Object.entries(files)) {
    const path = new URL(file, target);
    if (!isCheck) writeFileSync(path, content);
    else if (!isSame(path, content)) stale.push(file);
  }
  if (stale.length > 0) {
    console.error(
      `syncd/http/static/${name}: ${stale.join(", ")} is not what clients/js makes: run \`npm run demo\`.`,
    );
    process.exitCode = 1;
  }
}

function isSame(path, content) {
  try {
    return content.equals(readFileSync(path));
  } catch {
    return false;
  }
}
