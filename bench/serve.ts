/**
 * Claim: answering 100 entities × 4 windows in process costs little more than reading their 100 rows from LMDB.
 *
 * Rows of 10,000 entities, about 60 tiles each, are backfilled into an LMDB store; requests ask 100 random entities for five
 * aggregates over four windows, one after the other, through the same reader as the server. The bare arm has the same rows
 * in an LMDB environment of its own and only gets them, 100 keys a request. Latencies are taken request by request; in each
 * turn both arms answer the same entities.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { open } from 'lmdb'
import { loadCore } from '../src/engine/module.ts'
import { IngestPool } from '../src/ingest/pool.ts'
import { sliceBatch } from '../src/model/columns.ts'
import type { Plan } from '../src/model/plan.ts'
import { historyLane } from '../src/model/view-layout.ts'
import { backfill } from '../src/offline/backfill.ts'
import { createFeatureReader, type FeatureReader } from '../src/serve/reader.ts'
import type { Source } from '../src/source/port.ts'
import { createLmdbStore } from '../src/store/lmdb.ts'
import type { Store } from '../src/store/port.ts'
import { mergeTiles, type StoredTile } from './baseline.ts'
import { addAggregates, Checksum } from './checksum.ts'
import type { Claim, Settings } from './claim.ts'
import { judge, type Row, timesRow } from './contest.ts'
import { columnBatchOf } from './engine-fold.ts'
import { BATCH_ROWS, valuePlan } from './engine-plan.ts'
import { Random } from './random.ts'
import { AS_OF_MS, createTileWorkload, storedTiles, type TileWorkload, WINDOWS_MS } from './tiles.ts'
import { createKeys, keyStrings, type Workload } from './workload.ts'

export const NAMESPACE = 'bench'
export const ENTITIES_PER_REQUEST = 100
export const LANES = 4

export const serve: Claim = {
  name: 'serve',
  about: '100 entities × 4 windows from LMDB in process against the bare read of 100 rows',
  async run(settings) {
    const entityCount = settings.short ? 500 : 10_000
    const requests = settings.short ? 50 : 500
    const path = await mkdtemp(join(tmpdir(), 'tilefold-bench-'))
    const store = createLmdbStore({ path: join(path, 'store') })
    const bare = open<Buffer, Buffer>({ path: join(path, 'bare'), encoding: 'binary', keyEncoding: 'binary' })
    try {
      const workload = createTileWorkload(entityCount, 1, settings.seed)
      const plan = await valuePlan({ windows: ['1h', '24h', '7d', '27d'], tiles: ['5m', '1h', '1d'] })
      await fillStore(store, plan, workload)
      const bytes = await copyRows(store, plan, bare)
      settings.note(`\n${entityCount} rows, ${Math.round(bytes / entityCount)} bytes each on average`)
      const reader = createFeatureReader({ store, namespace: NAMESPACE, plans: [plan], core: loadCore(), clock })
      await reader.checkReady()
      const keys = keyStrings(createKeys(entityCount))
      await checkAnswers(reader, keys, workload)
      settings.emit(await timeRequests(reader, bare, keys, requests, settings))
    } finally {
      await bare.close()
      await store.close()
      await rm(path, { recursive: true, force: true })
    }
  },
}

function clock(): number {
  return AS_OF_MS
}

export async function fillStore(store: Store, plan: Plan, { entityCount, events }: TileWorkload): Promise<void> {
  const rows = events.times.length
  const workload: Workload = { name: '', seed: 0, rows, entityCount, startMs: 0, tiles: 0, ...events }
  const batch = columnBatchOf(workload)
  const source: Source = {
    log: 'events',
    async *read(from) {
      for (let start = from; start < rows; start += BATCH_ROWS) {
        const slice = sliceBatch(batch, start, Math.min(start + BATCH_ROWS, rows))
        yield { batch: slice, origin: 'bench', rowsDone: start + slice.length, rowsTotal: rows }
      }
    },
    rowsTotal: async () => rows,
  }
  const pool = new IngestPool({ threads: 0, store, clock, core: loadCore() })
  await backfill({ seat: { store, namespace: NAMESPACE }, plans: [plan], source, pool, clock, historyLanes: LANES })
  await pool.close()
}

/** Puts every row under its entity's key into the bare environment; returns their bytes. */
async function copyRows(store: Store, plan: Plan, bare: ReturnType<typeof open<Buffer, Buffer>>): Promise<number> {
  let total = 0
  for (let lane = 0; lane < LANES; lane++) {
    const name = { namespace: NAMESPACE, stateHash: plan.stateHash, generation: 1, lane: historyLane(lane) }
    for await (const { key, bytes } of store.scanRows(name)) {
      bare.put(Buffer.from(key), Buffer.from(bytes))
      total += bytes.length
    }
  }
  await bare.flushed
  return total
}

/** Every entity's answer against aggregates that are computed from the tiles by plain JavaScript. */
export async function checkAnswers(
  reader: FeatureReader,
  keys: readonly string[],
  workload: TileWorkload,
): Promise<void> {
  const starts = WINDOWS_MS.map((lengthMs) => AS_OF_MS - lengthMs)
  const [got, wanted] = [new Checksum(), new Checksum()]
  for (let first = 0; first < keys.length; first += ENTITIES_PER_REQUEST) {
    const asked = keys.slice(first, first + ENTITIES_PER_REQUEST)
    const answer = await reader.getFeatures({ view: 'bench', entities: asked.map((key) => ({ key })), asOf: AS_OF_MS })
    for (const [i, { values }] of answer.rows.entries()) {
      const tiles: StoredTile[] = storedTiles(workload, first + i)
      for (const [window, aggregates] of mergeTiles(tiles, starts).entries()) {
        // Features stand aggregation by aggregation, window by window.
        const [count, sum, min, max, last] = [0, 1, 2, 3, 4].map((j) => Number(values[j * starts.length + window]))
        addAggregates(got, window, first + i, { count: count!, sum: sum!, min: min!, max: max!, last: last! })
        addAggregates(wanted, window, first + i, aggregates)
      }
    }
  }
  if (got.toString() !== wanted.toString()) throw new Error(`cannot time serving: got ${got}, expected ${wanted}`)
}

async function timeRequests(
  reader: FeatureReader,
  bare: ReturnType<typeof open<Buffer, Buffer>>,
  keys: readonly string[],
  requests: number,
  settings: Settings,
): Promise<Row[]> {
  const random = new Random(settings.seed)
  const keyBytes = keys.map((key) => Buffer.from(key, 'latin1'))
  const p50s = { ours: [] as number[], bare: [] as number[] }
  const p99s = { ours: [] as number[], bare: [] as number[] }
  let seen = 0
  // The first turn warms up.
  for (let turn = 0; turn <= settings.turns.all; turn++) {
    const asked = Array.from({ length: requests }, () =>
      Array.from({ length: ENTITIES_PER_REQUEST }, () => random.below(keys.length)),
    )
    const ours: number[] = []
    const theirs: number[] = []
    const askOurs = async () => {
      for (const entities of asked) {
        const query = { view: 'bench', entities: entities.map((entity) => ({ key: keys[entity]! })), asOf: AS_OF_MS }
        const start = process.hrtime.bigint()
        const answer = await reader.getFeatures(query)
        ours.push(Number(process.hrtime.bigint() - start))
        seen += answer.rows.length
      }
    }
    const askBare = () => {
      for (const entities of asked) {
        const start = process.hrtime.bigint()
        for (const entity of entities) seen += bare.getBinaryFast(keyBytes[entity]!)!.length > 0 ? 1 : 0
        theirs.push(Number(process.hrtime.bigint() - start))
        // As our store does after a request: the next one reads what has been committed since.
        bare.resetReadTxn()
      }
    }
    if (turn % 2 === 0) {
      await askOurs()
      askBare()
    } else {
      askBare()
      await askOurs()
    }
    if (turn === 0) continue
    for (const [into, quantile] of [
      [p50s, 0.5],
      [p99s, 0.99],
    ] as const) {
      into.ours.push(quantileOf(ours, quantile))
      into.bare.push(quantileOf(theirs, quantile))
    }
  }
  if (seen !== 2 * requests * ENTITIES_PER_REQUEST * (settings.turns.all + 1)) throw new Error(`saw ${seen} rows`)

  const title = `100 of ${keys.length} entities, 4 windows, 5 aggregates, in process; ${requests} requests a round`
  const contest = { claim: 'serve', title, unit: 'request' }
  const pair = (name: string, times: typeof p50s, limit: number): Row[] => [
    timesRow(contest, `tilefold, LMDB, ${name}`, times.ours),
    {
      ...timesRow(contest, `bare read of 100 keys, ${name}`, times.bare),
      ...judge(
        times.ours.map((ns, turn) => ns / times.bare[turn]!),
        'cost',
        { kind: 'cost', limit },
      ),
    },
  ]
  return [...pair('p50', p50s, 2), ...pair('p99', p99s, 3)]
}

export function quantileOf(values: readonly number[], quantile: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * quantile))]!
}
