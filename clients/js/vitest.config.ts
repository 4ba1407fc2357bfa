import { defineConfig } from "vitest/config";

export default defineConfig({
  esbuild: { jsx: "automatic" },
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    environment: "node", // files of test/react name their own
    testTimeout: 10_000,
    maxWorkers: "100%", // of the cores; by itself it leaves one idle
    minWorkers: 1,
    restoreMocks: true,
  },
});
