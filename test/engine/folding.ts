/** Events to stored rows with nothing but a core and a map in the place of the store: what tests of the core start from. */

import { compileView } from '../../src/define/compile.ts'
import {
  type Aggregation,
  bitAnd,
  bitOr,
  type Columns,
  count,
  type Duration,
  defineView,
  first,
  last,
  max,
  mean,
  min,
  stddevPop,
  stddevSamp,
  sum,
  timestamp,
  utf8,
  type ViewOptions,
  varPop,
  varSamp,
} from '../../src/define/dsl.ts'
import { Core } from '../../src/engine/core.ts'
import type { Merger } from '../../src/engine/merger.ts'
import type { CoreModule } from '../../src/engine/module.ts'
import type { Shares } from '../../src/engine/program.ts'
import type { ColumnBatch } from '../../src/model/columns.ts'
import { encodeKey, type KeyPart } from '../../src/model/key.ts'
import type { Plan, StatePlan } from '../../src/model/plan.ts'
import type { Answer } from '../laws/subject.ts'
import type { NaiveEvent } from '../oracle/naive.ts'
import { TIME_INPUT, toBatches } from '../support/batches.ts'
import { seededRandom } from '../support/random.ts'

export const ALONE: Shares = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 1 }

/** The wall clock of history: nothing holds the head back. */
export const FAR_MS = Number.POSITIVE_INFINITY

/** A later creation of the log than any event. */
export const NOT_AFTER_MS = Date.UTC(2100, 0, 1)

/** One log folded into rows by one instance. */
export class Folder {
  readonly core: Core
  /** What the store would hold, by the hex of the key. Behind a flush it may be exchanged. */
  rows: Map<string, Uint8Array>

  constructor(
    module: CoreModule,
    state: StatePlan,
    shares: Shares = ALONE,
    rows = new Map<string, Uint8Array>(),
    notAfterMs = NOT_AFTER_MS,
  ) {
    this.core = new Core(module, state, shares, notAfterMs)
    this.rows = rows
  }

  fold(batches: readonly ColumnBatch[], wallMs = FAR_MS): this {
    for (const batch of batches) {
      this.core.prepare(batch)
      this.core.fold(wallMs, false)
    }
    return this
  }

  /** Writes what waits into `rows`. */
  flush(chunkEntities = 512): this {
    const { core, rows } = this
    for (const chunk of core.beginFlush(chunkEntities)) {
      const keys = core.keysOf(chunk).map((key) => Buffer.from(key).toString('hex'))
      const fresh = core.writeRows(
        chunk,
        keys.map((key) => rows.get(key)),
        core.position,
      )
      for (const [i, row] of fresh.entries()) rows.set(keys[i]!, row)
    }
    core.endFlush()
    return this
  }
}

/** The events as one batch with positions from `first` on. */
export function batchOf(events: readonly NaiveEvent[], state: StatePlan, seed = 0, first = 0): ColumnBatch[] {
  const placed = events.map((event, i) => ({ ...event, position: first + i }))
  return events.length === 0 ? [] : toBatches(placed, state, seededRandom(seed))
}

/** Rows of the events, by the hex of the key. */
export function rowsOf(module: CoreModule, state: StatePlan, events: readonly NaiveEvent[]): Map<string, Uint8Array> {
  return new Folder(module, state).fold(batchOf(events, state)).flush().rows
}

/** All features of one entity from its rows. */
export function answersFrom(merger: Merger, plan: Plan, rows: readonly Uint8Array[], asOfMs: number): Answer[] {
  merger.begin(1, asOfMs)
  for (const row of rows) merger.addRow(0, row)
  merger.run()
  return answersAt(merger, plan, 0)
}

/** The features of entity `index` of the merger's last run. */
export function answersAt(merger: Merger, plan: Plan, index: number): Answer[] {
  return plan.features.map(({ name }, i) => ({ name, value: merger.value(index, i), status: merger.status(index, i) }))
}

export function hexKey(state: StatePlan, key: readonly (KeyPart | null)[]): string {
  return Buffer.from(encodeKey(state.entity, key)).toString('hex')
}

/** One event of entity `key` with the given cells. */
export function event(time: number, cells: NaiveEvent['cells'], key: readonly KeyPart[] = ['k']): NaiveEvent {
  return { position: 0, time, key, cells, keep: true }
}

type Operation = (column: string, options: { readonly windows: readonly [Duration, ...Duration[]] }) => Aggregation
const NUMERIC: readonly Operation[] = [count, sum, mean, min, max, varPop, varSamp, stddevPop, stddevSamp, first, last]
const WHOLE: readonly Operation[] = [...NUMERIC, bitOr, bitAnd]
const TEXTUAL: readonly Operation[] = [count, first, last]

function operationsOf(type: string): readonly Operation[] {
  return type === 'utf8' ? TEXTUAL : type === 'int64' ? WHOLE : NUMERIC
}

export type EveryOptions = Omit<Partial<ViewOptions>, 'aggregations' | 'source' | 'entity' | 'time'> & {
  readonly windows?: readonly [Duration, ...Duration[]]
}

/** A view by `key` with every operation over each of the columns, compiled. */
export async function planOfEverything(columns: Columns, options: EveryOptions = {}): Promise<Plan> {
  const { windows = ['12m', '1h', '1d'], ...rest } = options
  const each = { windows }
  const aggregations: Aggregation[] = [count(each)]
  for (const [name, spec] of Object.entries(columns)) {
    for (const operation of operationsOf(spec.type)) aggregations.push(operation(name, each))
  }
  return compileView(
    defineView({
      name: 'everything',
      tiles: ['1m', '5m', '1h'],
      maxFuture: '1d',
      ...rest,
      source: { name: 'events', columns: { ...columns, key: utf8(), [TIME_INPUT]: timestamp('ms') } },
      entity: 'key',
      time: TIME_INPUT,
      aggregations,
    }),
  )
}
