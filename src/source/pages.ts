/**
 * A look at the pages of a column chunk before the decoder sees them.
 *
 *   chunk = page*        page = header (Thrift PageHeader) | `compressed_page_size` bytes
 *
 * Flipped bits in plain values decode without a fault; where the writer left checksums they are compared here, since the
 * decoder does not. The rest is for errors that name a page, and so that a hostile size meets a limit and not the heap.
 */
import { crc32 } from 'node:zlib'
import { THRIFT_I32, THRIFT_STRUCT, ThriftReader } from './thrift.ts'

/** Pages are a megabyte or so; a row group in a single page stays well below this. */
const PAGE_BYTES_MAX = 1024 * 1024 * 1024

/** Walks over a column chunk's pages. Throws a RangeError that names the page. */
export function checkPages(chunk: Uint8Array, values: number): void {
  const reader = new ThriftReader(chunk)
  let found = 0
  for (let page = 0; found < values; page++) {
    try {
      if (reader.at >= chunk.length) throw new RangeError(`the pages hold ${found} values of ${values}`)
      found += checkPage(reader, chunk)
    } catch (error) {
      if (error instanceof RangeError) throw new RangeError(`page ${page}: ${error.message}`, { cause: error })
      throw error
    }
  }
  if (found > values) throw new RangeError(`the pages hold ${found} values, expected ${values}`)
}

/** Moves past one page and returns the rows it adds: 0 for a dictionary. */
function checkPage(reader: ThriftReader, chunk: Uint8Array): number {
  const header = new Map<number, number>()
  let values = 0
  reader.fields((field) => {
    // Data pages, version 1 and 2: their first field is the number of values.
    if ((field.id === 5 || field.id === 8) && field.type === THRIFT_STRUCT) {
      reader.fields((inner) => {
        if (inner.id === 1 && inner.type === THRIFT_I32) values = reader.integer()
        else reader.skip(inner.type)
      })
    } else if (field.id <= 4 && field.type === THRIFT_I32) header.set(field.id, reader.integer())
    else reader.skip(field.type)
  })
  const uncompressed = header.get(2) ?? -1
  const compressed = header.get(3) ?? -1
  if (uncompressed < 0 || uncompressed > PAGE_BYTES_MAX || values < 0) {
    throw new RangeError(`its header claims ${uncompressed} bytes and ${values} values`)
  }
  if (compressed < 0 || compressed > chunk.length - reader.at) {
    throw new RangeError(`it claims ${compressed} bytes, ${chunk.length - reader.at} are left in the column chunk`)
  }
  const stored = header.get(4)
  if (stored !== undefined) {
    const computed = crc32(chunk.subarray(reader.at, reader.at + compressed))
    if (computed !== stored >>> 0) throw new RangeError(`checksum mismatch; got ${computed}, expected ${stored >>> 0}`)
  }
  reader.at += compressed
  return values
}
