/**
 * Delta to store, lane by lane, under the protocol of lane.ts:
 *
 *   flushing_to = F  ->  rows in chunks (each: stored rows read, delta added, written)  ->  marker = F, checkpoint at F
 *                        the next chunk is read while one is written; the last goes with the marker;
 *                        what we wrote lately is not read again (kept-rows.ts), nor what nobody has written yet
 *
 * F is the last position judged. A crash leaves some rows at F and the marker behind them: the replay reads a row before its
 * entity's first event and skips what it holds. The delta is emptied only when every lane stands at F.
 */
import type { Core } from '../engine/core.ts'
import type { DirtyChunk } from '../engine/flush-rows.ts'
import { SEGMENT_BYTES_MAX, type StoredRow } from '../store/port.ts'
import type { KeptRows } from './kept-rows.ts'
import type { LaneOwner, RowsToRead } from './lane.ts'
import type { LaneRows } from './lane-rows.ts'
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
    // History keeps no rows, so that those of new entities needn't be looked at one by one.
    const read = (chunk: DirtyChunk) =>
      isHistory && owner.beganEmpty && core.areUnwritten(chunk)
        ? undefined
        : readOf(core, chunk, kept, owner.beganEmpty)
    let next = own.length > 0 ? read(own[0]!) : undefined
    if (next?.missing) await owner.readRows(next.missing.keys, next.missing.sink, next.missing.deltaStarts)
    for (const [i, chunk] of own.entries()) {
      const stored = next
      const rows = stored
        ? rowsOf(stored, core.writeRows(chunk, stored.stored, position, kept.pad))
        : core.writeNewRows(chunk, position, kept.pad)
      const size = bytesOf(rows)
      tally.rows += chunk.end - chunk.start
      tally.bytes += size
      await pace?.take(chunk.end - chunk.start, size)
      // The last chunk is written with the marker.
      const isLast = i + 1 === own.length
      if (!isLast) {
        next = read(own[i + 1]!)
        await owner.writeRows(rows, next?.missing)
      } else await owner.endFlush(position, hash, checkpoint, rows)
      // In a replay the store may have raised a row's applied position: then it is not there as we gave it.
      if (owner.record.flushingTo > position || 'bounds' in rows) continue
      for (const [at, { bytes }] of rows.entries()) kept.put(stored!.entities[at]!, bytes)
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

/**
 * The stored rows of a chunk: those that are kept, and how to read the others, which are copied to `stored`. `beganEmpty`: there is
 * none of an entity that we wrote none of.
 */
function readOf(core: Core, chunk: DirtyChunk, kept: KeptRows, beganEmpty: boolean): ChunkRead {
  const keys = core.keysOf(chunk)
  const entities = core.entitiesOf(chunk)
  const stored = entities.map((entity) => kept.get(entity))
  const places = [...entities.keys()].filter(
    (place) => stored[place] === undefined && !(beganEmpty && core.isUnwritten(entities[place]!)),
  )
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

function rowsOf({ keys }: ChunkRead, rows: readonly Uint8Array[]): StoredRow[] {
  return rows.map((bytes, at) => ({ key: keys[at]!, bytes }))
}

function bytesOf(rows: LaneRows): number {
  if ('bounds' in rows) return rows.bounds.reduce((sum, bound, i) => sum + (i % 2 === 0 ? -bound : bound), 0)
  return rows.reduce((sum, { bytes }) => sum + bytes.length, 0)
}

/** A checkpoint in pieces of the store's size. */
export function segmentsOf(bytes: Uint8Array): Uint8Array[] {
  const segments: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += SEGMENT_BYTES_MAX) segments.push(bytes.slice(at, at + SEGMENT_BYTES_MAX))
  return segments
}
