/** What a dry run says, held against what the backfill then does. */
import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { dryRun, entitiesAmong } from '../../src/cli/backfill-dry-run.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { clock, drawSpends, historyRows, runBackfill, spendView, writeSpends } from '../offline/backfill-scene.ts'
import { ordersFolder } from '../support/cli-orders.ts'
import { seededRandom } from '../support/random.ts'
import { cli, errorOf, makeOrders, toLines, writeIn } from './harness.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)

interface Told {
  readonly from: string
  readonly rows: number
  readonly seconds: number
  readonly views: readonly { readonly entities: number; readonly tiles: number; readonly bytes: number }[]
}

describe('tilefold backfill --dry-run', () => {
  const { folder, definitions, newStore } = ordersFolder()

  it('is exact where it folds all rows, and touches no store', async () => {
    const file = writeIn(folder, 'orders.ndjson', toLines(makeOrders(900)))
    const store = newStore()
    const args = ['backfill', file, '-f', definitions, '--store', store, '--threads', '0', '-o', 'json']
    const { code, stdout, stderr } = await cli([...args, '--dry-run'])
    expect(code, stderr).toBe(0)
    expect(existsSync(store)).toBe(false)
    const told = JSON.parse(stdout) as Told
    expect(told).toMatchObject({ dry_run: true, from: 'measured', rows: 900, views: [{ entities: 3, applied: 900 }] })
    expect(told.seconds).toBeGreaterThan(0)

    expect((await cli(args)).code).toBe(0)
    const written = createLmdbStore({ path: store, readOnly: true })
    const lanes = await written.listLanes('shop')
    await written.close()
    expect(lanes.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(told.views[0]!.bytes)
    expect(lanes.reduce((sum, { rows }) => sum + rows, 0)).toBe(3)
  })

  it('prints the same for people', async () => {
    const file = writeIn(folder, 'few.ndjson', toLines(makeOrders(50)))
    const { stdout } = await cli(['backfill', file, '-f', definitions, '--dry-run'])
    expect(stdout).toMatch(/^50 rows in 1 files of .* \(all of them folded\); nothing is stored\./)
    expect(stdout).toMatch(/orders_by_customer +50 +3 /)
  })

  it('says what is wrong with files as the backfill would', async () => {
    const file = writeIn(folder, 'none.ndjson', '')
    const outcome = await cli(['backfill', file, '-f', definitions, '--dry-run', '-o', 'json'])
    expect(errorOf(outcome)).toMatchObject({ code: 'SOURCE_NOT_FOUND' })
  })

  it('comes near from a sample of a tenth', async () => {
    const spends = drawSpends(SEED, 60_000, 4_000)
    const path = writeSpends(spends, 8_000)
    const plan = await spendView()
    const files = { format: 'parquet' as const, paths: [path] }
    const told = await dryRun({
      files,
      plans: [plan],
      source: { inputs: plan.state.inputs },
      threads: 1,
      clock,
      sampleRows: 6_000,
    })
    const store = createMemoryStore()
    const report = await runBackfill(store, [plan], path, { historyLanes: 1 })
    const rows = await historyRows(store, plan)
    const [view] = told.views
    expect(told).toMatchObject({ isWhole: false, rows: spends.length })
    const near = (value: number, expected: number, within: number) => {
      expect(value, `seed ${SEED}`).toBeGreaterThan(expected * (1 - within))
      expect(value, `seed ${SEED}`).toBeLessThan(expected * (1 + within))
    }
    near(view!.entities, rows.size, 0.1)
    near(view!.applied, report.views[0]!.counters.applied, 0.05)
    near(view!.bytes, report.views[0]!.written.bytes, 0.3)
  })

  it.each([100, 3_000, 50_000])('knows about how many of %s equally frequent entities are in the rest', (entities) => {
    const random = seededRandom(SEED)
    const events = new Map<number, number>()
    const all = new Set<number>()
    for (let i = 0; i < 200_000; i++) {
      const entity = random.below(entities)
      if (i < 20_000) events.set(entity, (events.get(entity) ?? 0) + 1)
      all.add(entity)
    }
    const told = entitiesAmong(200_000, [...events.values()])
    expect(Math.abs(told / all.size - 1)).toBeLessThan(0.05)
  })
})
