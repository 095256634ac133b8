import { describe, expect, it } from 'vitest'
import { naiveAccept, naiveFeatures } from '../oracle/naive.ts'
import { drawCase, instantsOf, keysOf } from './cases.ts'
import { seededRandom } from './random.ts'

const SEEDS = Array.from({ length: 300 }, (_, i) => i)

function show(value: unknown): string {
  return JSON.stringify(value, (_, each) =>
    typeof each === 'bigint'
      ? `${each}n`
      : Object.is(each, -0)
        ? '-0'
        : typeof each === 'number' && !Number.isFinite(each)
          ? `${each}`
          : each,
  )
}

describe('drawn cases', () => {
  it('follow from the seed alone', () => {
    for (const seed of [1, 2, 3]) expect(show(drawCase(seed))).toBe(show(drawCase(seed)))
    expect(show(drawCase(1))).not.toBe(show(drawCase(2)))
  })

  it('reach every verdict and every status that follows from events', () => {
    const verdicts = new Set<string>()
    const statuses = new Set<string>()
    for (const seed of SEEDS) {
      const { plan, events, notAfterMs } = drawCase(seed, { count: 60 })
      const { verdicts: judged, applied } = naiveAccept(events, plan.state, { notAfterMs })
      for (const { verdict } of judged) verdicts.add(verdict)
      const random = seededRandom(seed)
      const keys = keysOf(applied, plan.state)
      for (const asOfMs of instantsOf(random, plan, applied, 0, 3)) {
        for (const answer of naiveFeatures(applied, plan, random.pick(keys), asOfMs)) statuses.add(answer.status)
      }
    }
    expect([...verdicts].sort()).toEqual([
      'applied',
      'duplicate',
      'filtered',
      'late',
      'rejected:future',
      'rejected:key',
      'rejected:time',
      'retention',
    ])
    expect([...statuses].sort()).toEqual(['empty', 'ok', 'overflow', 'unknown_entity'])
  })

  it('say the same in any order when they promise to be free of it', () => {
    for (const seed of SEEDS.slice(0, 100)) {
      const { plan, events, notAfterMs } = drawCase(seed, { count: 50, orderFree: true })
      const shuffled = seededRandom(seed)
        .shuffled(events)
        .map((event, position) => ({ ...event, position }))
      const forward = naiveAccept(events, plan.state, { notAfterMs })
      const backward = naiveAccept(shuffled, plan.state, { notAfterMs })
      expect(backward.applied.length, `seed ${seed}`).toBe(forward.applied.length)
      expect(backward.lateClockMs, `seed ${seed}`).toBe(forward.lateClockMs)
      const random = seededRandom(seed)
      for (const asOfMs of instantsOf(random, plan, forward.applied, 0, 3)) {
        const key = random.pick(keysOf(forward.applied, plan.state))
        expect(naiveFeatures(backward.applied, plan, key, asOfMs), `seed ${seed}, as of ${asOfMs}`).toEqual(
          naiveFeatures(forward.applied, plan, key, asOfMs),
        )
      }
    }
  })

  it('keep the promises a plan makes: steps divide, tails fit, windows reach nothing that is gone', () => {
    for (const seed of SEEDS) {
      const { state, windows, features } = drawCase(seed).plan
      const { ladder, head } = state
      const coarsestMs = ladder[ladder.length - 1]!.stepMs
      for (const [level, { stepMs, keepMs }] of ladder.entries()) {
        const parentMs = ladder[level + 1]?.stepMs ?? stepMs
        expect(parentMs % stepMs).toBe(0)
        expect(keepMs % stepMs).toBe(0)
        expect(keepMs, `seed ${seed}`).toBeGreaterThanOrEqual(parentMs)
        for (const { lengthMs, tailStepMs } of windows) {
          if (tailStepMs === stepMs) expect(keepMs, `seed ${seed}`).toBeGreaterThanOrEqual(lengthMs + stepMs)
          if (coarsestMs === stepMs) expect(keepMs, `seed ${seed}`).toBeGreaterThanOrEqual(lengthMs + stepMs)
        }
      }
      for (const { lengthMs, tailStepMs } of windows) {
        const stepsMs = ladder.slice(head.kind === 'step' ? 1 : 0).map((level) => level.stepMs)
        expect(stepsMs).toContain(tailStepMs)
        expect(lengthMs % tailStepMs).toBe(0)
        expect(12 * tailStepMs).toBeLessThanOrEqual(lengthMs)
        expect(state.retentionMs).toBeGreaterThanOrEqual(lengthMs)
      }
      expect(state.lateness.allowedMs).toBeLessThanOrEqual(state.retentionMs)
      expect(state.dedupe?.withinMs ?? 0).toBeLessThanOrEqual(state.retentionMs)
      expect(new Set(features.map(({ name }) => name)).size, `seed ${seed}: names`).toBe(features.length)
    }
  })
})

describe('instants', () => {
  it('hit the edges of every level and 1 ms beside them', () => {
    const { plan, events } = drawCase(11, { count: 100, clean: true, ladderMs: [60_000, 3_600_000], head: 'raw' })
    const applied = naiveAccept(events, plan.state, { notAfterMs: Number.MAX_SAFE_INTEGER }).applied
    const instants = instantsOf(seededRandom(11), plan, applied, 0, 400)
    for (const { stepMs } of plan.state.ladder) {
      for (const near of [0, 1, stepMs - 1]) {
        expect(
          instants.some((asOfMs) => asOfMs % stepMs === near),
          `step ${stepMs}, offset ${near}`,
        ).toBe(true)
      }
    }
  })
})
