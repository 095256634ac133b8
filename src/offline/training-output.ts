/**
 * A training set as a file, or as Arrow's record batches. A file is complete or it isn't there (output-file.ts).
 */
import { CELL_BYTES, type Column, type ColumnBatch, type PhysicalType } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import { type ArrowRecordBatch, encodeArrowFile, recordBatchOf } from '../source/arrow.ts'
import { ParquetWriter } from '../source/parquet-writer.ts'
import { ColumnBuffer, type WriterField, type WriterType } from '../source/parquet-writer-columns.ts'
import { OutputFile } from './output-file.ts'

export type OutputFormat = 'parquet' | 'arrow'

/** By the ending of the name. Throws USAGE. */
export function outputFormat(path: string): OutputFormat {
  if (/\.parquet$/i.test(path)) return 'parquet'
  if (/\.(arrow|feather)$/i.test(path)) return 'arrow'
  throw new TilefoldError(
    'USAGE',
    `cannot write ${path}: got the ending of no format, expected .parquet, .arrow or .feather`,
  )
}

/** Rows of a Parquet row group, or fewer where they are wide. */
const GROUP_ROWS = 262_144
const GROUP_BYTES = 64 << 20

/** Writes all batches; returns the bytes. Throws OUTPUT_FAILED, and whatever `batches` throws; then nothing is left behind. */
export async function writeTrainingSet(
  path: string,
  batches: AsyncIterable<ColumnBatch>,
  metadata: Readonly<Record<string, string>>,
): Promise<number> {
  const format = outputFormat(path)
  const file = await OutputFile.create(path)
  try {
    if (format === 'parquet') await writeParquet(file, batches, metadata)
    else for await (const bytes of encodeArrowFile(arrowBatches(batches))) await file.write(bytes)
    await file.finish()
    return file.bytes
  } catch (error) {
    await file.discard()
    throw error
  }
}

async function writeParquet(
  file: OutputFile,
  batches: AsyncIterable<ColumnBatch>,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  let writer: ParquetWriter | undefined
  for await (const batch of batches) {
    const columns = batch.columns.map(writable)
    writer ??= new ParquetWriter(columns.map(writerField), { compression: 'zstd', isPlain: false }, file)
    for (const [i, column] of columns.entries()) writer.columns[i]!.append(column, 0, batch.length)
    if (writer.waitingRows >= GROUP_ROWS || writer.waitingBytes >= GROUP_BYTES) await writer.endRowGroup()
  }
  if (writer === undefined || writer.rows === 0) throw noRows()
  await writer.finish(metadata)
}

/** The batches as Arrow's. Throws COLUMN_TYPE. */
export async function* arrowBatches(
  batches: AsyncIterable<ColumnBatch>,
): AsyncGenerator<ArrowRecordBatch, void, undefined> {
  for await (const batch of batches) {
    const columns = batch.columns.map((each) => {
      const column = writable(each)
      // Bitmaps from bit 0 and texts from byte 0, whatever slice the column was of.
      const buffer = new ColumnBuffer(writerField(column))
      buffer.append(column, 0, batch.length)
      return buffer.take()
    })
    yield recordBatchOf(columns, batch.length)
  }
}

function noRows(): TilefoldError {
  return new TilefoldError('OUTPUT_FAILED', 'cannot write a training set: the spine has no rows')
}

// ---- types -----------------------------------------------------------------------------------------------------------

/** What each physical type is written as: the next wider one of those that every reader takes. */
const WRITTEN: Record<PhysicalType, WriterType> = {
  bool: 'bool',
  int8: 'int32',
  int16: 'int32',
  int32: 'int32',
  int64: 'int64',
  uint8: 'int32',
  uint16: 'int32',
  uint32: 'int64',
  uint64: 'int64',
  float32: 'float64',
  float64: 'float64',
  decimal128: 'decimal128',
  utf8: 'utf8',
}

function writerField({ name, type, unit, scale }: Column): WriterField {
  return { name, type: WRITTEN[type], unit, scale }
}

/** The column in the type that it is written as. Seconds become milliseconds. Throws COLUMN_TYPE. */
function writable(column: Column): Column {
  const { type, unit } = column
  const length = type === 'utf8' || type === 'bool' ? 0 : Math.floor(column.values.length / CELL_BYTES[type])
  if (unit === 's') return { ...column, type: 'int64', unit: 'ms', values: wider(column, length, 'int64', 1000n) }
  if (type === WRITTEN[type] && (unit === undefined || type === 'int64' || unit === 'day')) return column
  if (unit !== undefined) return { ...column, type: 'int64', values: wider(column, length, 'int64', 1n) }
  const to = WRITTEN[type]
  if (to === 'int32' || to === 'int64') return { ...column, type: to, values: wider(column, length, to, 1n) }
  return { ...column, type: 'float64', values: new Uint8Array(Float64Array.from(cellsOf(column, length)).buffer) }
}

function wider(column: Column, length: number, to: 'int32' | 'int64', factor: bigint): Uint8Array {
  const cells = cellsOf(column, length)
  if (to === 'int32') return new Uint8Array(Int32Array.from(cells as ArrayLike<number>).buffer)
  const longs = new BigInt64Array(length)
  for (let i = 0; i < length; i++) {
    const value = BigInt(cells[i]!) * factor
    if (value !== BigInt.asIntN(64, value)) {
      throw new TilefoldError(
        'COLUMN_TYPE',
        `cannot write column ${JSON.stringify(column.name)}: got ${cells[i]}, expected what fits int64`,
        { column: column.name },
      )
    }
    longs[i] = value
  }
  return new Uint8Array(longs.buffer)
}

const CELLS = {
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  float32: Float32Array,
  float64: Float64Array,
}

function cellsOf({ type, values }: Column, length: number): ArrayLike<number> & Iterable<number> {
  const Cells = CELLS[type as keyof typeof CELLS]
  const bytes = values.byteOffset % Cells.BYTES_PER_ELEMENT === 0 ? values : values.slice()
  return new Cells(bytes.buffer as ArrayBuffer, bytes.byteOffset, length) as unknown as Float64Array
}
