/**
 * Parquet files as an input log: files in a fixed order, rows numbered on from 0 over all of them.
 *
 *   footer (footer.ts) → row groups → the needed chunks' bytes → pages checked (pages.ts) → decoder → columns (cdata.ts)
 *
 * One row group is in memory at a time, compressed, and the next one's bytes while it is decoded; of a large row group at
 * most SLICE_ROWS rows are decoded at once. The decoder is WebAssembly and not proof against every damaged file: where it
 * traps, the instance is thrown away and the next read starts a fresh one.
 */
import { createRequire } from 'node:module'
import path from 'node:path'
import { readSchemaFields } from './arrow.ts'
import { copyColumns, type WantedColumn } from './cdata.ts'
import { listFiles } from './files.ts'
import { cutRowGroup, type Footer, type FooterField } from './footer.ts'
import { INT96 } from './int96.ts'
import { matchInputs, type SourceField } from './match.ts'
import { type LoadedRowGroup, ParquetFile, type RowGroup } from './parquet-file.ts'
import type { Compression } from './parquet-writer.ts'
import { BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX, type Source, type SourceBatch, type SourceOptions } from './port.ts'

export type { RowGroup } from './parquet-file.ts'

type Decoder = typeof import('parquet-wasm')
type RecordBatch = import('parquet-wasm').RecordBatch
type Allocate = (bytes: number) => ArrayBuffer

/** Rows decoded at once; some 30 MB at five columns. */
const SLICE_ROWS = 524_288
/** A slice's bytes as the footer states them; dictionaries may make more of them. */
const SLICE_BYTES = 128 * 1024 * 1024

export interface RowGroupOptions extends SourceOptions {
  /** Inputs whose cells are bytes: they are given as text is, and nobody has looked whether they are any. */
  readonly bytes?: ReadonlySet<string>
}

export interface ParquetOptions extends SourceOptions {
  readonly log: string
  /** Files, directories and simple globs; see `listFiles`. */
  readonly paths: readonly string[]
}

/** Parquet files as a source. Throws SOURCE_NOT_FOUND, SOURCE_CORRUPT, COLUMN_MISSING and COLUMN_TYPE as it reads. */
export function createParquetSource(options: ParquetOptions): Source {
  let listed: Promise<readonly RowGroup[]> | undefined
  const list = () => {
    listed ??= listRowGroups(options.paths)
    return listed
  }
  return {
    log: options.log,
    async *read(fromPosition, signal) {
      yield* readRowGroups(await list(), options, fromPosition, signal)
    },
    async rowsTotal() {
      return countRows(await list())
    },
  }
}

/** Every row group of the plan, from the footers alone. */
export async function listRowGroups(paths: readonly string[]): Promise<readonly RowGroup[]> {
  const groups: RowGroup[] = []
  let firstPosition = 0
  for (const name of await listFiles(paths, ['.parquet'])) {
    const file = await ParquetFile.open(name)
    await file.close()
    for (const [rowGroup, { rows }] of file.footer.rowGroups.entries()) {
      groups.push({ path: name, rowGroup, rows, firstPosition })
      firstPosition += rows
    }
  }
  return groups
}

/**
 * Decodes row groups in the order given, from `fromPosition` on: what lies before is not decoded, and not even read
 * where a row group lies before it as a whole. Each batch owns one ArrayBuffer that holds all its columns.
 */
export async function* readRowGroups(
  groups: readonly RowGroup[],
  options: RowGroupOptions,
  fromPosition = 0,
  signal?: AbortSignal,
): AsyncGenerator<SourceBatch, void, undefined> {
  const batchRows = Math.min(options.batchRows ?? BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX)
  const allocate = options.reuseBuffers === true ? reusedBuffer() : (bytes: number) => new ArrayBuffer(bytes)
  const wanted = groups.filter((group) => group.rows > 0 && group.firstPosition + group.rows > fromPosition)
  const rowsTotal = countRows(groups)
  let rowsDone = rowsTotal - countRows(wanted)
  let reader: ParquetReader | undefined
  let ahead: Promise<LoadedRowGroup> | undefined
  try {
    for (const [index, group] of wanted.entries()) {
      signal?.throwIfAborted()
      if (reader?.file.name !== group.path) {
        await reader?.file.close()
        reader = undefined
        reader = await ParquetReader.open(group.path, options)
      }
      const loaded: LoadedRowGroup = await (ahead ?? reader.load(group))
      const next = wanted[index + 1]
      ahead = next?.path === group.path ? reader.load(next) : undefined
      ahead?.catch(() => undefined) // thrown where it is awaited
      const skipped = Math.max(0, fromPosition - group.firstPosition)
      let position = group.firstPosition + skipped
      rowsDone += skipped
      for (const { length, columns } of reader.decode(loaded, skipped, batchRows, allocate, options.sliceBytesMax)) {
        rowsDone += length
        yield {
          batch: { length, columns, positions: position },
          origin: `${path.basename(group.path)}, row group ${group.rowGroup}`,
          rowsDone,
          rowsTotal,
        }
        position += length
        signal?.throwIfAborted()
      }
    }
  } finally {
    await ahead?.catch(() => undefined)
    await reader?.file.close()
  }
}

/** The columns of a file as a definition may name them. */
export async function describeParquet(
  file: string,
): Promise<{ readonly rows: number; readonly rowGroups: number; readonly fields: readonly SourceField[] }> {
  const opened = await ParquetFile.open(file)
  await opened.close()
  const { rows, rowGroups, fields } = opened.footer
  return { rows, rowGroups: rowGroups.length, fields: fields.map((field) => decodeField(opened.footer, field)) }
}

/** One open file, and its columns for the inputs. */
class ParquetReader {
  readonly file: ParquetFile
  /** Distinct columns that are read, in the order of the cut file. */
  private readonly needed: readonly FooterField[]
  private readonly wanted: readonly WantedColumn[]

  static async open(name: string, options: RowGroupOptions): Promise<ParquetReader> {
    const file = await ParquetFile.open(name)
    try {
      return new ParquetReader(file, options)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  private constructor(file: ParquetFile, { inputs, bytes }: RowGroupOptions) {
    this.file = file
    const { footer } = file
    const named = footer.fields.filter((field) => inputs.some((input) => input.name === field.name))
    // Names that nobody asked for are known only so that a misspelt one finds them.
    const others = footer.fields
      .filter((field) => !named.includes(field))
      .map(({ name }): SourceField => ({ name, sourceType: 'unread', physical: undefined }))
    const decoded = named.map((field) => {
      const found = decodeField(footer, field)
      return bytes?.has(field.name) && found.sourceType === 'Binary' ? { ...found, physical: 'utf8' as const } : found
    })
    const fields = [...decoded, ...others]
    const matched = matchInputs(inputs, fields, path.basename(file.name))
    this.needed = named
    this.wanted = inputs.map((input, index) => {
      const child = named.findIndex((field) => field.name === input.name)
      return { child, input, field: matched[index]!, isInt96: named[child]!.type === INT96 }
    })
  }

  load(group: RowGroup): Promise<LoadedRowGroup> {
    return this.file.load(group, this.needed)
  }

  /** The rows behind the first `skipped`, in batches. */
  *decode(
    { rowGroup, rows, chunks, bytes }: LoadedRowGroup,
    skipped: number,
    batchRows: number,
    allocate: Allocate,
    sliceBytes = SLICE_BYTES,
  ) {
    const stated = chunks.reduce((sum, chunk) => sum + chunk.uncompressedBytes, 0)
    let sliceRows = Math.max(batchRows, Math.min(SLICE_ROWS, Math.floor((sliceBytes * rows) / (stated + 1))))
    for (let done = skipped; done < rows; ) {
      const limit = Math.min(sliceRows, rows - done)
      let slice: ReturnType<typeof decodeSlice>
      try {
        slice = decodeSlice(bytes, done, limit, batchRows)
      } catch (error) {
        // Text of a dictionary may be far larger than stated: less at once, before it is called damage.
        if (isTrap(error) && sliceRows > batchRows) {
          sliceRows = Math.max(batchRows, sliceRows >> 3)
          continue
        }
        throw this.file.corrupt(
          rowGroup,
          `its pages cannot be decoded: ${isTrap(error) ? 'the decoder stopped' : (error as Error).message}`,
          error,
        )
      }
      const { decoder, batches } = slice
      try {
        const found = batches.reduce((sum, batch) => sum + batch.numRows, 0)
        if (found !== limit)
          throw this.file.corrupt(rowGroup, `got ${done + found} rows, expected ${rows} as the footer says`)
        for (let batch = batches.shift(); batch !== undefined; batch = batches.shift()) {
          yield this.take(decoder, batch, rowGroup, allocate)
        }
      } finally {
        for (const batch of batches) batch.free()
      }
      done += limit
    }
  }

  private take(decoder: Decoder, batch: RecordBatch, rowGroup: number, allocate: Allocate) {
    try {
      return takeBatch(decoder, batch, this.wanted, allocate)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw this.file.corrupt(rowGroup, error.message, error)
    }
  }
}

const require = createRequire(import.meta.url)
let instance: Decoder | undefined

/** One WebAssembly instance per thread. */
function loadDecoder(): Decoder {
  instance ??= require('parquet-wasm') as Decoder
  return instance
}

/**
 * After a trap the instance's stack and heap are as the trap left them, and after some 500 good files fail too: it is
 * never used again. A new one costs some 40 ms.
 */
function dropDecoder(): void {
  delete require.cache[require.resolve('parquet-wasm')]
  instance = undefined
}

/** Damage that the decoder notices comes as a plain Error; anything else is the decoder itself breaking. */
function isTrap(error: unknown): boolean {
  return !(error instanceof Error) || error.name === 'RuntimeError' || error instanceof RangeError
}

/** Arrow's IPC stream to a Parquet file of one row group; `dictionaries` are the columns that get one. */
export function encodeRowGroup(
  ipc: Uint8Array,
  { compression, dictionaries }: { readonly compression: Compression; readonly dictionaries: readonly string[] },
): Uint8Array {
  const encoder = loadDecoder()
  try {
    let properties = new encoder.WriterPropertiesBuilder()
      .setWriterVersion(encoder.WriterVersion.V1)
      .setCompression(
        encoder.Compression[({ zstd: 'ZSTD', snappy: 'SNAPPY', none: 'UNCOMPRESSED' } as const)[compression]],
      )
      .setStatisticsEnabled(encoder.EnabledStatistics.Chunk)
      .setMaxRowGroupSize(2 ** 31 - 1)
      .setCreatedBy('tilefold')
      .setDictionaryEnabled(false)
    for (const name of dictionaries) properties = properties.setColumnDictionaryEnabled(name, true)
    return encoder.writeParquet(encoder.Table.fromIPCStream(ipc), properties.build())
  } catch (error) {
    if (isTrap(error)) dropDecoder()
    throw error
  }
}

function decodeSlice(bytes: Uint8Array, offset: number, limit: number, batchSize: number) {
  const decoder = loadDecoder()
  try {
    const table = decoder.readParquet(bytes, { batchSize, offset, limit })
    try {
      return { decoder, batches: table.recordBatches() }
    } finally {
      table.free()
    }
  } catch (error) {
    if (isTrap(error)) dropDecoder()
    throw error
  }
}

/** Copies a batch out of the decoder's memory and frees it there. */
function takeBatch(decoder: Decoder, batch: RecordBatch, wanted: readonly WantedColumn[], allocate: Allocate) {
  const exported = batch.intoFFI()
  try {
    return copyColumns(decoder.wasmMemory().buffer as ArrayBuffer, exported.arrayAddr(), wanted, allocate)
  } finally {
    exported.free()
  }
}

/** What the decoder makes of a column's type, asked with a file of no rows. */
function decodeField(footer: Footer, field: FooterField): SourceField {
  const { name } = field
  if (field.chunk === undefined) return { name, sourceType: 'a nested or repeated column', physical: undefined }
  if (field.type === INT96) return { name, sourceType: 'INT96', physical: 'int64', unit: 'us' }
  try {
    const schema = loadDecoder().readSchema(cutRowGroup(footer, [field], 0, []))
    const described = readSchemaFields(schema.intoIPCStream())[0]
    if (described !== undefined) return { ...described, name }
  } catch (error) {
    if (isTrap(error)) dropDecoder()
  }
  return { name, sourceType: 'a type that cannot be read', physical: undefined }
}

/** One buffer for batch after batch, grown as needed. */
function reusedBuffer(): Allocate {
  let buffer = new ArrayBuffer(0)
  return (bytes) => {
    if (buffer.byteLength < bytes) buffer = new ArrayBuffer(bytes)
    return buffer
  }
}

function countRows(groups: readonly RowGroup[]): number {
  return groups.reduce((sum, group) => sum + group.rows, 0)
}
