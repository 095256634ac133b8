import { describe, expect, it } from 'vitest'
import { addTiles, foldColumns, internStrings, mergeTiles, type TileMap } from '../../bench/baseline.ts'
import { addAggregates, Checksum } from '../../bench/checksum.ts'
import { removeDataset, writeDataset } from '../../bench/dataset.ts'
import { AS_OF_MS, createTileWorkload, storedTiles, tileColumns, WINDOWS_MS } from '../../bench/tiles.ts'
import { createKeys, createWorkload, disorder, keyColumn, STEP_MS, toInt64 } from '../../bench/workload.ts'
import { startYardstick, type Yardstick, yardstickPeers } from '../../bench/yardstick.ts'

/** Checksums of the variants over a dataset; undefined where there is no gcc, as the bench itself has no such rows then. */
async function checksumsOf(name: Yardstick, path: string, variants: readonly string[]): Promise<string[] | undefined> {
  try {
    const yardstick = await startYardstick(name, path)
    const peers = yardstickPeers(
      yardstick,
      variants.map((variant) => [variant, variant]),
    )
    const checksums: string[] = []
    for (const { contender } of peers) {
      checksums.push((await contender.round()).checksum)
      contender.close?.()
    }
    return yardstick && checksums
  } finally {
    removeDataset(path)
  }
}

describe('the C yardsticks', () => {
  it.each([0, 60_000])('fold as plain JavaScript does, %i ms of disorder', async (delayMs) => {
    const ordered = createWorkload({ rows: 20_000, entityCount: 300, skew: 1.1, seed: 2 })
    const { entities, times, values, rows, entityCount, startMs } = delayMs > 0 ? disorder(ordered, delayMs) : ordered
    const tilesOf: TileMap<number> = new Map()
    foldColumns(tilesOf, entities, times, values, STEP_MS)
    const plain = new Checksum()
    addTiles(plain, tilesOf, startMs / STEP_MS, (entity) => entity)

    const squares = new Checksum()
    for (const [entity, tiles] of tilesOf) {
      for (const [number, tile] of tiles) {
        let sum = 0
        for (let i = 0; i < rows; i++) {
          if (entities[i] === entity && Math.floor(times[i]! / STEP_MS) === number) sum += values[i]! ** 2
        }
        addAggregates(squares, number - startMs / STEP_MS, entity, { ...tile, squares: sum })
      }
    }

    const path = writeDataset('test-fold', { rows, entityCount, stepMs: STEP_MS, startMs }, [
      entities,
      toInt64(times),
      values,
    ])
    const [wanted, wantedSquares] = [plain.toString(), squares.toString()]
    const checksums = await checksumsOf('fold', path, ['plain', 'exact', 'plain-squares', 'exact-squares'])
    expect(checksums ?? [wanted, wanted, wantedSquares, wantedSquares]).toEqual([
      wanted,
      wanted,
      wantedSquares,
      wantedSquares,
    ])
  })

  it('intern as plain JavaScript does', async () => {
    const { entities } = createWorkload({ rows: 60_000, entityCount: 9_000, skew: 0, seed: 4 })
    const column = keyColumn(createKeys(9_000), entities)
    const wanted = new Checksum()
    for (const [row, id] of internStrings(Buffer.from(column.bytes), column.offsets).entries()) {
      wanted.word(row).word(id).end()
    }
    const header = { rows: 60_000, entityCount: 9_000, stepMs: 0, startMs: 0 }
    const path = writeDataset('test-keys', header, [column.offsets, column.bytes])
    const checksums = await checksumsOf('keys', path, ['plain', 'staged', 'switched'])
    for (const checksum of checksums ?? []) expect(checksum).toBe(wanted.toString())
  })

  it('merge as plain JavaScript does', async () => {
    const workload = createTileWorkload(20, 100, 6)
    const { tiles } = workload
    const starts = WINDOWS_MS.map((lengthMs) => AS_OF_MS - lengthMs)
    const wanted = new Checksum()
    for (let entity = 0; entity < 20; entity++) {
      const stored = storedTiles(workload, entity)
      for (const [window, answer] of mergeTiles(stored, starts).entries()) addAggregates(wanted, window, entity, answer)
    }
    const header = { rows: tiles.entities.length, entityCount: 20, stepMs: 0, startMs: 0 }
    const path = writeDataset('test-merge', header, tileColumns(workload))
    const checksums = await checksumsOf('merge', path, ['segments', 'checks'])
    for (const checksum of checksums ?? []) expect(checksum).toBe(wanted.toString())
  })
})
