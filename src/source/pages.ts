/**
 * A look at the pages of a column chunk before the decoder sees them.
 *
 *   chunk = page*        page = header (Thrift PageHeader) | `compressed_page_size` bytes
 *
 * Flipped bits in plain values decode without a fault; where the writer left checksums they are compared here, since the
 * decoder does not. The rest is for errors that name a page, and so that a hostile size meets a limit and not the heap
 * (page-size.ts).
 */
import { crc32 } from 'node:zlib'
import { checkUnpacked } from './page-size.ts'
import { THRIFT_FALSE, THRIFT_I32, THRIFT_STRUCT, ThriftReader } from './thrift.ts'

// PageHeader's fields, and where the two kinds of data page keep their encoding.
const DATA_PAGE = 5
const DICTIONARY_PAGE = 7
const DATA_PAGE_V2 = 8
const ENCODING: Record<number, number> = { [DATA_PAGE]: 2, [DATA_PAGE_V2]: 4 }
/** Of a second version's page: bytes of its levels, which come first and are not packed, and whether the rest is. */
const LEVEL_BYTES: readonly number[] = [5, 6]
const IS_PACKED = 7
/** PLAIN_DICTIONARY and RLE_DICTIONARY: cells are indices into the dictionary page. */
const DICTIONARY_ENCODINGS: readonly number[] = [2, 8]

/** Pages are a megabyte or so; a row group in a single page stays well below this. */
const PAGE_BYTES_MAX = 1024 * 1024 * 1024

/** Walks over the pages of a column chunk of `codec`. Throws a RangeError that names the page. */
export function checkPages(chunk: Uint8Array, values: number, codec: number): void {
  const reader = new ThriftReader(chunk)
  let found = 0
  let hasDictionary = false
  for (let page = 0; found < values; page++) {
    try {
      if (reader.at >= chunk.length) throw new RangeError(`the pages hold ${found} values of ${values}`)
      const header = readHeader(reader)
      checkBytes(reader, chunk, header, codec)
      hasDictionary ||= header.isDictionary
      if (DICTIONARY_ENCODINGS.includes(header.encoding) && !hasDictionary) {
        throw new RangeError('its cells point into a dictionary that is not there')
      }
      found += header.values
    } catch (error) {
      if (error instanceof RangeError) throw new RangeError(`page ${page}: ${error.message}`, { cause: error })
      throw error
    }
  }
  if (found > values) throw new RangeError(`the pages hold ${found} values, expected ${values}`)
}

interface PageHeader {
  readonly uncompressed: number
  readonly compressed: number
  readonly checksum: number | undefined
  readonly isDictionary: boolean
  /** Cells of a data page; 0 for a dictionary. */
  readonly values: number
  readonly encoding: number
  /** Bytes at its start that are not packed. */
  readonly levelBytes: number
  readonly isPacked: boolean
}

function readHeader(reader: ThriftReader): PageHeader {
  const numbers = new Map<number, number>()
  let isDictionary = false
  let values = 0
  let encoding = -1
  let levelBytes = 0
  let isPacked = true
  reader.fields((field) => {
    const encodingAt = ENCODING[field.id]
    if (encodingAt !== undefined && field.type === THRIFT_STRUCT) {
      reader.fields((inner) => {
        if (inner.id === 1 && inner.type === THRIFT_I32) values = reader.integer()
        else if (inner.id === encodingAt && inner.type === THRIFT_I32) encoding = reader.integer()
        else if (field.id === DATA_PAGE_V2 && LEVEL_BYTES.includes(inner.id) && inner.type === THRIFT_I32) {
          levelBytes += natural(reader.integer())
        } else {
          if (field.id === DATA_PAGE_V2 && inner.id === IS_PACKED) isPacked = inner.type !== THRIFT_FALSE
          reader.skip(inner.type)
        }
      })
    } else if (field.id <= 4 && field.type === THRIFT_I32) numbers.set(field.id, reader.integer())
    else {
      isDictionary ||= field.id === DICTIONARY_PAGE
      reader.skip(field.type)
    }
  })
  const uncompressed = numbers.get(2) ?? -1
  if (uncompressed < 0 || uncompressed > PAGE_BYTES_MAX || values < 0) {
    throw new RangeError(`its header claims ${uncompressed} bytes and ${values} values`)
  }
  const [compressed, checksum] = [numbers.get(3) ?? -1, numbers.get(4)]
  if (levelBytes > Math.min(compressed, uncompressed)) throw new RangeError(`its levels claim ${levelBytes} bytes`)
  return { uncompressed, compressed, checksum, isDictionary, values, encoding, levelBytes, isPacked }
}

function natural(bytes: number): number {
  if (bytes < 0) throw new RangeError(`its levels claim ${bytes} bytes`)
  return bytes
}

/** Moves past the page's bytes. */
function checkBytes(reader: ThriftReader, chunk: Uint8Array, header: PageHeader, codec: number): void {
  const { compressed, uncompressed, checksum, levelBytes, isPacked } = header
  const left = chunk.length - reader.at
  if (compressed < 0 || compressed > left) {
    throw new RangeError(`it claims ${compressed} bytes, ${left} are left in the column chunk`)
  }
  if (checksum !== undefined) {
    const computed = crc32(chunk.subarray(reader.at, reader.at + compressed))
    if (computed !== checksum >>> 0)
      throw new RangeError(`checksum mismatch; got ${computed}, expected ${checksum >>> 0}`)
  }
  const packed = chunk.subarray(reader.at + levelBytes, reader.at + compressed)
  if (isPacked) checkUnpacked(codec, packed, uncompressed - levelBytes)
  reader.at += compressed
}
