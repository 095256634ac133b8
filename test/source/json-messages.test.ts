/** Messages to columns: whatever the bytes, the scanner and the parser say the same, and each message ends in one place. */
import { describe, expect, it } from 'vitest'
import type { InputColumn } from '../../src/model/plan.ts'
import { createJsonDecoder, type JsonDecoderOptions } from '../../src/source/json-messages.ts'
import { JsonRows } from '../../src/source/json-row.ts'
import { JsonScanner } from '../../src/source/json-scan.ts'
import type { RejectedRecord } from '../../src/source/port.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { eachSeed } from '../fuzz/effort.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { type Cell, cellsOf, input } from './support.ts'

const INPUTS = [
  input('user', 'utf8'),
  input('n', 'int64'),
  input('x', 'float64'),
  input('ok', 'bool'),
  input('amount', 'decimal', { scale: 2 }),
  input('t', 'timestamp', { unit: 'ms' }),
]

function message(value: string | Uint8Array | null, offset: number): StreamMessage {
  const bytes = value === null ? null : Buffer.from(value as string)
  return { key: null, value: bytes, timestamp: String(1_600_000_000_000 + offset), offset: String(offset) }
}

interface Decoded {
  readonly columns: Cell[][]
  readonly positions: number[]
  readonly times: number[]
  readonly rejects: RejectedRecord[]
  readonly tombstones: number
}

function decode(
  values: readonly (string | Uint8Array | null)[],
  inputs: readonly InputColumn[] = INPUTS,
  options: Partial<JsonDecoderOptions> = {},
): Decoded {
  const rejects: RejectedRecord[] = []
  const decoder = createJsonDecoder({ inputs, onReject: (record) => rejects.push(record), ...options })
  // Offsets with holes.
  const batch = decoder.decode(values.map((value, i) => message(value, i * 10)))
  return {
    columns: cellsOf(batch),
    positions: [...(batch.positions as Float64Array)],
    times: [...batch.recordTimes!],
    rejects,
    tombstones: decoder.tombstones,
  }
}

describe('messages', () => {
  it('become rows with their offsets and record times; tombstones are counted', () => {
    const found = decode([
      '{"user":"ann","n":5,"x":1.5,"ok":true,"amount":"12.50","t":"2001-01-01T00:00:00Z"}',
      null,
      ' { "other" : { "deep" : [ 1 , 2 , { "a" : "}" } ] } , "t" : 978307200001 , "amount":-3,"ok":false,"x":-0,"n":"9007199254740993","user":"zürich 😀"}\n',
      '{"user":null,"n":null,"x":null,"ok":null,"amount":null,"t":null}',
      '{}',
    ])
    expect(found.rejects).toEqual([])
    expect(found.tombstones).toBe(1)
    expect(found.positions).toEqual([0, 20, 30, 40])
    expect(found.times).toEqual([0, 20, 30, 40].map((offset) => 1_600_000_000_000 + offset))
    expect(found.columns).toEqual([
      ['ann', 'zürich 😀', null, null],
      [5n, 9007199254740993n, null, null],
      [1.5, -0, null, null],
      [true, false, null, null],
      [1250n, -300n, null, null],
      [978307200000n, 978307200001n, null, null],
    ])
  })

  it('keep every digit of integers and decimals', () => {
    const numbers = [
      '9007199254740993',
      '-9223372036854775808',
      '1e17',
      '-0',
      '4503599627370497.0',
      '"42"',
      '123456789012345',
    ]
    const found = decode(
      numbers.map((n) => `{"n":${n}}`),
      [input('n', 'int64')],
    )
    expect(found.columns[0]).toEqual([
      9007199254740993n,
      -(2n ** 63n),
      10n ** 17n,
      0n,
      4503599627370497n,
      42n,
      123456789012345n,
    ])
    const decimals = ['12345678901234567890.12', '0.1', '0.30000000000000000', '19.99', '1e3', '999999999999.99']
    const exact = decode(
      decimals.map((n) => `{"n":${n}}`),
      [input('n', 'decimal', { scale: 2 })],
    )
    expect(exact.columns[0]).toEqual([1234567890123456789012n, 10n, 30n, 1999n, 100_000n, 99_999_999_999_999n])
  })

  it('reads doubles as JSON.parse does', () => {
    const doubles = [
      '0.1',
      '123456.789',
      '1e-320',
      '-1.5E+3',
      '0.1234567890123456789',
      '99999999999999.9',
      '5e-324',
      '-0.0',
      '1e400',
    ]
    const found = decode(
      doubles.map((n) => `{"x":${n}}`),
      [input('x', 'float64')],
    )
    expect(found.columns[0]).toEqual(doubles.map((n) => JSON.parse(n)))
  })

  it('takes the last of fields with one name, and nothing that objects inherit', () => {
    const inputs = [input('user', 'utf8'), input('constructor', 'utf8'), input('__proto__', 'utf8')]
    const found = decode(
      [
        '{"user":"a","user":"b"}',
        '{"user":5,"user":"b","__proto__":"p"}',
        '{"user":"a","us\\u0065r":"c"}',
        '{"user":"a","user":null,"constructor":"own"}',
        '{"__proto__":{"user":"x"}}',
      ],
      inputs,
    )
    expect(found.columns).toEqual([
      ['b', 'b', 'c', null],
      [null, null, null, 'own'],
      [null, 'p', null, null],
    ])
    expect(found.rejects.map(({ position, reason }) => [position, reason])).toEqual([[40, 'cell']])
  })

  it.each<[RejectedRecord['reason'], string | Uint8Array, RegExp]>([
    ['json', '', /got "", expected a JSON object: /],
    ['json', '{"user":"a"', /expected a JSON object/],
    ['json', '{"user":"a"} x', /expected a JSON object/],
    ['json', '{"n":01}', /expected a JSON object/],
    ['json', '{"skipped":1.,"n":1}', /expected a JSON object/],
    ['json', '{"skipped":tru,"n":1}', /expected a JSON object/],
    ['json', '{"skipped":[1,],"n":1}', /expected a JSON object/],
    ['json', '{"skipped":{"a":1,},"n":1}', /expected a JSON object/],
    ['json', '{"user":"a\tb"}', /expected a JSON object/],
    ['object', '[{"user":"a"}]', /got an array of 1, expected a JSON object$/],
    ['object', 'null', /got null, expected a JSON object$/],
    ['encoding', Uint8Array.from([...Buffer.from('{"user":"'), 0xc3, 0x28, ...Buffer.from('"}')]), /expected UTF-8$/],
    [
      'encoding',
      Uint8Array.from([...Buffer.from('{"other":"'), 0xed, 0xa0, 0x80, ...Buffer.from('"}')]),
      /expected UTF-8$/,
    ],
    ['too_long', `{"user":"${'a'.repeat(200)}"}`, /got 211 bytes, expected at most 200$/],
    ['too_deep', `{"a":${'['.repeat(64)}${']'.repeat(64)}}`, /nested deeper than 64$/],
    ['too_deep', `{"a":${'{"a":'.repeat(12)}1${'}'.repeat(12)}}`, /nested deeper than 5$/],
    ['cell', '{"n":1.5}', /column "n": got 1.5, expected int64/],
    ['cell', '{"user":5}', /column "user": got 5, expected utf8/],
    ['cell', '{"user":"\\ud800"}', /column "user": got "\\ud800"/],
    ['cell', '{"t":"yesterday"}', /column "t": got "yesterday", expected timestamp/],
  ])('rejects as %s: %s', (reason, value, text) => {
    const options = { maxBytes: 200, ...(String(value).includes('{"a":{') ? { maxDepth: 5 } : {}) }
    const found = decode(['{"n":1}', value, '{"n":2}'], INPUTS, options)
    expect(found.rejects).toEqual([{ position: 10, origin: 'offset 10', reason, message: expect.stringMatching(text) }])
    expect(found.rejects[0]!.message).toMatch(/^offset 10: got|^offset 10: column/)
    expect(found.positions).toEqual([0, 20])
    expect(found.columns[1]).toEqual([1n, 2n])
  })

  it('takes batches of any size, each with columns of its own', () => {
    const decoder = createJsonDecoder({ inputs: [input('n', 'int64')], onReject: () => {} })
    const batches = [3, 5000, 2, 70_000, 0, 1].map((count) =>
      decoder.decode(Array.from({ length: count }, (_, i) => message(`{"n":${i}}`, i))),
    )
    expect(batches.map((batch) => [batch.length, cellsOf(batch)[0]!.at(-1)])).toEqual([
      [3, 2n],
      [5000, 4999n],
      [2, 1n],
      [70_000, 69_999n],
      [0, undefined],
      [1, 0n],
    ])
  })
})

describe('the scanner', () => {
  /** Is a message sure enough for it? */
  function scans(value: string | Uint8Array, depthMax = 64): boolean {
    const rows = new JsonRows(INPUTS, 16)
    return new JsonScanner(rows.builders, depthMax).scan(Buffer.from(value as string), 0)
  }

  it('takes the usual message itself', () => {
    expect(scans('{"user":"ann","n":-5,"x":1.25e3,"ok":true,"amount":12.5,"t":"2001-01-01T00:00:00Z"}')).toBe(true)
    expect(scans(' {"other":{"a":[1,"b",null,{}]},"user":"zürich 😀","ok":null} ')).toBe(true)
    expect(scans('{}')).toBe(true)
  })

  it('leaves to the parser what is unusual', () => {
    for (const value of [
      '{"user":"a\\n"}',
      '{"n":1234567890123456}',
      '{"amount":1e2}',
      '[]',
      '{"n":1}{"n":2}',
      '{"n":1,}',
    ]) {
      expect(scans(value), value).toBe(false)
    }
    expect(scans('{"a":[[1]]}', 3)).toBe(true)
    expect(scans('{"a":[[1]]}', 2)).toBe(false)
  })

  it('says what the parser says, over random and damaged messages', async () => {
    let scanned = 0
    const perSeed = 50
    const seeds = await eachSeed('test/source/json-messages.test.ts', 1, 400, (seed) => {
      const random = seededRandom(seed)
      for (let i = 0; i < perSeed; i++) {
        const whole = Buffer.from(randomObject(random))
        const bytes = random.chance(0.4) ? damaged(random, whole) : whole
        const found = decode([bytes])
        const { reason, columns } = parsed(bytes)
        const text = JSON.stringify(bytes.toString('latin1'))
        expect(
          found.rejects.map((each) => each.reason),
          text,
        ).toEqual(reason === undefined ? [] : [reason])
        expect(found.columns, text).toEqual(columns)
        if (scans(bytes)) scanned++
      }
    })
    // It would say nothing of a scanner that takes nothing.
    expect(scanned / (seeds * perSeed)).toBeGreaterThan(0.1)
  })
})

/** The slow way alone. */
function parsed(bytes: Buffer): { readonly reason: string | undefined; readonly columns: Cell[][] } {
  const rows = new JsonRows(INPUTS, 1)
  let reason: string | undefined
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    reason = rows.add(JSON.parse(text), text)?.reason
  } catch (error) {
    reason = error instanceof SyntaxError ? 'json' : 'encoding'
  }
  return { reason, columns: cellsOf({ ...rows.finish(), positions: 0 }) }
}

const TEXTS = [
  '',
  'ann',
  'zürich',
  '😀',
  'a"b',
  'tab\t',
  '2001-01-01T00:00:00Z',
  '42',
  '12.50',
  '\ud800',
  'x'.repeat(70),
]
const NAMES = ['user', 'n', 'x', 'ok', 'amount', 't', 'other', 'use', 'userx', 'us\\u0065r', '']

function randomObject(random: Random): string {
  const space = () => random.pick(['', '', '', '', ' ', '\n', ' \t\r\n'])
  const digits = (count: number) => Array.from({ length: count }, () => random.below(10)).join('')
  const text = () => JSON.stringify(random.pick(TEXTS))
  const number = () =>
    random.pick([
      () => `${random.below(100)}`,
      () => `-${digits(random.between(1, 20))}`,
      () => `${random.below(1e6) / 100}`,
      () => `${random.below(10)}.${digits(random.between(1, 18))}`,
      () => `${random.fraction() * 10 ** random.between(-20, 20)}`,
      () => `${digits(2)}${random.pick(['e', 'E'])}${random.pick(['', '+', '-'])}${digits(2)}`,
      () => '-0',
    ])()
  const value = (depth: number): string => {
    const kind = random.below(depth > 0 ? 8 : 6)
    if (kind < 2) return number()
    if (kind < 4) return text()
    if (kind < 6) return random.pick(['true', 'false', 'null'])
    const inner = Array.from({ length: random.below(4) }, () => value(depth - 1))
    if (kind === 6) return `[${space()}${inner.join(`${space()},${space()}`)}${space()}]`
    return `{${space()}${inner.map((each, i) => `"k${i}"${space()}:${space()}${each}`).join(`${space()},`)}${space()}}`
  }
  const fitting: Record<string, () => string> = {
    user: text,
    n: number,
    x: number,
    ok: () => random.pick(['true', 'false']),
    amount: number,
    t: () => random.pick([number, text])(),
  }
  const fields = Array.from({ length: random.below(8) }, () => {
    const name = random.pick(NAMES)
    // Mostly what fits the column.
    const own = random.chance(0.9) ? fitting[name] : undefined
    return `${space()}"${name}"${space()}:${space()}${own?.() ?? value(10)}${space()}`
  })
  return `${space()}{${fields.join(',') || space()}}${space()}`
}

/** Cut off, a byte less, or another byte. */
function damaged(random: Random, bytes: Buffer): Buffer {
  const at = random.below(bytes.length)
  const kind = random.below(3)
  if (kind === 0) return bytes.subarray(0, at)
  if (kind === 1) return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])
  const copy = Buffer.from(bytes)
  copy[at] = random.chance(0.5) ? random.below(256) : random.pick([...Buffer.from('",-.0:[]\\e{}')])
  return copy
}
