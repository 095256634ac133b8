/**
 * The events every contender gets: seeded, skewed or uniform over entities, in time order or out of it by up to a minute.
 *
 * Values are dyadic (multiples of 1/8 below 1024, a quarter of them negative), so plain double sums, and sums of squares,
 * are exact in any order and all contenders can be compared bit for bit. A value is a function of its entity and time, so
 * that events of one entity in one millisecond agree and "last" needs no tie rule from anyone.
 */
import { Random, zipfSampler } from './random.ts'

export const MINUTE_MS = 60_000
export const STEP_MS = 5 * MINUTE_MS

export interface Workload {
  readonly name: string
  readonly seed: number
  readonly rows: number
  /** Distinct entity numbers are below it. */
  readonly entityCount: number
  /** Start of the first tile, ms; event times lie in `tiles` tiles of STEP_MS from here. */
  readonly startMs: number
  readonly tiles: number
  readonly entities: Uint32Array
  /** Whole milliseconds. */
  readonly times: Float64Array
  readonly values: Float64Array
}

export interface WorkloadOptions {
  readonly rows: number
  readonly entityCount: number
  /** Exponent of the Zipf distribution; 0 = uniform. */
  readonly skew: number
  readonly seed: number
  /** Five-minute tiles that the events spread over; 12 unless told. */
  readonly tiles?: number
}

/** 2024-05-01T00:00:00Z: a UTC midnight, so that tiles of every level start here. */
export const START_MS = Date.UTC(2024, 4, 1)

/** Events in time order, spread evenly over the tiles. */
export function createWorkload(options: WorkloadOptions): Workload {
  const { rows, entityCount, skew, seed, tiles = 12 } = options
  const random = new Random(seed)
  // Ranks become entity numbers at random: a popular entity is not one that was interned first.
  const numberOfRank = random.permutation(entityCount)
  const nextRank = skew > 0 ? zipfSampler(entityCount, skew, random) : () => random.below(entityCount)

  const entities = new Uint32Array(rows)
  const times = new Float64Array(rows)
  const values = new Float64Array(rows)
  for (let i = 0; i < rows; i++) {
    entities[i] = numberOfRank[nextRank()]!
    times[i] = START_MS + Math.floor((i * tiles * STEP_MS) / rows)
    values[i] = dyadicValue(entities[i]!, times[i]! - START_MS)
  }
  const name = `${rows} events, ${entityCount} keys, ${skew > 0 ? `Zipf ${skew}` : 'uniform'}, ${tiles} tiles`
  return { name, seed, rows, entityCount, startMs: START_MS, tiles, entities, times, values }
}

/** The same events in another order: each is delivered up to `delayMs` after its time. Final tiles are the same. */
export function disorder(workload: Workload, delayMs: number): Workload {
  const { rows, startMs, tiles } = workload
  const random = new Random(workload.seed ^ 0x5bd1e995)

  // Counting sort by the millisecond of arrival.
  const arrivals = new Uint32Array(rows)
  const next = new Uint32Array(tiles * STEP_MS + delayMs + 1)
  for (let i = 0; i < rows; i++) {
    arrivals[i] = workload.times[i]! - startMs + random.below(delayMs)
    next[arrivals[i]! + 1]!++
  }
  for (let ms = 1; ms < next.length; ms++) next[ms]! += next[ms - 1]!
  const entities = new Uint32Array(rows)
  const times = new Float64Array(rows)
  const values = new Float64Array(rows)
  for (let i = 0; i < rows; i++) {
    const to = next[arrivals[i]!]!++
    entities[to] = workload.entities[i]!
    times[to] = workload.times[i]!
    values[to] = workload.values[i]!
  }
  return { ...workload, name: `${workload.name}, ${delayMs / 1000} s of disorder`, entities, times, values }
}

/** ±k/8 with k in 1..8191: never zero, so inside the core's fixed-point window. */
export function dyadicValue(entity: number, offsetMs: number): number {
  let hash = Math.imul(entity ^ 0x3c6ef372, 0x9e3779b1) ^ Math.imul(offsetMs, 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35)
  hash ^= hash >>> 13
  const magnitude = (1 + ((hash >>> 8) % 8191)) / 8
  return (hash & 3) === 0 ? -magnitude : magnitude
}

/** Keys of entities `0..count-1` as one block of bytes: 8 to 24 bytes each, the first 8 distinct. */
export interface Keys {
  readonly count: number
  /** `count + 1` ascending offsets into `bytes`. */
  readonly offsets: Int32Array
  readonly bytes: Uint8Array
}

const HEX = Buffer.from('0123456789abcdef')

/** The same keys whatever a workload's seed is, so that processes agree on them without passing them around. */
export function createKeys(count: number): Keys {
  const random = new Random(count)
  const offsets = new Int32Array(count + 1)
  const bytes = new Uint8Array(count * 24)
  let at = 0
  for (let entity = 0; entity < count; entity++) {
    offsets[entity] = at
    // An odd multiplier permutes the 32-bit numbers, so the digits are distinct but not in order.
    const scrambled = Math.imul(entity + 1, 0x9e3779b1) >>> 0
    for (let digit = 0; digit < 8; digit++) bytes[at++] = HEX[(scrambled >>> (28 - 4 * digit)) & 15]!
    for (let filler = random.below(17); filler > 0; filler--) bytes[at++] = 97 + random.below(26)
  }
  offsets[count] = at
  return { count, offsets, bytes: bytes.slice(0, at) }
}

/** The key column of a workload: one key per row, Arrow's utf8 form. */
export function keyColumn(keys: Keys, entities: Uint32Array): { offsets: Int32Array; bytes: Uint8Array } {
  const offsets = new Int32Array(entities.length + 1)
  for (let i = 0; i < entities.length; i++) {
    const entity = entities[i]!
    offsets[i + 1] = offsets[i]! + keys.offsets[entity + 1]! - keys.offsets[entity]!
  }
  const bytes = new Uint8Array(offsets[entities.length]!)
  for (let i = 0; i < entities.length; i++) {
    const start = keys.offsets[entities[i]!]!
    const length = offsets[i + 1]! - offsets[i]!
    for (let j = 0, to = offsets[i]!; j < length; j++) bytes[to + j] = keys.bytes[start + j]!
  }
  return { offsets, bytes }
}

/** Keys as JavaScript strings, by entity number. */
export function keyStrings(keys: Keys): string[] {
  const text = Buffer.from(keys.bytes.buffer, keys.bytes.byteOffset, keys.bytes.length).toString('latin1')
  return Array.from({ length: keys.count }, (_, entity) => text.slice(keys.offsets[entity]!, keys.offsets[entity + 1]!))
}

/** Times as the int64 column that Arrow, the core and the yardsticks read; no BigInt is made per row. */
export function toInt64(times: Float64Array): BigInt64Array {
  const halves = new Uint32Array(times.length * 2)
  for (let i = 0; i < times.length; i++) {
    halves[2 * i] = times[i]! % 2 ** 32
    halves[2 * i + 1] = Math.floor(times[i]! / 2 ** 32)
  }
  return new BigInt64Array(halves.buffer)
}
