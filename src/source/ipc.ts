/**
 * Arrow's IPC formats, cut into the messages that the library decodes one by one.
 *
 *   message = ffffffff | i32 metadata bytes | metadata | body             (before 0.15: no ffffffff)
 *   stream  = schema | (dictionary | record batch)* | ffffffff 00000000   (the end mark is optional)
 *   file    = "ARROW1" 0 0 | messages | footer | i32 its bytes | "ARROW1"
 *
 * A file's messages are found by its footer, which also holds the schema: some writers leave the schema's message out.
 * Metadata is checked before anyone walks over it, and the body of a record batch that is skipped is not read. Faults
 * are RangeErrors.
 */
import type { FileHandle } from 'node:fs/promises'
import { checkFooter, checkMessage, type FooterSummary, type MessageSummary } from './ipc-check.ts'

const MAGIC = 'ARROW1'
const MAGIC_BYTES = 8
const FOOTER_TAIL_BYTES = 10
const CONTINUATION = 0xffffffff
const METADATA_BYTES_MAX = 256 * 1024 * 1024
const BODY_BYTES_MAX = 2 ** 31 - 1
/** Between a file's last record batch and its footer: an end mark and alignment. */
const PADDING_BYTES_MAX = 128

/** A message: `bytes` is all of it, or undefined where the body was skipped. */
export interface Message extends MessageSummary {
  readonly bytes: Uint8Array | undefined
}

/** Decides from a record batch's rows whether to leave out its body. */
export type Skips = (rows: number) => boolean

/** Messages in order. Returns whether their end was there for certain. */
export type Messages = AsyncGenerator<Message, boolean, undefined>

/** The messages of a file of either format. */
export async function* fileMessages(handle: FileHandle, skips: Skips): Messages {
  const { size } = await handle.stat()
  const head = await rangeOf(handle, 0, size).read(MAGIC_BYTES)
  if (Buffer.from(head).toString('latin1', 0, MAGIC.length) !== MAGIC) {
    return yield* streamMessages(rangeOf(handle, 0, size), skips)
  }
  const { footer, dataBytes } = await readFooter(handle, size)
  const summary = checkFooter(footer, dataBytes)
  yield { kind: 'schema', bodyBytes: 0, rows: 0, bytes: schemaMessage(footer, summary) }
  for (const blocks of [summary.dictionaries, summary.batches]) {
    for (const { offset, bytes } of blocks) {
      const message = await readMessage(rangeOf(handle, offset, offset + bytes), skips)
      if (message === undefined) throw new RangeError(`there is no message at ${offset}`)
      if ((message.kind === 'batch') !== (blocks === summary.batches)) {
        throw new RangeError(`the message at ${offset} is of another kind than the footer says`)
      }
      yield message
    }
  }
  // Some writers put dictionaries behind the record batches.
  const ends = [...summary.batches, ...summary.dictionaries].map(({ offset, bytes }) => offset + bytes)
  const end = ends.reduce((a, b) => Math.max(a, b), MAGIC_BYTES)
  if (dataBytes - end > PADDING_BYTES_MAX) {
    throw new RangeError(`${dataBytes - end} bytes behind its last message are not in its footer`)
  }
  return true
}

/** The messages of a stream in chunks of any size. */
export function chunkedMessages(chunks: AsyncIterable<Uint8Array>, skips: Skips): Messages {
  return streamMessages(chunkedBytes(chunks), skips)
}

async function* streamMessages(source: ByteSource, skips: Skips): Messages {
  for (;;) {
    const message = await readMessage(source, skips)
    if (message === undefined) {
      if (source.endMark && (await source.read(1)).length > 0) throw new RangeError('more bytes follow its end mark')
      return source.endMark
    }
    yield message
  }
}

/** Bytes in order; `read` gives fewer than asked at the end only. */
interface ByteSource {
  read(bytes: number): Promise<Uint8Array>
  skip(bytes: number): Promise<void>
  /** Set when a message of no bytes was read: the stream's end mark. */
  endMark: boolean
}

/** The next message, or undefined at the end. */
async function readMessage(source: ByteSource, skips: Skips): Promise<Message | undefined> {
  const head = await source.read(4)
  if (head.length === 0) return undefined
  let prefix: Uint8Array = head
  let metadataBytes = readWord(head)
  if (metadataBytes === CONTINUATION) {
    const length = await source.read(4)
    metadataBytes = readWord(length)
    prefix = Buffer.concat([head, length])
  }
  if (metadataBytes === 0) {
    source.endMark = true
    return undefined
  }
  if (metadataBytes > METADATA_BYTES_MAX) throw new RangeError(`a message claims ${metadataBytes} bytes of metadata`)
  const metadata = await readExactly(source, metadataBytes)
  const summary = checkMessage(metadata)
  if (summary.bodyBytes > BODY_BYTES_MAX) {
    throw new RangeError(`a message's body has ${summary.bodyBytes} bytes, at most ${BODY_BYTES_MAX} can be read`)
  }
  if (summary.kind === 'batch' && skips(summary.rows)) {
    await source.skip(summary.bodyBytes)
    return { ...summary, bytes: undefined }
  }
  const body = await readExactly(source, summary.bodyBytes)
  return { ...summary, bytes: Buffer.concat([prefix, metadata, body]) }
}

async function readFooter(handle: FileHandle, size: number): Promise<{ footer: Uint8Array; dataBytes: number }> {
  const tailAt = size - FOOTER_TAIL_BYTES
  const tail = Buffer.from(await rangeOf(handle, Math.max(0, tailAt), size).read(FOOTER_TAIL_BYTES))
  if (tailAt < MAGIC_BYTES || tail.toString('latin1', 4) !== MAGIC) {
    throw new RangeError('it does not end as an Arrow file does (was it written to its end?)')
  }
  const bytes = tail.readUInt32LE(0)
  if (bytes > tailAt - MAGIC_BYTES || bytes > METADATA_BYTES_MAX)
    throw new RangeError(`its footer claims ${bytes} bytes`)
  const dataBytes = tailAt - bytes
  return { footer: await readExactly(rangeOf(handle, dataBytes, tailAt), bytes), dataBytes }
}

/**
 * A footer's schema as a message. Offsets are relative, so the footer is kept whole, behind a message's table:
 *
 *   0 u32 16 → table | 4 vtable: u16 12, 12, then version at 4, header type at 6, header at 8, no body
 *   16 table: i32 12 → vtable | u16 version | u8 header type 1, schema | u32 at 24 → schema | 32 footer
 */
function schemaMessage(footer: Uint8Array, { version, schemaAt }: FooterSummary): Uint8Array {
  const prefixBytes = 32
  const metadata = new Uint8Array((prefixBytes + footer.length + 7) & -8)
  const cells = new DataView(metadata.buffer)
  cells.setUint32(0, 16, true)
  for (const [i, value] of [12, 12, 4, 6, 8, 0].entries()) cells.setUint16(4 + 2 * i, value, true)
  cells.setInt32(16, 12, true)
  cells.setUint16(20, version, true)
  cells.setUint8(22, 1)
  cells.setUint32(24, prefixBytes + schemaAt - 24, true)
  metadata.set(footer, prefixBytes)
  const head = Buffer.alloc(8)
  head.writeUInt32LE(CONTINUATION, 0)
  head.writeUInt32LE(metadata.length, 4)
  return Buffer.concat([head, metadata])
}

function chunkedBytes(chunks: AsyncIterable<Uint8Array>): ByteSource {
  const iterator = chunks[Symbol.asyncIterator]()
  let parts: Uint8Array[] = []
  let held = 0
  const read = async (bytes: number) => {
    while (held < bytes) {
      const next = await iterator.next()
      if (next.done) break
      parts.push(next.value)
      held += next.value.length
    }
    const joined = parts.length === 1 ? parts[0]! : Buffer.concat(parts)
    const taken = joined.subarray(0, bytes)
    parts = joined.length > taken.length ? [joined.subarray(taken.length)] : []
    held -= taken.length
    return taken
  }
  return {
    endMark: false,
    read,
    async skip(bytes) {
      if ((await read(bytes)).length < bytes) throw ended(bytes)
    },
  }
}

function rangeOf(handle: FileHandle, start: number, end: number): ByteSource {
  let at = start
  return {
    endMark: false,
    async read(bytes) {
      const buffer = Buffer.allocUnsafeSlow(Math.max(0, Math.min(bytes, end - at)))
      let done = 0
      while (done < buffer.length) {
        const { bytesRead } = await handle.read(buffer, done, buffer.length - done, at)
        if (bytesRead === 0) break
        done += bytesRead
        at += bytesRead
      }
      return buffer.subarray(0, done)
    },
    async skip(bytes) {
      if (bytes > end - at) throw ended(bytes)
      at += bytes
    },
  }
}

async function readExactly(source: ByteSource, bytes: number): Promise<Uint8Array> {
  const found = await source.read(bytes)
  if (found.length < bytes) throw ended(bytes)
  return found
}

function ended(bytes: number): RangeError {
  return new RangeError(`it ends within a message: ${bytes} bytes more were expected`)
}

function readWord(bytes: Uint8Array): number {
  if (bytes.length < 4) throw new RangeError('it ends within a message')
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)
}
