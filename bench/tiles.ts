/**
 * The input of the merge claim: entities whose row holds 61 tiles (12 of five minutes, 23 of an hour, 26 of a day) behind
 * one as-of, a UTC midnight, and four nested windows that end there (1 h, 24 h, 7 d, 27 d).
 *
 *   day tiles                                     hour tiles       5 min
 *   |26|25| ...                 |6|5|4|3|2|1|     |23 ...  |1|     |12..1|   as-of
 *    27 d                        7 d               24 h             1 h
 *
 * Each tile stands for one to three events, so engines that take events build the very same tiles.
 */
import type { StoredTile } from './baseline.ts'
import { Random } from './random.ts'
import { dyadicValue, MINUTE_MS, STEP_MS } from './workload.ts'

const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

export const LEVEL_STEPS_MS = [STEP_MS, HOUR_MS, DAY_MS] as const
/** Shortest first. */
export const WINDOWS_MS = [HOUR_MS, DAY_MS, 7 * DAY_MS, 27 * DAY_MS] as const
/** 2024-06-01T00:00:00Z. */
export const AS_OF_MS = Date.UTC(2024, 5, 1)

/** Starts and levels of an entity's 61 tiles, newest first. */
export const COVER: readonly { readonly level: number; readonly startMs: number }[] = [
  ...backwards(0, AS_OF_MS, AS_OF_MS - HOUR_MS),
  ...backwards(1, AS_OF_MS - HOUR_MS, AS_OF_MS - DAY_MS),
  ...backwards(2, AS_OF_MS - DAY_MS, AS_OF_MS - 27 * DAY_MS),
]

function backwards(level: number, endMs: number, startMs: number): { level: number; startMs: number }[] {
  const step = LEVEL_STEPS_MS[level]!
  return Array.from({ length: (endMs - startMs) / step }, (_, i) => ({ level, startMs: endMs - (i + 1) * step }))
}

export interface TileWorkload {
  readonly entityCount: number
  /** `61 · entityCount` tiles: entity by entity, each newest first. */
  readonly tiles: {
    readonly entities: Uint32Array
    readonly levels: Uint32Array
    /** Start over step. */
    readonly numbers: Uint32Array
    readonly counts: Uint32Array
    readonly sums: Float64Array
    readonly mins: Float64Array
    readonly maxs: Float64Array
    readonly lasts: Float64Array
    /** Milliseconds from the tile's start to its last event. */
    readonly lastOffsets: Uint32Array
  }
  /** The events behind the tiles, in time order. */
  readonly events: { readonly entities: Uint32Array; readonly times: Float64Array; readonly values: Float64Array }
  /** Entity of each request. */
  readonly requests: Uint32Array
}

/** `requestCount` requests over the entities: in turn when they are few (hot), at random when they are many (cold). */
export function createTileWorkload(entityCount: number, requestCount: number, seed: number): TileWorkload {
  const random = new Random(seed)
  const total = entityCount * COVER.length
  const tiles = {
    entities: new Uint32Array(total),
    levels: new Uint32Array(total),
    numbers: new Uint32Array(total),
    counts: new Uint32Array(total),
    sums: new Float64Array(total),
    mins: new Float64Array(total).fill(Number.POSITIVE_INFINITY),
    maxs: new Float64Array(total).fill(Number.NEGATIVE_INFINITY),
    lasts: new Float64Array(total),
    lastOffsets: new Uint32Array(total),
  }
  const entities = new Uint32Array(total * 3)
  const times = new Float64Array(total * 3)
  const values = new Float64Array(total * 3)
  let events = 0

  // Oldest tile first, and within a tile offset by offset, so that the events come out in time order.
  for (let i = COVER.length - 1; i >= 0; i--) {
    const { level, startMs } = COVER[i]!
    const stepMs = LEVEL_STEPS_MS[level]!
    const offsets = Array.from({ length: 3 }, () => random.below(stepMs)).sort((a, b) => a - b)
    for (let entity = 0; entity < entityCount; entity++) {
      const tile = entity * COVER.length + i
      tiles.entities[tile] = entity
      tiles.levels[tile] = level
      tiles.numbers[tile] = startMs / stepMs
    }
    for (const [part, offset] of offsets.entries()) {
      for (let entity = 0; entity < entityCount; entity++) {
        // Every entity has the first event of a tile; a third of them have each of the others.
        if (part > 0 && random.below(3) > 0) continue
        const value = dyadicValue(entity, startMs + offset - AS_OF_MS)
        const tile = entity * COVER.length + i
        tiles.counts[tile]!++
        tiles.sums[tile]! += value
        tiles.mins[tile] = Math.min(tiles.mins[tile]!, value)
        tiles.maxs[tile] = Math.max(tiles.maxs[tile]!, value)
        tiles.lasts[tile] = value
        tiles.lastOffsets[tile] = offset
        entities[events] = entity
        times[events] = startMs + offset
        values[events++] = value
      }
    }
  }
  const inTurn = entityCount <= 64
  return {
    entityCount,
    tiles,
    events: {
      entities: entities.subarray(0, events),
      times: times.subarray(0, events),
      values: values.subarray(0, events),
    },
    requests: Uint32Array.from({ length: requestCount }, (_, i) =>
      inTurn ? i % entityCount : random.below(entityCount),
    ),
  }
}

/** The columns of the merge yardstick's dataset, in its order (yardstick/merge.c). */
export function tileColumns(workload: TileWorkload): ArrayBufferView[] {
  const { tiles } = workload
  return [
    tiles.entities,
    tiles.levels,
    tiles.numbers,
    tiles.counts,
    tiles.sums,
    tiles.mins,
    tiles.maxs,
    tiles.lasts,
    tiles.lastOffsets,
    BigInt64Array.from(WINDOWS_MS, (lengthMs) => BigInt(AS_OF_MS - lengthMs)),
    BigInt64Array.from(LEVEL_STEPS_MS, BigInt),
    workload.requests,
  ]
}

/** An entity's tiles as an application would keep them. */
export function storedTiles({ tiles }: TileWorkload, entity: number): StoredTile[] {
  return COVER.map(({ level, startMs }, i) => {
    const tile = entity * COVER.length + i
    return {
      startMs,
      stepMs: LEVEL_STEPS_MS[level]!,
      count: tiles.counts[tile]!,
      sum: tiles.sums[tile]!,
      min: tiles.mins[tile]!,
      max: tiles.maxs[tile]!,
      last: tiles.lasts[tile]!,
      lastTime: startMs + tiles.lastOffsets[tile]!,
    }
  })
}
