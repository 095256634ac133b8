/**
 * How Kafka's record batches are packed, unpacked. What we write ourselves is plain or gzip.
 *
 *   gzip     kafkajs itself
 *   snappy   hysnappy (WebAssembly); bare, or in the frames of Java's client
 *   lz4      here: frames of the LZ4 format, some 60 lines
 *   zstd     node:zlib where it has it (Node >= 22.15), else fzstd (JavaScript, some three times slower)
 */
import zlib from 'node:zlib'
import { decompress as unpackZstdSlowly } from 'fzstd'
import { snappyUncompressor } from 'hysnappy'
import { TilefoldError } from '../model/errors.ts'

export interface KafkaCodec {
  compress(encoder: { readonly buffer: Buffer }): Promise<Buffer>
  decompress(buffer: Buffer): Promise<Buffer>
}

/** No record batch unpacks to more: a broker's limit is a few megabytes, packed. */
const UNPACKED_BYTES_MAX = 512 * 1024 * 1024

/** The codecs that kafkajs lacks, by Kafka's number. */
export function kafkaCodecs(): readonly (readonly [number, KafkaCodec])[] {
  return [
    [2, codecOf('snappy', unpackSnappy)],
    [3, codecOf('lz4', unpackLz4)],
    [4, codecOf('zstd', unpackZstd)],
  ]
}

function codecOf(name: string, unpack: (packed: Buffer) => Buffer): KafkaCodec {
  return {
    async compress() {
      throw new TilefoldError(
        'CONFIG_INVALID',
        `cannot write ${name}: it is only read; got ${name}, expected gzip or none`,
      )
    },
    async decompress(packed) {
      try {
        return unpack(packed)
      } catch (cause) {
        const { message } = cause as Error
        throw new TilefoldError('SOURCE_CORRUPT', `cannot unpack a record batch as ${name}: ${message}`, {}, { cause })
      }
    },
  }
}

// ---- snappy ------------------------------------------------------------------------------------------------------------

/** Java's client writes the frames of snappy-java: this magic, two versions, then blocks behind their lengths. */
const SNAPPY_JAVA = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
const SNAPPY_JAVA_HEADER_BYTES = 16

export function unpackSnappy(packed: Buffer): Buffer {
  if (!packed.subarray(0, SNAPPY_JAVA.length).equals(SNAPPY_JAVA)) return unpackSnappyBlock(packed)
  const blocks: Buffer[] = []
  for (let at = SNAPPY_JAVA_HEADER_BYTES; at < packed.length; ) {
    const bytes = packed.readUInt32BE(at)
    at += 4
    if (at + bytes > packed.length) throw new RangeError(`it is cut off: a block of ${bytes} bytes at ${at}`)
    blocks.push(unpackSnappyBlock(packed.subarray(at, at + bytes)))
    at += bytes
  }
  return Buffer.concat(blocks)
}

let unpackSnappyBytes: ReturnType<typeof snappyUncompressor> | undefined

/** A block begins with its unpacked length, seven bits a byte. */
function unpackSnappyBlock(block: Buffer): Buffer {
  let length = 0
  for (let at = 0; ; at++) {
    const byte = block[at]
    if (byte === undefined || at === 5) throw new RangeError('its length is missing')
    length += (byte & 127) * 2 ** (7 * at)
    if (byte < 128) break
  }
  checkBytes(length)
  if (length === 0) return Buffer.alloc(0)
  // Made once: it is a module in WebAssembly, whose memory stays.
  unpackSnappyBytes ??= snappyUncompressor()
  const bytes = unpackSnappyBytes(block, length)
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

// ---- zstd --------------------------------------------------------------------------------------------------------------

type ZstdDecompress = (packed: Buffer, options: { readonly maxOutputLength: number }) => Buffer

export function unpackZstd(packed: Buffer): Buffer {
  // The types of Node 20 don't know it.
  const { zstdDecompressSync } = zlib as unknown as { readonly zstdDecompressSync?: ZstdDecompress }
  if (zstdDecompressSync !== undefined) return zstdDecompressSync(packed, { maxOutputLength: UNPACKED_BYTES_MAX })
  const bytes = unpackZstdSlowly(packed)
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

// ---- lz4 ---------------------------------------------------------------------------------------------------------------

const LZ4_MAGIC = 0x184d2204
/** Flags of a frame. */
const BLOCK_CHECKSUM = 0x10
const CONTENT_SIZE = 0x08
const DICTIONARY = 0x01
/** The high bit of a block's length: it is not packed. */
const UNPACKED = 0x80000000

/**
 * A frame: magic, flags, block descriptor, [content size], header checksum, then blocks behind their lengths up to a
 * length of zero. Blocks may refer to up to 64 KiB of what came before. Checksums are not looked at: Kafka has its own.
 */
export function unpackLz4(packed: Buffer): Buffer {
  if (packed.readUInt32LE(0) !== LZ4_MAGIC) throw new RangeError('it does not begin as an LZ4 frame')
  const flags = packed[4]!
  if (flags >> 6 !== 1 || (flags & DICTIONARY) !== 0)
    throw new RangeError(`its frame has flags 0x${flags.toString(16)}`)
  let at = 7 + ((flags & CONTENT_SIZE) === 0 ? 0 : 8)
  let out = Buffer.allocUnsafe(packed.length * 4)
  let end = 0
  for (;;) {
    const word = packed.readUInt32LE(at)
    at += 4
    if (word === 0) return out.subarray(0, end)
    const bytes = word & ~UNPACKED
    if (at + bytes > packed.length) throw new RangeError(`it is cut off: a block of ${bytes} bytes at ${at}`)
    const block = packed.subarray(at, at + bytes)
    const needed = end + ((word & UNPACKED) !== 0 ? bytes : sizeOfLz4Block(block))
    checkBytes(needed)
    if (needed > out.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, out.length * 2))
      out.copy(grown, 0, 0, end)
      out = grown
    }
    if ((word & UNPACKED) !== 0) block.copy(out, end)
    else unpackLz4Block(block, out, end)
    end = needed
    at += bytes + ((flags & BLOCK_CHECKSUM) === 0 ? 0 : 4)
  }
}

/** What a block unpacks to: its sequences are walked without their bytes. */
function sizeOfLz4Block(block: Buffer): number {
  let size = 0
  let at = 0
  const more = (length: number): number => {
    if (length < 15) return length
    let total = length
    let byte: number
    do {
      byte = block[at++] ?? 0
      total += byte
    } while (byte === 255)
    return total
  }
  while (at < block.length) {
    const token = block[at++]!
    const literals = more(token >> 4)
    size += literals
    at += literals
    // The last sequence has literals only.
    if (at >= block.length) break
    at += 2
    size += more(token & 15) + 4
  }
  if (at !== block.length) throw new RangeError('a block is cut off')
  return size
}

/** `block` into `out` from `start`; `sizeOfLz4Block` has checked its lengths. */
function unpackLz4Block(block: Buffer, out: Buffer, start: number): void {
  let to = start
  for (let at = 0; at < block.length; ) {
    const token = block[at++]!
    let literals = token >> 4
    if (literals === 15) {
      let byte: number
      do {
        byte = block[at++]!
        literals += byte
      } while (byte === 255)
    }
    block.copy(out, to, at, at + literals)
    at += literals
    to += literals
    if (at >= block.length) return
    let from = to - (block[at]! | (block[at + 1]! << 8))
    if (from < 0 || from === to) throw new RangeError('a block refers to what is not there')
    at += 2
    let length = (token & 15) + 4
    if (length === 19) {
      let byte: number
      do {
        byte = block[at++]!
        length += byte
      } while (byte === 255)
    }
    // Byte by byte: a match may run into what it writes.
    for (const end = to + length; to < end; ) out[to++] = out[from++]!
  }
}

function checkBytes(bytes: number): void {
  if (bytes > UNPACKED_BYTES_MAX)
    throw new RangeError(`it unpacks to ${bytes} bytes, expected at most ${UNPACKED_BYTES_MAX}`)
}
