/**
 * Parquet files as an input log: files in a fixed order, rows numbered on from 0 over all of them.
 *
 *   footer (footer.ts) → row groups → the needed chunks' bytes → pages checked (pages.ts) → decoder → columns (cdata.ts)
 *
 * One row group is in memory at a time, compressed, and the next one's bytes while it is decoded; of a large row group at
 * most SLICE_ROWS rows are decoded at once. The decoder is WebAssembly and not proof against every damaged file: where it
 * traps, the instance is thrown away and the next read starts a fresh one.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn } from '../model/plan.ts'
import { readSchemaFields } from './arrow.ts'
import { copyColumns, type WantedColumn } from './cdata.ts'
import { listFiles } from './files.ts'
import {
  type ColumnChunk,
  corruptFile,
  cutRowGroup,
  FILE_TAIL_BYTES,
  type Footer,
  type FooterField,
  footerLength,
  parseFooter,
  readChunks,
} from './footer.ts'
import { matchInputs, type SourceField } from './match.ts'
import { checkPages } from './pages.ts'
import { BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX, type Source, type SourceBatch, type SourceOptions } from './port.ts'

type Decoder = typeof import('parquet-wasm')
type RecordBatch = import('parquet-wasm').RecordBatch
type Allocate = (bytes: number) => ArrayBuffer

/** Rows decoded at once; some 30 MB at five columns. */
const SLICE_ROWS = 524_288
/** A slice's bytes as the footer states them; dictionaries may make more of them. */
const SLICE_BYTES = 128 * 1024 * 1024
/** Read with the file's end: most footers fit. */
const FOOTER_GUESS_BYTES = 65_536

/** A row group of a plan of files: what a backfill shares out, in log order. Plain data, fit for another thread. */
export interface RowGroup {
  readonly path: string
  readonly rowGroup: number
  readonly rows: number
  /** Position of its first row. */
  readonly firstPosition: number
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
  for (const file of await listFiles(paths, ['.parquet'])) {
    const handle = await openFile(file)
    try {
      const { footer } = await readFooter(handle, file)
      for (const [rowGroup, { rows }] of footer.rowGroups.entries()) {
        groups.push({ path: file, rowGroup, rows, firstPosition })
        firstPosition += rows
      }
    } finally {
      await handle.close()
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
  options: SourceOptions,
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
      if (reader?.file !== group.path) {
        await reader?.close()
        reader = undefined
        reader = await ParquetReader.open(group.path, options.inputs)
      }
      const loaded: LoadedRowGroup = await (ahead ?? reader.load(group))
      const next = wanted[index + 1]
      ahead = next?.path === group.path ? reader.load(next) : undefined
      ahead?.catch(() => undefined) // thrown where it is awaited
      const skipped = Math.max(0, fromPosition - group.firstPosition)
      let position = group.firstPosition + skipped
      rowsDone += skipped
      for (const { length, columns } of reader.decode(loaded, skipped, batchRows, allocate)) {
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
    await reader?.close()
  }
}

/** The columns of a file as a definition may name them. */
export async function describeParquet(
  file: string,
): Promise<{ readonly rows: number; readonly rowGroups: number; readonly fields: readonly SourceField[] }> {
  const handle = await openFile(file)
  try {
    const { footer } = await readFooter(handle, file)
    const fields = footer.fields.map((field) => decodeFields(footer, [field])[0]!)
    return { rows: footer.rows, rowGroups: footer.rowGroups.length, fields }
  } finally {
    await handle.close()
  }
}

interface LoadedRowGroup {
  readonly rowGroup: number
  readonly rows: number
  readonly chunks: readonly ColumnChunk[]
  /** The row group as a file of its own. */
  readonly bytes: Uint8Array
}

/** One open file. */
class ParquetReader {
  readonly file: string
  private readonly handle: FileHandle
  private readonly footer: Footer
  private readonly footerBytes: Uint8Array
  private readonly dataBytes: number
  /** Distinct columns that are read, in the order of the cut file. */
  private readonly needed: readonly FooterField[]
  private readonly wanted: readonly WantedColumn[]

  static async open(file: string, inputs: readonly InputColumn[]): Promise<ParquetReader> {
    const handle = await openFile(file)
    try {
      return new ParquetReader(file, handle, await readFooter(handle, file), inputs)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  private constructor(
    file: string,
    handle: FileHandle,
    read: { footer: Footer; bytes: Uint8Array; dataBytes: number },
    inputs: readonly InputColumn[],
  ) {
    this.file = file
    this.handle = handle
    this.footer = read.footer
    this.footerBytes = read.bytes
    this.dataBytes = read.dataBytes
    const named = read.footer.fields.filter((field) => inputs.some((input) => input.name === field.name))
    const described = decodeFields(read.footer, named)
    // Names that nobody asked for are known only so that a misspelt one finds them.
    const others = read.footer.fields.map(
      ({ name }): SourceField => ({ name, sourceType: 'unread', physical: undefined }),
    )
    const fields = [...described, ...others.filter((other) => !named.some((field) => field.name === other.name))]
    const matched = matchInputs(inputs, fields, path.basename(file))
    this.needed = named
    this.wanted = inputs.map((input, index) => ({
      child: named.findIndex((field) => field.name === input.name),
      input,
      field: matched[index]!,
    }))
  }

  close(): Promise<void> {
    return this.handle.close()
  }

  /** Reads the needed chunks of a row group and checks their pages. */
  async load(group: RowGroup): Promise<LoadedRowGroup> {
    const { rowGroup } = group
    const found = this.footer.rowGroups[rowGroup]
    if (found === undefined || found.rows !== group.rows) {
      const got = found === undefined ? 'none' : `${found.rows} rows`
      throw corruptFile(
        this.file,
        `the file has changed: row group ${rowGroup}; got ${got}, expected ${group.rows} rows`,
      )
    }
    const chunks = readChunks(this.footerBytes, found, this.needed, this.dataBytes, this.file, rowGroup)
    const parts = []
    for (const [index, chunk] of chunks.entries()) {
      const bytes = await readBytes(this.handle, chunk.start, chunk.bytes, this.file)
      try {
        checkPages(bytes, chunk.values)
      } catch (error) {
        if (!(error instanceof RangeError)) throw error
        const column = this.needed[index]!.name
        throw this.corrupt(rowGroup, `column ${JSON.stringify(column)}, ${error.message}`, error)
      }
      parts.push({ chunk, bytes })
    }
    const bytes = cutRowGroup(this.footer, this.needed, found.rows, parts)
    return { rowGroup, rows: found.rows, chunks, bytes }
  }

  /** The rows behind the first `skipped`, in batches. */
  *decode({ rowGroup, rows, chunks, bytes }: LoadedRowGroup, skipped: number, batchRows: number, allocate: Allocate) {
    const stated = chunks.reduce((sum, chunk) => sum + chunk.uncompressedBytes, 0)
    let sliceRows = Math.max(batchRows, Math.min(SLICE_ROWS, Math.floor((SLICE_BYTES * rows) / (stated + 1))))
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
        throw this.corrupt(
          rowGroup,
          `its pages cannot be decoded: ${isTrap(error) ? 'the decoder stopped' : (error as Error).message}`,
          error,
        )
      }
      const { decoder, batches } = slice
      try {
        const found = batches.reduce((sum, batch) => sum + batch.numRows, 0)
        if (found !== limit)
          throw this.corrupt(rowGroup, `got ${done + found} rows, expected ${rows} as the footer says`)
        for (let batch = batches.shift(); batch !== undefined; batch = batches.shift()) {
          yield takeBatch(decoder, batch, this.wanted, allocate)
        }
      } finally {
        for (const batch of batches) batch.free()
      }
      done += limit
    }
  }

  private corrupt(rowGroup: number, what: string, cause?: unknown): TilefoldError {
    return corruptFile(this.file, `row group ${rowGroup}: ${what}`, { rowGroup }, cause)
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

/** What the decoder makes of columns' types, asked with a file of no rows. */
function decodeFields(footer: Footer, fields: readonly FooterField[]): readonly SourceField[] {
  return fields.map((field): SourceField => {
    const { name } = field
    if (field.chunk === undefined) return { name, sourceType: 'a nested or repeated column', physical: undefined }
    try {
      const schema = loadDecoder().readSchema(cutRowGroup(footer, [field], 0, []))
      const described = readSchemaFields(schema.intoIPCStream())[0]
      if (described !== undefined) return { ...described, name }
    } catch (error) {
      if (isTrap(error)) dropDecoder()
    }
    return { name, sourceType: 'a type that cannot be read', physical: undefined }
  })
}

async function openFile(file: string): Promise<FileHandle> {
  try {
    return await open(file)
  } catch (error) {
    const cause = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : (error as Error).message
    throw new TilefoldError('SOURCE_NOT_FOUND', `cannot open ${file}: ${cause}`, { file }, { cause: error })
  }
}

async function readFooter(handle: FileHandle, file: string) {
  const { size } = await handle.stat().catch((error: Error) => {
    throw corruptFile(file, error.message, {}, error)
  })
  const guess = await readBytes(
    handle,
    Math.max(0, size - FOOTER_GUESS_BYTES),
    Math.min(size, FOOTER_GUESS_BYTES),
    file,
  )
  const length = footerLength(guess.subarray(-FILE_TAIL_BYTES), size, file)
  const dataBytes = size - length - FILE_TAIL_BYTES
  const bytes =
    length + FILE_TAIL_BYTES <= guess.length
      ? guess.subarray(guess.length - FILE_TAIL_BYTES - length, guess.length - FILE_TAIL_BYTES)
      : await readBytes(handle, dataBytes, length, file)
  return { footer: parseFooter(bytes, file), bytes, dataBytes }
}

async function readBytes(handle: FileHandle, start: number, length: number, file: string): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(length)
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, length - done, start + done).catch((error: Error) => {
      throw corruptFile(file, `${length} bytes at ${start}: ${error.message}`, {}, error)
    })
    if (bytesRead === 0)
      throw corruptFile(file, `it ends at byte ${start + done}; expected ${length} bytes at ${start}`)
    done += bytesRead
  }
  return bytes
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
