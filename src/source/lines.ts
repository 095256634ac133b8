/**
 * Bytes to lines, in blocks: a block is decoded to text once and not line by line.
 *
 * A line ends at a newline or at the end of the input. One that is over the limit is cut down to its first bytes and
 * never held as a whole; bytes that are not UTF-8 keep their place and are told apart.
 */
import { isUtf8 } from 'node:buffer'

const NEWLINE = 10

export interface LineBlock {
  /** Number of the first line, from 0. */
  readonly first: number
  /** Text of each line; what is wrong with it instead, where it has none. */
  readonly lines: readonly (string | LineFault)[]
  /** The last line has no newline: the input ended there. */
  readonly open: boolean
}

export interface LineFault {
  readonly reason: 'encoding' | 'too_long'
  /** How the line begins, made printable. */
  readonly start: string
}

/** Splits `chunks` into lines of at most `lineBytesMax` bytes. */
export async function* splitLines(
  chunks: AsyncIterable<Uint8Array>,
  lineBytesMax: number,
): AsyncGenerator<LineBlock, void, undefined> {
  let first = 0
  // The beginning of a line whose end has not come yet, as it came.
  let rest: Buffer[] = []
  let restBytes = 0
  // Set while a line over the limit is being skipped: how it began.
  let skipping: string | undefined
  for await (const chunk of chunks) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    const lines: (string | LineFault)[] = []
    let from = 0
    if (skipping !== undefined) {
      const end = bytes.indexOf(NEWLINE)
      if (end < 0) continue
      lines.push({ reason: 'too_long', start: skipping })
      skipping = undefined
      from = end + 1
    }
    const last = bytes.lastIndexOf(NEWLINE)
    if (last >= from) {
      addLines(Buffer.concat([...rest, bytes.subarray(from, last)]), lineBytesMax, lines)
      rest = []
      restBytes = 0
      from = last + 1
    }
    if (from < bytes.length) {
      // Copied: whoever made the chunk may use its bytes again.
      rest.push(Buffer.from(bytes.subarray(from)))
      restBytes += bytes.length - from
    }
    if (restBytes > lineBytesMax) {
      skipping = startOf(Buffer.concat(rest))
      rest = []
      restBytes = 0
    }
    if (lines.length === 0) continue
    yield { first, lines, open: false }
    first += lines.length
  }
  const lines: (string | LineFault)[] = []
  if (skipping !== undefined) lines.push({ reason: 'too_long', start: skipping })
  else if (restBytes > 0) addLines(Buffer.concat(rest), lineBytesMax, lines)
  if (lines.length > 0) yield { first, lines, open: true }
}

function addLines(block: Buffer, lineBytesMax: number, lines: (string | LineFault)[]): void {
  // Text is never longer than its bytes, so a block of short lines needs no look at bytes at all.
  if (isUtf8(block)) {
    for (const line of block.toString('utf8').split('\n')) {
      const over =
        line.length > lineBytesMax || (line.length * 3 > lineBytesMax && Buffer.byteLength(line) > lineBytesMax)
      lines.push(over ? { reason: 'too_long', start: line.slice(0, 60) } : line)
    }
    return
  }
  for (let from = 0; from <= block.length; ) {
    const end = block.indexOf(NEWLINE, from)
    const line = block.subarray(from, end < 0 ? block.length : end)
    if (line.length > lineBytesMax) lines.push({ reason: 'too_long', start: startOf(line) })
    else lines.push(isUtf8(line) ? line.toString('utf8') : { reason: 'encoding', start: startOf(line) })
    if (end < 0) break
    from = end + 1
  }
}

function startOf(line: Buffer): string {
  return line.subarray(0, 60).toString('utf8')
}
