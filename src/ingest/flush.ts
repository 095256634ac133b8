/**
 * Delta to store, lane by lane, under the protocol of lane.ts:
 *
 *   flushing_to = F  ->  rows in chunks (each: stored rows read, delta added, written)  ->  marker = F, checkpoint at F
 *                        the next chunk is read while one is written; the last goes with the marker;
 *                        what we wrote lately is not read again (kept-rows.ts)
 *
 * F is the last position judged. A crash leaves some rows at F and the marker behind them: the replay reads a row before its
 * entity's first event and skips what it holds. The delta is emptied only when every lane stands at F.
 */
import type { Core, DirtyChunk } from '../engine/core.ts'
import { SEGMENT_BYTES_MAX, type StoredRow } from '../store/port.ts'
import type { KeptRows } from './kept-rows.ts'
import type { LaneOwner, RowsToRead } from './lane.ts'
import type { Pace } from './pace.ts'

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
 * are written even if nothing is new in them. `pace`: rows go no faster. Returns what was written.
 */
export async function flushLanes(
  core: Core,
  owners: ReadonlyMap<number, LaneOwner>,
  kept: KeptRows,
  withCheckpoint: boolean,
  hash: string,
  forced: ReadonlySet<number> = new Set(),
  { pace, isHistory = false }: { readonly pace?: Pace | undefined; readonly isHistory?: boolean } = {},
): Promise<FlushTally> {
  const tally: FlushTally = { rows: 0, bytes: 0 }
  const position = core.position
  const chunks = core.beginFlush(isHistory ? HISTORY_CHUNK_ENTITIES : CHUNK_ENTITIES)
  const checkpoint = withCheckpoint ? segmentsOf(core.writeCheckpoint()) : undefined
  for (const [lane, owner] of owners) {
    const own = chunks.filter((chunk) => chunk.lane === lane)
    if (own.length === 0 && owner.record.marker >= position && !forced.has(lane)) continue
    owner.beginFlush(position)
    let read = own.length > 0 ? readOf(core, own[0]!, kept) : undefined
    if (read?.missing) await owner.readRows(read.missing.keys, read.missing.sink, read.missing.deltaStarts)
    for (const [i, chunk] of own.entries()) {
      const { keys, entities, stored } = read!
      const rows = core
        .writeRows(chunk, stored, position, kept.pad)
        .map((bytes, at): StoredRow => ({ key: keys[at]!, bytes }))
      const size = rows.reduce((sum, { bytes }) => sum + bytes.length, 0)
      tally.rows += rows.length
      tally.bytes += size
      await pace?.take(rows.length, size)
      // The last chunk is written with the marker.
      const isLast = i + 1 === own.length
      if (!isLast) {
        read = readOf(core, own[i + 1]!, kept)
        await owner.writeRows(rows, read.missing)
      } else await owner.endFlush(position, hash, checkpoint, rows)
      // In a replay the store may have raised a row's applied position: then it is not there as we gave it.
      if (owner.record.flushingTo > position) continue
      for (const [at, { bytes }] of rows.entries()) kept.put(entities[at]!, bytes)
    }
    if (own.length === 0) await owner.endFlush(position, hash, checkpoint)
  }
  core.endFlush()
  return tally
}

interface ChunkRead {
  readonly keys: readonly Uint8Array[]
  readonly entities: readonly number[]
  readonly stored: (Uint8Array | undefined)[]
  /** What has to be read of it; undefined where every row is kept. */
  readonly missing: RowsToRead | undefined
}

/** The stored rows of a chunk: those that are kept, and how to read the others, which are copied to `stored`. */
function readOf(core: Core, chunk: DirtyChunk, kept: KeptRows): ChunkRead {
  const keys = core.keysOf(chunk)
  const entities = core.entitiesOf(chunk)
  const stored = entities.map((entity) => kept.get(entity))
  const places = [...entities.keys()].filter((place) => stored[place] === undefined)
  if (places.length === 0) return { keys, entities, stored, missing: undefined }
  const sink = (index: number, bytes: Uint8Array | undefined) => {
    stored[places[index]!] = bytes?.slice()
  }
  const starts = core.firstPositionsOf(chunk)
  const missing = {
    keys: places.map((place) => keys[place]!),
    sink,
    deltaStarts: places.map((place) => starts[place]!),
  }
  return { keys, entities, stored, missing }
}

function segmentsOf(bytes: Uint8Array): Uint8Array[] {
  const segments: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += SEGMENT_BYTES_MAX) segments.push(bytes.slice(at, at + SEGMENT_BYTES_MAX))
  return segments
}
