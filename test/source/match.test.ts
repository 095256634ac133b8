import { describe, expect, it } from 'vitest'
import type { TimeUnit } from '../../src/model/columns.ts'
import { matchInputs, nullColumn, type SourceField, suspectUnit } from '../../src/source/match.ts'
import { cellsOf, input, thrown } from './support.ts'

const field = (name: string, physical: SourceField['physical'], extra: Partial<SourceField> = {}): SourceField => ({
  name,
  sourceType: String(physical),
  physical,
  ...extra,
})

describe('columns of a source', () => {
  it('are found by name, in the order of the inputs', () => {
    const fields = [field('b', 'utf8'), field('a', 'int64'), field('c', 'null')]
    const inputs = [input('a', 'int64'), input('c', 'bool'), input('b', 'utf8'), input('a', 'int64')]
    expect(matchInputs(inputs, fields, 'it').map(({ name }) => name)).toEqual(['a', 'c', 'b', 'a'])
  })

  it.each<[string, ReturnType<typeof input>, SourceField]>([
    ['text for a number', input('a', 'float64'), field('a', 'utf8')],
    ['64 bits for a float', input('a', 'float64'), field('a', 'int64')],
    ['a float for an integer', input('a', 'int64'), field('a', 'float64')],
    ['an instant for an integer', input('a', 'int64'), field('a', 'int64', { unit: 'us' })],
    ['decimals of another scale', input('a', 'decimal', { scale: 2 }), field('a', 'decimal128', { scale: 3 })],
    ['a type that no column holds', input('a', 'utf8'), field('a', undefined, { sourceType: 'struct' })],
  ])('do not fit: %s', async (_, of, found) => {
    const error = await thrown(() => matchInputs([of], [found], 'events.parquet'))
    expect(error.code).toBe('COLUMN_TYPE')
    expect(error.message).toContain(`"a" of events.parquet: got ${found.sourceType}, expected ${of.type}`)
  })

  it('may be instants in any unit, and decimals of the same scale', () => {
    for (const unit of ['s', 'ms', 'us', 'ns'] as const) {
      expect(
        matchInputs([input('t', 'timestamp', { unit: 'ms' })], [field('t', 'int64', { unit })], 'it')[0]!.unit,
      ).toBe(unit)
    }
    expect(() => matchInputs([input('t', 'timestamp')], [field('t', 'int32', { unit: 'day' })], 'it')).not.toThrow()
    expect(() =>
      matchInputs([input('d', 'decimal', { scale: 2 })], [field('d', 'decimal128', { scale: 2 })], 'it'),
    ).not.toThrow()
  })

  it('that are missing or ambiguous are named', async () => {
    const missing = await thrown(() =>
      matchInputs([input('user_id', 'utf8')], [field('userid', 'utf8'), field('t', 'int64')], 'x'),
    )
    expect(missing).toMatchObject({
      code: 'COLUMN_MISSING',
      details: { column: 'user_id', suggestion: 'userid', columns: ['userid', 't'] },
    })
    const twice = await thrown(() => matchInputs([input('a', 'utf8')], [field('a', 'utf8'), field('a', 'utf8')], 'x'))
    expect(twice.message).toMatch(/2 columns have this name/)
  })

  it('of nulls alone hold as many as asked, in every type', () => {
    for (const type of ['utf8', 'int64', 'float64', 'bool', 'timestamp', 'decimal'] as const) {
      for (const length of [0, 1, 8, 13]) {
        const batch = { length, columns: [nullColumn(input('a', type), length)], positions: 0 }
        expect(cellsOf(batch)).toEqual([Array(length).fill(null)])
      }
    }
  })
})

describe('units that were meant', () => {
  const PER_SECOND: Record<TimeUnit, number> = { day: 1 / 86_400, s: 1, ms: 1e3, us: 1e6, ns: 1e9 }
  const UNITS = Object.keys(PER_SECOND) as TimeUnit[]
  const FROM = Date.UTC(1971, 0, 1) / 1000
  const TO = Date.UTC(2099, 11, 31) / 1000
  const sample = (unit: TimeUnit) =>
    Array.from({ length: 40 }, (_, i) => BigInt(Math.ceil((FROM + ((TO - FROM) * i) / 39) * PER_SECOND[unit])))

  it('are told from every other', () => {
    for (const real of UNITS) {
      for (const declared of UNITS) {
        const warning = suspectUnit(BigInt64Array.from(sample(real)), declared)
        if (real === declared) expect(warning).toBeUndefined()
        else
          expect(warning, `${real} declared as ${declared}`).toMatch(
            new RegExp(`read in ${declared}, .* is the unit ${real}\\?$`),
          )
      }
    }
  })

  it('are asked of the majority, over present cells only', () => {
    const seconds = sample('s').map(Number)
    const ms = sample('ms').map(Number)
    expect(suspectUnit([...ms, ...seconds.slice(0, 30)], 'ms')).toBeUndefined()
    expect(suspectUnit([...ms.slice(0, 10), ...seconds], 'ms')).toMatch(/40 of 50 sampled/)
    expect(suspectUnit([], 'ms')).toBeUndefined()
    expect(suspectUnit([0, -5, 12], 'ms')).toBeUndefined()
    // Bits 3.. of the bitmap: only the last cell is present.
    expect(suspectUnit([seconds[0]!, seconds[1]!, ms[2]!], 'ms', Uint8Array.of(0b100000), 3)).toBeUndefined()
    expect(suspectUnit([ms[0]!, ms[1]!, seconds[2]!], 'ms', Uint8Array.of(0b100000), 3)).toMatch(/1 of 1 sampled/)
  })

  it('are judged by a sample of a long column', () => {
    const column = new BigInt64Array(1_000_000).fill(1_000_000_000n)
    expect(suspectUnit(column, 'ms')).toMatch(/1000 of 1000 sampled times .* got 1000000000: is the unit s\?/)
  })
})
