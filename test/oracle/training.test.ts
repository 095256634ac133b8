/** Training sets against the oracle, which knows neither blocks nor ranks, and against the live walk asked at each instant. */
import { tmpdir } from 'node:os'
import { afterAll, describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, int64, max, min, sum, timestamp } from '../../src/define/dsl.ts'
import { CORE_BUILDS, loadCore } from '../../src/engine/module.ts'
import type { Plan } from '../../src/model/plan.ts'
import { trainingSet } from '../../src/offline/training.ts'
import { checkLeakage } from '../../src/offline/training-leakage.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { effort } from '../fuzz/effort.ts'
import { ingestSubjects } from '../laws/ingest-subject.ts'
import { TIME_INPUT, toBatches } from '../support/batches.ts'
import { type Case, drawCase, instantsOf, keysOf } from '../support/cases.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { type SpineRow, sourceOf, spineOf, valuesOf } from '../support/training.ts'
import { type NaiveEvent, naiveAccept, naiveFeatures, timeOf } from './naive.ts'

/** Cases; TILEFOLD_FUZZ=10 draws ten times as many. */
const SEEDS = Math.round(50 * effort())
const first = Number(process.env.SEED ?? 1)
let rowsCompared = 0
let spilled = 0

interface Drawn extends Case {
  readonly random: Random
  readonly applied: readonly NaiveEvent[]
  /** Usable rows, unsorted, some of them twice. */
  readonly rows: readonly (SpineRow & { asOfMs: number; key: NonNullable<SpineRow['key'][number]>[] })[]
}

function draw(seed: number, count?: number): Drawn {
  const drawn = drawCase(seed, count === undefined ? {} : { count })
  const { plan, events, notAfterMs } = drawn
  const random = seededRandom(seed ^ 0x7ea1)
  const { applied } = naiveAccept(events, plan.state, { notAfterMs })
  const keys = keysOf(applied, plan.state)
  const instants = instantsOf(random, plan, applied, 0, 12)
  const rows = instants.flatMap((asOfMs) => [
    { key: random.pick(keys), asOfMs },
    { key: keys[0]!, asOfMs },
  ])
  return { ...drawn, random, applied, rows: random.shuffled([...rows, ...rows.slice(0, 3)]) }
}

function options({ plan, events, notAfterMs, random, rows }: Drawn, spine: readonly SpineRow[] = rows) {
  const sizes = [random.between(1, 60)]
  return {
    spine: spineOf(plan.state, spine, random.between(1, 40)),
    time: 't',
    views: [{ plan }],
    events: { [plan.state.source]: sourceOf(toBatches(events, plan.state, random, { sizes })) },
    clock: () => notAfterMs,
    tempFolder: tmpdir(),
  }
}

const DAY_MS = 86_400_000

function manyPlan(): Promise<Plan> {
  const windows = ['1h', '12h', '3d'] as const
  return compileView(
    defineView({
      name: 'many',
      source: { name: 'events', columns: { id: int64(), [TIME_INPUT]: timestamp('ms'), value: float64() } },
      entity: 'id',
      time: TIME_INPUT,
      aggregations: [
        count({ windows }),
        sum('value', { windows }),
        min('value', { windows }),
        max('value', { windows }),
      ],
    }),
  )
}

function expected(plan: Plan, applied: readonly NaiveEvent[], { key, asOfMs }: Drawn['rows'][number]) {
  const before = applied.filter((event) => timeOf(event) < asOfMs)
  return naiveFeatures(before, plan, key, asOfMs).map(({ value }) => value)
}

describe('a training set', () => {
  afterAll(() => console.log(`training: ${rowsCompared} rows compared from seed ${first} on, ${spilled} sets spilled`))

  it('holds what the oracle says of the events before each instant', async () => {
    for (let seed = first; seed < first + SEEDS; seed++) {
      const drawn = draw(seed)
      // At times so little memory that nearly every batch is put aside.
      const memoryBytes = drawn.random.chance(0.4) ? drawn.random.pick([1, 20_000]) : undefined
      const core = loadCore(drawn.random.pick(CORE_BUILDS))
      const set = trainingSet({ ...options(drawn), memoryBytes, core })
      const actual = await valuesOf(set.read(), drawn.plan)
      expect(actual.length).toBe(drawn.rows.length)
      for (const [i, row] of drawn.rows.entries()) {
        expect(actual[i], `seed ${seed}, row ${i}, as of ${row.asOfMs}`).toEqual(
          expected(drawn.plan, drawn.applied, row),
        )
        rowsCompared++
      }
      expect(set.report.views[0]!.outcomes.applied, `seed ${seed}`).toBe(drawn.applied.length)
      if (set.report.spilledBytes > 0) spilled++
    }
    expect(rowsCompared).toBeGreaterThan(SEEDS)
    expect(spilled).toBeGreaterThan(0)
  })

  it('holds it over thousands of events of few entities, too', async () => {
    for (let seed = first; seed < first + 2 * effort(); seed++) {
      const drawn = draw(seed, 3000)
      const actual = await valuesOf(trainingSet(options(drawn)).read(), drawn.plan)
      for (const [i, row] of drawn.rows.entries()) {
        expect(actual[i], `seed ${seed}, row ${i}`).toEqual(expected(drawn.plan, drawn.applied, row))
      }
    }
  })

  it.each(CORE_BUILDS)('holds it for more entities than there are parts of them, the %s core', async (build) => {
    const random = seededRandom(first)
    const plan = await manyPlan()
    const byEntity = Array.from({ length: 700 }, (): NaiveEvent[] => [])
    const events = Array.from({ length: 7_000 }, (_, position): NaiveEvent => {
      const entity = random.between(0, byEntity.length - 1)
      const value = random.chance(0.1) ? null : random.between(-4_000, 4_000) / 8
      const event = {
        position,
        time: random.between(0, 4 * DAY_MS),
        key: [BigInt(entity)],
        cells: { value },
        keep: true,
      }
      byEntity[entity]!.push(event)
      return event
    })
    const rows = Array.from({ length: 2_000 }, () => ({
      key: [BigInt(random.between(0, byEntity.length - 1))],
      asOfMs: random.between(0, 5 * DAY_MS),
    }))
    const set = trainingSet({
      spine: spineOf(plan.state, rows, 300),
      time: 't',
      views: [{ plan }],
      events: { [plan.state.source]: sourceOf(toBatches(events, plan.state, random, { sizes: [1_500] })) },
      clock: () => 10 * DAY_MS,
      core: loadCore(build),
    })
    const actual = await valuesOf(set.read(), plan)
    for (const [i, row] of rows.entries()) {
      expect(actual[i], `row ${i}`).toEqual(expected(plan, byEntity[Number(row.key[0])]!, row))
    }
  })

  it('equals what live serving answers at the instant, bit for bit', async () => {
    let compared = 0
    for (let seed = first; seed < first + 40; seed++) {
      const drawn = draw(seed)
      const { plan, applied, notAfterMs, random } = drawn
      const actual = await valuesOf(trainingSet(options(drawn)).read(), plan)
      // Verdicts are the whole log's: with fewer events the clock lags, and an id may be within the horizon again.
      const judged = { ...plan, state: { ...plan.state, dedupe: undefined } }
      for (let i = 0; i < Math.min(3, drawn.rows.length); i++) {
        const row = drawn.rows[i]!
        const before = applied.filter((event) => timeOf(event) < row.asOfMs)
        const create = ingestSubjects({ core: loadCore(), store: () => createMemoryStore(), random: random.fork() })
        const nowMs = Math.max(row.asOfMs, ...before.map(timeOf)) + 1
        const live = await create({ plan: judged, logs: ['live'], lanes: random.between(1, 3), notAfterMs, nowMs })
        for (const batch of toBatches(before, plan.state, random)) await live.push('live', batch)
        await live.flush()
        const served = await live.features(row.key, row.asOfMs)
        for (const [j, { name, value, status }] of served.entries()) {
          expect(status, `seed ${seed}: ${name} as of ${row.asOfMs}`).not.toBe('too_old')
          expect(Object.is(actual[i]![j], value) || `${actual[i]![j]} is not ${value}: seed ${seed}, ${name}`).toBe(
            true,
          )
          compared++
        }
        await live.close()
      }
    }
    expect(compared).toBeGreaterThan(100)
  })

  it('gives rows without a usable key or instant nulls, and keeps all others as they are', async () => {
    for (let seed = first; seed < first + 20; seed++) {
      const drawn = draw(seed)
      const nulls = drawn.plan.state.entity.map(() => null)
      const bad = [
        { key: nulls, asOfMs: 5 },
        { key: drawn.rows[0]?.key ?? nulls, asOfMs: null },
        { key: drawn.rows[0]?.key ?? nulls, asOfMs: -1 },
        { key: drawn.rows[0]?.key ?? nulls, asOfMs: 2 ** 32 * 1000 },
      ]
      const set = trainingSet(options(drawn, [...bad, ...drawn.rows, ...bad]))
      const actual = await valuesOf(set.read(), drawn.plan)
      for (const row of [...actual.slice(0, 4), ...actual.slice(-4)])
        expect(row.every((value) => value === null)).toBe(true)
      for (const [i, row] of drawn.rows.entries()) {
        expect(actual[i + 4], `seed ${seed}, row ${i}`).toEqual(expected(drawn.plan, drawn.applied, row))
      }
      expect(set.report.unusable).toBe(8)
    }
  })

  it('knows no future: another one changes nothing', async () => {
    let moved = 0
    for (let seed = first; seed < first + 60; seed++) {
      const drawn = draw(seed)
      const { views } = await checkLeakage({ ...options(drawn), seed, sample: 50 })
      expect(views[0]!.leaks, `seed ${seed}`).toEqual([])
      moved += views[0]!.moved
    }
    expect(moved).toBeGreaterThan(100)
  })
})
