import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Brokers, Redis and workers as processes want their share of two cores beside: with three, deadlines of tests were missed.
    maxWorkers: 2,
    // One line per file; failures in full.
    reporters: ['default'],
  },
})
