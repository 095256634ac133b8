/**
 * `--memory`: what a backfill may take in all, spread over its parts.
 *
 *   the process and its threads        measured, with room for their heaps
 *   a row group of the largest file    its bytes as they are read, cut, and copied to the decoder, with the next one behind it
 *   what is decoded at once            slices of a row group
 *   batches under way
 *   the rest: cores, one per view and thread; half of it, as one that gives its memory back stands beside its successor for a moment
 *
 * A directory's pages that the system keeps in memory are not ours to bound, and go when others need the room. Ids of a dedupe horizon are
 * kept whatever the budget: they are what the definition asks for.
 */
import { stat } from 'node:fs/promises'
import { listRowGroups } from '../source/parquet.ts'
import type { EventFiles } from './event-files.ts'
import { settingError } from './settings.ts'
import { formatBytes } from './table.ts'

export interface MemoryPlan {
  readonly coreBytesMax: number
  readonly deltaBytesMax: number
  readonly batchBytesMax: number
  /** Decoded at once. */
  readonly sliceBytesMax: number
}

const MIB = 2 ** 20
const PROCESS_BYTES = 128 * MIB
const THREAD_BYTES = 40 * MIB
/** Copies of a row group's bytes: as read, cut, in the decoder, and the first two of the next one. */
const ROW_GROUP_COPIES = 5
const SLICE_BYTES_MIN = 8 * MIB
/** A decoded slice, and the columns it is made from. */
const SLICE_COPIES = 2
const BATCH_BYTES_MIN = 4 * MIB
const CORE_BYTES_MIN = 16 * MIB
const CORE_COPIES = 2

export interface MemoryDemand {
  readonly threads: number
  /** Cores: one per view and thread that folds it. */
  readonly ingests: number
  readonly files: EventFiles
}

/** Throws USAGE where it can't be kept. */
export async function planMemory(bytes: number, from: string, demand: MemoryDemand): Promise<MemoryPlan> {
  const { threads, ingests, files } = demand
  const fixed =
    PROCESS_BYTES + threads * THREAD_BYTES + ROW_GROUP_COPIES * (files.format === 'parquet' ? await largest(files) : 0)
  const least = fixed + SLICE_COPIES * SLICE_BYTES_MIN + BATCH_BYTES_MIN + ingests * CORE_COPIES * CORE_BYTES_MIN
  if (bytes < least) {
    throw settingError(
      from,
      `got ${formatBytes(bytes)}, expected at least ${formatBytes(least)} for ${threads} threads, ${ingests} cores and the row groups of these files`,
    )
  }
  const rest = bytes - fixed
  const sliceBytesMax = Math.max(SLICE_BYTES_MIN, Math.min(128 * MIB, rest / 4 / SLICE_COPIES))
  const batchBytesMax = Math.max(BATCH_BYTES_MIN, Math.min(64 * MIB, rest / 16))
  const coreBytesMax = Math.floor((rest - SLICE_COPIES * sliceBytesMax - batchBytesMax) / ingests / CORE_COPIES)
  return {
    coreBytesMax,
    // A flush orders its delta beside it.
    deltaBytesMax: Math.floor(Math.min(64 * MIB, coreBytesMax / 2)),
    batchBytesMax: Math.floor(batchBytesMax),
    sliceBytesMax: Math.floor(sliceBytesMax),
  }
}

/** Bytes of the largest row group, by its share of its file's rows. */
async function largest({ paths }: EventFiles): Promise<number> {
  let most = 0
  for (const path of paths) {
    const groups = await listRowGroups([path])
    const rows = groups.reduce((sum, group) => sum + group.rows, 0)
    const { size } = await stat(path)
    for (const group of groups) most = Math.max(most, (size * group.rows) / Math.max(1, rows))
  }
  return Math.ceil(most)
}
