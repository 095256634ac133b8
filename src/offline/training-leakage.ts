/**
 * Does the future leak into a training set? Rows are drawn, and built a second time from a history in which everything that
 * their entities did at or after their instant is removed or moved about. Not one value may change.
 *
 * What is drawn is one row per entity, so that one pass over the events serves all rows: each entity has a future of its own.
 * Which events count is decided by the log as it was; the check is about when they happened.
 */
import { type Answers, AskedRows, AsOf, type Keys, NOBODY } from '../engine/asof.ts'
import { loadCore } from '../engine/module.ts'
import type { ColumnBatch } from '../model/columns.ts'
import type { Plan, StatePlan } from '../model/plan.ts'
import { askedState, FOR_EVER_MS, narrowPlan } from './spine-plan.ts'
import { SPINE_TIME, type TrainingOptions } from './training.ts'

export interface LeakageOptions extends TrainingOptions {
  /** Rows that are drawn for each view; 1,000 unless told. */
  readonly sample?: number
  readonly seed?: number
}

export interface LeakageReport {
  readonly seed: number
  readonly views: readonly {
    readonly view: string
    /** Rows that were built twice. */
    readonly rows: number
    /** Events at or after their row's instant. */
    readonly removed: number
    readonly moved: number
    /** Features whose value changed, by the row's number in the spine. */
    readonly leaks: readonly { readonly row: number; readonly feature: string }[]
  }[]
}

const SAMPLE = 1000

/** Throws what building a training set throws. */
export async function checkLeakage(options: LeakageOptions): Promise<LeakageReport> {
  const seed = options.seed ?? 1
  const views: LeakageReport['views'][number][] = []
  for (const { plan: whole, features } of options.views) {
    views.push(await checkView(options, narrowPlan(whole, features), randomOf(seed)))
  }
  return { seed, views }
}

interface Drawn {
  readonly row: number
  readonly entity: number
  readonly asOfMs: number
}

async function checkView(options: LeakageOptions, plan: Plan, random: () => number) {
  const core = options.core ?? loadCore()
  const { drawn, keys } = await drawRows(options, plan, random)
  const actual = new AsOf(core, plan, options.clock())
  const twin = new AsOf(core, { ...plan, state: takesEverything(plan.state) }, options.clock())
  actual.ask(keys)
  twin.ask(keys)
  let removed = 0
  let moved = 0
  const time = timeColumn(plan.state)
  for await (const { batch } of options.events[plan.state.source]!.read(0)) {
    options.signal?.throwIfAborted()
    actual.hold(batch)
    const { entities, asOfs: times } = actual.numberedRows(batch.length)
    const other = new BigInt64Array(batch.length).fill(-1n)
    for (let row = 0; row < batch.length; row++) {
      const asked = drawn[entities[row]!]
      if (asked === undefined) continue
      if (times[row]! < asked.asOfMs) other[row] = BigInt(times[row]!)
      else if (random() < 0.5) removed++
      else {
        // Anywhere behind the instant, most often close to it.
        other[row] = BigInt(asked.asOfMs + Math.floor(random() ** 8 * 1e9))
        moved++
      }
    }
    twin.hold(retimed(batch, time, other))
  }
  actual.order()
  twin.order()
  const entities = Uint32Array.from(drawn, (_, i) => i)
  const asOfs = Float64Array.from(drawn, (each) => each.asOfMs)
  const leaks = differences(plan, drawn, actual.answer(entities, asOfs), twin.answer(entities, asOfs))
  return { view: plan.view, rows: drawn.length, removed, moved, leaks }
}

/** Some rows of different entities, each row as likely as the next of its entity's; keys in the order of the rows. */
async function drawRows(
  { core, spine, time = SPINE_TIME, sample = SAMPLE }: LeakageOptions,
  plan: Plan,
  random: () => number,
): Promise<{ drawn: Drawn[]; keys: Keys }> {
  const asked = new AskedRows(core ?? loadCore(), askedState(plan.state.entity, time))
  const byEntity = new Map<number, Drawn>()
  let first = 0
  for await (const batch of spine.read(askedState(plan.state.entity, time).inputs)) {
    const { entities, asOfs } = asked.read(batch)
    for (let row = 0; row < batch.length; row++) {
      const entity = entities[row]!
      if (entity === NOBODY) continue
      const isKnown = byEntity.has(entity)
      if (isKnown ? random() < 0.5 : byEntity.size < 16 * sample) {
        byEntity.set(entity, { row: first + row, entity, asOfMs: asOfs[row]! })
      }
    }
    first += batch.length
  }
  const drawn = [...byEntity.values()]
  for (let i = drawn.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[drawn[i], drawn[j]] = [drawn[j]!, drawn[i]!]
  }
  drawn.length = Math.min(drawn.length, sample)
  return { drawn, keys: chosenKeys(asked.keys(), drawn) }
}

function chosenKeys({ offsets, bytes }: Keys, drawn: readonly Drawn[]): Keys {
  const parts = drawn.map(({ entity }) => bytes.subarray(offsets[entity]!, offsets[entity + 1]!))
  const ends = new Uint32Array(drawn.length + 1)
  for (const [i, part] of parts.entries()) ends[i + 1] = ends[i]! + part.length
  return { count: drawn.length, offsets: ends, bytes: new Uint8Array(Buffer.concat(parts)) }
}

/** The verdicts are taken already: whatever has a time is taken. */
function takesEverything(state: StatePlan): StatePlan {
  return {
    ...state,
    registers: { ...state.registers, filter: -1 },
    dedupe: undefined,
    retentionMs: FOR_EVER_MS,
    lateness: { allowedMs: FOR_EVER_MS, policy: 'accept' },
    maxFutureMs: FOR_EVER_MS,
  }
}

/** The event time's column: its expression is a name, quoted where SQL needs it. */
function timeColumn({ expressions: { time } }: StatePlan): string {
  return time.startsWith('"') ? time.slice(1, -1).replaceAll('""', '"') : time
}

/** The batch with other event times; -1 is none, and the event is rejected. */
function retimed(batch: ColumnBatch, name: string, timesMs: BigInt64Array): ColumnBatch {
  const values = new Uint8Array(timesMs.buffer)
  const columns = batch.columns.map((column) =>
    column.name === name ? ({ name, type: 'int64', unit: 'ms', values } as const) : column,
  )
  return { ...batch, columns, recordTimes: undefined }
}

function differences(plan: Plan, drawn: readonly Drawn[], a: Answers, b: Answers) {
  const leaks: { row: number; feature: string }[] = []
  for (let cell = 0; cell < a.statuses.length; cell++) {
    const feature = plan.features[cell % plan.features.length]!
    const isText = feature.op !== 'count' && feature.type === 'utf8'
    const value = isText ? textOf : cellOf
    if (a.statuses[cell] === b.statuses[cell] && value(a, cell).equals(value(b, cell))) continue
    leaks.push({ row: drawn[Math.floor(cell / plan.features.length)]!.row, feature: feature.name })
  }
  return leaks
}

function cellOf({ values }: Answers, cell: number): Buffer {
  return Buffer.from(values.buffer, values.byteOffset + cell * 16, 16)
}

function textOf(answers: Answers, cell: number): Buffer {
  if (answers.statuses[cell] !== 0) return Buffer.alloc(0)
  const place = cellOf(answers, cell)
  const start = place.readUInt32LE(0)
  return Buffer.from(answers.text.subarray(start, start + place.readUInt32LE(4)))
}

/** Mulberry32: a seed gives the same rows again. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
