/** What contenders must come to, by the plainest code. */
import { addTiles, foldColumns, internStrings, mergeTiles, type TileMap } from '../../bench/baseline.ts'
import { addAggregates, Checksum } from '../../bench/checksum.ts'
import { AS_OF_MS, COVER, storedTiles, type TileWorkload, WINDOWS_MS } from '../../bench/tiles.ts'
import { STEP_MS, type Workload } from '../../bench/workload.ts'

/** Checksum of the workload's tiles; with `squares`, of their sums of squares too. */
export function foldByHand(workload: Workload, squares = false): string {
  const { entities, times, values, rows, startMs } = workload
  const tilesOf: TileMap<number> = new Map()
  foldColumns(tilesOf, entities, times, values, STEP_MS)
  const firstTile = startMs / STEP_MS
  const checksum = new Checksum()
  if (!squares) {
    addTiles(checksum, tilesOf, firstTile, (entity) => entity)
    return checksum.toString()
  }
  const sums = new Map<string, number>()
  for (let i = 0; i < rows; i++) {
    const name = `${entities[i]} ${Math.floor(times[i]! / STEP_MS)}`
    sums.set(name, (sums.get(name) ?? 0) + values[i]! ** 2)
  }
  for (const [entity, tiles] of tilesOf) {
    for (const [number, tile] of tiles) {
      addAggregates(checksum, number - firstTile, entity, { ...tile, squares: sums.get(`${entity} ${number}`)! })
    }
  }
  return checksum.toString()
}

/** Checksum of every entity's answers from those tiles that `keeps` says (index by entity and place in the cover). */
export function mergeByHand(workload: TileWorkload, keeps: (tile: number) => boolean = () => true): string {
  const starts = WINDOWS_MS.map((lengthMs) => AS_OF_MS - lengthMs)
  const checksum = new Checksum()
  for (let entity = 0; entity < workload.entityCount; entity++) {
    const tiles = storedTiles(workload, entity).filter((_, i) => keeps(entity * COVER.length + i))
    for (const [window, answer] of mergeTiles(tiles, starts).entries()) addAggregates(checksum, window, entity, answer)
  }
  return checksum.toString()
}

/** Checksum of the ids of a key column's rows. */
export function internByHand(column: { readonly offsets: Int32Array; readonly bytes: Uint8Array }): string {
  const checksum = new Checksum()
  for (const [row, id] of internStrings(Buffer.from(column.bytes), column.offsets).entries()) {
    checksum.word(row).word(id).end()
  }
  return checksum.toString()
}
