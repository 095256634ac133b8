/**
 * Delta to store, lane by lane, under the protocol of lane.ts:
 *
 *   flushing_to = F  ->  rows in chunks (each: stored rows read, delta added, written)  ->  marker = F, checkpoint at F
 *
 * F is the last position judged. A crash leaves some rows at F and the marker behind them: the replay reads a row before its
 * entity's first event and skips what it holds. The delta is emptied only when every lane stands at F.
 */
import type { Core } from '../engine/core.ts'
import { SEGMENT_BYTES_MAX, type StoredRow } from '../store/port.ts'
import type { LaneOwner } from './lane.ts'

/** Entities per chunk: bounds the rows held in memory at once, some 1 MB of them. */
const CHUNK_ENTITIES = 512

export interface FlushTally {
  rows: number
  bytes: number
}

/**
 * `withCheckpoint`: without one, a restart replays from an older one. `hash`: of the last record judged. Returns what was
 * written.
 */
export async function flushLanes(
  core: Core,
  owners: ReadonlyMap<number, LaneOwner>,
  withCheckpoint: boolean,
  hash: string,
): Promise<FlushTally> {
  const tally: FlushTally = { rows: 0, bytes: 0 }
  const position = core.position
  const chunks = core.beginFlush(CHUNK_ENTITIES)
  const checkpoint = withCheckpoint ? segmentsOf(core.writeCheckpoint()) : undefined
  for (const [lane, owner] of owners) {
    const own = chunks.filter((chunk) => chunk.lane === lane)
    if (own.length === 0 && owner.record.marker >= position) continue
    owner.beginFlush(position)
    for (const chunk of own) {
      const keys = core.keysOf(chunk)
      const stored: (Uint8Array | undefined)[] = new Array(keys.length)
      const copy = (index: number, bytes: Uint8Array | undefined) => {
        stored[index] = bytes?.slice()
      }
      await owner.readRows(keys, copy, core.firstPositionsOf(chunk))
      const rows = core.writeRows(chunk, stored, position)
      await owner.writeRows(rows.map((bytes, i): StoredRow => ({ key: keys[i]!, bytes })))
      tally.rows += rows.length
      for (const row of rows) tally.bytes += row.length
    }
    await owner.endFlush(position, hash, checkpoint)
  }
  core.endFlush()
  return tally
}

function segmentsOf(bytes: Uint8Array): Uint8Array[] {
  const segments: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += SEGMENT_BYTES_MAX) segments.push(bytes.slice(at, at + SEGMENT_BYTES_MAX))
  return segments
}
