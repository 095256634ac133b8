import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import {
  bitOr,
  count,
  type Duration,
  defineView,
  float64,
  int64,
  last,
  max,
  mean,
  min,
  stddev,
  timestamp,
  utf8,
} from '../../src/define/dsl.ts'
import { estimateEntity } from '../../src/define/estimate.ts'
import { loadCore } from '../../src/engine/module.ts'
import type { Plan } from '../../src/model/plan.ts'
import { batchOf, event, Folder } from '../engine/folding.ts'
import { TIME_INPUT } from '../support/batches.ts'
import { seededRandom } from '../support/random.ts'

const START_MS = Date.UTC(2026, 0, 1)
const EVENTS = 6000

function planOf(headStep?: Duration): Promise<Plan> {
  const windows = ['1h', '1d'] as const
  return compileView(
    defineView({
      name: 'rides',
      source: {
        name: 'rides',
        columns: { fare: float64(), meters: int64(), key: utf8(), [TIME_INPUT]: timestamp('ms') },
      },
      entity: 'key',
      time: TIME_INPUT,
      aggregations: [
        count({ windows }),
        mean('fare', { windows }),
        stddev('fare', { windows }),
        min('fare', { windows }),
        max('meters', { windows }),
        last('meters', { windows }),
        bitOr('meters', { windows }),
      ],
      headStep,
    }),
  )
}

/** Bytes of the one row after events that come `everySeconds` apart. */
function bytesOfRow(plan: Plan, everySeconds: number): number {
  const random = seededRandom(3)
  const events = Array.from({ length: EVENTS }, (_, i) =>
    event(START_MS + i * everySeconds * 1000, {
      fare: Math.round(random.fraction() * 10_000) / 100,
      meters: BigInt(random.between(0, 50_000)),
    }),
  )
  const folder = new Folder(loadCore(), plan.state).fold(batchOf(events, plan.state)).flush()
  return [...folder.rows.values()][0]!.length
}

describe('the estimate of a row', () => {
  it.each([
    ['raw head', undefined, 1],
    ['raw head', undefined, 10],
    ['raw head', undefined, 60],
    ['raw head', undefined, 700],
    ['head of sub-tiles', '1s', 1],
    ['head of sub-tiles', '1s', 60],
  ] as const)(
    'with a %s (step %s) and an event every %d s bounds the real one, and closely',
    async (_head, step, seconds) => {
      const plan = await planOf(step)
      const estimated = estimateEntity(plan, 1 / seconds).totalBytes
      const real = bytesOfRow(plan, seconds)
      expect(real).toBeLessThanOrEqual(estimated)
      expect(estimated).toBeLessThan(real * 3)
    },
  )

  it('counts a raw head by its events, and tiles by time', async () => {
    const plan = await planOf()
    const slow = estimateEntity(plan, 1)
    const fast = estimateEntity(plan, 1000)
    expect(fast.levels).toEqual(slow.levels)
    // A minute of head behind a minute of disorder.
    expect(slow.headEvents).toBe(120)
    expect(fast.headEvents).toBe(120_000)
    expect(estimateEntity(await planOf('1s'), 1000).headEvents).toBe(0)
    const idle = estimateEntity(plan, 0)
    expect(idle.levels.map((each) => each.tiles)).toEqual([1, 1, 1])
  })
})
