import { describe, expect, it } from 'vitest'
import { float64, int64, utf8 } from '../../src/define/dsl.ts'
import { Merger } from '../../src/engine/merger.ts'
import { loadCore } from '../../src/engine/module.ts'
import type { Plan } from '../../src/model/plan.ts'
import { eachSeed, patience } from '../fuzz/effort.ts'
import { type NaiveEvent, naiveFeatures } from '../oracle/naive.ts'
import { seededRandom } from '../support/random.ts'
import { ALONE, answersAt, answersFrom, batchOf, event, FAR_MS, Folder, hexKey, planOfEverything } from './folding.ts'

const FILE = 'test/engine/merger.test.ts'
const core = loadCore()
const START_MS = Date.UTC(2001, 5, 17, 9)
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

const plan = await planOfEverything({ value: float64(), text: utf8() }, { windows: ['12m', '1h', '3h'], slack: '3h' })

function eventsOfKey(key: string, count: number, seed: number): NaiveEvent[] {
  const random = seededRandom(seed)
  return Array.from({ length: count }, (_, i) =>
    event(START_MS + random.below(2 * HOUR_MS), { value: random.between(-9, 9), text: `${key}-${i}` }, [key]),
  )
}

/** The row of one key's events; the head stands at `frontierMs`, where given, else where the events leave it. */
function rowOf(of: Plan, events: readonly NaiveEvent[], frontierMs?: number, shares = ALONE): Uint8Array {
  const folder = new Folder(core, of.state, shares)
  const wallMs = frontierMs === undefined ? FAR_MS : frontierMs + of.state.head.lengthMs
  if (frontierMs !== undefined) folder.core.advance(wallMs, FAR_MS)
  return folder.fold(batchOf(events, of.state), wallMs).flush().rows.get(hexKey(of.state, events[0]!.key))!
}

describe('a merge', () => {
  const keys = ['a', 'b', 'c', 'd', 'e']
  const events = new Map(keys.map((key, i) => [key, eventsOfKey(key, 12, i)]))
  const END_MS = START_MS + 3 * HOUR_MS
  const merger = Merger.create(core, plan)

  it('answers many entities at once, rows in any order, each as of its own instant', async () => {
    await eachSeed(FILE, 0, 30, (seed) => {
      const random = seededRandom(seed)
      const asked = random.shuffled(keys)
      // Each entity's events in one to three lanes, and one entity in none.
      const lanes = asked.map((key, i) => {
        const parts: NaiveEvent[][] = [[], [], []]
        for (const each of i === 0 ? [] : events.get(key)!) random.pick(parts).push(each)
        return parts.filter((part) => part.length > 0).map((part) => rowOf(plan, part))
      })
      const asOfs = asked.map(() => END_MS + random.below(2 * HOUR_MS))
      merger.begin(asked.length, Float64Array.from(asOfs))
      const rows = lanes.flatMap((parts, index) => parts.map((row) => ({ index, row })))
      for (const { index, row } of random.shuffled(rows)) merger.addRow(index, row)
      merger.run()
      for (const [index, key] of asked.entries()) {
        const known = index === 0 ? [] : events.get(key)!
        expect(answersAt(merger, plan, index)).toEqual(naiveFeatures(known, plan, [key], asOfs[index]!))
        expect(merger.entityInfo(index).rows).toBe(lanes[index]!.length)
      }
    })
  })

  it('forgets the call before', () => {
    merger.begin(2, END_MS)
    merger.addRow(0, rowOf(plan, events.get('a')!))
    merger.addRow(1, rowOf(plan, events.get('b')!))
    merger.run()
    merger.begin(1, END_MS)
    merger.run()
    expect(merger.status(0, 0)).toBe('unknown_entity')
    merger.begin(0, END_MS)
    merger.run()
  })

  it('keeps a damaged row to its entity', () => {
    const damaged = Uint8Array.from(rowOf(plan, events.get('b')!))
    damaged[60]! ^= 1
    merger.begin(3, END_MS)
    merger.addRow(0, rowOf(plan, events.get('a')!))
    merger.addRow(1, rowOf(plan, events.get('b')!.slice(0, 3)))
    merger.addRow(1, damaged)
    merger.addRow(2, rowOf(plan, events.get('c')!))
    merger.run()
    expect(answersAt(merger, plan, 0)).toEqual(naiveFeatures(events.get('a')!, plan, ['a'], END_MS))
    expect(answersAt(merger, plan, 2)).toEqual(naiveFeatures(events.get('c')!, plan, ['c'], END_MS))
    const answers = answersAt(merger, plan, 1)
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set(['error']))
    expect(new Set(answers.map(({ value }) => value))).toEqual(new Set([null]))
    expect(merger.entityInfo(1).error).toMatchObject({ code: 'ROW_CORRUPT' })
    expect(merger.entityInfo(0).error).toBeUndefined()
  })

  it('says what it was made of', () => {
    const [first, second] = [START_MS + HOUR_MS, START_MS + 2 * HOUR_MS]
    const rows = [
      rowOf(plan, [event(START_MS, { value: 1 })], first, { ...ALONE, layoutVersion: 3, completeSinceMs: 500 }),
      rowOf(plan, [event(START_MS, { value: 2 })], second, { ...ALONE, layoutVersion: 2, completeSinceMs: 900 }),
    ]
    expect(answersFrom(merger, plan, rows, second).length).toBe(plan.features.length)
    expect(merger.entityInfo(0)).toMatchObject({
      rows: 2,
      completeThroughMs: first,
      oldestAsOfMs: second,
      completeSinceMs: 900,
      layoutVersion: 3,
      error: undefined,
      rowInfos: rows.map((row) => ({ applied: 0, bytes: row.length })),
      rawEventsRead: 0,
    })
    // One tile of each row, found in one level: all windows share the sweep.
    expect(merger.entityInfo(0).tilesRead).toBe(2)
    merger.begin(1, second)
    merger.run()
    expect(merger.entityInfo(0)).toMatchObject({
      rows: 0,
      completeThroughMs: -1,
      oldestAsOfMs: -1,
      completeSinceMs: -1,
    })
  })

  it('puts a default where nothing is, and nowhere else', async () => {
    const withDefaults: Plan = {
      ...plan,
      features: plan.features.map((feature) =>
        feature.type === 'float64'
          ? { ...feature, default: -7.5 }
          : feature.type === 'utf8'
            ? { ...feature, default: 'none' }
            : feature,
      ),
    }
    const defaulting = Merger.create(core, withDefaults)
    const row = rowOf(plan, [
      event(START_MS, { value: Number.MAX_VALUE }),
      event(START_MS, { value: Number.MAX_VALUE }),
    ])
    const valuesOf = (rows: Uint8Array[], asOfMs: number) =>
      answersFrom(defaulting, withDefaults, rows, asOfMs).filter(({ name }) => name === 'value_sum_12m')[0]
    expect(valuesOf([], END_MS)).toMatchObject({ value: -7.5, status: 'unknown_entity' })
    expect(valuesOf([row], END_MS)).toMatchObject({ value: -7.5, status: 'empty' })
    expect(valuesOf([row], START_MS + 1)).toMatchObject({ value: null, status: 'overflow' })
    expect(valuesOf([row], 5)).toMatchObject({ value: null, status: 'too_old' })
    expect(valuesOf([new Uint8Array(3)], END_MS)).toMatchObject({ value: null, status: 'error' })
    const texts = answersFrom(defaulting, withDefaults, [row], END_MS).filter(({ name }) => name.startsWith('text_'))
    expect(texts.find(({ name }) => name === 'text_last_12m')).toMatchObject({ value: 'none', status: 'empty' })
    expect(texts.find(({ name }) => name === 'text_count_12m')).toMatchObject({ value: 0, status: 'empty' })
  })

  it('takes any instant', () => {
    const row = rowOf(plan, events.get('a')!)
    for (const asOfMs of [-1, -(2 ** 52), 0, 1, 2 ** 43, Number.MAX_SAFE_INTEGER]) {
      const answers = answersFrom(Merger.create(core, plan), plan, [row], asOfMs)
      // Before the first event a row may say that nothing was there, or that it can't say.
      const allowed = asOfMs < START_MS ? ['empty', 'too_old'] : ['empty']
      expect(allowed, `as of ${asOfMs}`).toEqual(expect.arrayContaining(answers.map(({ status }) => status)))
    }
  })
})

// ---- edges of windows ------------------------------------------------------------------------------------------------

const edges = {
  windows: ['12m', '15m', '1h', '3h', '1d'],
  tiles: ['1m', '5m', '1h'],
  retention: '30d',
  slack: '2h',
} as const

describe.each([
  ['raw events', await planOfEverything({ whole: int64() }, edges)],
  ['sub-tiles', await planOfEverything({ whole: int64() }, { ...edges, headStep: '10s' })],
] as const)('a window over a head of %s', (_, plan) => {
  const merger = Merger.create(core, plan)
  const steps = [...plan.state.ladder.map(({ stepMs }) => stepMs), ...plan.windows.map(({ lengthMs }) => lengthMs)]
  /** A millisecond before, at and behind edges of every level, over more than a day. */
  const times = [0, 1, 7, 24].flatMap((steps) =>
    plan.state.ladder.flatMap(({ stepMs }) => [-1, 0, 1].map((beside) => START_MS + steps * stepMs + beside)),
  )
  const events = [...new Set(times)].map((time, i) => event(time, { whole: BigInt(1 << (i % 30)) }))
  const newestMs = Math.max(...times)

  it.each([
    ['long behind', newestMs + 2 * HOUR_MS],
    ['right behind', newestMs],
    ['in the middle', START_MS + 3 * HOUR_MS + 17 * MINUTE_MS + 3],
    ['at the start', START_MS - HOUR_MS],
  ])(
    'begins and ends where it should, to the millisecond, with the head %s the events',
    (_where, frontierMs) => {
      const row = rowOf(plan, events, frontierMs)
      let asked = 0
      for (const time of times) {
        for (const step of [0, ...steps]) {
          for (const beside of [-1, 0, 1]) {
            const asOfMs = time + step + beside
            const answers = answersFrom(merger, plan, [row], asOfMs)
            // Before the head's frontier only what tiles can say is said.
            const isOld = asOfMs < merger.entityInfo(0).oldestAsOfMs
            const truth = naiveFeatures(events, plan, ['k'], asOfMs)
            for (const [i, expected] of truth.entries()) {
              if (isOld && answers[i]!.status === 'too_old') continue
              expect(answers[i], `${expected.name} as of ${asOfMs}`).toEqual(expected)
              asked++
            }
          }
        }
      }
      expect(asked).toBeGreaterThan(1_000)
    },
    patience(5_000),
  )

  it('does not hold the event at its end, which may be the one that is scored', () => {
    const scored = newestMs
    const row = rowOf(plan, events, scored - 30_000)
    const counted = (asOfMs: number) => answersFrom(merger, plan, [row], asOfMs)[plan.windows.length - 1]!.value
    const truth = naiveFeatures(events, plan, ['k'], scored)[plan.windows.length - 1]!.value
    expect(counted(scored)).toBe(truth)
    // Over sub-tiles as-of goes by their step.
    const stepMs = plan.state.head.kind === 'raw' ? 1 : plan.state.ladder[0]!.stepMs
    const inStep = events.filter(({ time }) => Math.floor(Number(time) / stepMs) === Math.floor(scored / stepMs))
    expect(counted(scored + stepMs)).toBe((truth as number) + inStep.length)
  })
})
