/** Damaged Arrow files and streams: refused with their name before a claim of theirs is believed. */
import { writeFileSync } from 'node:fs'
import { afterAll, describe, expect, it } from 'vitest'
import { createArrowSource, readArrowStream } from '../../src/source/arrow.ts'
import { seededRandom } from '../support/random.ts'
import { chunked, INPUTS, ROWS, SPLIT_INPUTS, split } from './arrow-table.ts'
import { readAll, scratch, thrown } from './support.ts'

const at = scratch(afterAll)

describe('damaged Arrow files', () => {
  it.each(['file', 'stream'] as const)('of the %s format are refused with their name, or read', async (format) => {
    const good = split([100, 100], format)
    const random = seededRandom(21)
    const read = (bytes: Uint8Array, warnings: string[]) => {
      writeFileSync(at('damaged.arrow'), bytes)
      const onWarning = (text: string) => warnings.push(text)
      return readAll(
        createArrowSource({ log: 'test', paths: [at('damaged.arrow')], inputs: SPLIT_INPUTS, onWarning }).read(0),
      )
    }
    for (let i = 0; i < 60; i++) {
      const length = random.below(good.length)
      const warnings: string[] = []
      const found = await read(good.subarray(0, length), warnings).then(
        ({ positions }) => positions.length,
        (error) => error.code,
      )
      // A stream may end between two messages: fewer rows, but never without a word.
      if (found === 'SOURCE_CORRUPT') continue
      expect(format, `cut at ${length}: ${found}`).toBe('stream')
      expect(warnings.join(), `cut at ${length}`).toMatch(/damaged\.arrow ends without/)
    }
    const codes = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const bytes = Uint8Array.from(good)
      const where = random.below(bytes.length)
      bytes[where]! ^= 1 << random.below(8)
      const found = await read(bytes, []).then(
        () => 'read',
        (error) => error.code ?? String(error),
      )
      codes.add(found)
    }
    expect(
      [...codes].sort().filter((code) => !['read', 'SOURCE_CORRUPT', 'COLUMN_MISSING', 'COLUMN_TYPE'].includes(code)),
    ).toEqual([])
    expect(codes).toContain('SOURCE_CORRUPT')
  })

  it('whose lists claim more than there is are refused before they are walked', async () => {
    const good = split([ROWS], 'stream')
    const metadata = new DataView(good.buffer, good.byteOffset).getUint32(4, true)
    const messages = new Set<string>()
    // Every small word of the schema's metadata, made huge: the lengths of its lists are among them.
    for (let at32 = 8; at32 + 4 <= 8 + metadata; at32 += 4) {
      const bytes = Uint8Array.from(good)
      const cells = new DataView(bytes.buffer)
      const word = cells.getUint32(at32, true)
      if (word === 0 || word > 64) continue
      cells.setUint32(at32, 0x0fffffff, true)
      await readAll(readArrowStream(chunked(bytes, 4096), 'it', { inputs: SPLIT_INPUTS })).catch((error) => {
        expect(error.code).toMatch(/^(SOURCE_CORRUPT|COLUMN_)/)
        messages.add(error.message.replace(/\d+/g, 'N'))
      })
    }
    expect([...messages]).toContain('cannot read it: a list claims N elements, more than bytes are left')
  })

  it('whose buffers lie outside their body are refused before they are cut', async () => {
    const good = split([ROWS], 'stream')
    // The first buffers of the batch: (0, 0) for no validity or (0, n); the second begins at a multiple of eight.
    const found = new Set<string>()
    for (let at8 = 8; at8 + 16 <= good.length; at8 += 8) {
      const cells = new DataView(good.buffer, good.byteOffset)
      if (cells.getBigInt64(at8 + 8, true) !== BigInt(ROWS * 8)) continue
      const bytes = Uint8Array.from(good)
      new DataView(bytes.buffer).setBigInt64(at8, 2n ** 40n, true)
      await readAll(readArrowStream(chunked(bytes, 4096), 'it', { inputs: SPLIT_INPUTS })).catch((error) =>
        found.add(error.message),
      )
    }
    expect([...found].join()).toMatch(/a buffer of 1600 bytes at 1099511627776 lies outside a body of \d+/)
  })

  it('that claim more rows than anyone holds are refused', async () => {
    const good = split([ROWS], 'stream')
    const found = new Set<string>()
    for (let at4 = 8; at4 + 8 <= good.length; at4 += 4) {
      const bytes = Uint8Array.from(good)
      const cells = new DataView(bytes.buffer)
      if (cells.getBigInt64(at4, true) !== BigInt(ROWS)) continue
      cells.setBigInt64(at4, 2n ** 40n, true)
      await readAll(readArrowStream(chunked(bytes, 4096), 'it', { inputs: SPLIT_INPUTS })).catch((error) =>
        found.add(error.message),
      )
    }
    expect([...found].join()).toMatch(/a record batch claims 1099511627776 rows, at most \d+ can be read/)
    expect([...found].join()).toMatch(/a record batch claims 200 rows, its first column has another number/)
  })

  it('that go on behind their end mark are refused', async () => {
    const bytes = Buffer.concat([split([ROWS], 'stream'), split([ROWS], 'stream')])
    const error = await thrown(() => readAll(readArrowStream(chunked(bytes, 100), 'it', { inputs: SPLIT_INPUTS })))
    expect(error.message).toMatch(/more bytes follow its end mark/)
  })

  it('are not CSV', async () => {
    writeFileSync(at('csv.arrow'), 'date,delay\n2001-01-01,5\n')
    const error = await thrown(() =>
      readAll(createArrowSource({ log: 'test', paths: [at('csv.arrow')], inputs: INPUTS }).read(0)),
    )
    expect(error.code).toBe('SOURCE_CORRUPT')
    expect(error.message).toContain('csv.arrow')
  })
})
