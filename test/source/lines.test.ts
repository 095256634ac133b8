import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type LineFault, splitLines } from '../../src/source/lines.ts'

const LIMIT = 64

async function* chunks(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let from = 0
  for (let i = 0; from < bytes.length; i++) {
    const size = sizes.length === 0 ? bytes.length : sizes[i % sizes.length]!
    // One buffer for all chunks, as a reader may do: what is kept must be copied.
    const chunk = Uint8Array.from(bytes.subarray(from, from + size))
    yield chunk
    chunk.fill(0x21)
    from += size
  }
}

async function split(
  bytes: Uint8Array,
  sizes: readonly number[],
): Promise<{ lines: (string | LineFault)[]; open: boolean }> {
  const lines: (string | LineFault)[] = []
  let open = false
  for await (const block of splitLines(chunks(bytes, sizes), LIMIT)) {
    expect(block.first).toBe(lines.length)
    lines.push(...block.lines)
    open = block.open
  }
  return { lines, open }
}

/** The obvious way: all bytes at once. */
function plainly(bytes: Uint8Array): (string | 'too_long' | 'encoding')[] {
  const all = Buffer.from(bytes)
  const lines: Buffer[] = []
  let from = 0
  for (let at = all.indexOf(10); at >= 0; at = all.indexOf(10, from)) {
    lines.push(all.subarray(from, at))
    from = at + 1
  }
  if (from < all.length) lines.push(all.subarray(from))
  return lines.map((line) => {
    if (line.length > LIMIT) return 'too_long'
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(line)
    } catch {
      return 'encoding'
    }
  })
}

describe('lines', () => {
  it('are the same however the bytes are cut', async () => {
    const piece = fc.oneof(
      fc.string({ maxLength: 20 }),
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.constant('\n'),
      fc.constant('\r\n'),
      fc.constant('y'.repeat(LIMIT)),
      fc.constant('é'.repeat(LIMIT / 2)),
      fc.constant('z'.repeat(LIMIT * 3 + 1)),
    )
    const bytes = fc
      .array(
        fc.oneof(
          piece.map((text) => Buffer.from(text)),
          fc.uint8Array({ maxLength: 4 }).map(Buffer.from),
        ),
        { maxLength: 30 },
      )
      .map((parts) => Buffer.concat(parts))
    await fc.assert(
      fc.asyncProperty(bytes, fc.array(fc.integer({ min: 1, max: 90 }), { maxLength: 5 }), async (all, sizes) => {
        const { lines, open } = await split(all, sizes)
        expect(lines.map((line) => (typeof line === 'string' ? line : line.reason))).toEqual(plainly(all))
        expect(open).toBe(all.length > 0 && all.at(-1) !== 10)
      }),
      { numRuns: 500 },
    )
  })

  it('over the limit are never held as a whole', async () => {
    let given = 0
    const chunk = new Uint8Array(10_000).fill(0x78)
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (; given < 5000; given++) yield chunk
      yield Buffer.from('\nnext\n')
    }
    const before = process.memoryUsage().arrayBuffers
    const lines: (string | LineFault)[] = []
    for await (const block of splitLines(endless(), LIMIT)) lines.push(...block.lines)
    expect(given).toBe(5000)
    expect(lines).toEqual([{ reason: 'too_long', start: 'x'.repeat(60) }, 'next'])
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40_000_000)
  })
})
