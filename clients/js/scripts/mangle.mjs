// Give members that only the package itself knows short names in dist, the same ones in all of its modules.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { transform } from "esbuild";
import { INTERNAL_NAMES } from "./internal-names.mjs";

/** Without comments, which are in the types. */
const FORM = { target: "es2022", legalComments: "none" };

const LETTERS = "etnsiroahlcudmpfgbwkvyxzjq";
/** The most private members that one module has, and some more. */
const NUM_PRIVATE = 40;

/** Every word of a text. */
const wordsOf = (text) => text.match(/[A-Za-z_$][\w$]*/g);

/** The members that types name: at the beginning of a line, or inline. */
function membersOf(types) {
  const code = types.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
  return [...code.matchAll(/(?:^\s*|[{;] )(?:(?:readonly|get|set|static) )*([A-Za-z_$][\w$]*)[?:(<]/gm)].map(
    ([, name]) => name,
  );
}

/** Names that must stay: of the API, of messages, of what tabs tell each other, of what is stored, and words that are data. */
function reservedWords(root, codes) {
  const read = (path) => readFileSync(join(root, path), "utf8");
  const api = [...read("../../docs/javascript-api.md").matchAll(/^```ts\n([\s\S]*?)^```/gm)].map(
    ([, code]) => code,
  );
  const shared = ["wire/messages", "storage/records", "shell/pending-store"].map((name) =>
    read(`src/${name}.ts`),
  );
  const told = wordsOf("say from to term claims data code reason isRefused mutations ids areTakenBack");
  const quoted = codes.flatMap((code) => [...code.matchAll(/"([\w$]+)"/g)].map(([, word]) => word));
  return new Set([...api.flatMap(membersOf), ...shared.flatMap(membersOf), ...told, ...quoted]);
}

/** Short names that no member has, the ones most used first. */
function* shortNames(taken) {
  const names = [...LETTERS, ...[...LETTERS].flatMap((one) => [...LETTERS].map((other) => one + other))];
  for (const name of names) if (!taken.has(name)) yield name;
}

/**
 * Private members as ordinary ones with short names, and no declarations of members that constructors set: together half a
 * kilobyte. They stay private in the types. Each module may use the same names, but for one whose class extends a class of ours:
 * `names` has none of those that its object has already.
 */
function withoutPrivateNames(code, names) {
  const uses = privateUses(code);
  const byUse = [...uses.keys()].sort((one, other) => uses.get(other) - uses.get(one));
  if (byUse.length > names.length) throw new Error("A module has more private members than NUM_PRIVATE.");
  return code.replaceAll(PRIVATE, (_, name) => names[byUse.indexOf(name)]).replaceAll(DECLARATION, "");
}

/** How often a module names each of its private members. */
function privateUses(code) {
  const uses = new Map();
  for (const [, name] of code.matchAll(PRIVATE)) uses.set(name, (uses.get(name) ?? 0) + 1);
  return uses;
}

/** How many private members an object has from the classes that those of this module extend. */
function numInherited(file, codes) {
  const code = codes.get(file);
  const bases = [...code.matchAll(/\bclass \w+ extends (\w+)/g)].map(([, base]) => base);
  const from = [...code.matchAll(/^import \{([^}]*)\} from "(\.[^"]*)";$/gm)]
    .filter(([, names]) => bases.some((base) => wordsOf(names).includes(base)))
    .map(([, , path]) => join(dirname(file), path));
  return Math.max(0, ...from.map((path) => numInherited(path, codes) + privateUses(codes.get(path)).size));
}

const PRIVATE = /#([A-Za-z]\w*)/g;
/** A member of a class that has no value yet. */
const DECLARATION = /^ {2}(?!return;)\w+;\n/gm;

/** Mangle every module below dist. */
export async function mangle(root) {
  const dist = join(root, "dist");
  const files = readdirSync(dist, { recursive: true }).filter((file) => file.endsWith(".js"));
  const codes = [];
  for (const file of files) codes.push((await transform(readFileSync(join(dist, file), "utf8"), FORM)).code);
  const reserved = reservedWords(root, codes);
  const wrong = INTERNAL_NAMES.filter((name) => reserved.has(name));
  if (wrong.length > 0) throw new Error(`Not internal: ${wrong.join(", ")}. See scripts/internal-names.mjs.`);
  const all = codes.join("\n");
  const uses = new Map(
    INTERNAL_NAMES.map((name) => [name, all.split(new RegExp(`\\b${name}\\b`)).length - 1]),
  );
  const unused = INTERNAL_NAMES.filter((name) => uses.get(name) === 0);
  if (unused.length > 0) throw new Error(`No member has these names: ${unused.join(", ")}.`);
  const [privates, publics] = [[], []];
  for (const name of shortNames(new Set(wordsOf(all))))
    (privates.length < NUM_PRIVATE ? privates : publics).push(name);
  const byUse = INTERNAL_NAMES.toSorted((one, other) => uses.get(other) - uses.get(one));
  const mangleCache = Object.fromEntries(byUse.map((name, place) => [name, publics[place]]));
  const mangleProps = new RegExp(`^(${INTERNAL_NAMES.join("|")})$`);
  const codeOf = new Map(files.map((file, place) => [file, codes[place]]));
  for (const file of files) {
    const { code } = await transform(codeOf.get(file), {
      ...FORM,
      mangleProps,
      mangleCache: { ...mangleCache },
    });
    writeFileSync(join(dist, file), withoutPrivateNames(code, privates.slice(numInherited(file, codeOf))));
  }
}
