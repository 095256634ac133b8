/**
 * Delta to store, lane by lane, under the protocol of lane.ts:
 *
 *   flushing_to = F  ->  rows in chunks (each: stored rows read, delta added, written)  ->  marker = F, checkpoint at F
 *                        the next chunk is read while one is written; the last goes with the marker
 *
 * F is the last position judged. A crash leaves some rows at F and the marker behind them: the replay reads a row before its
 * entity's first event and skips what it holds. The delta is emptied only when every lane stands at F.
 */
import type { Core, DirtyChunk } from '../engine/core.ts'
import { SEGMENT_BYTES_MAX, type StoredRow } from '../store/port.ts'
import type { LaneOwner, RowsToRead } from './lane.ts'

/** Entities per chunk: bounds the rows held in memory at once, some 1 MB of them. */
const CHUNK_ENTITIES = 512
/** In a history, whose rows are short and whose thread nobody waits for: fewer, larger writes. */
const HISTORY_CHUNK_ENTITIES = 2048

export interface FlushTally {
  rows: number
  bytes: number
}

/**
 * `withCheckpoint`: without one, a restart replays from an older one. `hash`: of the last record judged. `forced`: lanes that
 * are written even if nothing is new in them. Returns what was written.
 */
export async function flushLanes(
  core: Core,
  owners: ReadonlyMap<number, LaneOwner>,
  withCheckpoint: boolean,
  hash: string,
  forced: ReadonlySet<number> = new Set(),
  isHistory = false,
): Promise<FlushTally> {
  const tally: FlushTally = { rows: 0, bytes: 0 }
  const position = core.position
  const chunks = core.beginFlush(isHistory ? HISTORY_CHUNK_ENTITIES : CHUNK_ENTITIES)
  const checkpoint = withCheckpoint ? segmentsOf(core.writeCheckpoint()) : undefined
  for (const [lane, owner] of owners) {
    const own = chunks.filter((chunk) => chunk.lane === lane)
    if (own.length === 0 && owner.record.marker >= position && !forced.has(lane)) continue
    owner.beginFlush(position)
    let read = own.length > 0 ? readOf(core, own[0]!) : undefined
    if (read) await owner.readRows(read.keys, read.sink, read.deltaStarts)
    let rows: StoredRow[] = []
    for (const [i, chunk] of own.entries()) {
      const { keys, stored } = read!
      rows = core.writeRows(chunk, stored, position).map((bytes, at): StoredRow => ({ key: keys[at]!, bytes }))
      tally.rows += rows.length
      for (const { bytes } of rows) tally.bytes += bytes.length
      // The last chunk is written with the marker.
      if (i + 1 === own.length) break
      read = readOf(core, own[i + 1]!)
      await owner.writeRows(rows, read)
    }
    await owner.endFlush(position, hash, checkpoint, rows)
  }
  core.endFlush()
  return tally
}

interface ChunkRead extends RowsToRead {
  readonly stored: (Uint8Array | undefined)[]
}

/** How to read the stored rows of a chunk; they are copied to `stored`. */
function readOf(core: Core, chunk: DirtyChunk): ChunkRead {
  const keys = core.keysOf(chunk)
  const stored: (Uint8Array | undefined)[] = new Array(keys.length)
  const sink = (index: number, bytes: Uint8Array | undefined) => {
    stored[index] = bytes?.slice()
  }
  return { keys, sink, stored, deltaStarts: core.firstPositionsOf(chunk) }
}

function segmentsOf(bytes: Uint8Array): Uint8Array[] {
  const segments: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += SEGMENT_BYTES_MAX) segments.push(bytes.slice(at, at + SEGMENT_BYTES_MAX))
  return segments
}
