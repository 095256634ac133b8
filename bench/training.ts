/**
 * Claim: a training set is built several times faster than by DuckDB's best plan on as many threads, one.
 *
 * 5,000,000 events of 10,000 keys over 30 days, and rows that ask at instants spread over them for count, sum, min and max of
 * the 24 h before. Keys by Zipf as in every other claim; uniform ones beside it, which suit a join. Both sides start from
 * columns that are in memory and end with columns in memory.
 */
import {
  BIGINT,
  DOUBLE,
  type DuckDBConnection,
  DuckDBDataChunk,
  DuckDBInstance,
  INTEGER,
  VARCHAR,
} from '@duckdb/node-api'
import { compileView } from '../src/define/compile.ts'
import { count, defineView, float64, max, min, sum, timestamp, utf8 } from '../src/define/dsl.ts'
import { loadCore } from '../src/engine/module.ts'
import type { Column, ColumnBatch } from '../src/model/columns.ts'
import type { Plan } from '../src/model/plan.ts'
import type { Spine } from '../src/offline/spine.ts'
import { trainingSet } from '../src/offline/training.ts'
import type { Source } from '../src/source/port.ts'
import { Checksum } from './checksum.ts'
import { atLeast, atMost, type Claim, hold, type Settings } from './claim.ts'
import type { Contender } from './contest.ts'
import { Random } from './random.ts'
import { createKeys, createWorkload, keyColumn, keyStrings, toInt64, type Workload } from './workload.ts'

const KEYS = 10_000
const DAYS = 30
const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000
const EVENT_BATCH = 8192
const SPINE_BATCH = 16_384
const CHUNK_ROWS = 2048
/** A join that looks at more pairs than this is left out: it would take minutes. */
const PAIRS_MAX = 1e9
const WINDOWS = ['1h', '6h', '24h', '7d'] as const

export const training: Claim = {
  name: 'training',
  about: "features as of each row of a spine against DuckDB's best plan",
  async run(settings) {
    const events = settings.short ? 200_000 : 5_000_000
    const sizes = settings.short ? [5_000] : [100_000, 1_000_000]
    for (const skew of [1.1, 0]) {
      const workload = createWorkload({ rows: events, entityCount: KEYS, skew, seed: settings.seed, tiles: DAYS * 288 })
      for (const rows of sizes) await compare(workload, skew, rows, settings)
      if (skew > 0) await compareWindows(workload, sizes[0]!, settings)
    }
  },
}

interface Asked {
  readonly workload: Workload
  readonly entities: Uint32Array
  readonly times: Float64Array
  /** Pairs of a row and an event of its key. */
  readonly pairs: number
}

function askRows(workload: Workload, rows: number, seed: number): Asked {
  const random = new Random(seed ^ 0x51e9)
  const counts = new Float64Array(workload.entityCount)
  for (const entity of workload.entities) counts[entity]!++
  const entities = Uint32Array.from({ length: rows }, () => workload.entities[random.below(workload.rows)]!)
  const times = Float64Array.from({ length: rows }, () => workload.startMs + random.below(DAYS * 86_400) * 1000 + 500)
  return { workload, entities, times, pairs: entities.reduce((total, entity) => total + counts[entity]!, 0) }
}

async function compare(workload: Workload, skew: number, rows: number, settings: Settings): Promise<void> {
  const asked = askRows(workload, rows, settings.seed)
  await hold(
    {
      claim: 'training',
      title: `${rows.toLocaleString('en-US')} rows, ${skew > 0 ? `Zipf ${skew}` : 'uniform'} keys`,
      unit: 'row',
      subject: tilefold('tilefold', await planOf(['24h']), asked),
      peers: [{ contender: await duckdb(asked), target: atLeast(rows > 100_000 ? 8 : 4) }],
    },
    { ...settings, turns: { all: settings.turns.slow, slow: settings.turns.slow } },
  )
}

async function compareWindows(workload: Workload, rows: number, settings: Settings): Promise<void> {
  const asked = askRows(workload, rows, settings.seed)
  const one = tilefold('one window', await planOf(['24h']), asked)
  await hold(
    {
      claim: 'training',
      title: `${rows.toLocaleString('en-US')} rows, four windows`,
      unit: 'row',
      subject: tilefold('four windows', await planOf(WINDOWS), asked),
      peers: [{ contender: one, target: atMost(1.6), uncompared: true }],
    },
    { ...settings, turns: { all: settings.turns.slow, slow: settings.turns.slow } },
  )
}

function planOf(windows: readonly (typeof WINDOWS)[number][]): Promise<Plan> {
  return compileView(
    defineView({
      name: 'bench',
      source: { name: 'events', columns: { key: utf8(), time: timestamp('ms'), value: float64() } },
      entity: 'key',
      time: 'time',
      aggregations: [
        count({ windows }),
        sum('value', { windows }),
        min('value', { windows }),
        max('value', { windows }),
      ],
    }),
  )
}

// ---- tilefold --------------------------------------------------------------------------------------------------------

function tilefold(name: string, plan: Plan, { workload, entities, times }: Asked): Contender {
  const keys = createKeys(KEYS)
  const history = batchesOf(
    workload.rows,
    EVENT_BATCH,
    keyColumn(keys, workload.entities),
    workload.times,
    workload.values,
  )
  const rows = batchesOf(entities.length, SPINE_BATCH, keyColumn(keys, entities), times)
  const source: Source = {
    log: 'events',
    async *read() {
      for (const batch of history) {
        const rowsDone = (batch.positions as number) + batch.length
        yield { batch, origin: 'memory', rowsDone, rowsTotal: workload.rows }
      }
    },
    rowsTotal: async () => workload.rows,
  }
  const spine: Spine = {
    name: 'the spine',
    fields: rows[0]!.columns.map((column) => ({ name: column.name, sourceType: column.type, physical: column.type })),
    rowsTotal: entities.length,
    async *read() {
      yield* rows
    },
  }
  return {
    name,
    async round() {
      const start = process.hrtime.bigint()
      const set = trainingSet({
        spine,
        time: 'time',
        views: [{ plan }],
        events: { events: source },
        clock: () => workload.startMs + 2 * DAYS * DAY_MS,
        memoryBytes: 4 * 2 ** 30,
        core: loadCore(),
      })
      const built: ColumnBatch[] = []
      for await (const batch of set.read()) built.push(batch)
      const ns = Number(process.hrtime.bigint() - start)
      return { ns, ops: entities.length, checksum: checksumOf(built, plan) }
    },
  }
}

function batchesOf(
  rows: number,
  size: number,
  keys: { offsets: Int32Array; bytes: Uint8Array },
  times: Float64Array,
  values?: Float64Array,
): ColumnBatch[] {
  const instants = new Uint8Array(toInt64(times).buffer)
  const batches: ColumnBatch[] = []
  for (let start = 0; start < rows; start += size) {
    const length = Math.min(size, rows - start)
    const cells = (bytes: Uint8Array) => bytes.subarray(start * 8, (start + length) * 8)
    const columns: Column[] = [
      { name: 'key', type: 'utf8', values: keys.bytes, offsets: keys.offsets.subarray(start, start + length + 1) },
      { name: 'time', type: 'int64', values: cells(instants) },
    ]
    if (values) columns.push({ name: 'value', type: 'float64', values: cells(new Uint8Array(values.buffer)) })
    batches.push({ length, columns, positions: start })
  }
  return batches
}

/** Of the first window's count, sum, min and max. */
function checksumOf(batches: readonly ColumnBatch[], plan: Plan): string {
  const checksum = new Checksum()
  const names = ['count', 'value_sum', 'value_min', 'value_max'].map((name) => `${plan.view}__${name}_24h`)
  let id = 0
  for (const { columns, length } of batches) {
    const [counts, ...others] = names.map((name) => columns.find((column) => column.name === name)!)
    const whole = new BigInt64Array(counts!.values.buffer)
    const doubles = others.map(({ values }) => new Float64Array(values.buffer))
    for (let row = 0; row < length; row++) {
      checksum.word(id++).word(Number(whole[row]))
      for (const cells of doubles) checksum.double(whole[row] === 0n ? 0 : cells[row]!)
      checksum.end()
    }
  }
  return checksum.toString()
}

// ---- DuckDB ----------------------------------------------------------------------------------------------------------

/** Start of a window of 24 h as of `t`: floored to the hour, as ours is. */
const START = (t: string) => `((${t} - ${DAY_MS}) // ${HOUR_MS} * ${HOUR_MS})`

const PLANS = {
  'range join': `SELECT s.id, count(e.value) AS n, sum(e.value) AS total, min(e.value) AS low, max(e.value) AS high
    FROM spine s LEFT JOIN events e ON e.key = s.key AND e.time >= ${START('s.time')} AND e.time < s.time GROUP BY s.id`,
  'window RANGE': `SELECT * FROM (
    SELECT id, count(value) OVER w AS n, sum(value) OVER w AS total, min(value) OVER w AS low, max(value) OVER w AS high
    FROM (SELECT NULL AS id, key, time, value, 0 AS back FROM events
      UNION ALL SELECT id, key, time, NULL, time - ${START('time')} FROM spine)
    WINDOW w AS (PARTITION BY key ORDER BY time RANGE BETWEEN back PRECEDING AND 1 PRECEDING)) WHERE id IS NOT NULL`,
  // An ASOF join finds one row: prefix sums make it count and add, but nothing makes it the least or the greatest.
}

/** The fastest of its plans, found out in the round that does not count. Sums are plain doubles; the values are dyadic. */
async function duckdb(asked: Asked): Promise<Contender> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' })
  const connection = await instance.connect()
  await fill(connection, asked)
  const tried = Object.entries(PLANS).filter(([name]) => name !== 'range join' || asked.pairs <= PAIRS_MAX)
  let best: { name: string; query: string; totals: string; checksum: string } | undefined
  const run = async (query: string) => {
    const start = process.hrtime.bigint()
    const result = await connection.run(`SELECT count(*), sum(n), sum(total), min(low), max(high) FROM (${query})`)
    const totals = String((await result.getRows())[0])
    return { ns: Number(process.hrtime.bigint() - start), totals }
  }
  const contender = {
    name: 'DuckDB, its best plan',
    async round() {
      if (best === undefined) {
        let fastest = Number.POSITIVE_INFINITY
        for (const [name, query] of tried) {
          const { ns, totals } = await run(query)
          if (ns >= fastest) continue
          fastest = ns
          best = { name, query, totals, checksum: '' }
        }
        best!.checksum = await duckChecksum(connection, best!.query)
        contender.name = `DuckDB, ${best!.name} (best of ${tried.map(([name]) => name).join(', ')})`
      }
      const { ns, totals } = await run(best!.query)
      if (totals !== best!.totals) throw new Error(`DuckDB got ${totals}, and ${best!.totals} the round before`)
      return { ns, ops: asked.entities.length, checksum: best!.checksum }
    },
    close: () => {
      connection.closeSync()
      instance.closeSync()
    },
  }
  return contender
}

async function fill(connection: DuckDBConnection, { workload, entities, times }: Asked): Promise<void> {
  const keys = keyStrings(createKeys(KEYS))
  await connection.run('CREATE TABLE events (key VARCHAR, time BIGINT, value DOUBLE)')
  await connection.run('CREATE TABLE spine (id INTEGER, key VARCHAR, time BIGINT)')
  const events = [workload.entities, toInt64(workload.times), workload.values] as const
  await append(connection, 'events', workload.rows, [
    { type: VARCHAR, at: (row) => keys[events[0][row]!]! },
    { type: BIGINT, at: (row) => events[1][row]! },
    { type: DOUBLE, at: (row) => events[2][row]! },
  ])
  const instants = toInt64(times)
  await append(connection, 'spine', entities.length, [
    { type: INTEGER, at: (row) => row },
    { type: VARCHAR, at: (row) => keys[entities[row]!]! },
    { type: BIGINT, at: (row) => instants[row]! },
  ])
}

type Cells = {
  readonly type: typeof VARCHAR | typeof BIGINT | typeof DOUBLE | typeof INTEGER
  at(row: number): string | bigint | number
}

async function append(
  connection: DuckDBConnection,
  table: string,
  rows: number,
  columns: readonly Cells[],
): Promise<void> {
  const appender = await connection.createAppender(table)
  for (let start = 0; start < rows; start += CHUNK_ROWS) {
    const end = Math.min(start + CHUNK_ROWS, rows)
    const chunk = DuckDBDataChunk.create(
      columns.map(({ type }) => type),
      end - start,
    )
    for (const [i, column] of columns.entries()) {
      const vector = chunk.getColumnVector(i)
      for (let row = start; row < end; row++) vector.setItem(row - start, column.at(row))
      vector.flush()
    }
    appender.appendDataChunk(chunk)
  }
  appender.closeSync()
}

async function duckChecksum(connection: DuckDBConnection, query: string): Promise<string> {
  const checksum = new Checksum()
  const result = await connection.stream(query)
  for (let chunk = await result.fetchChunk(); chunk && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
    const [ids, counts, ...others] = chunk.getColumns() as (number | bigint | null)[][]
    for (let row = 0; row < chunk.rowCount; row++) {
      checksum.word(Number(ids![row])).word(Number(counts![row]))
      for (const cells of others) checksum.double(Number(cells[row] ?? 0))
      checksum.end()
    }
  }
  return checksum.toString()
}
