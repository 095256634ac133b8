import { describe, expect, it } from 'vitest'
import { VERDICT_APPLIED, VERDICT_REDELIVERED } from '../../assembly/layout.ts'
import { bool, decimal, float64, int64, utf8 } from '../../src/define/dsl.ts'
import { Core } from '../../src/engine/core.ts'
import { loadCore } from '../../src/engine/module.ts'
import { type Column, type ColumnBatch, sliceBatch } from '../../src/model/columns.ts'
import { TIME_INPUT } from '../support/batches.ts'
import { ALONE, batchOf, event, FAR_MS, Folder, NOT_AFTER_MS, planOfEverything } from './folding.ts'

const plan = await planOfEverything({
  value: float64(),
  whole: int64(),
  exact: decimal(38, 2),
  flag: bool(),
  text: utf8(),
})

const START_MS = Date.UTC(2001, 5, 17, 9)
const EVENTS = Array.from({ length: 20 }, (_, i) =>
  event(START_MS + i, {
    value: i === 3 ? null : i / 2,
    whole: BigInt(i),
    exact: { dec: BigInt(i) - 5n },
    flag: i % 3 === 0,
    text: i === 7 ? null : `text ${i}`,
  }),
)
const [GOOD] = batchOf(EVENTS, plan.state) as [ColumnBatch]

function newCore(): Core {
  return new Core(loadCore(), plan.state, ALONE, NOT_AFTER_MS)
}

/** The good batch with one column, or the batch itself, changed. */
function changed(name: string, change: (column: Column) => Partial<Column>): ColumnBatch {
  return { ...GOOD, columns: GOOD.columns.map((each) => (each.name === name ? { ...each, ...change(each) } : each)) }
}

function without(name: string): ColumnBatch {
  return { ...GOOD, columns: GOOD.columns.filter((each) => each.name !== name) }
}

const CASES: readonly [what: string, batch: ColumnBatch, code: string, message: RegExp][] = [
  ['lacks a column', without('value'), 'COLUMN_MISSING', /"value".*got .*whole/],
  ['lacks the time', without(TIME_INPUT), 'COLUMN_MISSING', new RegExp(`"${TIME_INPUT}"`)],
  ['has text for a number', changed('value', () => ({ type: 'utf8' })), 'COLUMN_TYPE', /"value".*got utf8/],
  ['has floats for integers', changed('whole', () => ({ type: 'float64' })), 'COLUMN_TYPE', /"whole".*expected int/],
  [
    'has decimals of another scale',
    changed('exact', () => ({ type: 'decimal128', scale: 4 })),
    'COLUMN_TYPE',
    /scale 4, expected 2/,
  ],
  [
    'has too few cells',
    changed('exact', ({ values }) => ({ values: values.subarray(0, 20 * 16 - 1) })),
    'BATCH_INVALID',
    /"exact": got 319 bytes of cells, expected 320 for 20 rows/,
  ],
  [
    'has too few bits',
    changed('flag', () => ({ values: new Uint8Array(2), bitOffset: 0 })),
    'BATCH_INVALID',
    /"flag": got 2 bytes of cells, expected 3/,
  ],
  [
    'has a short bitmap',
    changed('value', () => ({ validity: new Uint8Array(2), bitOffset: 3 })),
    'BATCH_INVALID',
    /"value": got 2 bytes of validity, expected 3/,
  ],
  [
    'has too few offsets',
    changed('text', () => ({ offsets: new Int32Array(20) })),
    'BATCH_INVALID',
    /"text": got 20 offsets, expected 21/,
  ],
  ['has no offsets', changed('text', () => ({ offsets: undefined })), 'BATCH_INVALID', /"text": got 1 offsets/],
  [
    'has offsets beyond its text',
    changed('text', () => ({ offsets: new Int32Array(21).fill(99_999, 20) })),
    'BATCH_INVALID',
    /"text": got \d+ bytes of text, expected 99999/,
  ],
  [
    'has offsets that descend',
    changed('text', () => ({ offsets: new Int32Array(21).fill(5, 0, 20) })),
    'BATCH_INVALID',
    /"text": got text from byte 5 to 0/,
  ],
  [
    'has offsets before its text',
    changed('text', () => ({ offsets: new Int32Array(21).fill(-4, 0, 20) })),
    'BATCH_INVALID',
    /"text": got text from byte -4 to 0/,
  ],
  ['has too few positions', { ...GOOD, positions: new Float64Array(19) }, 'BATCH_INVALID', /got 19 positions/],
  ['has too few record times', { ...GOOD, recordTimes: new Float64Array(3) }, 'BATCH_INVALID', /got 3 record times/],
]

describe('a batch that', () => {
  it.each(CASES)('%s is refused, and nothing has happened', (_, batch, code, message) => {
    const core = newCore()
    expect(() => core.prepare(batch)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    )
    expect(core.position).toBe(-1)
    expect(core.counters().consumed).toBe(0)
    // The instance goes on.
    expect(core.prepare(GOOD)).toBe(20)
  })

  it('descends in its middle stops the core instead of reading through it', () => {
    const offsets = Int32Array.from(GOOD.columns.find((each) => each.name === 'text')!.offsets!)
    offsets[10] = offsets[20]! + 4
    const core = newCore()
    expect(() => core.prepare(changed('text', () => ({ offsets })))).toThrow(
      expect.objectContaining({ code: 'CORE_TRAP' }),
    )
  })

  it('is empty does nothing, with or without buffers', () => {
    const core = newCore()
    const empty = { ...sliceBatch(GOOD, 0, 0), positions: 0 }
    const bare: ColumnBatch = {
      ...empty,
      columns: empty.columns.map((each) => ({
        ...each,
        values: new Uint8Array(0),
        validity: undefined,
        offsets: undefined,
      })),
    }
    for (const batch of [empty, bare]) {
      expect(core.prepare(batch)).toBe(0)
      core.fold(FAR_MS, false)
    }
    expect(core.position).toBe(-1)
    expect(core.prepare(GOOD)).toBe(20)
  })

  it('is cut anywhere gives the same rows', () => {
    const whole = new Folder(loadCore(), plan.state).fold([GOOD]).flush().rows
    for (let cut = 1; cut < GOOD.length; cut++) {
      const parts = [sliceBatch(GOOD, 0, cut), sliceBatch(GOOD, cut, GOOD.length)]
      const { rows } = new Folder(loadCore(), plan.state).fold(parts).flush()
      expect(rows, `cut at ${cut}`).toEqual(whole)
    }
  })

  it('comes again is skipped, row by row', () => {
    const core = newCore()
    core.prepare(sliceBatch(GOOD, 0, 12))
    core.fold(FAR_MS, false)
    expect(core.prepare(sliceBatch(GOOD, 5, 20))).toBe(8)
    const verdicts = [...core.verdicts(15)]
    expect(verdicts).toEqual([...Array(7).fill(VERDICT_REDELIVERED), ...Array(8).fill(VERDICT_APPLIED)])
    expect(core.counters()).toMatchObject({ consumed: 20, applied: 20, redelivered: 7 })
  })
})
