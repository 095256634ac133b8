/**
 * PARITY: is what the store holds what its log says?
 *
 *   layout -> lanes of each log -> marker, then sampled rows           parity-stored.ts
 *                                  mirror or files -> the walk again   parity-replay.ts   up to each row's own position
 *                                  -> bytes, at one frontier           parity-rows.ts
 *   all lanes of an entity         -> values as of an instant          parity-values.ts
 *
 * Each lane is held against its own log, so an entity that lies in several is compared row by row. What was asked to be
 * forgotten isn't compared: which of its events a tombstone took with it depends on when the owner came to it.
 *
 * Memory: the sampled rows, once from the store and once from the log. Where they would take more than `memoryBytes` the sample is
 * halved, and the log is read once for each half.
 */
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import type { GenerationLayout, ViewLayout } from '../model/view-layout.ts'
import { forgottenBefore } from '../registry/erase.ts'
import type { LayoutSeat } from '../registry/layouts.ts'
import type { LaneName } from '../store/port.ts'
import { findLogs, type ParityFiles, type ParityLog } from './parity-logs.ts'
import { replaySample } from './parity-replay.ts'
import { type FieldDifference, RowComparer, type RowVerdict } from './parity-rows.ts'
import { halvesOf, isSampled, type Sample, sampleOf, sampleOfOne } from './parity-sample.ts'
import { laneFor, readStored, type StoredLanes } from './parity-stored.ts'
import { ValueComparer, type ValueDifference } from './parity-values.ts'

export interface RunOptions {
  readonly seat: LayoutSeat
  readonly plan: Plan
  /** Directory of the mirror; without it only history is compared. */
  readonly mirror?: string
  /** Topic of each kind of events, where it isn't named like it. */
  readonly topics?: ReadonlyMap<string, string>
  /** The files that history was folded from. */
  readonly history?: ParityFiles
  /** One key in about so many; all of them unless told. */
  readonly sample?: { readonly of: number; readonly index: number }
  /** Only this entity. */
  readonly key?: Uint8Array
  /** The one that is served unless told. */
  readonly generation?: number
  /** For values. */
  readonly asOfMs: number
  /** 256 MiB unless told. */
  readonly memoryBytes?: number
  readonly onFinding?: (finding: Finding) => void
  readonly onRecords?: (recordsDone: number) => void
  readonly signal?: AbortSignal
}

/** A row, or the values of an entity, that are not what they should be. */
export interface Finding {
  readonly verdict: Exclude<RowVerdict, 'equal'>
  readonly key: Uint8Array
  /** Absent where every row is right and the values are not. */
  readonly lane?: string
  /** Up to here the log was read for it. */
  readonly position?: number
  readonly error?: TilefoldError
  /** Both rows at one frontier. */
  readonly stored?: Uint8Array
  readonly recomputed?: Uint8Array
  readonly fields: readonly FieldDifference[]
  readonly values: readonly ValueDifference[]
}

export interface RunReport {
  readonly view: string
  readonly stateHash: string
  readonly generation: number
  /** Rows. */
  readonly compared: number
  readonly equal: number
  readonly mismatched: number
  readonly missing: number
  readonly extra: number
  /** Entities whose values were compared. */
  readonly entities: number
  /** Rows of entities that were asked to be forgotten. */
  readonly forgotten: number
  /** Rows that are further than the mirror. */
  readonly ahead: number
  /** Of the log, in all passes. */
  readonly records: number
  /** Lanes that neither mirror nor files were given for. */
  readonly unchecked: readonly string[]
}

const MEMORY_BYTES = 256 << 20

/** The newest events of rows in one entity's lanes, of both sides. */
interface Sides {
  readonly stored: Uint8Array[]
  readonly recomputed: Uint8Array[]
  isWhole: boolean
  readonly findings: Finding[]
  readonly key: Uint8Array
}

/** Throws LAYOUT_MISSING, VIEW_NOT_READY, SOURCE_*, MIRROR_INVALID, COLUMN_*, STORE_UNAVAILABLE. */
export async function runParity(options: RunOptions): Promise<RunReport> {
  const generation = await findGeneration(options)
  const { logs, unchecked } = await findLogs(options, generation)
  const job = new Parity(options, generation)
  const lanes = logs.map((log) => log.lanes.length)
  const { of = 1, index = 0 } = options.sample ?? {}
  const waiting = [options.key ? sampleOfOne(options.key) : sampleOf(of, index, lanes)]
  for (let sample = waiting.shift(); sample && !options.signal?.aborted; sample = waiting.shift()) {
    if (!(await job.pass(sample, logs))) waiting.unshift(...halvesOf(sample))
  }
  return { ...job.report(), unchecked }
}

class Parity {
  readonly #options: RunOptions
  readonly #generation: GenerationLayout
  readonly #rows: RowComparer
  readonly #values: ValueComparer
  readonly #counts = { compared: 0, equal: 0, mismatched: 0, missing: 0, extra: 0 }
  #entities = 0
  #forgotten = 0
  #ahead = 0
  #records = 0

  constructor(options: RunOptions, generation: GenerationLayout) {
    this.#options = options
    this.#generation = generation
    this.#rows = new RowComparer(options.plan.state)
    this.#values = new ValueComparer(options.plan)
  }

  report(): Omit<RunReport, 'unchecked'> {
    const { stateHash, generation } = this.#generation
    const { view } = this.#options.plan
    const [entities, forgotten, ahead, records] = [this.#entities, this.#forgotten, this.#ahead, this.#records]
    return { view, stateHash, generation, ...this.#counts, entities, forgotten, ahead, records }
  }

  /** False where the sample's rows are too many to be held. */
  async pass(sample: Sample, logs: readonly ParityLog[]): Promise<boolean> {
    const { seat, plan, memoryBytes = MEMORY_BYTES } = this.#options
    const { stateHash, generation } = this.#generation
    const name: Omit<LaneName, 'lane'> = { namespace: seat.namespace, stateHash, generation }
    const looks: StoredLanes[] = []
    // Once from the store, once from the log, and the log's once more while they are taken.
    let left = memoryBytes / 3
    for (const log of logs) {
      // One entity is what it is.
      const room = sample.key ? Number.POSITIVE_INFINITY : left
      const look = await readStored(seat.store, name, log.lanes, sample, room)
      if (look === undefined) return false
      for (const { bytes } of look.rows.values()) left -= bytes.length
      looks.push(look)
    }
    // Behind the rows: whoever was erased before they were read is in it.
    const forgotten = await forgottenBefore(seat, plan)
    const sides = new Map<string, Sides>()
    for (const [i, log] of logs.entries()) await this.#log(log, looks[i]!, sample, forgotten, sides)
    this.#close(sides)
    return true
  }

  async #log(
    log: ParityLog,
    { markers, rows, strays }: StoredLanes,
    sample: Sample,
    forgotten: ReadonlyMap<string, number>,
    sides: Map<string, Sides>,
  ): Promise<void> {
    const base = new Map([...markers].map(([lane, marker]) => [lane, Math.min(marker, log.end)]))
    const positionOf = (key: Uint8Array, hex: string) => {
      const reached = base.get(laneFor(log.lanes, key))!
      return Math.max(reached, rows.get(hex)?.applied ?? -1)
    }
    const positions = new Set(base.values())
    for (const [hex, { key }] of rows) positions.add(positionOf(key, hex))
    const {
      records,
      watermarkMs,
      rows: recomputed,
    } = await replaySample({
      plan: this.#options.plan,
      source: log.source,
      sample,
      notAfterMs: log.notAfterMs,
      takes: log.takes,
      completeSinceMs: this.#generation.completeSinceMs ?? 0,
      start: log.start,
      positionOf,
      positions: [...positions].filter((position) => position <= log.end).sort((a, b) => a - b),
      ...(this.#options.signal && { signal: this.#options.signal }),
    })
    this.#records += records
    this.#options.onRecords?.(this.#records)
    // An interrupted replay says nothing of what comes behind.
    if (this.#options.signal?.aborted) return
    const { head } = this.#options.plan.state
    const frontierMs = Math.max(0, watermarkMs - head.lengthMs)
    for (const hex of new Set([...rows.keys(), ...recomputed.keys()])) {
      const key = Buffer.from(hex, 'hex')
      if (!isSampled(sample, key)) continue
      const stored = rows.get(hex)
      if (forgotten.has(hex)) {
        this.#forgotten++
        continue
      }
      const own = sidesOf(sides, hex, key)
      const position = positionOf(key, hex)
      if (position > log.end) {
        this.#ahead++
        own.isWhole = false
        continue
      }
      const fresh = recomputed.get(hex)
      // A row that is there says itself how far its frontier is; of one that isn't, the log does.
      const { verdict, ...rest } = this.#rows.compare(stored?.bytes, fresh, stored && fresh ? 0 : frontierMs)
      this.#counts.compared++
      this.#counts[verdict]++
      if (stored) own.stored.push(stored.bytes)
      if (fresh) own.recomputed.push(fresh)
      if (verdict === 'equal') continue
      const lane = laneFor(log.lanes, key)
      own.findings.push({ verdict, key, lane, position, ...rest, values: [] })
    }
    for (const [hex, { key, lane, bytes, applied }] of strays) {
      if (forgotten.has(hex)) continue
      const { verdict, ...rest } = this.#rows.compare(bytes, undefined, 0)
      this.#counts.compared++
      this.#counts[verdict]++
      if (verdict === 'equal') continue
      sidesOf(sides, hex, key).findings.push({ verdict, key, lane, position: applied, ...rest, values: [] })
    }
  }

  /** Values of the entities whose rows are all here, then what was found. */
  #close(sides: ReadonlyMap<string, Sides>): void {
    const { asOfMs, onFinding } = this.#options
    for (const { key, stored, recomputed, isWhole, findings } of sides.values()) {
      const isReadable = findings.every(({ error }) => error === undefined)
      const values = isWhole && isReadable ? this.#values.compare(stored, recomputed, asOfMs) : []
      if (isWhole) this.#entities++
      if (findings.length === 0 && values.length > 0) {
        // The row that was right and the one that is wrong are counted as one.
        this.#counts.equal--
        this.#counts.mismatched++
        findings.push({ verdict: 'mismatched', key, fields: [], values: [] })
      }
      for (const finding of findings) onFinding?.({ ...finding, values })
    }
  }
}

function sidesOf(sides: Map<string, Sides>, hex: string, key: Uint8Array): Sides {
  const known = sides.get(hex)
  if (known) return known
  const fresh: Sides = { stored: [], recomputed: [], isWhole: true, findings: [], key }
  sides.set(hex, fresh)
  return fresh
}

async function findGeneration({ seat, plan, generation }: RunOptions): Promise<GenerationLayout> {
  const text = await seat.store.readLayout(seat.namespace, plan.view)
  if (text === undefined) {
    const cause = 'the store holds nothing of it yet'
    throw new TilefoldError('LAYOUT_MISSING', `cannot compare view ${plan.view}: ${cause}`, { view: plan.view })
  }
  const { generations, current } = JSON.parse(text) as ViewLayout
  const own = generations.filter(({ stateHash }) => stateHash === plan.stateHash)
  const served = current?.stateHash === plan.stateHash ? current.generation : undefined
  const wanted = generation ?? served ?? Math.max(...own.map((each) => each.generation))
  const found = own.find((each) => each.generation === wanted)
  if (found) return found
  const numbers = own.map((each) => each.generation).join(', ') || 'none'
  throw new TilefoldError(
    own.length === 0 ? 'DEFINITION_CHANGED' : 'LAYOUT_MISSING',
    `cannot compare view ${plan.view}: its state ${plan.stateHash} has no such generation; got ${generation ?? 'none'}, expected one of ${numbers}`,
    { view: plan.view },
  )
}
