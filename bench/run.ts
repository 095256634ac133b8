/**
 * `npm run bench`: measures what the README claims, on this machine, now.
 *
 *   npm run bench                        every claim
 *   npm run bench -- fold merge          some of them
 *   npm run bench -- --short             small inputs, few turns: does it all run and agree?
 *   npm run bench -- --json result.json  the rows as JSON beside the table
 *
 * Fails when contenders disagree on a result; a target that is not reached is reported, not an error.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { backfill } from './backfill.ts'
import type { Claim, Settings } from './claim.ts'
import { compact } from './compact.ts'
import type { Row } from './contest.ts'
import { fold } from './fold.ts'
import { keys } from './keys.ts'
import { memory } from './memory.ts'
import { merge } from './merge.ts'
import { parquet } from './parquet.ts'
import { redis } from './redis-serve.ts'
import { describeMachine, formatContest, formatSummary, type Report } from './report.ts'
import { route } from './route.ts'
import { serve } from './serve.ts'
import { stream } from './stream.ts'
import { training } from './training.ts'
import { workers } from './workers.ts'

const CLAIMS: readonly Claim[] = [
  fold,
  keys,
  compact,
  merge,
  backfill,
  parquet,
  workers,
  memory,
  serve,
  redis,
  stream,
  route,
  training,
]

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    short: { type: 'boolean', default: false },
    json: { type: 'string' },
    seed: { type: 'string', default: '1' },
    turns: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})

if (options.help) {
  console.log('usage: npm run bench -- [claim …] [--short] [--seed N] [--turns N] [--json FILE]\n')
  for (const claim of CLAIMS) console.log(`  ${claim.name.padEnd(10)}${claim.about}`)
} else {
  await main()
  // Clients of servers that were killed on purpose would keep the process until they give up.
  process.exit()
}

async function main(): Promise<void> {
  const seed = wholeNumber('--seed', options.seed)
  const all = options.turns === undefined ? (options.short ? 2 : 15) : wholeNumber('--turns', options.turns)
  const chosen = chooseClaims()
  console.log(`seed ${seed}${options.short ? ', short' : ''}`)

  const rows: Row[] = []
  const settings: Settings = {
    short: options.short,
    seed,
    turns: { all, slow: Math.min(all, options.short ? 1 : 3) },
    note: (line) => console.log(line),
    emit: (more) => {
      rows.push(...more)
      console.log(formatContest(more))
    },
  }
  for (const claim of chosen) await claim.run(settings)

  const report: Report = { seed, short: options.short, machine: describeMachine(), rows }
  console.log(formatSummary(rows))
  console.log(Object.values(report.machine).join(' · '))
  if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`)
}

function chooseClaims(): readonly Claim[] {
  const unknown = positionals.find((name) => !CLAIMS.some((claim) => claim.name === name))
  if (unknown !== undefined) {
    fail(`cannot run claim ${JSON.stringify(unknown)}: expected ${CLAIMS.map((claim) => claim.name).join(', ')}`)
  }
  return positionals.length === 0 ? CLAIMS : CLAIMS.filter((claim) => positionals.includes(claim.name))
}

function wholeNumber(option: string, text: string): number {
  if (!/^\d{1,9}$/.test(text) || (option === '--turns' && Number(text) === 0)) {
    fail(`cannot read ${option}: got ${JSON.stringify(text)}, expected a whole number`)
  }
  return Number(text)
}

function fail(message: string): never {
  console.error(message)
  process.exit(2)
}
