/**
 * The sampled rows of one log anew, out of its records: the whole walk with clocks and dedupe, but only the sample is folded.
 *
 * It stops at each position that some stored row stands for, and takes the rows of that position as they are then.
 */
import { loadCore } from '../engine/module.ts'
import { Ingest } from '../ingest/ingest.ts'
import { type ColumnBatch, sliceBatch } from '../model/columns.ts'
import type { Plan } from '../model/plan.ts'
import type { Source } from '../source/port.ts'
import { createMemoryStore } from '../store/memory.ts'
import type { Sample } from './parity-sample.ts'
import { isSampled } from './parity-sample.ts'

export interface ReplayOptions {
  readonly plan: Plan
  readonly source: Source
  readonly sample: Sample
  /** Bounds the late clock, where the log has no record times. */
  readonly notAfterMs: number
  readonly completeSinceMs: number
  /** Where the entity's row is to be taken. */
  readonly positionOf: (key: Uint8Array, hex: string) => number
  /** Every position that `positionOf` may give, ascending. */
  readonly positions: readonly number[]
  readonly signal?: AbortSignal
}

export interface Replayed {
  /** Rows by the hex of their key. */
  readonly rows: ReadonlyMap<string, Uint8Array>
  /** How far the watermark came. */
  readonly watermarkMs: number
  readonly records: number
}

/** Throws SOURCE_CORRUPT, MIRROR_INVALID, COLUMN_*. */
export async function replaySample(options: ReplayOptions): Promise<Replayed> {
  const { plan, source, sample, positions, signal } = options
  const store = createMemoryStore()
  const lanes = Array.from({ length: sample.of }, (_, i) => `parity.${i}`)
  const name = { namespace: 'parity', stateHash: plan.stateHash, generation: 1, lane: lanes[sample.index]! }
  const ingest = await Ingest.open(
    {
      view: plan.view,
      state: plan.state,
      ...name,
      log: source.log,
      lanes,
      shard: sample.index,
      shards: sample.of,
      notAfterMs: options.notAfterMs,
      completeSinceMs: options.completeSinceMs,
      layoutVersion: 1,
      deltaBytesMax: DELTA_BYTES_MAX,
      // Rows are compared at one frontier: where theirs are doesn't matter, and no clock on the wall holds them back.
      isHistory: true,
    },
    { store, core: loadCore(), clock: () => 0, nonce: 'parity' },
  )
  const rows = new Map<string, Uint8Array>()
  const take = async (position: number) => {
    await ingest.flush()
    for await (const { key, bytes } of store.scanRows(name)) {
      const hex = Buffer.from(key).toString('hex')
      if (isSampled(sample, key) && options.positionOf(key, hex) === position) rows.set(hex, bytes.slice())
    }
  }
  const waiting = positions.filter((position) => position >= 0)
  let records = 0
  if (waiting.length > 0) {
    reading: for await (const { batch } of source.read(0, signal)) {
      for (let from = 0; from < batch.length; ) {
        const stop = firstBehind(batch, from, waiting[0]!)
        if (stop > from) await ingest.push(sliceBatch(batch, from, stop))
        records += stop - from
        from = stop
        if (stop === batch.length) break
        await take(waiting.shift()!)
        if (waiting.length === 0) break reading
      }
    }
  }
  for (const position of waiting) await take(position)
  return { rows, watermarkMs: ingest.watermarkMs, records }
}

const DELTA_BYTES_MAX = 64 << 20

/** The first row from `from` on whose position lies behind `position`. */
function firstBehind({ length, positions }: ColumnBatch, from: number, position: number): number {
  if (typeof positions === 'number') return Math.max(from, Math.min(length, position - positions + 1))
  let row = from
  while (row < length && positions[row]! <= position) row++
  return row
}
