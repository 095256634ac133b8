import { describe, expect, it } from 'vitest'
import { removeDataset, writeDataset } from '../../bench/dataset.ts'
import { createTileWorkload, type TileWorkload, tileColumns } from '../../bench/tiles.ts'
import {
  createKeys,
  createWorkload,
  disorder,
  keyColumn,
  STEP_MS,
  toInt64,
  type Workload,
} from '../../bench/workload.ts'
import { startYardstick, type Yardstick, yardstickPeers } from '../../bench/yardstick.ts'
import { foldByHand, internByHand, mergeByHand } from './by-hand.ts'

/** Checksum by variant; empty where there is no gcc, as the bench itself has no such rows then. */
async function checksumsOf(
  name: Yardstick,
  path: string,
  variants: readonly string[],
): Promise<Record<string, string>> {
  try {
    const yardstick = await startYardstick(name, path)
    const checksums: Record<string, string> = {}
    const peers = yardstickPeers(
      yardstick,
      variants.map((variant) => [variant, variant]),
    )
    for (const { contender } of peers) {
      checksums[contender.name] = (await contender.round()).checksum
      contender.close?.()
    }
    return checksums
  } finally {
    removeDataset(path)
  }
}

/** Every variant's checksum is the one wanted for it. */
function expectAll(checksums: Record<string, string>, wantedOf: (variant: string) => string): void {
  const wanted = Object.fromEntries(Object.keys(checksums).map((variant) => [variant, wantedOf(variant)]))
  expect(checksums).toEqual(wanted)
}

function foldInC(workload: Workload, variants: readonly string[]): Promise<Record<string, string>> {
  const { rows, entityCount, startMs, entities, times, values } = workload
  const columns = [entities, toInt64(times), values]
  return checksumsOf(
    'fold',
    writeDataset('test-fold', { rows, entityCount, stepMs: STEP_MS, startMs }, columns),
    variants,
  )
}

describe('the C yardsticks', () => {
  const ordered = createWorkload({ rows: 20_000, entityCount: 300, skew: 1.1, seed: 2 })

  it.each([ordered, disorder(ordered, 60_000)])('fold $name', async (workload) => {
    const checksums = await foldInC(workload, ['plain', 'exact', 'plain-squares', 'exact-squares'])
    expectAll(checksums, (variant) => foldByHand(workload, variant.endsWith('squares')))
  })

  it('fold values beyond 2^21 exactly, whose squares start in the second limb', async () => {
    // Few events a tile: sums of squares stay below 2^63, and multiples of 2^34.
    const small = createWorkload({ rows: 2_000, entityCount: 900, skew: 0, seed: 3 })
    const workload = { ...small, values: small.values.map((value) => value * 2 ** 20) }
    const checksums = await foldInC(workload, ['exact', 'exact-squares'])
    expectAll(checksums, (variant) => foldByHand(workload, variant.endsWith('squares')))
  })

  it('intern keys', async () => {
    const { entities } = createWorkload({ rows: 60_000, entityCount: 9_000, skew: 0, seed: 4 })
    const column = keyColumn(createKeys(9_000), entities)
    const header = { rows: 60_000, entityCount: 9_000, stepMs: 0, startMs: 0 }
    const path = writeDataset('test-keys', header, [column.offsets, column.bytes])
    expectAll(await checksumsOf('keys', path, ['plain', 'staged', 'switched']), () => internByHand(column))
  })

  it('merge rows that have every tile', async () => {
    const workload = createTileWorkload(20, 100, 6)
    expectAll(await mergeInC(workload, tileColumns(workload)), () => mergeByHand(workload))
  })

  it('merge rows in which tiles are missing', async () => {
    const workload = createTileWorkload(20, 100, 7)
    const keeps = (tile: number) => tile % 61 === 0 || (tile * 2_654_435_761) % 5 < 3
    const columns = tileColumns(workload).map((column, i) =>
      i < 9 ? (column as Uint32Array).filter((_, tile) => keeps(tile)) : column,
    )
    expectAll(await mergeInC(workload, columns), () => mergeByHand(workload, keeps))
  })
})

function mergeInC(workload: TileWorkload, columns: readonly ArrayBufferView[]): Promise<Record<string, string>> {
  const rows = (columns[0] as Uint32Array).length
  const header = { rows, entityCount: workload.entityCount, stepMs: 0, startMs: 0 }
  return checksumsOf('merge', writeDataset('test-merge', header, columns), ['segments', 'checks'])
}
