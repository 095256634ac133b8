#!/usr/bin/env node
/** The `tilefold` command: a process around `runCli`. */
import { runCli } from './program.ts'
import { processTerminal } from './terminal.ts'

// Whoever reads us may stop reading (`tilefold get … | head`): that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

void runCli(process.argv.slice(2), processTerminal()).then((exitCode) => {
  // Not process.exit: what is written to a pipe must arrive, and worker threads end in their own time.
  process.exitCode = exitCode
})
