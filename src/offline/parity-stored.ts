/**
 * The sampled rows of one log's lanes as they stand in the store, and the position that each of them stands for.
 *
 * **The marker is read before the rows.** A row holds every event of its entity up to its applied position A, and every one up to
 * the marker M, and nothing behind the higher of the two: what the lane writes meanwhile carries its own A. So a stream that
 * runs beside never looks like a difference, and nobody has to be stopped. Any position from A to max(A, M) says the same of
 * the row: the entity has no event in between.
 */
import { laneHash } from '../model/key.ts'
import { type LaneName, ROW_APPLIED_BYTE, type Store } from '../store/port.ts'
import { isSampled, type Sample } from './parity-sample.ts'

export interface StoredEntity {
  readonly key: Uint8Array
  readonly lane: string
  readonly bytes: Uint8Array
  readonly applied: number
}

export interface StoredLanes {
  /** What the lane held when the look began, by lane; -1 where it was never written. */
  readonly markers: ReadonlyMap<string, number>
  /** By the hex of the entity's key. */
  readonly rows: ReadonlyMap<string, StoredEntity>
  /** By the hex of the key: rows that lie in a lane where nobody looks for their entity. */
  readonly strays: ReadonlyMap<string, StoredEntity>
}

/** What comes of `bytesMax` or more: undefined. Lanes are those of one log, in order. Throws STORE_UNAVAILABLE. */
export async function readStored(
  store: Store,
  generation: Omit<LaneName, 'lane'>,
  lanes: readonly string[],
  sample: Sample,
  bytesMax: number,
): Promise<StoredLanes | undefined> {
  const markers = new Map<string, number>()
  const rows = new Map<string, StoredEntity>()
  const strays = new Map<string, StoredEntity>()
  let total = 0
  for (const lane of lanes) {
    const name = { ...generation, lane }
    markers.set(lane, (await store.readLane(name))?.marker ?? -1)
    for await (const { key, bytes } of found(store, name, sample)) {
      if (!isSampled(sample, key)) continue
      total += bytes.length
      if (total > bytesMax) return undefined
      const entity = { key: key.slice(), lane, bytes: bytes.slice(), applied: appliedOf(bytes) }
      const home = laneFor(lanes, key) === lane ? rows : strays
      home.set(Buffer.from(key).toString('hex'), entity)
    }
  }
  return { markers, rows, strays }
}

async function* found(
  store: Store,
  lane: LaneName,
  { key }: Sample,
): AsyncIterable<{ key: Uint8Array; bytes: Uint8Array }> {
  if (key === undefined) {
    yield* store.scanRows(lane)
    return
  }
  let row: Uint8Array | undefined
  await store.readRows([{ lane, key }], (_, bytes) => {
    row = bytes?.slice()
  })
  if (row !== undefined) yield { key, bytes: row }
}

/** The lane of a log that folds the entity. */
export function laneFor(lanes: readonly string[], key: Uint8Array): string {
  return lanes[lanes.length === 1 ? 0 : laneHash(key) % lanes.length]!
}

function appliedOf(row: Uint8Array): number {
  if (row.length < ROW_APPLIED_BYTE + 8) return -1
  return Number(new DataView(row.buffer, row.byteOffset, row.byteLength).getBigInt64(ROW_APPLIED_BYTE, true))
}
