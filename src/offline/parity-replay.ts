/**
 * The sampled rows of one log anew, out of its records: the whole walk with clocks and dedupe, but only the sample is folded.
 *
 * It stops at each position that some stored row stands for, and takes the rows of that position as they are then.
 */
import { loadCore } from '../engine/module.ts'
import { Ingest } from '../ingest/ingest.ts'
import { type ColumnBatch, sliceBatch } from '../model/columns.ts'
import type { TakenTimes } from '../model/covers.ts'
import type { Plan } from '../model/plan.ts'
import { requestErase } from '../registry/erase.ts'
import type { Source } from '../source/port.ts'
import { createMemoryStore } from '../store/memory.ts'
import type { LaneName, Store, StoredRow } from '../store/port.ts'
import type { Sample } from './parity-sample.ts'
import { isSampled } from './parity-sample.ts'

export interface ReplayOptions {
  readonly plan: Plan
  readonly source: Source
  readonly sample: Sample
  /** Bounds the late clock, where the log has no record times. */
  readonly notAfterMs: number
  readonly completeSinceMs: number
  /** Event times that the log's lanes take. */
  readonly takes: TakenTimes | undefined
  /** Of the lane: the first position that counts. */
  readonly start?: number
  /** Where the entity's row is to be taken. */
  readonly positionOf: (key: Uint8Array, hex: string) => number
  /** Every position that `positionOf` may give, ascending. */
  readonly positions: readonly number[]
  readonly signal?: AbortSignal
  /** Events of these entities, by the hex of their keys, count from this event time on; all of everybody's unless told. */
  readonly forgotten?: ReadonlyMap<string, number>
  /** Holds the rows' frontiers back, so that they can answer as of an instant so early; nothing does unless told. */
  readonly heldMs?: () => number
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
  const { sample, positions, signal } = options
  const replay = await Replay.open(options)
  const rows = new Map<string, Uint8Array>()
  const waiting = positions.filter((position) => position >= (options.start ?? 0))
  const records = await replay.run(waiting, signal, async (position) => {
    for await (const { key, bytes } of replay.rows()) {
      const hex = Buffer.from(key).toString('hex')
      if (isSampled(sample, key) && options.positionOf(key, hex) === position) rows.set(hex, bytes.slice())
    }
  })
  return { rows, watermarkMs: replay.watermarkMs, records }
}

/** One log through the walk, into a store of its own. */
export class Replay {
  readonly #source: Source
  readonly #store: Store
  readonly #lane: LaneName
  readonly #ingest: Ingest

  private constructor(source: Source, store: Store, lane: LaneName, ingest: Ingest) {
    this.#source = source
    this.#store = store
    this.#lane = lane
    this.#ingest = ingest
  }

  static async open(options: Omit<ReplayOptions, 'positionOf' | 'positions' | 'signal'>): Promise<Replay> {
    const { plan, source, sample } = options
    const store = createMemoryStore()
    const lanes = Array.from({ length: sample.of }, (_, i) => `parity.${i}`)
    const name = { namespace: 'parity', stateHash: plan.stateHash, generation: 1, lane: lanes[sample.index]! }
    // The walk reads its own store's list.
    for (const [key, atMs] of options.forgotten ?? []) {
      await requestErase({ store, namespace: name.namespace }, { views: [plan.view], states: [], key, atMs })
    }
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
        start: options.start,
        layoutVersion: 1,
        deltaBytesMax: DELTA_BYTES_MAX,
        // Rows are compared at one frontier: where theirs are doesn't matter, and no clock on the wall holds them back.
        isHistory: options.heldMs === undefined,
        takes: options.takes,
      },
      { store, core: loadCore(), clock: options.heldMs ?? (() => 0), nonce: 'parity' },
    )
    return new Replay(source, store, name, ingest)
  }

  get watermarkMs(): number {
    return this.#ingest.watermarkMs
  }

  rows(): AsyncIterable<StoredRow> {
    return this.#store.scanRows(this.#lane)
  }

  async rowsOf(keys: readonly Uint8Array[]): Promise<(Uint8Array | undefined)[]> {
    const found = new Array<Uint8Array | undefined>(keys.length)
    const reads = keys.map((key) => ({ lane: this.#lane, key }))
    await this.#store.readRows(reads, (index, bytes) => {
      found[index] = bytes?.slice()
    })
    return found
  }

  /**
   * Reads up to each of the ascending positions, and no further than the last; rows are as of it while `at` is called. Returns
   * the records that were read. An abort ends the reading; the positions behind it are called for as far as the log was read.
   */
  async run(
    positions: readonly number[],
    signal: AbortSignal | undefined,
    at: (position: number) => Promise<void>,
  ): Promise<number> {
    const waiting = [...positions]
    const take = async (position: number) => {
      await this.#ingest.flush()
      await at(position)
    }
    let records = 0
    if (waiting.length > 0) {
      reading: for await (const { batch } of this.#source.read(0, signal)) {
        for (let from = 0; from < batch.length; ) {
          const stop = firstBehind(batch, from, waiting[0]!)
          if (stop > from) await this.#ingest.push(sliceBatch(batch, from, stop))
          records += stop - from
          from = stop
          if (stop === batch.length) break
          await take(waiting.shift()!)
          if (waiting.length === 0) break reading
        }
      }
    }
    for (const position of waiting) await take(position)
    return records
  }
}

const DELTA_BYTES_MAX = 64 << 20

/** The first row from `from` on whose position lies behind `position`. */
function firstBehind({ length, positions }: ColumnBatch, from: number, position: number): number {
  if (typeof positions === 'number') return Math.max(from, Math.min(length, position - positions + 1))
  let row = from
  while (row < length && positions[row]! <= position) row++
  return row
}
