/**
 * Seeded events of every awkward kind: skewed and uniform keys, times in order, shuffled, late, on tile edges, values at the
 * ends of their types, nulls, repeated ids, exact ties. What they look like is plain data, so a failing case can be printed.
 */
import type { KeyPart } from '../../src/model/key.ts'
import type { StatePlan, ValueType } from '../../src/model/plan.ts'
import type { Cell, NaiveEvent } from '../oracle/event.ts'
import type { Random } from './random.ts'
import { zipf } from './random.ts'
import type { ValueShape } from './values.ts'
import { drawCell, shapesOf } from './values.ts'

/**
 * - `ordered`: ascending, with steps of 0 now and then
 * - `disorder`: ascending, each moved back by up to `disorderMs`
 * - `shuffled`: any time of the span at any place
 * - `late`: ascending, one in twenty late by up to the whole span
 * - `edges`: ascending over edges of the `stepsMs`, each 1 ms before, on or after one
 */
export type TimeShape = 'ordered' | 'disorder' | 'shuffled' | 'late' | 'edges'

export const TIME_SHAPES: readonly TimeShape[] = ['ordered', 'disorder', 'shuffled', 'late', 'edges']

export interface EventShape {
  readonly count: number
  readonly entities: number
  readonly keys: 'zipf' | 'uniform'
  /** Types of the key's parts. */
  readonly entity: readonly ('utf8' | 'int64' | 'bool')[]
  readonly times: TimeShape
  readonly startMs: number
  readonly spanMs: number
  readonly disorderMs: number
  readonly stepsMs: readonly number[]
  readonly columns: readonly { readonly name: string; readonly type: ValueType; readonly values: ValueShape }[]
  /** Probability that a cell is null. */
  readonly nulls: number
  /** Probability that an event has the key and the time of an earlier one, and cells of its own or its very cells. */
  readonly ties: number
  readonly ids?: { readonly type: 'utf8' | 'int64'; readonly duplicates: number; readonly nulls: number }
  /** Probability that the filter says yes; what is left is half false, half null. */
  readonly keep: number
  /** Probability that an event's key or time is one to reject. */
  readonly hostile: number
  /** Give record times: some seconds after the event time, and before it now and then. */
  readonly recordTimes: boolean
}

/** Events with ascending positions from `firstPosition`. The order of the list is the order of the log. */
export function generateEvents(random: Random, shape: EventShape, firstPosition = 0): NaiveEvent[] {
  const entities = drawEntities(random.fork(), shape)
  const rank = shape.keys === 'zipf' ? zipf(random, shape.entities) : () => random.below(shape.entities)
  const times = drawTimes(random.fork(), shape)
  const events: NaiveEvent[] = []
  for (let i = 0; i < shape.count; i++) {
    const fresh: NaiveEvent = {
      position: firstPosition + i,
      time: times[i]!,
      ...(shape.recordTimes && { recordTime: drawRecordTime(random, times[i]!, shape) }),
      key: entities[rank()]!,
      cells: drawCells(random, shape),
      ...(shape.ids && { id: drawId(random, shape.ids, i) }),
      keep: random.chance(shape.keep) ? true : random.chance(0.5) ? false : null,
    }
    const event = events.length > 0 ? repeat(random, shape, fresh, random.pick(events)) : fresh
    events.push(random.chance(shape.hostile) ? spoil(random, shape, event) : event)
  }
  return events
}

/** Shapes for the projected columns of a state, drawn at random. */
export function drawColumns(random: Random, state: StatePlan): EventShape['columns'] {
  return state.columns.map(({ name, type }) => ({ name, type, values: random.pick(shapesOf(type)) }))
}

/** Now and then an event repeats an earlier one: a tie in time, or its id (same content mostly, other content at times). */
function repeat(random: Random, shape: EventShape, fresh: NaiveEvent, earlier: NaiveEvent): NaiveEvent {
  if (random.chance(shape.ties)) {
    const cells = random.chance(0.3) ? earlier.cells : oneCellChanged(random, shape, earlier.cells)
    return { ...fresh, key: earlier.key, time: earlier.time, cells }
  }
  if (shape.ids && random.chance(shape.ids.duplicates)) {
    const isSame = random.chance(0.8)
    return {
      ...(isSame ? { ...earlier, recordTime: fresh.recordTime } : fresh),
      position: fresh.position,
      id: earlier.id,
    }
  }
  return fresh
}

function drawCells(random: Random, shape: EventShape): Record<string, Cell> {
  const cells: Record<string, Cell> = {}
  for (const column of shape.columns) {
    cells[column.name] = random.chance(shape.nulls) ? null : drawCell(random, column.type, column.values)
  }
  return cells
}

/** Ties that differ in one column alone are the ones that show a wrong order. */
function oneCellChanged(
  random: Random,
  shape: EventShape,
  cells: Readonly<Record<string, Cell>>,
): Record<string, Cell> {
  if (shape.columns.length === 0) return {}
  const column = random.pick(shape.columns)
  return { ...cells, [column.name]: random.chance(0.3) ? null : drawCell(random, column.type, column.values) }
}

function drawId(random: Random, ids: NonNullable<EventShape['ids']>, index: number): string | bigint | null {
  if (random.chance(ids.nulls)) return null
  if (ids.type === 'int64') return BigInt.asIntN(64, BigInt(index) * 0x9e3779b97f4a7c15n)
  return index % 97 === 0 ? `${index}-${'é'.repeat(random.below(40))}` : `event-${index}`
}

/** Real delays are some seconds; a clock that runs ahead stamps an event before it happened. */
function drawRecordTime(random: Random, timeMs: number, shape: EventShape): number {
  return random.chance(0.05) ? timeMs - random.below(shape.disorderMs + 1) : timeMs + random.below(5_000)
}

const EDGE_TEXTS = [
  'a',
  'a\0',
  'ab',
  '\0',
  ':',
  'a:b',
  'é',
  '😀',
  '\u{10FFFF}',
  ' ',
  'k'.repeat(200),
  'z'.repeat(1_000),
]

/** `shape.entities` different keys; the odd texts come first, where Zipf draws most. */
function drawEntities(random: Random, shape: EventShape): KeyPart[][] {
  const entities: KeyPart[][] = []
  const seen = new Set<string>()
  for (let i = 0; entities.length < shape.entities; i++) {
    const key = shape.entity.map((type): KeyPart => {
      if (type === 'bool') return random.chance(0.5)
      if (type === 'int64')
        return i < 4 ? random.pick([0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)]) : BigInt(random.below(1_000_000))
      // With several parts, texts repeat between entities, so that only the whole key tells them apart.
      if (i < EDGE_TEXTS.length && random.chance(0.5))
        return shape.entity.length === 1 ? EDGE_TEXTS[i]! : EDGE_TEXTS[i % 9]!
      return `k${shape.entity.length === 1 ? i : random.below(shape.entities)}`
    })
    const text = key.map((part) => `${typeof part}${String(part).length}:${String(part)}`).join('|')
    // A short key (bool alone) may have fewer values than entities asked for: after a while repeats are let in.
    if (seen.has(text) && i < 50 * shape.entities) continue
    seen.add(text)
    entities.push(key)
  }
  return entities
}

function drawTimes(random: Random, shape: EventShape): number[] {
  const { count, startMs, spanMs } = shape
  if (shape.times === 'edges') {
    const times = Array.from({ length: count }, () => {
      const stepMs = random.pick(shape.stepsMs)
      const first = Math.ceil(startMs / stepMs)
      const edge = first + random.below(Math.floor(spanMs / stepMs) + 1)
      return Math.max(0, edge * stepMs + random.between(-1, 1))
    })
    return times.sort((a, b) => a - b)
  }
  const times = Array.from({ length: count }, () => startMs + random.below(spanMs))
  if (shape.times === 'shuffled') return times
  times.sort((a, b) => a - b)
  if (shape.times === 'ordered') return times.map((time, i) => (i > 0 && random.chance(0.1) ? times[i - 1]! : time))
  if (shape.times === 'disorder') return times.map((time) => Math.max(0, time - random.below(shape.disorderMs + 1)))
  return times.map((time) => (random.chance(0.05) ? Math.max(0, time - random.below(spanMs)) : time))
}

/** One thing about the event that must be rejected, and no more than this event. */
function spoil(random: Random, shape: EventShape, event: NaiveEvent): NaiveEvent {
  if (random.chance(0.5)) {
    const part = random.below(shape.entity.length)
    const bad = shape.entity[part] === 'utf8' ? random.pick([null, '', 'x'.repeat(1_025), '€'.repeat(400)]) : null
    return { ...event, key: event.key.map((value, i) => (i === part ? bad : value)) }
  }
  // A tie may have taken over a time that is bad already; what follows would leave int64 with it.
  if (typeof event.time !== 'number' || !Number.isSafeInteger(event.time)) return event
  const time = event.time
  const bad = [
    null,
    -1,
    -time - 1,
    BigInt(time) * 1_000n,
    7_258_118_400_000,
    4_000_000_000_000,
    2n ** 63n - 1n,
    -(2n ** 63n),
  ]
  return { ...event, time: random.pick(bad) }
}
