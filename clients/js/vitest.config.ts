import { defineConfig } from "vitest/config";

export default defineConfig({
  esbuild: { jsx: "automatic" },
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    environment: "node", // files of test/react name their own
    testTimeout: 10_000,
    restoreMocks: true,
  },
});
