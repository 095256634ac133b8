/**
 * A mirrored partition as an input log: what its topic would have given, from files.
 *
 *   manifest → files in log order → row groups → columns, positions = offsets, record times ─┬─> batches
 *              byte for byte as written └─ rows without columns → decoded again for these inputs ┘
 *
 * Mirror and topic are interchangeable: rows come in log order with the offsets and record times that the log gave them,
 * records that cannot be decoded are rejected here as they are there, and a batch that ends with a record whose hash is
 * known says so, for the marker. A file whose columns were declared otherwise than the inputs now are is decoded from its
 * payloads, where they were kept.
 */
import path from 'node:path'
import { bitAt, type Column, type ColumnBatch, sliceBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn } from '../model/plan.ts'
import { logOfPartition } from '../model/view-layout.ts'
import { createJsonDecoder, type JsonDecoder } from './json-messages.ts'
import { checkContent, checkMirror, type FoundFile, filesBetween } from './mirror-check.ts'
import type { DeclaredColumn, MirrorFacts } from './mirror-manifest.ts'
import { listRowGroups, readRowGroups } from './parquet.ts'
import type { Source, SourceBatch, SourceOptions } from './port.ts'
import type { StreamMessage } from './stream.ts'

export interface MirrorReadOptions extends SourceOptions {
  readonly dir: string
  readonly topic: string
  readonly partition: number
  /** First offset; the mirror's first unless told. */
  readonly from?: number
  /** Offset behind the last; the mirror's end unless told. */
  readonly to?: number
}

export interface MirrorBatch extends SourceBatch {
  /** Of the batch's last record, as `record-hash.ts` has it; '' where it is not known. */
  readonly hash: string
}

const OWN: readonly InputColumn[] = [
  { name: '_offset', type: 'int64', accepts: ['int64'] },
  { name: '_record_ts', type: 'timestamp', unit: 'ms', accepts: ['int64'] },
  { name: '_error', type: 'utf8', accepts: ['utf8'] },
  { name: '_value', type: 'utf8', accepts: ['utf8'] },
]
const BYTES: ReadonlySet<string> = new Set(['_value'])

/** A mirrored partition as a source, from any offset on. */
export function createMirrorSource(options: MirrorReadOptions): Source {
  const { topic, partition, dir, from } = options
  return {
    log: logOfPartition(topic, partition),
    async *read(fromPosition, signal) {
      const first = from ?? (await checkMirror(dir, topic, partition))[0]!.entry.facts.start
      yield* readMirror({ ...options, from: Math.max(first, fromPosition) }, signal)
    },
    // Offsets are not counts: nobody may take one for the other.
    rowsTotal: async () => undefined,
  }
}

/** Throws SOURCE_NOT_FOUND, MIRROR_INVALID, LOG_GAP, SOURCE_CORRUPT, COLUMN_MISSING. */
export async function* readMirror(
  options: MirrorReadOptions,
  signal?: AbortSignal,
): AsyncGenerator<MirrorBatch, void, undefined> {
  const { dir, topic, partition, inputs } = options
  const files = await checkMirror(dir, topic, partition)
  const from = options.from ?? files[0]!.entry.facts.start
  const to = options.to ?? files.at(-1)!.entry.facts.end + 1
  const wanted = filesBetween(files, from, to)
  const rowsTotal = wanted.reduce((sum, { entry }) => sum + entry.facts.rows, 0)
  const decoder = createJsonDecoder({ inputs, onReject: (record) => options.onReject?.(record) })
  let rowsDone = 0
  for (const file of wanted) {
    const { facts } = file.entry
    await checkContent(file, signal)
    const hashes = new Map(facts.hashes)
    const own = { ...options, inputs: [...columnsOf(file, inputs), ...OWN], bytes: BYTES }
    for await (const { batch, origin } of readRowGroups(await listRowGroups([file.path]), own, 0, signal)) {
      rowsDone += batch.length
      const rows = new StoredRows(batch, inputs)
      for (const part of rows.between(from, to, decoder, own.inputs.length === OWN.length)) {
        const last = (part.positions as Float64Array)[part.length - 1]!
        yield { batch: part, origin, rowsDone, rowsTotal, hash: hashes.get(last) ?? '' }
      }
    }
  }
}

/** The columns to read: none where the payloads have to be decoded again. Throws COLUMN_MISSING, COLUMN_TYPE. */
function columnsOf({ entry, path: file }: FoundFile, inputs: readonly InputColumn[]): readonly InputColumn[] {
  const { facts } = entry
  const odd = inputs.find((input) => !facts.inputs.some((declared) => isSame(declared, input)))
  if (odd === undefined) return inputs.map((input) => (input.type === 'timestamp' ? { ...input, unit: 'ms' } : input))
  if (facts.keepsValues) return []
  throw otherColumn(odd, facts, file)
}

function isSame(a: DeclaredColumn, b: DeclaredColumn): boolean {
  if (a.name !== b.name || a.type !== b.type) return false
  return (a.scale ?? 0) === (b.scale ?? 0) && (a.type !== 'timestamp' || (a.unit ?? 'ms') === (b.unit ?? 'ms'))
}

function otherColumn(input: InputColumn, { inputs }: MirrorFacts, file: string): TilefoldError {
  const found = inputs.find(({ name }) => name === input.name)
  const name = JSON.stringify(input.name)
  const unit = (each: DeclaredColumn) => (each.unit === undefined ? each.type : `${each.type}[${each.unit}]`)
  const got = found === undefined ? 'no such column' : `one declared as ${unit(found)}`
  return new TilefoldError(
    found === undefined ? 'COLUMN_MISSING' : 'COLUMN_TYPE',
    `cannot read column ${name} of ${path.basename(file)}: the mirror kept no payloads to decode it from; got ${got}, expected ${unit(input)}`,
    { file, column: input.name },
  )
}

/** Some rows of a file. */
class StoredRows {
  readonly #batch: ColumnBatch
  readonly #offsets: Float64Array
  readonly #times: Float64Array
  readonly #errors: Column
  readonly #values: Column
  readonly #columns: readonly Column[]

  constructor(batch: ColumnBatch, inputs: readonly InputColumn[]) {
    const column = (name: string) => batch.columns.find((each) => each.name === name)!
    this.#batch = batch
    this.#offsets = wholeCells(column('_offset'), batch.length)
    this.#times = wholeCells(column('_record_ts'), batch.length)
    this.#errors = column('_error')
    this.#values = column('_value')
    this.#columns = inputs.flatMap((input) => {
      const found = batch.columns.find((each) => each.name === input.name)
      // The plain profile has no units of its own: instants are milliseconds all the same.
      return found ? [input.type === 'timestamp' ? { ...found, unit: 'ms' as const } : found] : []
    })
  }

  /** Batches of the rows with offsets in `[from, to)`; those without columns, or all of them, out of their payloads. */
  *between(from: number, to: number, decoder: JsonDecoder, decodesAll: boolean): Generator<ColumnBatch> {
    const first = this.#firstAt(from)
    const end = this.#firstAt(to)
    for (let start = first; start < end; ) {
      const decodes = decodesAll || this.#hasError(start)
      let stop = start + 1
      while (stop < end && (decodesAll || this.#hasError(stop) === decodes)) stop++
      const part = decodes ? decoder.decode(this.#messages(start, stop)) : this.#slice(start, stop)
      if (part.length > 0) yield part
      start = stop
    }
  }

  #slice(start: number, stop: number): ColumnBatch {
    const { length } = this.#batch
    const whole = { length, columns: this.#columns, positions: this.#offsets, recordTimes: this.#times }
    return sliceBatch(whole, start, stop)
  }

  #messages(start: number, stop: number): StreamMessage[] {
    const messages: StreamMessage[] = []
    for (let row = start; row < stop; row++) {
      messages.push({
        key: null,
        value: this.#valueAt(row),
        timestamp: String(this.#times[row]),
        offset: String(this.#offsets[row]),
      })
    }
    return messages
  }

  #valueAt(row: number): Buffer | null {
    const { values, offsets, validity, bitOffset = 0 } = this.#values
    if (validity !== undefined && !bitAt(validity, bitOffset + row)) return null
    const bytes = values.subarray(offsets![row]!, offsets![row + 1]!)
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  #hasError(row: number): boolean {
    const { validity, bitOffset = 0 } = this.#errors
    return validity === undefined || bitAt(validity, bitOffset + row)
  }

  #firstAt(offset: number): number {
    let [low, high] = [0, this.#batch.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#offsets[middle]! < offset) low = middle + 1
      else high = middle
    }
    return low
  }
}

function wholeCells({ values }: Column, length: number): Float64Array {
  return Float64Array.from(new BigInt64Array(values.buffer, values.byteOffset, length), Number)
}
