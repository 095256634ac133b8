/** JSON lines: every good line a row at its own position, every bad one reported, whatever stands around it. */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { afterAll, describe, expect, it } from 'vitest'
import type { InputColumn } from '../../src/model/plan.ts'
import { createNdjsonSource, readNdjsonStream } from '../../src/source/ndjson.ts'
import type { RejectedRecord } from '../../src/source/port.ts'
import { seededRandom } from '../support/random.ts'
import { type Cell, codeOf, input, type ReadAll, readAll, scratch } from './support.ts'

const at = scratch(afterAll)

interface Found extends ReadAll {
  readonly rejects: RejectedRecord[]
  readonly warnings: string[]
}

let files = 0

/** Writes `content` to a file and reads it. */
async function read(
  content: string | Uint8Array,
  inputs: readonly InputColumn[],
  batchRows?: number,
  from = 0,
): Promise<Found> {
  const file = at(`${files++}.ndjson`)
  writeFileSync(file, content)
  const rejects: RejectedRecord[] = []
  const warnings: string[] = []
  const source = createNdjsonSource({
    log: 'test',
    paths: [file],
    inputs,
    batchRows,
    onReject: (record) => rejects.push(record),
    onWarning: (text) => warnings.push(text),
  })
  return { ...(await readAll(source.read(from))), rejects, warnings }
}

/** One column, one line each. */
async function column(of: InputColumn, values: readonly string[]): Promise<Found> {
  return read(values.map((value) => `{"v":${value}}\n`).join(''), [of])
}

describe('JSON lines', () => {
  it('give typed columns; what is absent or null is null', async () => {
    const lines = [
      '{"user":"ann","n":5,"x":1.5,"ok":true,"amount":"12.50","t":"2001-01-01T00:00:00Z"}',
      '{"t":978307200001,"amount":-3,"ok":false,"x":-0,"n":"9007199254740993","user":"zürich 😀"}',
      '{"user":null,"n":null,"x":null,"ok":null,"amount":null,"t":null}',
      '{"other":{"deep":[1,2,{"a":"}"}]}}',
    ]
    const inputs = [
      input('user', 'utf8'),
      input('n', 'int64'),
      input('x', 'float64'),
      input('ok', 'bool'),
      input('amount', 'decimal', { scale: 2 }),
      input('t', 'timestamp', { unit: 'ms' }),
    ]
    const found = await read(`${lines.join('\n')}\n`, inputs)
    expect(found.rejects).toEqual([])
    expect(found.columns).toEqual([
      ['ann', 'zürich 😀', null, null],
      [5n, 9007199254740993n, null, null],
      [1.5, -0, null, null],
      [true, false, null, null],
      [1250n, -300n, null, null],
      [978307200000n, 978307200001n, null, null],
    ])
    expect(found.positions).toEqual([0, 1, 2, 3])
    const [batch] = found.batches
    expect(batch!.batch.columns.map((each) => [each.type, each.unit, each.scale])).toEqual([
      ['utf8', undefined, undefined],
      ['int64', undefined, undefined],
      ['float64', undefined, undefined],
      ['bool', undefined, undefined],
      ['decimal128', undefined, 2],
      ['int64', 'ms', undefined],
    ])
  })

  it('keep every digit of integers and decimals', async () => {
    const integers = [
      '9007199254740993',
      '-9223372036854775808',
      '9223372036854775807',
      '1e17',
      '-0',
      '1e2',
      '"42"',
      '4503599627370497.0',
    ]
    const found = await column(input('v', 'int64'), integers)
    expect(found.rejects).toEqual([])
    expect(found.columns[0]).toEqual([
      9007199254740993n,
      -(2n ** 63n),
      2n ** 63n - 1n,
      10n ** 17n,
      0n,
      100n,
      42n,
      4503599627370497n,
    ])
    const decimals = [
      '0.1',
      '12345678901234567890.123',
      '99999999999999999999999999999999999.999',
      '-0.000',
      '1e3',
      '19.99',
      '"7.125"',
      '0.30000000000000000',
    ]
    const exact = await column(input('v', 'decimal', { scale: 3 }), decimals)
    expect(exact.rejects).toEqual([])
    expect(exact.columns[0]).toEqual([
      100n,
      12345678901234567890123n,
      10n ** 38n - 1n,
      0n,
      1_000_000n,
      19990n,
      7125n,
      300n,
    ])
    const tiny = await column(input('v', 'decimal', { scale: 3 }), [
      '0e-5',
      '1e-400',
      '0.0',
      '-1E-999',
      '{"e-":0}',
      '0',
    ])
    expect(tiny.positions).toEqual([0, 2, 5])
    expect(tiny.rejects.map(({ message }) => message.replace(/^.*got /, '').replace(/, .*/, ''))).toEqual([
      '"1e-400"',
      '"-1E-999"',
      'an object',
    ])
    const times = await column(input('v', 'timestamp', { unit: 'ns' }), [
      '1600000000123456789',
      '1600000000999999999',
      '-1',
    ])
    expect(times.columns[0]).toEqual([1600000000123n, 1600000000999n, -1n])
  })

  it('read decimals as text does, over every number of digits', async () => {
    const seed = 5
    const random = seededRandom(seed)
    const scale = 6
    const texts: string[] = []
    const expected: (bigint | null)[] = []
    for (let i = 0; i < 3000; i++) {
      const digits = Array.from({ length: random.between(1, 24) }, () => random.below(10)).join('')
      const point = random.between(1, digits.length)
      const whole = String(BigInt(digits.slice(0, point)))
      const fraction = digits.slice(point)
      texts.push(`${random.chance(0.5) ? '-' : ''}${whole}${fraction === '' ? '' : `.${fraction}`}`)
      const kept = fraction.slice(0, scale).padEnd(scale, '0')
      const unscaled = BigInt(whole + kept) * (texts.at(-1)!.startsWith('-') ? -1n : 1n)
      expected.push(/[1-9]/.test(fraction.slice(scale)) ? null : unscaled)
    }
    const found = await column(input('v', 'decimal', { scale }), texts)
    const kept = expected.flatMap((value, row) => (value === null ? [] : [row]))
    expect(found.positions, `seed ${seed}`).toEqual(kept)
    expect(found.columns[0], `seed ${seed}`).toEqual(kept.map((row) => expected[row]))
    expect(found.rejects.map(({ position }) => position)).toEqual(
      expected.flatMap((value, row) => (value === null ? [row] : [])),
    )
  })

  it('pass infinities on as floats: the core counts them as null cells', async () => {
    const found = await column(input('v', 'float64'), ['1e400', '-1e400', '5e-324'])
    expect(found.columns[0]).toEqual([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 5e-324])
  })
})

describe('rejected lines', () => {
  const inputs = [input('id', 'int64'), input('s', 'utf8')]

  it('are reported with file, line, and what was found; the rest keeps its positions', async () => {
    const lines = [
      '{"id":0,"s":"a"}', // 0
      '{"id":1,"s":', // 1: json
      '', // 2: blank
      '   \r', // 3: blank
      '[1,2]', // 4: object
      '"text"', // 5: object
      'null', // 6: object
      '{"id":"seven"}', // 7: cell
      '{"id":8,"s":5}', // 8: cell
      '{"id":1.5}', // 9: cell
      '{"id":9223372036854775808}', // 10: cell
      '{"id":11,"s":"\\ud800"}', // 11: cell, a lone surrogate
      `{"id":12,"s":"\\ud83d\\ude00"}`, // 12
      `{"id":13,"deep":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, // 13: too_deep
      `{"id":14,"s":"${'x'.repeat(2 ** 20)}"}`, // 14: too_long
      '{"id":15,"s":"\r"}', // 15: json, a raw control character
      "{'id':16}", // 16: json
      '{"id":17} {"id":18}', // 17: json
      '{"id":18,"s":"end"}\r', // 18
      `{"id":19,"deep":${'['.repeat(63)}${']'.repeat(63)}}`, // 19
      '{"id":20,"s":"cut', // 20: json
    ]
    const found = await read(lines.join('\n'), inputs, 2)
    expect(found.positions).toEqual([0, 12, 18, 19])
    expect(found.columns).toEqual([
      [0n, 12n, 18n, 19n],
      ['a', '😀', 'end', null],
    ])
    expect(found.rejects.map(({ position, reason }) => [position, reason])).toEqual([
      [1, 'json'],
      [4, 'object'],
      [5, 'object'],
      [6, 'object'],
      [7, 'cell'],
      [8, 'cell'],
      [9, 'cell'],
      [10, 'cell'],
      [11, 'cell'],
      [13, 'too_deep'],
      [14, 'too_long'],
      [15, 'json'],
      [16, 'json'],
      [17, 'json'],
      [20, 'json'],
    ])
    const messages = new Map(found.rejects.map((each) => [each.position, each.message]))
    expect(messages.get(7)).toMatch(/\.ndjson:8: column "id": got "seven", expected int64/)
    expect(messages.get(10)).toMatch(/got 9223372036854775808n, expected int64/)
    expect(messages.get(20)).toMatch(/\.ndjson:21: .*the input ends within this line/)
    for (const { origin, position, message } of found.rejects) {
      expect(origin).toMatch(new RegExp(`\\.ndjson:${position + 1}$`))
      expect(message.length).toBeLessThan(400)
    }
  })

  it('with bytes that are not UTF-8 are told apart from their neighbours', async () => {
    const bytes = Buffer.concat([
      Buffer.from('{"id":0,"s":"ü"}\n{"id":1,"s":"'),
      Buffer.from([0xff, 0xc3]),
      Buffer.from('"}\n{"id":2,"s":"ok"}\n{"id":3,"s":"'),
      Buffer.from([0xed, 0xa0, 0x80]), // a surrogate in UTF-8
      Buffer.from('"}\n'),
    ])
    const found = await read(bytes, inputs)
    expect(found.positions).toEqual([0, 2])
    expect(found.columns[1]).toEqual(['ü', 'ok'])
    expect(found.rejects.map(({ position, reason }) => [position, reason])).toEqual([
      [1, 'encoding'],
      [3, 'encoding'],
    ])
  })

  it('leave no trace in the rows that take their place', async () => {
    // The first column is written before the second one fails: null, long and short text in turn.
    const lines = [
      '{"s":null,"n":"x"}',
      '{"s":"kept","n":1}',
      `{"s":"${'l'.repeat(500)}","n":"x"}`,
      '{"s":"","n":2}',
      '{"s":"é","n":[]}',
      '{"s":null,"n":3}',
    ]
    const found = await read(lines.join('\n'), [input('s', 'utf8'), input('n', 'int64')])
    expect(found.columns).toEqual([
      ['kept', '', null],
      [1n, 2n, 3n],
    ])
    expect(found.positions).toEqual([1, 3, 5])
  })

  it('and good ones together are all the lines, whatever the batch size', async () => {
    const seed = 9
    const random = seededRandom(seed)
    const lines = Array.from({ length: 2000 }, (_, row) =>
      random.chance(0.2) ? `{"id":${row}` : `{"id":${row},"s":"${'s'.repeat(row % 50)}"}`,
    )
    const expected = lines.flatMap((line, row) => (line.endsWith('}') ? [row] : []))
    for (const batchRows of [1, 7, 512, 8192]) {
      const found = await read(lines.join('\n'), inputs, batchRows)
      expect(found.positions, `seed ${seed}`).toEqual(expected)
      expect(found.columns[0]).toEqual(expected.map(BigInt))
      expect(found.columns[1]).toEqual(expected.map((row) => 's'.repeat(row % 50)))
      expect(found.rejects.length).toBe(lines.length - expected.length)
    }
  })

  it('do not touch prototypes, and inherited names are not data', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty']
    const found = await read(
      '{"__proto__":"p","constructor":"c","toString":"t"}\n{"__proto__":{"polluted":1},"x":1}\n{}\n{"hasOwnProperty":"h","hasOwnProperty":"last"}\n',
      names.map((name) => input(name, 'utf8')),
    )
    expect(found.columns).toEqual([
      ['p', null, null],
      ['c', null, null],
      ['t', null, null],
      [null, null, 'last'],
    ])
    expect(found.rejects.map(({ position, reason }) => [position, reason])).toEqual([[1, 'cell']])
    expect(({} as { polluted?: number }).polluted).toBeUndefined()
  })
})

describe('files of JSON lines', () => {
  it('are numbered on over a plan, and read on from any line', async () => {
    mkdirSync(at('plan'))
    const lines: string[] = []
    for (const [name, from, to] of [
      ['a', 0, 100],
      ['b', 100, 101],
      ['c', 101, 250],
    ] as const) {
      const part = Array.from({ length: to - from }, (_, i) => ((from + i) % 9 === 3 ? 'broken' : `{"n":${from + i}}`))
      // One file ends without a newline, one with blank lines.
      writeFileSync(at(`plan/${name}.jsonl`), part.join('\n') + (name === 'b' ? '' : '\n'))
      lines.push(...part)
    }
    const good = lines.flatMap((line, row) => (line === 'broken' ? [] : [row]))
    for (const from of [0, 1, 99, 100, 101, 102, 200, 249, 250, 300]) {
      const rejects: number[] = []
      const source = createNdjsonSource({
        log: 'test',
        paths: [at('plan')],
        inputs: [input('n', 'int64')],
        batchRows: 30,
        onReject: ({ position }) => rejects.push(position),
      })
      const found = await readAll(source.read(from))
      const rows = good.filter((row) => row >= from)
      expect(found.positions, `from ${from}`).toEqual(rows)
      expect(found.columns[0] ?? []).toEqual(rows.map(BigInt))
      expect(rejects).toEqual(lines.flatMap((line, row) => (line === 'broken' && row >= from ? [row] : [])))
    }
  })

  it('may begin with a byte order mark, be empty, or end with a line that grows later', async () => {
    const inputs = [input('n', 'int64')]
    expect((await read('\ufeff{"n":1}\n{"n":2}', inputs)).columns[0]).toEqual([1n, 2n])
    expect((await read('', inputs)).positions).toEqual([])
    expect((await read('\n\n\n', inputs)).positions).toEqual([])
    const file = at('growing.ndjson')
    writeFileSync(file, '{"n":1}\n{"n":')
    const source = createNdjsonSource({ log: 'test', paths: [file], inputs })
    expect((await readAll(source.read(0))).positions).toEqual([0])
    appendFileSync(file, '2}\n')
    expect((await readAll(source.read(1))).columns[0]).toEqual([2n])
  })

  it('that are not there are refused', async () => {
    const source = createNdjsonSource({ log: 'test', paths: [at('nowhere.ndjson')], inputs: [] })
    expect(await codeOf(() => readAll(source.read(0)))).toBe('SOURCE_NOT_FOUND')
  })

  it('that lack a column altogether are warned of, with the name that was meant', async () => {
    const found = await read('{"usr":"a","n":1}\n{"usr":"b","n":2}\n', [input('user', 'utf8'), input('n', 'int64')])
    expect(found.columns[0]).toEqual([null, null])
    expect(found.warnings.length).toBe(1)
    expect(found.warnings[0]).toMatch(/has column "user": it is read as null; did you mean "usr"\?/)
    expect((await read('{"n":1}\n{"user":"b"}\n', [input('user', 'utf8')])).warnings).toEqual([])
  })

  it('come as a stream of any chunks', async () => {
    const bytes = Buffer.from('{"s":"zürich"}\n{"s":"😀"}\n{"s":"end"}')
    async function* chunks(): AsyncGenerator<Uint8Array> {
      for (const byte of bytes) yield Uint8Array.of(byte)
    }
    const found = await readAll(readNdjsonStream(chunks(), 'standard input', { inputs: [input('s', 'utf8')] }))
    expect(found.columns[0]).toEqual(['zürich', '😀', 'end'])
    expect(found.batches[0]!.origin).toBe('standard input')
  })

  it('keep text of any length within a line, in batches larger than their first buffers', async () => {
    const texts: Cell[] = Array.from({ length: 300 }, (_, row) => `${'ab€'.repeat(row * 7)}|`)
    const content = texts.map((s) => JSON.stringify({ s })).join('\n')
    expect((await read(content, [input('s', 'utf8')])).columns[0]).toEqual(texts)
  })
})
