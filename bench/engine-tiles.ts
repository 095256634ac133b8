/** Reads the tiles back out of stored rows through the merge, as a request would, and checksums them. */
import { Merger } from '../src/engine/merger.ts'
import { loadCore } from '../src/engine/module.ts'
import type { Plan } from '../src/model/plan.ts'
import { addAggregates, Checksum } from './checksum.ts'
import { STEP_MS, type Workload } from './workload.ts'

export interface EntityRow {
  readonly entity: number
  readonly bytes: Uint8Array
}

const ROWS_PER_MERGE = 512

/**
 * The checksum of a contender's tiles. Merging every tile takes longer than a round and leaves garbage behind, so it is
 * done after the first one, whose time does not count; all later rounds must leave equally many bytes behind. (The first
 * one may leave more: arrays that grow under way cost a tile its slot, and it gets a second one.)
 */
export class TileCheck {
  private first: string | undefined
  private deltaBytes: number | undefined

  constructor(
    private readonly plan: Plan,
    private readonly workload: Workload,
  ) {}

  checksum(deltaBytes: number, rows: () => Iterable<EntityRow>): string {
    if (this.first === undefined) {
      this.first = checksumOf(this.plan, this.workload, rows())
      return this.first
    }
    this.deltaBytes ??= deltaBytes
    return deltaBytes === this.deltaBytes ? this.first : `${deltaBytes} bytes instead of ${this.deltaBytes}`
  }
}

function checksumOf(plan: Plan, workload: Workload, rows: Iterable<EntityRow>): string {
  const merger = Merger.create(loadCore(), plan)
  const squares = plan.features.some((feature) => feature.op === 'var_pop')
  const checksum = new Checksum()
  const mergeAll = (chunk: readonly EntityRow[]) => {
    // A window of one step as of a tile's end is that tile.
    for (let tile = 0; tile < workload.tiles; tile++) {
      merger.begin(chunk.length, workload.startMs + (tile + 1) * STEP_MS)
      for (const [i, row] of chunk.entries()) merger.addRow(i, row.bytes)
      merger.run()
      for (const [i, row] of chunk.entries()) {
        const [count, sum, min, max, last] = [0, 1, 2, 3, 4].map((feature) => merger.value(i, feature) as number)
        if (count === 0) continue
        const status = merger.status(i, 1)
        if (status !== 'ok') throw new Error(`tile ${tile} of entity ${row.entity} is ${status}`)
        const values = { count: count!, sum: sum!, min: min!, max: max!, last: last! }
        const variance = squares ? (merger.value(i, 5) as number) : undefined
        const sumOfSquares = variance === undefined ? undefined : squaresFrom(count!, sum!, variance)
        addAggregates(checksum, tile, row.entity, { ...values, squares: sumOfSquares })
      }
    }
  }

  let chunk: EntityRow[] = []
  for (const row of rows) {
    chunk.push(row)
    if (chunk.length < ROWS_PER_MERGE) continue
    mergeAll(chunk)
    chunk = []
  }
  if (chunk.length > 0) mergeAll(chunk)
  return checksum.toString()
}

/**
 * The sum of squares behind a population variance. Values are multiples of 1/8, so it is a multiple of 1/64, below 2^43 of
 * them for the workloads' counts: the rounding of the variance and of this line is far below half of one.
 */
function squaresFrom(count: number, sum: number, variance: number): number {
  return Math.round(64 * (variance * count + (sum * sum) / count)) / 64
}
