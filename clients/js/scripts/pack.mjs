// Look at what `npm pack` would publish, after a build: all that may be imported, the license and the README, and nothing else.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = new URL("..", import.meta.url);
const textOf = (path) => readFileSync(new URL(path, root), "utf8");

const packed = execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: fileURLToPath(root) });
const [{ files }] = JSON.parse(packed);
const paths = new Set(files.map(({ path }) => path));
const { exports: entries } = JSON.parse(textOf("package.json"));

/** The files that an entry of `exports` names, without the `./`. */
const targetsOf = (entry) =>
  typeof entry === "string" ? [entry.slice(2)] : Object.values(entry).flatMap(targetsOf);
const needed = ["LICENSE", "README.md", ...Object.values(entries).flatMap(targetsOf)];
const isExpected = (path) => needed.includes(path) || /^dist\/.+(\.d\.ts|\.js)$/.test(path);

const faults = [
  ...needed.filter((path) => !paths.has(path)).map((path) => `${path} is missing.`),
  ...[...paths].filter((path) => !isExpected(path)).map((path) => `${path} does not belong there.`),
  // Beside the package there is nothing that they could lead to.
  ...(textOf("README.md").match(/\]\(\.[^)]*\)/g) ?? []).map((link) => `README.md has the link ${link}`),
];
if (paths.has("LICENSE") && textOf("LICENSE") !== textOf("../../LICENSE")) {
  faults.push("LICENSE is not that of the repository.");
}

for (const fault of faults) console.error(fault);
console.log(`${paths.size} files, ${faults.length} faults in the package`);
process.exitCode = faults.length === 0 ? 0 : 1;
