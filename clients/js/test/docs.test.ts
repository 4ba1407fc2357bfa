/** The code of docs/javascript-client.md compiles, and the page names all that can be imported. */

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
// @ts-expect-error scripts have no types
import { writeDocsCode } from "../scripts/docs-code.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

const options = {
  target: "ES2022",
  module: "ESNext",
  moduleResolution: "bundler",
  lib: ["ES2022", "DOM", "DOM.Iterable"],
  jsx: "react-jsx",
  strict: true,
  noUnusedLocals: true,
  skipLibCheck: true,
  noEmit: true,
  types: [],
  paths: {
    "syncd-client": [`${root}src/index.ts`],
    "syncd-client/*": [`${root}src/*/index.ts`],
  },
};

it("compiles the code of the JavaScript page", { timeout: 60_000 }, () => {
  const folder = `${root}node_modules/.cache/docs/`;
  const files = writeDocsCode(folder) as string[];
  expect(files.length).toBeGreaterThan(8);
  writeFileSync(`${folder}tsconfig.json`, JSON.stringify({ compilerOptions: options, files }));
  try {
    execFileSync(process.execPath, [`${root}node_modules/typescript/bin/tsc`, "-p", folder]);
  } catch (error) {
    throw new Error(String((error as { stdout?: unknown }).stdout ?? error));
  }
});

it("lists every entry point on the JavaScript page", () => {
  const page = readFileSync(`${root}../../docs/javascript-client.md`, "utf8");
  const { exports: entries } = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as {
    exports: Record<string, unknown>;
  };
  const names = Object.keys(entries)
    .filter((entry) => entry !== "./package.json")
    .map((entry) => entry.replace(/^\./, "syncd-client"));
  expect([...page.matchAll(/^\| `(syncd-client\S*)` \|/gm)].map(([, name]) => name).sort()).toEqual(
    names.sort(),
  );
});
