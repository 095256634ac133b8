/**
 * One core instance that answers as of many instants: first the keys that are asked about, then events in log order, then
 * rows of (entity, instant). Synchronous; after an error with code CORE_TRAP or CORE_MEMORY it is dead.
 */
import {
  STATUS_EMPTY,
  STATUS_OVERFLOW,
  STATUS_UNKNOWN,
  VERDICT_APPLIED,
  VERDICT_DUPLICATE,
  VERDICT_EXPIRED,
  VERDICT_FILTERED,
  VERDICT_LATE,
  VERDICT_REJECTED_FUTURE,
  VERDICT_REJECTED_KEY,
  VERDICT_REJECTED_TIME,
} from '../../assembly/layout.ts'
import type { ColumnBatch } from '../model/columns.ts'
import type { Plan, StatePlan } from '../model/plan.ts'
import { columnsFor, writeBatch } from './batch.ts'
import { type CoreExports, type CoreModule, trapError } from './module.ts'
import { featureProgram, stateProgram } from './program.ts'

/** Number of a row that asks about nothing: its key or its instant is not usable. */
export const NOBODY = 0xffff_ffff

const SHARES = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }

/** Keys as offsets and bytes, the first offset 0. */
export interface Keys {
  readonly count: number
  readonly offsets: Uint32Array
  readonly bytes: Uint8Array
}

/**
 * Answers to `count` rows, row by row and in it feature by feature. A value takes 16 bytes: a double, an int64, a bool as
 * u32, a decimal's 128 bits, or (offset, length) of its text.
 */
export interface Answers {
  readonly count: number
  /** One byte per value: `isValue` and `isVoid` read it. */
  readonly statuses: Uint8Array
  readonly values: Uint8Array
  readonly text: Uint8Array
}

export function isValue(status: number): boolean {
  return status === 0
}

/** The window holds nothing, or the entity was never met: a count is 0, the rest is the feature's default. */
export function isVoid(status: number): boolean {
  return status === STATUS_EMPTY || status === STATUS_UNKNOWN
}

export function isUnknown(status: number): boolean {
  return status === STATUS_UNKNOWN
}

export function isOverflow(status: number): boolean {
  return status === STATUS_OVERFLOW
}

/** How the records of a log ended, as they would have live. */
export interface Outcomes {
  readonly consumed: number
  readonly applied: number
  readonly duplicate: number
  readonly late: number
  readonly expired: number
  readonly filtered: number
  readonly rejected: number
}

class Instance {
  protected readonly exports: CoreExports

  constructor(core: CoreModule, state: StatePlan) {
    this.exports = core.instantiate()
    this.configure(stateProgram(state, SHARES), (at) => this.exports.configure(at))
  }

  protected configure(program: Uint8Array, take: (at: number) => void): void {
    this.run('configure the core', () => take(this.put(program)))
  }

  protected run<T>(doing: string, body: () => T): T {
    try {
      return body()
    } catch (cause) {
      throw trapError(this.exports, doing, cause)
    }
  }

  /** Copies bytes to the start of the input region. */
  protected put(bytes: Uint8Array): number {
    const at = this.exports.reserveInput(bytes.length, 0) >>> 0
    new Uint8Array(this.exports.memory.buffer).set(bytes, at)
    return at
  }

  protected prepare(state: StatePlan, batch: ColumnBatch, notAfterMs: number): void {
    const columns = columnsFor(state.inputs, batch)
    this.run('read a batch', () => {
      const written = writeBatch(this.exports, columns, batch)
      const first = typeof batch.positions === 'number' ? batch.positions : 0
      this.exports.prepareBatch(
        written.columns,
        batch.length,
        first,
        written.positions,
        written.recordTimes,
        notAfterMs,
      )
    })
  }

  /** Entity number (NOBODY where it was not accepted) and time of each row of the batch that was prepared last. */
  numberedRows(n: number): NumberedRows {
    const at = this.run('read rows', () => this.exports.asofRows(n)) >>> 0
    const { buffer } = this.exports.memory
    return { asOfs: new Float64Array(buffer, at, n).slice(), entities: new Uint32Array(buffer, at + 8 * n, n).slice() }
  }
}

/** Entity number and instant of rows; copies. */
export interface NumberedRows {
  readonly entities: Uint32Array
  readonly asOfs: Float64Array
}

/** Rows of (entity, instant): numbers its entities in the order they are met. The plan is one of keys and an instant. */
export class AskedRows extends Instance {
  readonly #state: StatePlan
  #position = 0

  constructor(core: CoreModule, state: StatePlan) {
    super(core, state)
    this.#state = state
  }

  /** Entity number (NOBODY where key or instant is not usable) and instant of each row; copies. May be read repeatedly. */
  read(batch: ColumnBatch): NumberedRows {
    this.prepare(this.#state, { ...batch, positions: this.#position, recordTimes: undefined }, Number.MAX_SAFE_INTEGER)
    this.#position += batch.length
    return this.numberedRows(batch.length)
  }

  get entityCount(): number {
    return this.exports.entityCount()
  }

  /** The keys of all entities met so far, by number. */
  keys(): Keys {
    const count = this.entityCount
    const view = new DataView(this.exports.memory.buffer)
    const offsets = new Uint32Array(count + 1)
    const records = new Uint32Array(count)
    for (let i = 0; i < count; i++) {
      records[i] = this.exports.entityKey(i)
      offsets[i + 1] = offsets[i]! + view.getUint32(records[i]!, true)
    }
    const memory = new Uint8Array(this.exports.memory.buffer)
    const bytes = new Uint8Array(offsets[count]!)
    for (let i = 0; i < count; i++) {
      const length = offsets[i + 1]! - offsets[i]!
      bytes.set(memory.subarray(records[i]! + 8, records[i]! + 8 + length), offsets[i]!)
    }
    return { count, offsets, bytes }
  }
}

/** Entities met besides those asked about, after which all keys are forgotten and named again. */
const STRANGERS_MAX = 1 << 20

export class AsOf extends Instance {
  readonly plan: Plan
  readonly #notAfterMs: number
  readonly #keys: Keys[] = []
  #asked = 0
  readonly #hasText: boolean

  constructor(core: CoreModule, plan: Plan, notAfterMs: number) {
    super(core, plan.state)
    this.plan = plan
    this.#notAfterMs = notAfterMs
    this.#hasText = plan.features.some((feature) => feature.op !== 'count' && feature.type === 'utf8')
    this.configure(featureProgram(plan), (at) => this.exports.configureFeatures(at))
  }

  /** Adds keys to those asked about, numbered on; before the first event. */
  ask(keys: Keys): void {
    this.#keys.push(keys)
    this.#asked += keys.count
    this.#name(keys)
  }

  #name({ count, offsets, bytes }: Keys): void {
    this.run('take up keys', () => {
      const at = this.exports.reserveInput(offsets.byteLength + bytes.length, 0) >>> 0
      new Uint32Array(this.exports.memory.buffer, at, offsets.length).set(offsets)
      new Uint8Array(this.exports.memory.buffer).set(bytes, at + offsets.byteLength)
      this.exports.asofKeys(at + offsets.byteLength, at, count)
    })
  }

  /** Rows that will be asked about, all of them or none, before the first event: what no window of theirs holds isn't held. */
  cover({ entities, asOfs }: NumberedRows): void {
    this.run('note rows', () => {
      const at = this.#putRows(entities, asOfs)
      this.exports.asofCover(entities.length, at + entities.length * 8, at)
    })
  }

  /** Instants, then entity numbers, at the start of the input region. */
  #putRows(entities: Uint32Array, asOfs: Float64Array): number {
    const count = entities.length
    const at = this.exports.reserveInput(count * 12, 0) >>> 0
    new Float64Array(this.exports.memory.buffer, at, count).set(asOfs)
    new Uint32Array(this.exports.memory.buffer, at + count * 8, count).set(entities)
    return at
  }

  /** Room for so many events, which need not be copied then as they grow; less than 4 GiB of them. */
  reserve(events: number): void {
    this.run('make room for events', () => this.exports.asofReserve(events))
  }

  /** Bytes of a held event, its text aside. */
  get eventBytes(): number {
    const { columns, id } = this.plan.state
    return 16 + columns.reduce((sum, { type }) => sum + (type === 'decimal' ? 16 : 8), id ? 8 : 0)
  }

  /** Judges a batch, as live, and holds what was accepted of entities that are asked about; returns the bytes held. */
  hold(batch: ColumnBatch): number {
    if (this.exports.entityCount() > this.#asked + STRANGERS_MAX) {
      this.run('forget entities', () => this.exports.asofForget())
      for (const keys of this.#keys) this.#name(keys)
    }
    this.prepare(this.plan.state, batch, this.#notAfterMs)
    return this.run('hold a batch', () => this.exports.asofHold()) >>> 0
  }

  /** Held events of entities ≡ part (mod parts) as bytes for `load`; a copy. */
  spill(part: number, parts: number): Uint8Array {
    const bytes = this.run('write events', () => this.exports.asofSpill(part, parts)) >>> 0
    const at = this.exports.outputAddress() >>> 0
    return new Uint8Array(this.exports.memory.buffer).slice(at, at + bytes)
  }

  load(bytes: Uint8Array): void {
    this.run('load events', () => this.exports.asofLoad(this.put(bytes)))
  }

  /** Holds nothing any more. */
  clear(): void {
    this.exports.asofClear()
  }

  /** Everything is held: answers may be asked for. */
  order(): void {
    this.run('put events in order', () => {
      while (this.exports.asofOrder() === 0);
    })
  }

  /** Answers to the rows, good until the next call of any method. Every entity is one asked about. */
  answer(entities: Uint32Array, asOfs: Float64Array): Answers {
    const count = entities.length
    const cells = count * this.plan.features.length
    this.run('answer as of', () => {
      const at = this.#putRows(entities, asOfs)
      this.exports.asofAnswer(count, at + count * 8, at)
    })
    const memory = new Uint8Array(this.exports.memory.buffer)
    const statusesAt = this.exports.statuses() >>> 0
    const valuesAt = this.exports.values() >>> 0
    const statuses = memory.subarray(statusesAt, statusesAt + cells)
    const values = memory.subarray(valuesAt, valuesAt + cells * 16)
    const text = this.#hasText ? this.#takeText(memory, statuses, values) : new Uint8Array(0)
    return { count, statuses, values, text }
  }

  /** Texts point into the events: copied behind one another, and pointed to there. */
  #takeText(memory: Uint8Array, statuses: Uint8Array, values: Uint8Array): Uint8Array {
    const { features } = this.plan
    const isText = features.map((feature) => feature.op !== 'count' && feature.type === 'utf8')
    const cells = new Uint32Array(values.buffer, values.byteOffset, values.length >> 2)
    const parts: Uint8Array[] = []
    let used = 0
    for (let i = 0; i < statuses.length; i++) {
      if (!isText[i % features.length] || !isValue(statuses[i]!)) continue
      const from = cells[i * 4]!
      const length = cells[i * 4 + 1]!
      parts.push(memory.subarray(from, from + length))
      cells[i * 4] = used
      used += length
    }
    const text = new Uint8Array(used)
    let at = 0
    for (const part of parts) {
      text.set(part, at)
      at += part.length
    }
    return text
  }

  /** The log's late clock: how far it goes. -1 before the first event. */
  get lateClockMs(): number {
    return this.exports.lateClock()
  }

  outcomes(): Outcomes {
    const table = new BigUint64Array(
      this.exports.memory.buffer,
      this.exports.counterTable() >>> 0,
      VERDICT_REJECTED_FUTURE + 1,
    )
    const of = (...verdicts: number[]) => verdicts.reduce((sum, verdict) => sum + Number(table[verdict]), 0)
    const counted = {
      applied: of(VERDICT_APPLIED),
      duplicate: of(VERDICT_DUPLICATE),
      late: of(VERDICT_LATE),
      expired: of(VERDICT_EXPIRED),
      filtered: of(VERDICT_FILTERED),
      rejected: of(VERDICT_REJECTED_KEY, VERDICT_REJECTED_TIME, VERDICT_REJECTED_FUTURE),
    }
    return { consumed: Object.values(counted).reduce((a, b) => a + b, 0), ...counted }
  }
}
