/**
 * A script with all it is given, as it goes over the wire, written once for all attempts: ioredis puts a request together argument by
 * argument. It is memory of its own, so whoever gave the rows may use theirs again, whatever is still on its way.
 */
import type { Script } from './redis-script.ts'

export interface ScriptRequest {
  readonly script: Script
  /** EVALSHA, whole. */
  readonly bytes: Buffer
  /** Tells a Cluster the slot. */
  readonly key: Buffer
}

type Part = string | Uint8Array

export function scriptRequest(
  script: Script,
  keys: readonly Buffer[],
  scriptArguments: readonly Part[],
): ScriptRequest {
  const parts: Part[] = ['EVALSHA', script.sha, `${keys.length}`, ...keys, ...scriptArguments]
  return { script, key: keys[0]!, bytes: write(parts) }
}

/**
 * The request was answered: its memory is free for the next one. Chunks of rows are some 100 KB each, and the garbage collector would
 * have to look for them all over the heap, several times a second.
 */
export function reuse({ bytes }: ScriptRequest): void {
  const { buffer } = bytes
  // Small requests lie in memory that Node shares out among buffers, of a size that is its own affair.
  if (own.has(buffer) && buffer.byteLength <= POOLED_BYTES_MAX && pool.length < POOLED_MAX)
    pool.push(Buffer.from(buffer))
}

/** Memory that holds a request and nothing else. */
const own = new WeakSet<ArrayBufferLike>()

const pool: Buffer[] = []
const POOLED_MAX = 16
const POOLED_BYTES_MIN = 16 * 1024
const POOLED_BYTES_MAX = 512 * 1024

/** Memory of its own: none that is shared with other buffers. */
function take(room: number): Buffer {
  if (room < POOLED_BYTES_MIN) return Buffer.allocUnsafe(room)
  const at = pool.findIndex((each) => each.length >= room)
  if (at >= 0) return pool.splice(at, 1)[0]!
  const fresh = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(room)))
  own.add(fresh.buffer)
  return fresh
}

/** The same as EVAL, for a server that does not know the script yet. */
export function asEval({ script, bytes }: ScriptRequest): Buffer {
  const count = bytes.subarray(0, bytes.indexOf('\r\n') + 2)
  const rest = bytes.subarray(write(['EVALSHA', script.sha]).length - COUNT_OF_TWO + count.length)
  return Buffer.concat([count, write(['EVAL', script.lua]).subarray(COUNT_OF_TWO), rest])
}

/** `*2\r\n` */
const COUNT_OF_TWO = 4
/** `$`, a length, two line ends. */
const AROUND = 16

function write(parts: readonly Part[]): Buffer {
  let room = AROUND
  for (const part of parts) room += AROUND + (typeof part === 'string' ? 3 * part.length : part.length)
  const bytes = take(room)
  let at = bytes.write(`*${parts.length}\r\n`, 'latin1')
  for (const part of parts) {
    const length = typeof part === 'string' ? Buffer.byteLength(part) : part.length
    at += bytes.write(`$${length}\r\n`, at, 'latin1')
    if (typeof part === 'string') bytes.write(part, at)
    else bytes.set(part, at)
    at += length
    bytes[at++] = 13
    bytes[at++] = 10
  }
  return bytes.subarray(0, at)
}
