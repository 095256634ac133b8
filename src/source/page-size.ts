/**
 * How large may a page become when it is unpacked?
 *
 * The decoder makes room for what a page's header claims, and of most codecs it unpacks whatever comes: a few kilobytes that
 * hold gigabytes of zeros, or claim to, would take all the memory there is. So before it sees a page, what is claimed must be
 * possible, and what comes out must be near what is claimed. Nothing is unpacked for that where the format itself says enough:
 *
 *   none      is taken as it lies
 *   snappy    64 bytes of a copy take 3; the decoder stops at what is claimed
 *   LZ4       255 bytes take 1
 *   gzip      1,032 bytes take 1; where that leaves too much open, the page is unpacked here, no further than claimed
 *   zstd      blocks of at most 128 KiB behind headers that say where the next one is (RFC 8878)
 *   brotli    says nothing beforehand: unpacked here, no further than claimed
 */
import { brotliDecompressSync, gunzipSync } from 'node:zlib'

const CODECS = ['none', 'snappy', 'gzip', 'LZO', 'brotli', 'LZ4', 'zstd', 'LZ4'] as const

/** Bytes that one byte may become. */
const RATIO_MAX = { snappy: 22, LZ4: 256, gzip: 1033 }
/** What may be left open: pages are a megabyte or so, and no writer's blocks are as small. */
const SLACK_BYTES = 64 * 1024 * 1024
const SLACK_RATIO = 256

/** Checks the packed bytes of a page, which its header claims to be `unpackedBytes`. Throws RangeError. */
export function checkUnpacked(codec: number, packed: Uint8Array, unpackedBytes: number): void {
  const name = CODECS[codec]
  if (name === undefined || name === 'LZO') throw new RangeError(`codec ${name ?? codec} is not supported`)
  if (name === 'none' || (packed.length === 0 && unpackedBytes === 0)) return
  if (name === 'zstd') checkZstd(packed, unpackedBytes)
  else if (name === 'brotli') unpackNoFurther(name, () => brotliDecompressSync(packed, bound(unpackedBytes)))
  else {
    const most = packed.length * RATIO_MAX[name] + 1024
    if (unpackedBytes > most) throw impossible(name, packed, unpackedBytes)
    if (name === 'gzip' && isTooOpen(most, unpackedBytes)) {
      unpackNoFurther(name, () => gunzipSync(packed, bound(unpackedBytes)))
    }
  }
}

function isTooOpen(most: number, unpackedBytes: number): boolean {
  return most > SLACK_BYTES + SLACK_RATIO * unpackedBytes
}

const bound = (bytes: number) => ({ maxOutputLength: Math.max(1, bytes) })

function unpackNoFurther(name: string, unpack: () => void): void {
  try {
    unpack()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new RangeError(
      code === 'ERR_BUFFER_TOO_LARGE' ? 'it unpacks to more than its header claims' : `it is not ${name}: ${message}`,
    )
  }
}

function impossible(name: string, packed: Uint8Array, unpackedBytes: number): RangeError {
  return new RangeError(`its header claims ${unpackedBytes} bytes, which ${packed.length} bytes of ${name} cannot be`)
}

// ---- zstd --------------------------------------------------------------------------------------------------------------

const ZSTD_MAGIC = 0xfd2fb528
const SKIPPABLE_MAGIC = 0x184d2a50
const BLOCK_BYTES_MAX = 128 * 1024
const RAW = 0
const RUN = 1
const RESERVED = 3

/** Walks over the blocks of all frames: raw ones and runs say their size, packed ones are at most 128 KiB. */
function checkZstd(packed: Uint8Array, unpackedBytes: number): void {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength)
  let [least, packedBlocks] = [0, 0]
  for (let at = 0; at < packed.length; ) {
    const magic = view.getUint32(at, true)
    if (magic >>> 4 === SKIPPABLE_MAGIC >>> 4) {
      at += 8 + view.getUint32(at + 4, true)
      continue
    }
    if (magic !== ZSTD_MAGIC) throw new RangeError('it does not begin as a frame of zstd')
    const flags = packed[at + 4]!
    at += 5 + headerBytes(flags)
    for (let isLast = false; !isLast; ) {
      const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16)
      const [kind, size] = [(header >> 1) & 3, header >> 3]
      if (kind === RESERVED) throw new RangeError('a block of zstd is of no kind')
      isLast = (header & 1) === 1
      at += 3 + (kind === RUN ? 1 : size)
      if (kind === RAW || kind === RUN) least += size
      else packedBlocks++
    }
    if ((flags & 4) !== 0) at += 4
  }
  const most = least + packedBlocks * BLOCK_BYTES_MAX
  if (unpackedBytes > most) throw impossible('zstd', packed, unpackedBytes)
  if (least > unpackedBytes || isTooOpen(most, unpackedBytes)) {
    throw new RangeError(`it unpacks to more than its header claims: up to ${most} bytes, expected ${unpackedBytes}`)
  }
}

/** Bytes of a frame's header behind magic and flags: window, dictionary, content size. */
function headerBytes(flags: number): number {
  const isSingle = (flags & 0x20) !== 0
  const contentBytes = [isSingle ? 1 : 0, 2, 4, 8][flags >> 6]!
  return (isSingle ? 0 : 1) + [0, 1, 2, 4][flags & 3]! + contentBytes
}
