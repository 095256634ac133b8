/**
 * Arrow as an input: files and streams of the IPC format, and tables that an embedding program pushes.
 *
 * A file's batches are read one at a time. Reading on from a position reads the metadata of what lies before (a batch's
 * length is known from nowhere else) and skips the rest of it.
 */
import { type FileHandle, open } from 'node:fs/promises'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import {
  Binary,
  Bool,
  type DataType,
  DateDay,
  Decimal,
  Field,
  Float64,
  Int32,
  Int64,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  RecordBatchReader,
  type RecordBatchStreamReader,
  Schema,
  Struct,
  Table,
  TimestampMicrosecond,
  TimestampMillisecond,
  TimestampNanosecond,
  tableFromIPC,
  tableToIPC,
  Utf8,
} from 'apache-arrow'
import { type ColumnBatch, sliceBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn } from '../model/plan.ts'
import { columnsOfBatch, fieldsOfSchema } from './arrow-columns.ts'
import type { ArrowBatch, ArrowSchema } from './arrow-data.ts'
import { listFiles } from './files.ts'
import { chunkedMessages, fileMessages, type Messages } from './ipc.ts'
import { matchInputs, type SourceField } from './match.ts'
import type { WriterColumn, WriterField } from './parquet-writer-columns.ts'
import { BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX, type Source, type SourceBatch, type SourceOptions } from './port.ts'
import { checkPositions, type Positions } from './rows.ts'

export interface ArrowOptions extends SourceOptions {
  readonly log: string
  /** Files, directories and simple globs; see `listFiles`. */
  readonly paths: readonly string[]
}

/** A record batch of the library. */
export type ArrowRecordBatch = RecordBatch

/** A table, or one record batch of it, of any copy of the Arrow library. */
export type PushedArrow = ArrowBatch | { readonly schema: ArrowSchema; readonly batches: readonly ArrowBatch[] }

/** The fields of a schema that comes as an IPC stream. */
export function readSchemaFields(stream: Uint8Array): readonly SourceField[] {
  return fieldsOfSchema(tableFromIPC(stream).schema)
}

/**
 * Arrow IPC files (`.arrow`, `.feather`, `.arrows`) as a source; rows are numbered on over the files. Throws
 * SOURCE_NOT_FOUND, SOURCE_CORRUPT, COLUMN_MISSING and COLUMN_TYPE as it reads.
 */
export function createArrowSource(options: ArrowOptions): Source {
  return {
    log: options.log,
    async *read(fromPosition, signal) {
      let position = 0
      for (const file of await listFiles(options.paths, ['.arrow', '.arrows', '.feather'])) {
        const handle = await openFile(file)
        try {
          const messages = fileMessages(handle, (rows) => position + rows <= fromPosition)
          for await (const { batch, rows, place } of recordBatches(messages, file, options)) {
            signal?.throwIfAborted()
            const origin = `${path.basename(file)}, record batch ${place}`
            if (batch !== undefined) yield* convertBatch(batch, origin, position, fromPosition, options)
            position += rows
          }
        } finally {
          await handle.close()
        }
      }
    },
    async rowsTotal() {
      return undefined
    },
  }
}

/** The columns of a file as a definition may name them. Throws SOURCE_NOT_FOUND, SOURCE_CORRUPT. */
export async function describeArrow(file: string): Promise<readonly SourceField[]> {
  const handle = await openFile(file)
  try {
    const { value } = await fileMessages(handle, () => true).next()
    if (typeof value === 'boolean' || value?.kind !== 'schema') throw new RangeError('it has no schema')
    return readSchemaFields(value.bytes!)
  } catch (error) {
    throw corrupt(file, error)
  } finally {
    await handle.close()
  }
}

/** An IPC stream from elsewhere (standard input, a response): any chunks of bytes. Errors name it `name`. */
export async function* readArrowStream(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  options: SourceOptions,
): AsyncGenerator<SourceBatch, void, undefined> {
  let position = 0
  const messages = chunkedMessages(chunks, () => false)
  for await (const { batch, rows, place } of recordBatches(messages, name, options)) {
    if (batch !== undefined) yield* convertBatch(batch, `${name}, record batch ${place}`, position, 0, options)
    position += rows
  }
}

/**
 * What a program pushes: a table's batches, or one record batch, with their positions.
 * Throws BATCH_INVALID, COLUMN_MISSING, COLUMN_TYPE and POSITION_INVALID. Buffers are lent until the push is done.
 */
export function arrowToBatches(
  data: PushedArrow,
  inputs: readonly InputColumn[],
  positions: Positions,
): readonly ColumnBatch[] {
  const fields = matchInputs(inputs, fieldsOfSchema(data.schema), 'the pushed table')
  const batches = 'batches' in data ? data.batches : [data]
  const rows = batches.reduce((sum, batch) => sum + batch.numRows, 0)
  const checked = checkPositions(
    typeof positions === 'string' ? positionsOf(batches, data.schema, positions, rows) : positions,
    rows,
  )
  let start = 0
  return batches.map((batch): ColumnBatch => {
    const first = start
    start += batch.numRows
    const length = batch.numRows
    try {
      return {
        length,
        columns: columnsOfBatch(batch, inputs, fields),
        positions: typeof checked === 'number' ? checked + first : checked.subarray(first, start),
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw new TilefoldError('BATCH_INVALID', `cannot take the pushed table: ${error.message}`, {}, { cause: error })
    }
  })
}

/** The positions that a column of the table holds. */
function positionsOf(batches: readonly ArrowBatch[], schema: ArrowSchema, name: string, rows: number): Float64Array {
  const input: InputColumn = { name, type: 'int64', accepts: ['int64', 'uint64', 'int32', 'uint32', 'float64'] }
  const fields = matchInputs([input], fieldsOfSchema(schema), 'the pushed table')
  const at = schema.fields.findIndex((field) => field.name === name)
  const positions = new Float64Array(rows)
  let row = 0
  for (const batch of batches) {
    const [column] = columnsOfBatch(batch, [input], fields)
    if (column?.validity !== undefined) {
      throw new TilefoldError('POSITION_INVALID', `cannot take offset: column ${JSON.stringify(name)} holds nulls`)
    }
    const cells = batch.data.children[at]!.values as unknown as ArrayLike<number | bigint>
    for (let i = 0; i < batch.numRows; i++) positions[row++] = Number(cells[i])
  }
  return positions
}

function* convertBatch(
  batch: ArrowBatch,
  origin: string,
  first: number,
  fromPosition: number,
  options: SourceOptions,
): Generator<SourceBatch> {
  const fields = matchInputs(options.inputs, fieldsOfSchema(batch.schema), origin)
  let whole: ColumnBatch
  try {
    whole = { length: batch.numRows, columns: columnsOfBatch(batch, options.inputs, fields), positions: first }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw corrupt(origin, error)
  }
  const batchRows = Math.min(options.batchRows ?? BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX)
  for (let start = Math.max(0, fromPosition - first); start < whole.length; start += batchRows) {
    const end = Math.min(start + batchRows, whole.length)
    yield { batch: sliceBatch(whole, start, end), origin, rowsDone: first + end }
  }
}

interface ReadBatch {
  /** Undefined where it was skipped. */
  readonly batch: ArrowBatch | undefined
  readonly rows: number
  readonly place: number
}

/** Record batches in order. Any fault is SOURCE_CORRUPT. */
async function* recordBatches(messages: Messages, name: string, options: SourceOptions): AsyncGenerator<ReadBatch> {
  try {
    const decoder = new MessageDecoder()
    for (let place = 0; ; ) {
      const next = await messages.next()
      if (next.done) {
        if (!decoder.hasSchema) throw new RangeError('it has no schema')
        if (!next.value) warnOfOpenEnd(name, options)
        return
      }
      const { kind, rows, bytes } = next.value
      if (bytes !== undefined) decoder.add(bytes)
      if (kind !== 'batch') continue
      yield { batch: bytes === undefined ? undefined : decoder.next(), rows, place }
      place++
    }
  } catch (error) {
    if (error instanceof TilefoldError) throw error
    throw corrupt(name, error)
  }
}

/** Between two messages the library may ask once or twice for more; a message that it cannot end would ask for ever. */
const PAUSES_MAX = 8
const NO_BYTES = new Uint8Array(0)

/** The library's stream reader, fed message by message. */
class MessageDecoder {
  private readonly queue: Uint8Array[] = []
  private reader: RecordBatchStreamReader | undefined
  private pauses = 0

  get hasSchema(): boolean {
    return this.queue.length > 0 || this.reader !== undefined
  }

  add(message: Uint8Array): void {
    this.queue.push(message)
    this.pauses = 0
  }

  /** The batch whose message was added last. */
  next(): ArrowBatch {
    this.reader ??= (RecordBatchReader.from(this.messages()) as RecordBatchStreamReader).open({ autoDestroy: false })
    const { value, done } = this.reader.next()
    if (done) throw new RangeError('a record batch is shorter than its metadata says')
    return value as unknown as ArrowBatch
  }

  /** The library reads ahead by a chunk: an empty one says that there is nothing yet, where the end would be final. */
  private *messages(): Generator<Uint8Array> {
    while (this.pauses < PAUSES_MAX) {
      const message = this.queue.shift()
      if (message === undefined) this.pauses++
      yield message ?? NO_BYTES
    }
  }
}

/** A stream that is cut between two messages looks whole; its end mark is optional. */
function warnOfOpenEnd(name: string, options: SourceOptions): void {
  options.onWarning?.(`${name} ends without Arrow's end-of-stream mark: if its writer sets one, the file is cut off`)
}

async function openFile(file: string): Promise<FileHandle> {
  return open(file).catch((error: NodeJS.ErrnoException) => {
    const cause = error.code === 'ENOENT' ? 'no such file' : error.message
    throw new TilefoldError('SOURCE_NOT_FOUND', `cannot open ${file}: ${cause}`, { file }, { cause: error })
  })
}

function corrupt(name: string, cause: unknown): TilefoldError {
  const message = cause instanceof Error ? cause.message : String(cause)
  return new TilefoldError('SOURCE_CORRUPT', `cannot read ${name}: ${message}`, { file: name }, { cause })
}

/** Columns of `length` rows as an IPC stream of one record batch. */
export function encodeArrow(columns: readonly WriterColumn[], length: number): Uint8Array {
  return tableToIPC(new Table([recordBatchOf(columns, length)]), 'stream')
}

/** Columns of `length` rows as a record batch; buffers are lent to it. */
export function recordBatchOf(columns: readonly WriterColumn[], length: number): RecordBatch {
  const schema = new Schema(columns.map((column) => new Field(column.name, typeOf(column), column.isRequired !== true)))
  const children = columns.map((column, i) =>
    makeData({
      type: schema.fields[i]!.type,
      length,
      nullCount: column.nulls,
      data: column.values,
      valueOffsets: column.offsets,
      nullBitmap: column.validity,
      // biome-ignore lint/suspicious/noExplicitAny: the library's types know each type's buffers alone, not any of them
    } as any),
  )
  const data = makeData({ type: new Struct(schema.fields), length, nullCount: 0, children })
  return new RecordBatch(schema, data)
}

/** Record batches as the bytes of an IPC file, piece by piece: the next batch is asked for when the last one is taken. */
export async function* encodeArrowFile(batches: AsyncIterable<RecordBatch>): AsyncGenerator<Uint8Array> {
  const writer = new RecordBatchFileWriter()
  const pieces = writer[Symbol.asyncIterator]()
  let next = pieces.next()
  for await (const batch of batches) {
    writer.write(batch)
    for (;;) {
      // Pieces that are there come before any timer.
      const piece = await Promise.race([next, setImmediate(undefined)])
      if (piece === undefined) break
      yield piece.value
      next = pieces.next()
    }
  }
  writer.close()
  for (let piece = await next; !piece.done; piece = await pieces.next()) yield piece.value
}

function typeOf({ type, unit, scale }: WriterField): DataType {
  switch (type) {
    case 'bool':
      return new Bool()
    case 'int32':
      return unit === 'day' ? new DateDay() : new Int32()
    case 'int64':
      if (unit === 'us') return new TimestampMicrosecond('UTC')
      if (unit === 'ns') return new TimestampNanosecond('UTC')
      return unit === undefined ? new Int64() : new TimestampMillisecond('UTC')
    case 'float64':
      return new Float64()
    case 'decimal128':
      return new Decimal(scale ?? 0, 38, 128)
    case 'utf8':
      return new Utf8()
    case 'binary':
      return new Binary()
  }
}
