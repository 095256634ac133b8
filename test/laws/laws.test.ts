import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { CORE_BUILDS, loadCore } from '../../src/engine/module.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { eachSeed, patience } from '../fuzz/effort.ts'
import type { CaseOptions } from '../support/cases.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { ingestSubjects } from './ingest-subject.ts'
import { checkLaws } from './laws.ts'
import type { LawReport } from './run.ts'

const FILE = 'test/laws/laws.test.ts'

/** Every fifth case is large, every fourth is said as a definition and compiled. */
function optionsFor(seed: number): CaseOptions {
  return { ...(seed % 5 !== 0 && { count: 40 }), ...(seed % 4 === 0 && { slackMs: 60_000 }) }
}

describe.each(CORE_BUILDS)('the walk over the %s core', (build) => {
  const core = loadCore(build)

  async function check(seed: number, makeStore: (random: Random) => Store): Promise<LawReport> {
    const random = seededRandom(seed ^ 0x5eed)
    return checkLaws(ingestSubjects({ core, store: () => makeStore(random), random }), seed, optionsFor(seed))
  }

  it(
    'obeys every law, and answers as the oracle does',
    async () => {
      const reports: LawReport[] = []
      // Small writes, so that a flush has many calls to die in.
      const makeStore = (random: Random) => createMemoryStore({ writeBytesMax: random.pick([200, 4_096, 65_536]) })
      const seeds = await eachSeed(FILE, build !== 'debug' ? 0 : 1_000_000, 25, async (seed) => {
        reports.push(await check(seed, makeStore))
      })
      // Something was compared: the plain script and five laws for each seed at least.
      const sum = (of: (report: LawReport) => number) => reports.reduce((total, report) => total + of(report), 0)
      expect(sum((report) => report.scripts)).toBeGreaterThanOrEqual(seeds * 6)
      expect(sum((report) => report.valuesCompared)).toBeGreaterThan(seeds * 50)
      expect(sum((report) => report.rowsCompared)).toBeGreaterThan(0)
    },
    patience(30_000),
  )

  it(
    'obeys them on disk',
    async () => {
      const directory = mkdtempSync(join(tmpdir(), 'tilefold-laws-'))
      try {
        let stores = 0
        const makeStore = () => createLmdbStore({ path: join(directory, `${stores++}`), mapSizeBytes: 64 << 20 })
        await eachSeed(FILE, 2_000_000, 3, async (seed) => {
          await check(seed, makeStore)
        })
      } finally {
        rmSync(directory, { recursive: true, force: true })
      }
    },
    patience(10_000),
  )
})
