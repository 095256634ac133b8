/** Rows out of the core, chunk by chunk: each old row with its delta, or, where the store has none, many new ones in one call. */
import type { PackedRows } from '../model/packed-rows.ts'
import type { CoreExports } from './module.ts'
import { rowError } from './row-error.ts'

/** Entities whose new rows are written in one go: bounds a chunk, and the memory it takes. */
export interface DirtyChunk {
  readonly lane: number
  /** Places of the chunk, `[start, end)`. */
  readonly start: number
  readonly end: number
}

/** Memory for the rows of one chunk after the other. */
export interface RowPad {
  memory: Uint8Array
}

/** Room for `bytes` bytes, the first `used` of which stay. */
function makeRoom(pad: RowPad, used: number, bytes: number): void {
  if (pad.memory.length >= bytes) return
  const memory = new Uint8Array(Math.max(2 * bytes, 4096))
  memory.set(pad.memory.subarray(0, used))
  pad.memory = memory
}

/** Rows are copied out so many bytes at a time: few copies, and no row keeps many others in memory for long. */
const COPIED_BYTES = 1 << 18

/**
 * The chunk's new rows at `position`; `stored` holds the rows that the store has, in the chunk's order. Rows are in `pad`, where they are
 * good until it is used again. Throws ROW_CORRUPT, REGRESSED, naming the key.
 */
export function copyRows(
  core: CoreExports,
  chunk: DirtyChunk,
  stored: readonly (Uint8Array | undefined)[],
  position: number,
  pad: RowPad,
  keyOf: (entity: number) => Uint8Array,
): Uint8Array[] {
  // Where each row begins and ends in the pad; `waiting`: bytes of rows that are not copied there yet.
  const bounds: number[] = []
  let copied = 0
  let waiting = 0
  const copy = () => {
    const from = core.outputAddress() >>> 0
    makeRoom(pad, copied, copied + waiting)
    pad.memory.set(new Uint8Array(core.memory.buffer, from, waiting), copied)
    copied += waiting
    waiting = 0
    core.beginRows()
  }
  let memory = new Uint8Array(core.memory.buffer)
  core.beginRows()
  for (let place = chunk.start; place < chunk.end; place++) {
    const old = stored[place - chunk.start]
    let at = 0
    if (old) {
      at = core.reserveInput(old.length, 0) >>> 0
      // Memory that grew has a new buffer, and the old view is empty.
      if (memory.length === 0) memory = new Uint8Array(core.memory.buffer)
      memory.set(old, at)
    }
    const error = core.writeRow(place, at, old ? old.length : 0, position)
    if (error !== 0) {
      throw rowError(error, `row of entity ${Buffer.from(keyOf(core.dirtyEntity(place))).toString('latin1')}`)
    }
    const start = (core.rowAddress() >>> 0) - (core.outputAddress() >>> 0)
    waiting = start + core.rowBytes()
    bounds.push(copied + start, copied + waiting)
    if (waiting >= COPIED_BYTES) copy()
  }
  copy()
  const rows: Uint8Array[] = []
  for (let i = 0; i < bounds.length; i += 2) rows.push(pad.memory.subarray(bounds[i]!, bounds[i + 1]!))
  return rows
}

/** Those of a chunk whose entities have none in the store; their bytes are in `pad`, where they are good until it is used again. */
export function copyNewRows(core: CoreExports, { start, end }: DirtyChunk, position: number, pad: RowPad): PackedRows {
  const count = end - start
  core.beginRows()
  const boundsAt = core.writeNewRows(start, end, position) >>> 0
  const keysAt = core.chunkKeys(start, end) >>> 0
  const { buffer } = core.memory
  const bounds = new Uint32Array(buffer, boundsAt, 2 * count).slice()
  const keyEnds = new Uint32Array(buffer, keysAt, count).slice()
  const keys = new Uint8Array(buffer, keysAt + 4 * count, keyEnds[count - 1]!).slice()
  const length = bounds[2 * count - 1]!
  makeRoom(pad, 0, length)
  pad.memory.set(new Uint8Array(buffer, core.outputAddress() >>> 0, length))
  return { keys, keyEnds, bytes: pad.memory, bounds, first: 0, end: count }
}
