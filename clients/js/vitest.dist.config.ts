import { defineConfig, mergeConfig } from "vitest/config";
import base from "./vitest.config.ts";

/** Tests that look at members which have other names in dist, or that do not touch it. */
const OF_SRC = [
  "{channels,codec,connection,docs,link,package,requests,tables,tokens,too-big,traces,trouble}",
  "entries/{confirmed,traces}",
  "tabs/foreign",
  "node/*",
  "simulation/bugs",
];

/** What applications see, tested as they get it: all imports of src by tests are of dist. Run a build before. */
export default mergeConfig(
  base,
  defineConfig({
    plugins: [
      {
        name: "dist-for-src",
        enforce: "pre",
        resolveId(source, importer) {
          const path = /^(?:\.\.\/)+src\/(.+)\.ts$/.exec(source)?.[1];
          if (path === undefined || !importer?.includes("/test/")) return undefined;
          return new URL(`dist/${path}.js`, import.meta.url).pathname;
        },
      },
    ],
    test: {
      exclude: OF_SRC.map((name) => `test/${name}.test.ts`),
      env: { SYNCD_SIM_SEEDS: "30" },
    },
  }),
);
