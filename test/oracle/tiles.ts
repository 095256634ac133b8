/**
 * What a row must hold: the events of one entity that are still raw, and for each level the tiles it keeps with the
 * events in each. Two rows with equal tiles here must have equal normalised bytes.
 */
import type { PartialPlan, StatePlan } from '../../src/model/plan.ts'
import type { NaiveEvent, Value } from './event.ts'
import { compareValues, timeOf, valueIn } from './event.ts'
import { exactSquares, exactSum, inOrder } from './features.ts'
import type { Rational } from './rational.ts'

export interface Frontiers {
  /** Events before it are in tiles, the rest are raw. Ignored where the head is made of sub-tiles. */
  readonly headMs: number
  /** Per level: every tile that ends at or before it is built. Ignored for level 0, which takes events directly. */
  readonly compactMs: readonly number[]
  /** Per level: tiles that end at or before it are gone. */
  readonly evictMs: readonly number[]
}

export interface NaiveTiles {
  /** Raw events in (time, id, columns) order; none where the head is made of sub-tiles. */
  readonly head: readonly NaiveEvent[]
  /** Per level, finest first: tile number -> its events. A tile is there only if it holds an event. */
  readonly levels: readonly ReadonlyMap<number, readonly NaiveEvent[]>[]
}

/** The row of one entity; `applied` holds its events alone, of every lane that is merged. */
export function naiveTiles(applied: readonly NaiveEvent[], state: StatePlan, frontiers: Frontiers): NaiveTiles {
  const isRaw = (event: NaiveEvent): boolean => state.head.kind === 'raw' && timeOf(event) >= frontiers.headMs
  const levels = state.ladder.map(({ stepMs }, level) => {
    const tiles = new Map<number, NaiveEvent[]>()
    for (const event of applied) {
      const number = Math.floor(timeOf(event) / stepMs)
      const endMs = (number + 1) * stepMs
      // The newest tile of level 0 may be partial: it holds what is already behind the head.
      const isBuilt = level === 0 ? !isRaw(event) : endMs <= frontiers.compactMs[level]!
      if (!isBuilt || endMs <= frontiers.evictMs[level]!) continue
      tiles.set(number, [...(tiles.get(number) ?? []), event])
    }
    return tiles
  })
  return { head: inOrder(applied.filter(isRaw), state), levels }
}

export type NaivePartial =
  | { kind: 'numeric'; count: number; sum?: Rational; squares?: Rational; min?: Value; max?: Value }
  | { kind: 'edge'; event: NaiveEvent | undefined; value: Value }
  | { kind: 'bits'; value: bigint | null }

/** One partial of a tile, exact. Minimum and maximum are null where no cell is filled. */
export function naivePartial(events: readonly NaiveEvent[], state: StatePlan, partial: PartialPlan): NaivePartial {
  const column = state.columns[partial.column]!
  const filled = events.filter((event) => valueIn(event, column) !== null)
  if (partial.kind === 'edge') {
    const ordered = inOrder(filled, state)
    const event = partial.last ? ordered[ordered.length - 1] : ordered[0]
    return { kind: 'edge', event, value: event === undefined ? null : valueIn(event, column) }
  }
  if (partial.kind === 'bits') {
    const cells = filled.map((event) => valueIn(event, column) as bigint)
    const value = cells.reduce((a, b) => (partial.and ? a & b : a | b), partial.and ? -1n : 0n)
    return { kind: 'bits', value: cells.length > 0 ? value : null }
  }
  const sorted = filled.map((event) => valueIn(event, column)).sort((a, b) => compareValues(a, b, column.type))
  return {
    kind: 'numeric',
    count: filled.length,
    ...(partial.sum && { sum: exactSum(filled, column) }),
    ...(partial.squares && { squares: exactSquares(filled, column) }),
    ...(partial.min && { min: sorted[0] ?? null }),
    ...(partial.max && { max: sorted[sorted.length - 1] ?? null }),
  }
}
