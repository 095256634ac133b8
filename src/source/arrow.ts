/**
 * Arrow as an input: files and streams of the IPC format, and tables that an embedding program pushes.
 *
 * A file's batches are read one at a time. Reading on from a position reads what lies before as well, since a batch's
 * length is known only from the batch, but converts none of it.
 */
import { type FileHandle, open } from 'node:fs/promises'
import path from 'node:path'
import {
  type AsyncRecordBatchFileReader,
  type AsyncRecordBatchStreamReader,
  RecordBatchReader,
  tableFromIPC,
} from 'apache-arrow'
import { type ColumnBatch, sliceBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn } from '../model/plan.ts'
import { type ArrowBatch, type ArrowSchema, columnsOfBatch, fieldsOfSchema } from './arrow-columns.ts'
import { listFiles } from './files.ts'
import { matchInputs, type SourceField } from './match.ts'
import { BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX, type Source, type SourceBatch, type SourceOptions } from './port.ts'
import { checkPositions, type Positions } from './rows.ts'

export interface ArrowOptions extends SourceOptions {
  readonly log: string
  /** Files, directories and simple globs; see `listFiles`. */
  readonly paths: readonly string[]
}

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
        for await (const { batch, place } of readFile(file, options)) {
          signal?.throwIfAborted()
          const first = position
          position += batch.numRows
          if (position <= fromPosition) continue
          const origin = `${path.basename(file)}, record batch ${place}`
          yield* convertBatch(batch, origin, first, fromPosition, options)
        }
      }
    },
    async rowsTotal() {
      return undefined
    },
  }
}

/** An IPC stream from elsewhere (standard input, a response): any chunks of bytes. Errors name it `name`. */
export async function* readArrowStream(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  options: SourceOptions,
): AsyncGenerator<SourceBatch, void, undefined> {
  let position = 0
  let place = 0
  for await (const batch of recordBatches(() => RecordBatchReader.from(chunks), name)) {
    yield* convertBatch(batch, `${name}, record batch ${place}`, position, 0, options)
    position += batch.numRows
    place++
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

async function* readFile(
  file: string,
  options: SourceOptions,
): AsyncGenerator<{ readonly batch: ArrowBatch; readonly place: number }> {
  const handle = await open(file).catch((error: NodeJS.ErrnoException) => {
    const cause = error.code === 'ENOENT' ? 'no such file' : error.message
    throw new TilefoldError('SOURCE_NOT_FOUND', `cannot open ${file}: ${cause}`, { file }, { cause: error })
  })
  try {
    await checkEnds(handle, file, options)
    let place = 0
    for await (const batch of recordBatches(() => RecordBatchReader.from(handle), file)) {
      yield { batch, place }
      place++
    }
  } finally {
    await handle.close()
  }
}

type ArrowReader = AsyncRecordBatchFileReader | AsyncRecordBatchStreamReader

/** The batches of a reader; whatever the library throws on damaged bytes becomes SOURCE_CORRUPT. */
async function* recordBatches(openReader: () => Promise<unknown>, name: string): AsyncGenerator<ArrowBatch> {
  let reader: ArrowReader | undefined
  try {
    reader = await ((await openReader()) as ArrowReader).open({ autoDestroy: false })
  } catch (error) {
    throw corrupt(name, error)
  }
  if (reader === undefined || (reader.schema as unknown) === undefined)
    throw corrupt(name, new Error('it has no schema'))
  try {
    for (;;) {
      let next: Awaited<ReturnType<ArrowReader['next']>>
      try {
        next = await reader.next()
      } catch (error) {
        throw corrupt(name, error)
      }
      if (next.done) return
      yield next.value as unknown as ArrowBatch
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

const FILE_MAGIC = 'ARROW1'
const STREAM_END = 'ffffffff00000000'

/** A file that opens as an Arrow file must close as one; a stream cut between two messages looks whole. */
async function checkEnds(handle: FileHandle, file: string, options: SourceOptions): Promise<void> {
  const { size } = await handle.stat()
  const head = Buffer.alloc(6)
  const tail = Buffer.alloc(8)
  await handle.read(head, 0, 6, 0)
  await handle.read(tail, 0, 8, Math.max(0, size - 8))
  if (size < 8) throw corrupt(file, new Error(`it has ${size} bytes`))
  if (head.toString('latin1') === FILE_MAGIC) {
    if (tail.subarray(2).toString('latin1') === FILE_MAGIC) return
    throw corrupt(file, new Error('it does not end as an Arrow file does (was it written to its end?)'))
  }
  if (tail.toString('hex') !== STREAM_END) {
    options.onWarning?.(`${file} ends without Arrow's end-of-stream mark: if its writer sets one, the file is cut off`)
  }
}

function corrupt(name: string, cause: unknown): TilefoldError {
  const message = cause instanceof Error ? cause.message : String(cause)
  return new TilefoldError('SOURCE_CORRUPT', `cannot read ${name}: ${message}`, { file: name }, { cause })
}
