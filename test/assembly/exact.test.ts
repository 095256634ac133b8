/**
 * Sums, means, variances and extremes at the ends of every type, against exact rationals rounded once: from raw events, from
 * one tile, from many tiles, from rows that were rewritten event by event, and from rows of several lanes.
 */
import { describe, expect, it } from 'vitest'
import { type ColumnSpec, decimal, float64, int64 } from '../../src/define/dsl.ts'
import { Merger } from '../../src/engine/merger.ts'
import { loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import type { Plan } from '../../src/model/plan.ts'
import { answersFrom, batchOf, event, FAR_MS, Folder, hexKey, planOfEverything } from '../engine/folding.ts'
import { eachSeed, patience } from '../fuzz/effort.ts'
import type { Answer } from '../laws/subject.ts'
import { type NaiveEvent, naiveFeatures } from '../oracle/naive.ts'
import { divide, fromDouble, multiply, type Rational, rational, subtract, toDouble } from '../oracle/rational.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawCell } from '../support/values.ts'

const FILE = 'test/assembly/exact.test.ts'
const START_MS = Date.UTC(2001, 5, 17, 9)
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
type CellValue = NaiveEvent['cells'][string]

const dec = (value: bigint): CellValue => ({ dec: value })
const repeat = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value)

const LARGEST = Number.MAX_VALUE
const SMALLEST = 5e-324
/** Ends of the 128-bit window that sums of doubles are kept in: 2^-12 <= |v| < 2^52. */
const WINDOW_LOW = 2 ** -12
const WINDOW_HIGH = 2 ** 52
const BELOW = (value: number): number => value - value * 2 ** -53
const INT_MAX = 2n ** 63n - 1n
const INT_MIN = -(2n ** 63n)
const DEC_MAX = 10n ** 38n - 1n

const FLOATS: Record<string, readonly number[]> = {
  'one subnormal': [SMALLEST],
  'a subnormal below a third': [-SMALLEST, 0, 0],
  'subnormals and the largest': [LARGEST, SMALLEST, -SMALLEST, SMALLEST],
  'the largest, cancelled': [LARGEST, LARGEST, -LARGEST, -LARGEST, 1],
  'beyond the largest': [LARGEST, LARGEST],
  'beyond the largest on the way, not in the end': [1e308, 1e308, 1e308, -1e308, -1e308],
  'a quarter ulp under the overflow': [LARGEST, 2 ** 969, -SMALLEST],
  'half an ulp: the overflow': [LARGEST, 2 ** 970],
  'small beside large': [1e300, 1, -1e300, 1e-300, 1e-300],
  'the ends of the window': [WINDOW_LOW, BELOW(WINDOW_LOW), BELOW(WINDOW_HIGH), WINDOW_HIGH, -WINDOW_HIGH, 0.1],
  'inside the window alone': [WINDOW_LOW, -WINDOW_LOW, BELOW(WINDOW_HIGH), -BELOW(WINDOW_HIGH), 0.1, 1 / 3],
  'outside the window alone': [2 ** -13, 2 ** 60, -(2 ** 61), 1e-200],
  'more than the window holds': repeat(2100, BELOW(WINDOW_HIGH)),
  'less than the window holds': repeat(2100, -BELOW(WINDOW_HIGH)),
  'more than the window holds, and back': [...repeat(2100, BELOW(WINDOW_HIGH)), ...repeat(2099, -BELOW(WINDOW_HIGH))],
  'ties to even, up': [2 ** 53, 1, 2 ** -30],
  'ties to even, down': [2 ** 53, 1],
  'minus zero': [-0, -0],
  'not numbers': [Number.NaN, Infinity, -Infinity],
  'not numbers beside numbers': [Number.NaN, 1.5, Infinity, 2.5],
  'squares at the ends': [1e154, -1e154, 1e-162, 1.5e-162, 2 ** -537, 2 ** 511, -(2 ** 511)],
  'a variance that only exact squares see': [1e8 + 0.1, 1e8 + 0.2, 1e8 + 0.3],
  'equal values': repeat(7, 0.1),
  thirds: [1 / 3, 2 / 3, 4 / 3],
}

const INTEGERS: Record<string, readonly bigint[]> = {
  'the largest': [INT_MAX],
  'the smallest': [INT_MIN],
  'one too many': [INT_MAX, 1n],
  'one too few': [INT_MIN, -1n],
  'beyond and back': [INT_MAX, INT_MAX, INT_MIN, INT_MIN, 2n],
  '2^53 + 1': [2n ** 53n + 1n, 0n],
  'far apart': [INT_MIN, INT_MAX],
  'large and equal': repeat(9, INT_MIN),
  'small ones': [1n, 2n, 4n, -3n],
  'around 2^32': [2n ** 32n - 1n, 2n ** 32n, -(2n ** 32n), 2n ** 31n],
}

const DECIMALS: Record<string, readonly bigint[]> = {
  'all digits': [DEC_MAX],
  'all digits below': [-DEC_MAX],
  'one too many': [DEC_MAX, 1n],
  'one too few': [-DEC_MAX, -1n],
  'beyond and back': [DEC_MAX, DEC_MAX, -DEC_MAX, -DEC_MAX, 5n],
  'far apart': [DEC_MAX, -DEC_MAX],
  'a mean that never ends': [1n, 1n, 2n],
  'past 64 bits': [2n ** 64n, 2n ** 64n - 1n, -(2n ** 65n), 2n ** 127n - 1n - 2n ** 126n],
  'equal ones': repeat(5, 12_345n),
}

/** What the values look like on their way into an answer; each returns the rows to merge. */
const STAGES: Record<string, (folder: Folder, plan: Plan, values: readonly CellValue[]) => Uint8Array[]> = {
  'raw events': (folder, plan, values) => {
    // Nobody moves the head on: the wall clock holds it back.
    const events = values.map((value, i) => event(START_MS + (i % 40), { value }))
    return rowsAfter(folder.fold(batchOf(events, plan.state), START_MS + MINUTE_MS), plan)
  },
  'one tile': (folder, plan, values) => {
    folder.core.advance(START_MS + 5 * HOUR_MS, FAR_MS)
    return rowsAfter(
      folder.fold(
        batchOf(
          values.map((value) => event(START_MS, { value })),
          plan.state,
        ),
      ),
      plan,
    )
  },
  'many tiles': (folder, plan, values) => {
    folder.fold(batchOf(spread(values), plan.state))
    folder.core.advance(START_MS + 5 * HOUR_MS, FAR_MS)
    return rowsAfter(folder, plan)
  },
  'a row rewritten by every event': (folder, plan, values) => {
    for (const [i, each] of spread(values.slice(0, 40)).entries()) {
      folder.fold(batchOf([each], plan.state, i, i)).flush()
    }
    return rowsAfter(folder.fold(batchOf(spread(values).slice(40), plan.state, 0, 40)), plan)
  },
  'rows of two lanes': (folder, plan, values) => {
    const rows: Uint8Array[] = []
    for (const part of [spread(values).slice(0, 2), spread(values).slice(2)]) {
      folder.rows = new Map()
      if (part.length === 0) continue
      rows.push(...rowsAfter(folder.fold(batchOf(part, plan.state, 0, folder.core.position + 1)), plan))
    }
    return rows
  },
}

/** Over tiles of every level, several events in one. */
function spread(values: readonly CellValue[]): NaiveEvent[] {
  return values.map((value, i) => event(START_MS + ((i * 7 * MINUTE_MS) % (3 * HOUR_MS)) + (i % 3), { value }))
}

function rowsAfter(folder: Folder, plan: Plan): Uint8Array[] {
  return [folder.flush().rows.get(hexKey(plan.state, ['k']))!]
}

const AS_OF_MS = START_MS + 6 * HOUR_MS

/** All operations as of later than everything: the windows that reach back to the start hold all values. */
function expectExact(
  plan: Plan,
  merger: Merger,
  values: readonly CellValue[],
  stages: readonly string[] = Object.keys(STAGES),
): void {
  const truth = naiveFeatures(
    values.map((value) => event(START_MS, { value })),
    plan,
    ['k'],
    AS_OF_MS,
  )
  for (const stage of stages) {
    const rows = STAGES[stage]!(new Folder(core, plan.state), plan, values)
    expect(wholeWindow(plan, answersFrom(merger, plan, rows, AS_OF_MS)), stage).toEqual(wholeWindow(plan, truth))
  }
}

/** First and last go by time, which stages give differently. */
function wholeWindow(plan: Plan, answers: readonly Answer[]): Answer[] {
  const longest = plan.windows.length - 1
  return answers
    .filter((_, i) => plan.features[i]!.window === longest && !['first', 'last'].includes(plan.features[i]!.op))
    .map(({ name, value, status }) => ({ name, value, status }))
}

const core = loadCore()
const planOver = (spec: ColumnSpec) => planOfEverything({ value: spec }, { retention: '30d' })

describe('exact arithmetic', async () => {
  const floats = await planOver(float64())
  const floatMerger = Merger.create(core, floats)
  it.each(Object.keys(FLOATS))('over doubles: %s', (name) => expectExact(floats, floatMerger, FLOATS[name]!))

  const integers = await planOver(int64())
  const integerMerger = Merger.create(core, integers)
  it.each(Object.keys(INTEGERS))('over integers: %s', (name) => expectExact(integers, integerMerger, INTEGERS[name]!))

  describe.each([0, 2, 38])('over decimals of scale %d', async (scale) => {
    const plan = await planOver(decimal(38, scale))
    const merger = Merger.create(core, plan)
    it.each(Object.keys(DECIMALS))('%s', (name) => expectExact(plan, merger, DECIMALS[name]!.map(dec)))
  })

  it(
    'over random values of any size',
    async () => {
      const drawFloat = (random: Random): CellValue =>
        random.chance(0.3)
          ? drawCell(random, 'float64', 'extremes')
          : (random.fraction() - 0.5) * 2 ** random.between(-1074, 1023)
      const decimals = await planOver(decimal(38, 9))
      const decimalMerger = Merger.create(core, decimals)
      await eachSeed(FILE, 0, 60, (seed) => {
        const random = seededRandom(seed)
        const count = random.between(1, 30)
        const draw = (cell: () => CellValue) => Array.from({ length: count }, cell)
        expectExact(
          floats,
          floatMerger,
          draw(() => drawFloat(random)),
        )
        expectExact(
          integers,
          integerMerger,
          draw(() => drawCell(random, 'int64', random.pick(['extremes', 'ints']))),
        )
        expectExact(
          decimals,
          decimalMerger,
          draw(() => drawCell(random, 'decimal', random.pick(['extremes', 'ints']))),
        )
      })
    },
    patience(5_000),
  )
})

// ---- counts beyond 2^32 ----------------------------------------------------------------------------------------------

/** The row added to itself `times` times: 2^times copies of each event. */
function doubled(plan: Plan, values: readonly CellValue[], times: number): Uint8Array {
  const normaliser = new RowNormaliser(core, plan.state)
  const folder = new Folder(core, plan.state)
  folder.core.advance(AS_OF_MS, FAR_MS)
  let [row] = rowsAfter(folder.fold(batchOf(spread(values), plan.state)), plan)
  for (let i = 0; i < times; i++) row = normaliser.normalise([row!, row!], AS_OF_MS)
  return row!
}

describe('counts beyond 32 bits', async () => {
  // 2^31 and 2^32 events, where a tile's count widens; 2^53 and more, where a double no longer holds it.
  it.each([28, 29, 30, 50, 51, 52, 55, 60])('of 5 events, doubled %d times', async (times) => {
    const values = [0.1, -3.5, 1e200, 2 ** -1074, 7]
    const plan = await planOver(float64())
    const answers = answersFrom(Merger.create(core, plan), plan, [doubled(plan, values, times)], AS_OF_MS)
    const valueAt = (name: string) => answers.find((answer) => answer.name === `value_${name}_1d`)!.value
    const copies = rational(2n ** BigInt(times))
    const count = multiply(rational(5n), copies)
    const total = (terms: Rational[]) => terms.reduce((a, b) => subtract(a, multiply(b, rational(-1n))))
    const sum = multiply(total(values.map(fromDouble)), copies)
    const squares = multiply(total(values.map((value) => multiply(fromDouble(value), fromDouble(value)))), copies)
    // Sum of squared deviations: Σx² - (Σx)² / n.
    const deviations = subtract(squares, divide(multiply(sum, sum), count))
    expect(valueAt('count')).toBe(toDouble(count))
    expect(valueAt('sum')).toBe(toDouble(sum))
    expect(valueAt('mean')).toBe(toDouble(divide(sum, count)))
    const variance = toDouble(divide(deviations, count))
    const sample = toDouble(divide(deviations, subtract(count, rational(1n))))
    expect(valueAt('var_pop')).toBe(Number.isFinite(variance) ? variance : null)
    expect(valueAt('var_samp')).toBe(Number.isFinite(sample) ? sample : null)
    expect(valueAt('min')).toBe(-3.5)
    expect(valueAt('max')).toBe(1e200)
  })

  it.each([33, 54, 60])('of integers and decimals, doubled %d times', async (times) => {
    const copies = 2n ** BigInt(times)
    for (const [spec, values, wrap] of [
      [int64(), [INT_MAX, INT_MIN, 3n], (value: bigint): CellValue => value],
      [decimal(38, 2), [DEC_MAX, -DEC_MAX, -DEC_MAX, 7n], dec],
    ] as const) {
      const plan = await planOver(spec)
      const answers = answersFrom(Merger.create(core, plan), plan, [doubled(plan, values.map(wrap), times)], AS_OF_MS)
      const answerOf = (name: string) => answers.find((answer) => answer.name === `value_${name}_1d`)!
      const n = copies * BigInt(values.length)
      const sum = copies * values.reduce((a, b) => a + b, 0n)
      const squares = copies * values.reduce((a, b) => a + b * b, 0n)
      const one = spec.type === 'decimal' ? 100n : 1n
      const fits = spec.type === 'int64' ? sum === BigInt.asIntN(64, sum) : false
      expect(answerOf('count').value).toBe(Number(n))
      expect(answerOf('sum').status).toBe(fits ? 'ok' : 'overflow')
      expect(answerOf('mean').value).toBe(toDouble(rational(sum, n * one)))
      expect(answerOf('var_pop').value).toBe(toDouble(rational(n * squares - sum * sum, n * n * one * one)))
      expect(answerOf('var_samp').value).toBe(toDouble(rational(n * squares - sum * sum, n * (n - 1n) * one * one)))
    }
  })

  it(
    'of squares until their words overflow in one tile',
    async () => {
      const plan = await planOver(float64())
      const folder = new Folder(core, plan.state)
      folder.core.advance(AS_OF_MS, FAR_MS)
      // Each square is just below 2^104, and 256 bits from 2^-128 on hold 2^23 of them with a sign.
      const value = BELOW(WINDOW_HIGH)
      const rows = 65_536
      const [batch] = batchOf(repeat(rows, event(START_MS, { value })), plan.state)
      const batches = 130
      for (let i = 0; i < batches; i++) folder.fold([{ ...batch!, positions: i * rows }])
      const answers = answersFrom(Merger.create(core, plan), plan, rowsAfter(folder, plan), AS_OF_MS)
      const valueAt = (name: string) => answers.find((answer) => answer.name === `value_${name}_1d`)!.value
      const n = rational(BigInt(rows * batches))
      expect(valueAt('count')).toBe(rows * batches)
      expect(valueAt('sum')).toBe(toDouble(multiply(fromDouble(value), n)))
      expect(valueAt('mean')).toBe(value)
      expect(valueAt('var_pop')).toBe(0)
    },
    patience(5_000),
  )
})
