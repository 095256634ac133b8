/**
 * The same work as one would write it in JavaScript without thinking of speed: Maps of Maps of objects, arrays of objects.
 * Good code of its kind: one lookup per level, no needless allocation, shapes that stay the same.
 */
import { addAggregates, type Checksum } from './checksum.ts'

export interface TileState {
  count: number
  sum: number
  min: number
  max: number
  last: number
  lastTime: number
}

export type TileMap<Key> = Map<Key, Map<number, TileState>>

export interface KeyedEvent<Key> {
  readonly key: Key
  readonly time: number
  readonly value: number
}

/** Folds events into tiles of `stepMs`. */
export function foldEvents<Key>(tilesOf: TileMap<Key>, events: readonly KeyedEvent<Key>[], stepMs: number): void {
  for (const event of events) foldEvent(tilesOf, event.key, event.time, event.value, stepMs)
}

/** The same over columns; `keys`, `times` and `values` have one element per event. */
export function foldColumns<Key>(
  tilesOf: TileMap<Key>,
  keys: ArrayLike<Key>,
  times: ArrayLike<number>,
  values: ArrayLike<number>,
  stepMs: number,
): void {
  for (let i = 0; i < times.length; i++) foldEvent(tilesOf, keys[i]!, times[i]!, values[i]!, stepMs)
}

function foldEvent<Key>(tilesOf: TileMap<Key>, key: Key, time: number, value: number, stepMs: number): void {
  let tiles = tilesOf.get(key)
  if (tiles === undefined) {
    tiles = new Map()
    tilesOf.set(key, tiles)
  }
  const number = Math.floor(time / stepMs)
  const tile = tiles.get(number)
  if (tile === undefined) {
    tiles.set(number, { count: 1, sum: value, min: value, max: value, last: value, lastTime: time })
    return
  }
  tile.count++
  tile.sum += value
  if (value < tile.min) tile.min = value
  if (value > tile.max) tile.max = value
  if (time >= tile.lastTime) {
    tile.last = value
    tile.lastTime = time
  }
}

/** Adds every tile to the checksum; `numberOf` turns a key into its entity's number. */
export function addTiles<Key>(
  checksum: Checksum,
  tilesOf: TileMap<Key>,
  firstTile: number,
  numberOf: (key: Key) => number,
): void {
  for (const [key, tiles] of tilesOf) {
    for (const [number, tile] of tiles) addAggregates(checksum, number - firstTile, numberOf(key), tile)
  }
}

/** A stored tile, as an application would keep it: one list per entity, whatever the step. */
export interface StoredTile extends TileState {
  readonly startMs: number
  readonly stepMs: number
}

/** The aggregates of each window `[start, as-of)` over one entity's tiles, all of which end at or before as-of. */
export function mergeTiles(tiles: readonly StoredTile[], windowStarts: readonly number[]): TileState[] {
  return windowStarts.map((startMs) => {
    const answer = {
      count: 0,
      sum: 0,
      min: Number.POSITIVE_INFINITY,
      max: Number.NEGATIVE_INFINITY,
      last: 0,
      lastTime: Number.NEGATIVE_INFINITY,
    }
    for (const tile of tiles) {
      if (tile.startMs < startMs) continue
      answer.count += tile.count
      answer.sum += tile.sum
      answer.min = Math.min(answer.min, tile.min)
      answer.max = Math.max(answer.max, tile.max)
      if (tile.lastTime >= answer.lastTime) {
        answer.last = tile.last
        answer.lastTime = tile.lastTime
      }
    }
    return answer
  })
}

/** Dense ids of keys in order of first appearance, through a Map of strings made from the bytes. */
export function internStrings(text: Buffer, offsets: Uint32Array | Int32Array): Uint32Array {
  const idOf = new Map<string, number>()
  const ids = new Uint32Array(offsets.length - 1)
  for (let i = 0; i < ids.length; i++) {
    const key = text.toString('utf8', offsets[i]!, offsets[i + 1]!)
    let id = idOf.get(key)
    if (id === undefined) {
      id = idOf.size
      idOf.set(key, id)
    }
    ids[i] = id
  }
  return ids
}
