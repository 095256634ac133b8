/** What tests of backfills share: a view, files of its events, and every row a history holds. */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import { IngestPool, type PoolOptions } from '../../src/ingest/pool.ts'
import type { Plan } from '../../src/model/plan.ts'
import { historyLane, type ViewLayout } from '../../src/model/view-layout.ts'
import { type BackfillOptions, backfill } from '../../src/offline/backfill.ts'
import { createParquetSource } from '../../src/source/parquet.ts'
import type { Store } from '../../src/store/port.ts'
import { seededRandom } from '../support/random.ts'
import { makeFolder } from './mirror-scene.ts'

export const BASE_MS = Date.UTC(2026, 0, 1)
export const HOUR_MS = 3_600_000
/** Behind every event. */
export const clock = () => BASE_MS + 1000 * HOUR_MS

export interface Spend {
  /** Null: rejected. */
  readonly card: string | null
  readonly at: number
  readonly amount: number
}

export function spendView(name = 'spend'): Promise<Plan> {
  return compileView(
    defineView({
      name,
      source: { name: 'payments', columns: { card: utf8(), at: timestamp('ms'), amount: float64() } },
      entity: 'card',
      time: 'at',
      // Not order-free: every row has to be judged by whoever folds some of them.
      lateness: { allowed: '2h', policy: 'drop' },
      aggregations: [count({ windows: ['1h', '24h'] }), sum('amount', { windows: ['24h'] })],
    }),
  )
}

/** Some hours of events, a few of them late, a few without a key. */
export function drawSpends(seed: number, rows: number, cards: number): Spend[] {
  const random = seededRandom(seed)
  return Array.from({ length: rows }, (_, i) => {
    const lateMs = random.chance(0.05) ? random.below(5 * HOUR_MS) : 0
    return {
      card: random.chance(0.01) ? null : `card-${random.below(cards)}`,
      at: BASE_MS + Math.floor((i * 60 * HOUR_MS) / rows) + 6 * HOUR_MS - lateMs,
      amount: random.below(1000) / 7,
    }
  })
}

/** As Parquet of several row groups. */
export function writeSpends(rows: readonly Spend[], rowGroupSize: number, path = join(makeFolder(), 'spend.parquet')) {
  const columnData = [
    { name: 'card', data: rows.map((row) => row.card), type: 'STRING' as const, nullable: true },
    { name: 'at', data: rows.map((row) => BigInt(row.at)), type: 'INT64' as const },
    { name: 'amount', data: rows.map((row) => row.amount), type: 'DOUBLE' as const },
  ]
  writeFileSync(path, new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize })))
  return path
}

export interface RunOptions extends Partial<Omit<BackfillOptions, 'plans' | 'pool' | 'source'>> {
  readonly batchRows?: number
  readonly pool?: Partial<PoolOptions>
}

/** One call of a backfill over a file, with a pool of its own. */
export async function runBackfill(
  store: Store,
  plans: readonly Plan[],
  path: string | readonly string[],
  options: RunOptions = {},
) {
  const { batchRows = 256, pool: poolOptions, ...rest } = options
  const pool = new IngestPool({ threads: 0, store, clock, ...poolOptions })
  const { inputs } = plans[0]!.state
  try {
    return await backfill({
      seat: { store, namespace: 'history' },
      plans,
      source: createParquetSource({ log: 'files', paths: [path].flat(), inputs, batchRows }),
      pool,
      clock,
      ...rest,
    })
  } finally {
    await pool.close()
  }
}

export async function layoutOf(store: Store, plan: Plan, namespace = 'history'): Promise<ViewLayout | undefined> {
  const text = await store.readLayout(namespace, plan.view)
  return text === undefined ? undefined : (JSON.parse(text) as ViewLayout)
}

/** A hash of every row's normalised bytes, by lane and key. */
export async function historyRows(store: Store, plan: Plan, namespace = 'history'): Promise<Map<string, string>> {
  const layout = await layoutOf(store, plan, namespace)
  const generation = layout!.generations.find((each) => each.stateHash === plan.stateHash)!
  const normaliser = new RowNormaliser(loadCore(), plan.state)
  const rows = new Map<string, string>()
  for (let lane = 0; lane < generation.history.lanes; lane++) {
    const { stateHash } = plan
    const name = { namespace, stateHash, generation: generation.generation, lane: historyLane(lane) }
    for await (const { key, bytes } of store.scanRows(name)) {
      const normal = normaliser.normalise([Uint8Array.from(bytes)], BASE_MS + 80 * HOUR_MS)
      rows.set(`${lane} ${Buffer.from(key).toString('latin1')}`, createHash('sha1').update(normal).digest('hex'))
    }
  }
  return rows
}
