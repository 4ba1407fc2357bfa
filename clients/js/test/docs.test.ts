/** The code of docs/javascript-client.md compiles. */

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
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
