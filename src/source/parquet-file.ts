/** An open Parquet file: its footer, and the bytes of its row groups, checked as far as bytes can be. */
import { type FileHandle, open } from 'node:fs/promises'
import { TilefoldError } from '../model/errors.ts'
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
import { checkPages } from './pages.ts'

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

export interface LoadedRowGroup {
  readonly rowGroup: number
  readonly rows: number
  readonly chunks: readonly ColumnChunk[]
  /** The row group as a file of its own. */
  readonly bytes: Uint8Array
}

export class ParquetFile {
  readonly name: string
  readonly footer: Footer
  private readonly handle: FileHandle
  private readonly footerBytes: Uint8Array
  private readonly dataBytes: number

  /** Throws SOURCE_NOT_FOUND and SOURCE_CORRUPT. */
  static async open(name: string): Promise<ParquetFile> {
    const handle = await openFile(name)
    try {
      const { footer, bytes, dataBytes } = await readFooter(handle, name)
      return new ParquetFile(name, handle, footer, bytes, dataBytes)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  private constructor(name: string, handle: FileHandle, footer: Footer, footerBytes: Uint8Array, dataBytes: number) {
    this.name = name
    this.handle = handle
    this.footer = footer
    this.footerBytes = footerBytes
    this.dataBytes = dataBytes
  }

  close(): Promise<void> {
    return this.handle.close()
  }

  /** Reads the needed columns' chunks of a row group and checks their pages. Throws SOURCE_CORRUPT. */
  async load(group: RowGroup, needed: readonly FooterField[]): Promise<LoadedRowGroup> {
    const { rowGroup } = group
    const found = this.footer.rowGroups[rowGroup]
    if (found === undefined || found.rows !== group.rows) {
      const got = found === undefined ? 'none' : `${found.rows} rows`
      const what = `the file has changed: row group ${rowGroup}; got ${got}, expected ${group.rows} rows`
      throw corruptFile(this.name, what, { rowGroup })
    }
    const chunks = readChunks(this.footerBytes, found, needed, this.dataBytes, this.name, rowGroup)
    const parts = []
    for (const [index, chunk] of chunks.entries()) {
      const bytes = await readBytes(this.handle, chunk.start, chunk.bytes, this.name)
      try {
        checkPages(bytes, chunk.values, chunk.codec)
      } catch (error) {
        if (!(error instanceof RangeError)) throw error
        throw this.corrupt(rowGroup, `column ${JSON.stringify(needed[index]!.name)}, ${error.message}`, error)
      }
      parts.push({ chunk, bytes })
    }
    return { rowGroup, rows: found.rows, chunks, bytes: cutRowGroup(this.footer, needed, found.rows, parts) }
  }

  corrupt(rowGroup: number, what: string, cause?: unknown): TilefoldError {
    return corruptFile(this.name, `row group ${rowGroup}: ${what}`, { rowGroup }, cause)
  }
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
