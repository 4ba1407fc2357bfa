import { runInNewContext } from "node:vm";
import { build } from "esbuild";
import { describe, expect, it } from "vitest";

/** The code of an entry point as one script, with its exports in the variable `made`. */
async function bundled(entry: string): Promise<string> {
  const result = await build({
    entryPoints: [new URL(`../src/${entry}`, import.meta.url).pathname],
    bundle: true,
    write: false,
    format: "iife",
    globalName: "made",
    target: "es2022",
    define: { "process.env.NODE_ENV": '"production"' },
  });
  return result.outputFiles[0]?.text ?? "";
}

describe("the package", () => {
  it.each([
    "index.ts",
    "channels/index.ts",
    "testing/index.ts",
    "rebuild/index.ts",
    "mutations/index.ts",
    "react/mutations/index.ts",
    "storage/index.ts",
    "tabs/index.ts",
    "wire/codes.ts",
    "react/index.ts",
    "tanstack-query/index.ts",
  ])("imports %s where there is nothing but the language", async (entry) => {
    const code = await bundled(entry);
    const names = runInNewContext(`${code}; Object.keys(made)`, Object.create(null)) as string[];
    expect(names.length).toBeGreaterThan(0);
  });

  it("touches nothing of a browser when it is imported", async () => {
    const touched: PropertyKey[] = [];
    const names = ["window", "document", "navigator", "WebSocket", "crypto", "localStorage", "indexedDB"];
    const realm = Object.create(null) as object;
    for (const name of [...names, "performance", "setTimeout", "queueMicrotask", "BroadcastChannel"]) {
      Object.defineProperty(realm, name, { get: () => touched.push(name) });
    }
    for (const entry of ["index.ts", "channels/index.ts", "react/index.ts"])
      runInNewContext(await bundled(entry), realm);
    expect(touched).toEqual([]);
  });

  it.each(["index.ts", "channels/index.ts"])(
    "says at once that there is no WebSocket, and what to do, with %s",
    async (entry) => {
      const code = await bundled(entry);
      const make = () => runInNewContext(`${code}; made.createClient({url: "/ws"})`, Object.create(null));
      expect(make).toThrow(/environment\.WebSocket/);
    },
  );
});
