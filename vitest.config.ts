import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // One more than two cores: about half of the time is spent waiting for brokers, sessions and dead processes.
    maxWorkers: 3,
    // One line per file; failures in full.
    reporters: ['default'],
  },
})
