/** Files of a history that are left out for their times: where they decide nothing about the rest, and nowhere else. */
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, timestamp, utf8 } from '../../src/define/dsl.ts'
import type { Counters } from '../../src/model/counters.ts'
import type { Plan } from '../../src/model/plan.ts'
import { pruneFiles } from '../../src/offline/prune.ts'
import { hiveInterval } from '../../src/source/hive.ts'
import { checkMirror } from '../../src/source/mirror-check.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { codeOf } from '../source/support.ts'
import { BASE_MS, drawSpends, HOUR_MS, runBackfill, spendView } from './backfill-scene.ts'
import { makeFolder, mirrorLogs } from './mirror-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const at = (text: string) => Date.parse(text)

describe('directories', () => {
  it.each([
    ['ds=2026-11-20/a', '2026-11-20T00:00Z', 24],
    ['x/ds=2026-11-20/hour=03/a', '2026-11-20T03:00Z', 1],
    ['date=2026-02-28/hour=23/a', '2026-02-28T23:00Z', 1],
    ['dt=2024-02-29/a', '2024-02-29T00:00Z', 24],
    ['year=2026/month=1/day=31/hour=5/a', '2026-01-31T05:00Z', 1],
    ['year=2026/month=02/a', '2026-02-01T00:00Z', 28 * 24],
    ['year=2024/country=nl/a', '2024-01-01T00:00Z', 366 * 24],
    ['DS=2026%2D11%2D20/a', '2026-11-20T00:00Z', 24],
  ])('%s are of a time', (path, from, hours) => {
    expect(hiveInterval(path)).toEqual({ fromMs: at(from), toMs: at(from) + hours * HOUR_MS })
  })

  it.each([
    'a',
    'ds=2026-02-30/a',
    'ds=yesterday/a',
    'ds=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__/a',
    'ds=2026-11-20/hour=24/a',
    'hour=03/a',
    'year=2026/month=13/a',
    'year=2026/month=2/day=29/a',
    'x/ds=2026-11-20',
  ])('%s are of none', (path) => {
    expect(hiveInterval(path)).toBeUndefined()
  })
})

describe('files in directories', () => {
  const days = ['20', '21', '22', '23'].map((day) => `events/ds=2026-11-${day}/part-0.parquet`)

  const viewOf = (more: object) =>
    compileView(
      defineView({
        name: 'visits',
        source: { name: 'visits', columns: { who: utf8(), at: timestamp('ms'), id: utf8() } },
        entity: 'who',
        time: 'at',
        aggregations: [count({ windows: ['24h'] })],
        ...more,
      }),
    )
  const bounds = { fromMs: at('2026-11-21T05:00Z'), toMs: at('2026-11-23T00:00Z') }

  it('are left out under the policy accept, and answers are complete since then', async () => {
    const plan = await viewOf({})
    const pruned = await pruneFiles(days, bounds, [plan])
    expect(pruned).toMatchObject({ paths: days.slice(1, 3), left: 2, completeSinceMs: bounds.fromMs })
    // What ends early is complete from its beginning.
    const early = await pruneFiles(days, { toMs: bounds.toMs }, [plan])
    expect(early).toMatchObject({ paths: days.slice(0, 3), left: 1 })
    expect(early.completeSinceMs).toBeUndefined()
    const all = await pruneFiles(days, { fromMs: at('2026-11-20T23:59Z') }, [plan])
    expect(all).toMatchObject({ paths: days, left: 0 })
    expect(all.completeSinceMs).toBeUndefined()
  })

  it.each([
    [
      'late events follow from what is left out',
      { lateness: { allowed: '1h', policy: 'side_output' } },
      /policy side_output/,
    ],
    ['so do duplicates', { dedupe: { id: 'id', within: '1h' } }, /duplicates by ids/],
  ])('are not where %s', async (_why, more, message) => {
    const plan = await viewOf(more)
    await expect(pruneFiles(days, bounds, [plan])).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(message),
    })
  })

  it('are not where they would have made others too old, nor where they say nothing of their time', async () => {
    const plan = await viewOf({})
    const long = days.map((path, i) => path.replace('2026', i === 0 ? '2027' : '2026'))
    const error = { code: 'CONFIG_INVALID', message: expect.stringMatching(/older than the retention/) }
    await expect(pruneFiles(long, { toMs: at('2026-12-01T00:00Z') }, [plan])).rejects.toMatchObject(error)
    // Behind the others it has no say.
    expect((await pruneFiles([...long].reverse(), { toMs: at('2026-12-01T00:00Z') }, [plan])).left).toBe(1)
    const untold = { code: 'CONFIG_INVALID', message: expect.stringMatching(/of other\/a.parquet don't tell when/) }
    await expect(pruneFiles([...days, 'other/a.parquet'], bounds, [plan])).rejects.toMatchObject(untold)
    expect(await codeOf(() => pruneFiles(days, { fromMs: at('2027-01-01T00:00Z') }, [plan]))).toBe('CONFIG_INVALID')
    expect(await codeOf(() => pruneFiles(days, { fromMs: 5, toMs: 5 }, [plan]))).toBe('CONFIG_INVALID')
  })
})

describe('files of a mirror', () => {
  // Late events are dropped: which ones follows from all before.
  const spends = drawSpends(SEED, 1_500, 20)
  const dir = makeFolder()
  let plan: Plan
  let paths: string[]

  beforeAll(async () => {
    plan = await spendView()
    const log = spends.map(
      (spend, offset): StreamMessage => ({
        offset: `${offset}`,
        // When it came: late ones came in their turn.
        timestamp: `${BASE_MS + 6 * HOUR_MS + Math.floor((offset * 60 * HOUR_MS) / spends.length)}`,
        key: null,
        value: Buffer.from(JSON.stringify(spend)),
      }),
    )
    await mirrorLogs(dir, [plan], 'payments', [log])
    paths = (await checkMirror(dir, 'payments', 0)).map((file) => file.path)
    expect(paths.length).toBeGreaterThan(5)
  })

  async function countersOf(files: readonly string[], startClocks?: ReadonlyMap<string, number>): Promise<Counters> {
    const report = await runBackfill(createMemoryStore(), [plan], files, startClocks && { startClocks })
    return report.views[0]!.counters
  }

  it('are left out at the beginning, and the rest is judged as if they had been read', async () => {
    const fromMs = BASE_MS + 40 * HOUR_MS
    const pruned = await pruneFiles(paths, { fromMs }, [plan])
    expect(pruned).toMatchObject({ completeSinceMs: fromMs, paths: paths.slice(pruned.left) })
    expect(pruned.left).toBeGreaterThan(1)
    const whole = await countersOf(paths)
    const before = await countersOf(paths.slice(0, pruned.left))
    const rest = await countersOf(pruned.paths, pruned.startClocks)
    for (const name of ['consumed', 'applied', 'late', 'rejected'] as const) {
      expect(before[name] + rest[name], `${name}, seed ${SEED}`).toBe(whole[name])
    }
    expect(whole.late).toBeGreaterThan(0)
  })

  it('and it is the clock they left that makes the difference', async () => {
    const clockMs = BASE_MS + 500 * HOUR_MS
    const unseeded = await countersOf(paths.slice(1))
    const seeded = await countersOf(paths.slice(1), new Map([[plan.stateHash, clockMs]]))
    expect(unseeded.late).toBeLessThan(seeded.late)
    expect(seeded.applied).toBe(0)
  })

  it('are left out at the end', async () => {
    const toMs = BASE_MS + 20 * HOUR_MS
    const pruned = await pruneFiles(paths, { toMs }, [plan])
    expect(pruned.paths).toEqual(paths.slice(0, pruned.paths.length))
    expect(pruned.left).toBeGreaterThan(1)
    expect(pruned.completeSinceMs).toBeUndefined()
  })

  it('are read whole where the clock in front of them is of other views, or one of them is missing', async () => {
    const other = await spendView()
    const fromMs = BASE_MS + 40 * HOUR_MS
    const stranger = { ...other, stateHash: 'f'.repeat(16) }
    expect(await pruneFiles(paths, { fromMs }, [plan, stranger])).toMatchObject({ paths, left: 0 })
    const holed = paths.filter((_path, i) => i !== 2)
    expect(await codeOf(() => pruneFiles(holed, { fromMs }, [plan]))).toBe('CONFIG_INVALID')
    expect(await codeOf(() => pruneFiles([join(dir, 'events', 'x.parquet')], { fromMs }, [plan]))).toBe(
      'CONFIG_INVALID',
    )
  })
})
