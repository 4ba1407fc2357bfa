// Write docs/javascript-api.md from the types of what applications may import; --check: say whether it is as it should be.
// Run after a build: it reads dist/**/*.d.ts, which hold the comments of the source.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const target = join(root, "../../docs/javascript-api.md");
const { exports: entries } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** The beginning of a declaration, with the comment above it. */
const BEGIN =
  /^(?:\/\*\*(?:(?!\*\/)[\s\S])*\*\/\n)?export (?:declare )?(?:abstract )?(class|interface|type|function|const) ([A-Za-z_$][\w$]*)/gm;

/** Where a declaration ends: behind its last brace, or at the semicolon outside all of them. */
function endOf(text, begin, hasBody) {
  let depth = 0;
  for (let place = begin; place < text.length; place++) {
    if (text.startsWith("/*", place)) place = text.indexOf("*/", place) + 1;
    else if ("{([".includes(text[place])) depth += 1;
    else if ("})]".includes(text[place])) {
      depth -= 1;
      if (hasBody && depth === 0 && text[place] === "}") return place + 1;
    } else if (!hasBody && depth === 0 && text[place] === ";") return place + 1;
  }
  throw new Error(`A declaration has no end: ${text.slice(begin, begin + 80)}`);
}

const files = new Map();

/** The declarations of a file by name. */
function declarationsOf(path) {
  let found = files.get(path);
  if (found === undefined) {
    const text = readFileSync(path, "utf8");
    found = new Map();
    for (const match of text.matchAll(BEGIN)) {
      const [head, kind, name] = match;
      const end = endOf(text, match.index + head.length, kind === "class" || kind === "interface");
      const code = text.slice(match.index, end);
      const known = found.get(name);
      found.set(name, { kind, code: known ? `${known.code}\n${code}` : code });
    }
    files.set(path, found);
  }
  return found;
}

/** Where a name comes from: the file that declares it. */
function declared(path, name) {
  const own = declarationsOf(path).get(name);
  if (own !== undefined) return own;
  for (const [exported, original, file] of reexportsOf(path)) {
    if (exported === name) return declared(file, original);
  }
  throw new Error(`${path} does not declare ${name}.`);
}

/** What a file exports of others: the name there and here, and the file. */
function reexportsOf(path) {
  const text = readFileSync(path, "utf8");
  return [...text.matchAll(/^export (?:type )?\{([^}]*)\} from "([^"]+)";$/gm)].flatMap(([, names, from]) => {
    const file = normalize(join(dirname(path), from.replace(/\.js$/, ".d.ts")));
    return names
      .split(",")
      .map((one) => one.trim().replace(/^type /, ""))
      .filter((one) => one !== "")
      .map((one) => one.split(" as ").reverse())
      .map(([exported, original = exported]) => [exported, original, file]);
  });
}

/** A declaration as a reader wants it: without what only the compiler needs, and what only the package calls. */
function shown(code) {
  return code
    .replaceAll(/^export (?:declare )?/gm, "")
    .replaceAll(/^ {4}#private;\n/gm, "")
    .replaceAll(/^( {4})\/\*\*[^\n]*(?:; for|[.:] For|Made by) [^\n]*\*\/\n {4}constructor[^\n]*\n/gm, "")
    .replaceAll(/^ {4}/gm, "  ");
}

const ORDER = ["function", "class", "const", "interface", "type"];

function sectionOf(subpath, types) {
  const path = join(root, types);
  const names = new Set([...reexportsOf(path).map(([name]) => name), ...declarationsOf(path).keys()]);
  const parts = [...names].map((name) => ({ name, ...declared(path, name) }));
  parts.sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || (a.name < b.name ? -1 : 1));
  const title = `## syncd-client${subpath.slice(1)}`;
  const index = parts.map(({ name }) => `\`${name}\``).join(" · ");
  const bodies = parts.map(({ name, code }) => `### ${name}\n\n\`\`\`ts\n${shown(code)}\n\`\`\``);
  return [title, index, ...bodies].join("\n\n");
}

const sections = Object.entries(entries)
  .filter(([, entry]) => entry.types !== undefined)
  .map(([subpath, entry]) => sectionOf(subpath, entry.types));
const text = `# JavaScript: the API\n\nWritten by \`npm run api\` in \`clients/js\` from the package's types. [A tutorial and recipes](javascript-client.md) say what to do with it.\n\n${sections.join("\n\n")}\n`;

if (!process.argv.includes("--check")) writeFileSync(target, text);
else if (!existsSync(target) || readFileSync(target, "utf8") !== text) {
  console.error("docs/javascript-api.md is not what the types say: npm run build && npm run api");
  process.exitCode = 1;
}
