/**
 * Every way to die once, and every way to die again during the replay: at each call to the store, before or after its work
 * is done. Whatever happened, the rows, the answers and the counters must be those of a run that nothing disturbed.
 */
import { describe, expect, it } from 'vitest'
import { createMemoryStore } from '../../src/store/memory.ts'
import { patience } from '../fuzz/effort.ts'
import { countVerdicts, naiveAccept, naiveFeatures } from '../oracle/naive.ts'
import { type CaseOptions, keysOf } from '../support/cases.ts'
import { drawStream, type Outcome, type Planned, run, type Stream, show } from './crash-walk.ts'

/** Writes of a row or two, so that a flush has several. */
const newStore = () => createMemoryStore({ writeBytesMax: 300 })

async function expectSame(stream: Stream, faults: readonly Planned[], undisturbed: Outcome): Promise<Outcome> {
  const outcome = await run(stream, newStore(), faults)
  const where = `seed ${stream.drawn.seed}, ${JSON.stringify(faults)}`
  expect(show(outcome.rows), where).toEqual(show(undisturbed.rows))
  expect(outcome.outcomes, where).toEqual(undisturbed.outcomes)
  return outcome
}

async function expectAnswers(stream: Stream, { subject }: Outcome): Promise<void> {
  const { plan, events, notAfterMs } = stream.drawn
  const { applied, lateClockMs } = naiveAccept(events, plan.state, { notAfterMs })
  for (const key of keysOf(applied, plan.state)) {
    const answers = await subject.features(key, Math.max(0, lateClockMs))
    expect(answers).toEqual(naiveFeatures(applied, plan, key, Math.max(0, lateClockMs)))
  }
}

const STREAMS: readonly [seed: number, lanes: number, shards: number, options: CaseOptions][] = [
  [1, 2, 2, { head: 'raw', ladderMs: [60_000, 3_600_000] }],
  [2, 1, 1, { count: 20, head: 'step', ladderMs: [1_000, 60_000, 3_600_000] }],
  [5, 2, 1, { head: 'raw', ladderMs: [10_000, 60_000, 600_000], orderFree: false }],
]

describe.each(STREAMS)('a stream of seed %d over %d lanes in %d shards', (seed, lanes, shards, options) => {
  const stream = drawStream(seed, lanes, shards, options)

  it(
    'comes out the same from a death at every call, and at every call of the replay',
    async () => {
      const undisturbed = await run(stream, newStore(), [])
      const { events, plan, notAfterMs } = stream.drawn
      expect(undisturbed.outcomes).toEqual(countVerdicts(naiveAccept(events, plan.state, { notAfterMs })))
      await expectAnswers(stream, undisturbed)
      expect(undisturbed.rows.size).toBeGreaterThan(0)

      let deaths = 0
      for (let first = 0; first < undisturbed.calls[0]!; first++) {
        await expectSame(stream, [{ call: first, fault: 'after' }], undisturbed)
        const once = await expectSame(stream, [{ call: first, fault: 'before' }], undisturbed)
        expect(once.calls.length).toBe(2)
        await expectAnswers(stream, once)
        // To the store, dying behind a call is dying before the next one.
        for (let second = 0; second < once.calls[1]!; second++) {
          const faults = [first, second].map((call): Planned => ({ call, fault: 'before' }))
          expect((await expectSame(stream, faults, undisturbed)).calls.length).toBe(3)
          deaths++
        }
      }
      expect(deaths).toBeGreaterThan(undisturbed.calls[0]! * 6)
    },
    patience(10_000),
  )

  it(
    'comes out the same when any reply is lost',
    async () => {
      const undisturbed = await run(stream, newStore(), [])
      for (let call = 0; call < undisturbed.calls[0]!; call++) {
        await expectSame(stream, [{ call, fault: 'lose_reply' }], undisturbed)
      }
    },
    patience(5_000),
  )
})
