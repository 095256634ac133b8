/** Made-up events for any definition: columns of the declared types, entities drawn by Zipf. For sizing, not for meaning. */
import type { ViewDefinition } from '../src/define/view.ts'
import type { Column, ColumnBatch, TimeUnit } from '../src/model/columns.ts'
import type { InputColumn, StatePlan } from '../src/model/plan.ts'
import { Random, zipfSampler } from './random.ts'
import { createKeys, keyColumn } from './workload.ts'

const WORDS = createKeys(16)
/** Units of one millisecond; coarser ones are made by dividing. */
const UNITS_PER_MS: Record<TimeUnit, number> = { ns: 1e6, us: 1e3, ms: 1, s: 1e-3, day: 1 / 86_400_000 }

export class SyntheticEvents {
  private readonly random: Random
  private readonly nextEntity: () => number
  private readonly keys: ReturnType<typeof createKeys>
  private position = 0

  constructor(
    private readonly view: ViewDefinition,
    private readonly state: StatePlan,
    entityCount: number,
    skew: number,
    seed: number,
  ) {
    this.random = new Random(seed)
    this.nextEntity = skew > 0 ? zipfSampler(entityCount, skew, this.random) : () => this.random.below(entityCount)
    this.keys = createKeys(entityCount)
  }

  /** `length` events in time order, spread over `[startMs, endMs)`; positions go on from batch to batch. */
  batch(length: number, startMs: number, endMs: number): ColumnBatch {
    const entities = Uint32Array.from({ length }, () => this.nextEntity())
    const times = Float64Array.from({ length }, (_, i) => startMs + Math.floor((i * (endMs - startMs)) / length))
    const columns = this.state.inputs.map((input) => this.column(input, entities, times))
    const positions = this.position
    this.position += length
    return { length, columns, positions }
  }

  private column(input: InputColumn, entities: Uint32Array, times: Float64Array): Column {
    const { name, type } = input
    const length = times.length
    if (type === 'timestamp') {
      const scale = UNITS_PER_MS[input.unit ?? 'ms']
      return whole(
        name,
        Array.from(times, (ms) => BigInt(Math.floor(ms * scale))),
      )
    }
    const isEntity = this.view.entity.includes(name)
    const isId = this.view.dedupe?.id === name
    if (type === 'utf8') {
      const source = isEntity ? this.keys : WORDS
      const cells = isEntity ? entities : Uint32Array.from({ length }, () => this.random.below(WORDS.count))
      if (isId)
        return text(
          name,
          Array.from({ length }, (_, i) => `event-${this.position + i}`),
        )
      const { offsets, bytes } = keyColumn(source, cells)
      return { name, type, values: bytes, offsets }
    }
    if (type === 'bool') {
      const values = new Uint8Array((length + 7) >> 3)
      for (let i = 0; i < length; i++) {
        if ((isEntity ? entities[i]! & 1 : this.random.below(2)) === 1) values[i >> 3]! |= 1 << (i & 7)
      }
      return { name, type, values }
    }
    if (type === 'float64') {
      const cells = Float64Array.from({ length }, () => this.random.below(100_000) / 100)
      return { name, type, values: new Uint8Array(cells.buffer) }
    }
    const number = (i: number) =>
      BigInt(isId ? this.position + i : isEntity ? entities[i]! : this.random.below(100_000))
    const numbers = Array.from({ length }, (_, i) => number(i))
    if (type === 'int64') return whole(name, numbers)
    // decimal: 16 bytes, the high half zero
    const cells = BigInt64Array.from(numbers.flatMap((low) => [low, 0n]))
    return { name, type: 'decimal128', scale: input.scale, values: new Uint8Array(cells.buffer) }
  }
}

function whole(name: string, numbers: readonly bigint[]): Column {
  return { name, type: 'int64', values: new Uint8Array(BigInt64Array.from(numbers).buffer) }
}

function text(name: string, cells: readonly string[]): Column {
  const bytes = Buffer.from(cells.join(''), 'latin1')
  const offsets = new Int32Array(cells.length + 1)
  for (const [i, cell] of cells.entries()) offsets[i + 1] = offsets[i]! + cell.length
  return { name, type: 'utf8', values: bytes, offsets }
}
