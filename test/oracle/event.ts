/**
 * Events as plain objects, and the two things everything in the oracle rests on: what a cell means, and in which order
 * events of one tile stand. Written for reading, not for speed.
 */
import type { KeyPart } from '../../src/model/key.ts'
import type { ProjectedColumn, StatePlan, ValueType } from '../../src/model/plan.ts'

const utf8 = new TextEncoder()

/** A cell as a source gives it: `{ dec }` is a decimal's digits at its column's scale. */
export type Cell = number | bigint | string | boolean | null | { readonly dec: bigint }

export interface NaiveEvent {
  /** Position in its input log. */
  readonly position: number
  /** Event time in ms since the epoch; null or out of range is for the acceptance to reject. */
  readonly time: number | bigint | null
  /** When the log took it, ms; absent in logs that have no record times. */
  readonly recordTime?: number
  /** One value per part of the entity, in the definition's order. */
  readonly key: readonly (KeyPart | null)[]
  /** By the name of the projected column; a missing cell is null. */
  readonly cells: Readonly<Record<string, Cell>>
  readonly id?: string | bigint | null
  /** What the view's filter says of it; null counts as false. Views without a filter keep everything. */
  readonly keep: boolean | null
}

/** A cell as aggregations see it: int64 and decimal as whole numbers, the rest as they are. */
export type Value = number | bigint | string | boolean | null

/** Text of more bytes than this is a null cell. */
export const TEXT_BYTES_MAX = 4_096

/** A decimal of more digits than 38 is a null cell. */
export const DECIMAL_LIMIT = 10n ** 38n

/** A float that is not finite is null and -0 is +0; so is what lies beyond its type; the rest is exact as it stands. */
export function valueIn(event: NaiveEvent, column: ProjectedColumn): Value {
  const cell = event.cells[column.name] ?? null
  if (cell === null) return null
  if (column.type === 'float64') {
    const number = Number(cell)
    if (!Number.isFinite(number)) return null
    return number === 0 ? 0 : number
  }
  if (column.type === 'decimal') {
    const { dec } = cell as { dec: bigint }
    return dec > -DECIMAL_LIMIT && dec < DECIMAL_LIMIT ? dec : null
  }
  if (column.type === 'int64') {
    const whole = BigInt(cell as number | bigint)
    return whole === BigInt.asIntN(64, whole) ? whole : null
  }
  if (column.type === 'utf8') return shortText(cell as string)
  return cell as boolean
}

function shortText(text: string): string | null {
  return utf8.encode(text).length <= TEXT_BYTES_MAX ? text : null
}

/** Event time as a number; only for events that were not rejected for it. */
export function timeOf(event: NaiveEvent): number {
  return Number(event.time)
}

/** Text compares by its UTF-8 bytes, a prefix first; false is below true; null is below everything. */
export function compareValues(a: Value, b: Value, type: ValueType): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? -1 : 1
  if (type === 'utf8') return compareBytes(utf8.encode(a as string), utf8.encode(b as string))
  return a < b ? -1 : a > b ? 1 : 0
}

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!
  }
  return a.length - b.length
}

/**
 * The order that `first` and `last` go by: event time, then the id where one is declared, then every projected column.
 * Events that tie in all of it are interchangeable, so nothing depends on how they arrived.
 */
export function compareEvents(a: NaiveEvent, b: NaiveEvent, state: StatePlan): number {
  if (timeOf(a) !== timeOf(b)) return timeOf(a) - timeOf(b)
  if (state.id !== undefined) {
    const byId = compareValues(idOf(a), idOf(b), state.id.type)
    if (byId !== 0) return byId
  }
  for (const column of state.columns) {
    const byColumn = compareValues(valueIn(a, column), valueIn(b, column), column.type)
    if (byColumn !== 0) return byColumn
  }
  return 0
}

/** The event's id; null where it has none, or one too long to be a cell. */
export function idOf(event: NaiveEvent): string | bigint | null {
  return typeof event.id === 'string' ? shortText(event.id) : (event.id ?? null)
}

/** Do two keys name the same entity? Integers are the same as number and as bigint. */
export function sameKey(a: readonly (KeyPart | null)[], b: readonly (KeyPart | null)[]): boolean {
  if (a.length !== b.length) return false
  return a.every((part, i) => {
    const other = b[i]!
    if (typeof part === 'number' || typeof part === 'bigint') {
      return (typeof other === 'number' || typeof other === 'bigint') && BigInt(part) === BigInt(other)
    }
    return part === other
  })
}

/** The events of one entity, in the order given. */
export function eventsOf(events: readonly NaiveEvent[], key: readonly (KeyPart | null)[]): NaiveEvent[] {
  return events.filter((event) => sameKey(event.key, key))
}
