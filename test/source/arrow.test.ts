/** Arrow files and streams: every cell in any batch size, reading on from a position, and dictionaries that grow. */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import {
  Dictionary,
  Int32,
  makeData,
  RecordBatchStreamWriter,
  tableFromIPC,
  tableToIPC,
  Utf8,
  vectorFromArray,
} from 'apache-arrow'
import { afterAll, describe, expect, it } from 'vitest'
import { createArrowSource, readArrowStream } from '../../src/source/arrow.ts'
import {
  allTypes,
  batchOf,
  chunked,
  EXPECTED,
  INPUTS,
  ROWS,
  SPLIT_EXPECTED,
  SPLIT_INPUTS,
  split,
  TEXTS,
} from './arrow-table.ts'
import { codeOf, input, readAll, scratch } from './support.ts'

const at = scratch(afterAll)

describe('Arrow files', () => {
  it.each(['file', 'stream'] as const)('of the %s format give every cell, in any batch size', async (format) => {
    writeFileSync(at(`split.${format}.arrow`), split([64, 1, 0, 135], format))
    writeFileSync(at(`whole.${format}.arrow`), tableToIPC(allTypes(), format))
    for (const [name, inputs, expected] of [
      ['split', SPLIT_INPUTS, SPLIT_EXPECTED],
      ['whole', INPUTS, EXPECTED],
    ] as const) {
      const paths = [at(`${name}.${format}.arrow`)]
      for (const batchRows of [1, 50, 8192]) {
        const source = createArrowSource({ log: 'test', paths, inputs, batchRows })
        const read = await readAll(source.read(0))
        expect(read.columns).toEqual(expected)
        expect(read.positions).toEqual([...Array(ROWS).keys()])
        expect(Math.max(...read.batches.map(({ batch }) => batch.length))).toBeLessThanOrEqual(batchRows)
        const later = await readAll(source.read(131))
        expect(later.columns).toEqual(expected.map((cells) => cells.slice(131)))
        expect(later.positions[0]).toBe(131)
      }
    }
  })

  it('skip the bodies of record batches that lie before the position', async () => {
    const bytes = split([64, 64, 72], 'file')
    // A text of the first batch, made unreadable: whoever reads on behind it cannot notice.
    const text = Buffer.from('long enough to leave its view 9 ')
    for (let where = Buffer.from(bytes).indexOf(text); where >= 0; where = Buffer.from(bytes).indexOf(text)) {
      bytes.fill(0xff, where, where + text.length)
    }
    writeFileSync(at('skipped.arrow'), bytes)
    const source = createArrowSource({ log: 'test', paths: [at('skipped.arrow')], inputs: [input('text', 'utf8')] })
    expect(await codeOf(() => readAll(source.read(63)))).toBe('SOURCE_CORRUPT')
    const later = await readAll(source.read(64))
    expect(later.columns).toEqual([TEXTS.slice(64)])
    expect(later.batches[0]!.origin).toBe('skipped.arrow, record batch 1')
  })

  it('with messages that the footer does not name are refused', async () => {
    const bytes = Buffer.from(split([64, 64, 72], 'file'))
    const footerStart = bytes.length - 10 - bytes.readUInt32LE(bytes.length - 10)
    // The list of three blocks is the only word 3 that is followed by the first block's offset.
    const three = [...bytes.keys()].filter(
      (at) => at >= footerStart && at < bytes.length - 14 && bytes.readUInt32LE(at) === 3,
    )
    const found: string[] = []
    for (const where of three) {
      const shorter = Buffer.from(bytes)
      shorter.writeUInt32LE(1, where)
      writeFileSync(at('shorter.arrow'), shorter)
      const source = createArrowSource({ log: 'test', paths: [at('shorter.arrow')], inputs: [input('text', 'utf8')] })
      found.push(
        await readAll(source.read(0)).then(
          ({ positions }) => `${positions.length} rows`,
          (error) => error.message,
        ),
      )
    }
    expect(found.filter((each) => /rows/.test(each) && each !== `${ROWS} rows`)).toEqual([])
    expect(found.join()).toMatch(/bytes behind its last message are not in its footer/)
  })

  it('run on from one to the next', async () => {
    const whole = allTypes()
    writeFileSync(at('a.arrow'), tableToIPC(whole, 'file'))
    writeFileSync(at('b.arrows'), tableToIPC(whole, 'stream'))
    const source = createArrowSource({
      log: 'test',
      paths: [at('a.arrow'), at('b.arrows')],
      inputs: [input('text', 'utf8')],
    })
    const read = await readAll(source.read(150))
    expect(read.columns[0]).toEqual([...TEXTS.slice(150), ...TEXTS])
    expect(read.positions.at(-1)).toBe(2 * ROWS - 1)
  })

  it('of the public flights sample are read as their own library reads them', async () => {
    const file = path.resolve('node_modules/vega-datasets/data/flights-200k.arrow')
    const inputs = [input('delay', 'int64'), input('distance', 'int64'), input('time', 'float64')]
    const read = await readAll(createArrowSource({ log: 'test', paths: [file], inputs }).read(0))
    const table = tableFromIPC(readFileSync(file))
    expect(read.positions.length).toBe(table.numRows)
    for (const [index, { name }] of inputs.entries()) {
      const peer = table.getChild(name)!.toArray() as ArrayLike<number>
      const row = read.columns[index]!.findIndex((cell, at) => Number(cell) !== peer[at])
      expect(row, name).toBe(-1)
    }
  })

  it('come as a stream of any chunks', async () => {
    const bytes = split([100, 100], 'stream')
    for (const size of [1, 77, 100_000]) {
      const read = await readAll(readArrowStream(chunked(bytes, size), 'standard input', { inputs: SPLIT_INPUTS }))
      expect(read.columns).toEqual(SPLIT_EXPECTED)
      expect(read.batches[1]!.origin).toBe('standard input, record batch 1')
    }
  })

  it('may add to a dictionary from batch to batch', async () => {
    const type = new Dictionary(new Utf8(), new Int32(), 7)
    const words = ['red', 'green', null, 'blue', 'grün', 'red']
    const batch = (values: (string | null)[], dictionary: string[]) => {
      const indices = values.map((value) => (value === null ? null : dictionary.indexOf(value)))
      const data = makeData({
        type,
        length: values.length,
        data: Int32Array.from(indices.map((index) => index ?? 0)),
        nullBitmap: Uint8Array.of(
          indices.reduce<number>((bits, index, row) => bits | (index === null ? 0 : 1 << row), 0),
        ),
        dictionary: vectorFromArray(dictionary, new Utf8()),
      })
      return batchOf('key', data)
    }
    const writer = new RecordBatchStreamWriter()
    writer.write(batch(words.slice(0, 3), ['red', 'green']))
    writer.write(batch(words.slice(3), ['red', 'green', 'blue', 'grün']))
    writer.finish()
    writeFileSync(at('delta.arrows'), writer.toUint8Array(true))
    const read = await readAll(
      createArrowSource({ log: 'test', paths: [at('delta.arrows')], inputs: [input('key', 'utf8')] }).read(0),
    )
    expect(read.columns[0]).toEqual(words)
  })
})
