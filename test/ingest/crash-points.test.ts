/**
 * Every way to die once, and every way to die again during the replay: at each call to the store, before or after its work
 * is done. Whatever happened, the rows, the answers and the counters must be those of a run that nothing disturbed.
 */
import { describe, expect, it } from 'vitest'
import { Merger } from '../../src/engine/merger.ts'
import { loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import type { ColumnBatch } from '../../src/model/columns.ts'
import { sliceBatch } from '../../src/model/columns.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import { patience } from '../fuzz/effort.ts'
import { type CallFault, FaultyStore } from '../laws/faulty-store.ts'
import { IngestSubject, wasKilled } from '../laws/ingest-subject.ts'
import type { Verdict } from '../oracle/naive.ts'
import { countVerdicts, naiveAccept, naiveFeatures } from '../oracle/naive.ts'
import { toBatches } from '../support/batches.ts'
import { type Case, type CaseOptions, drawCase, keysOf } from '../support/cases.ts'
import { seededRandom } from '../support/random.ts'

const core = loadCore()

interface Stream {
  readonly drawn: Case
  /** The whole log as one batch. */
  readonly log: ColumnBatch
  readonly lanes: number
  readonly shards: number
  readonly readers: { readonly merger: Merger; readonly normaliser: RowNormaliser }
}

function drawStream(seed: number, lanes: number, shards: number, options: CaseOptions): Stream {
  const drawn = drawCase(seed, { count: 10, columns: 2, ...options })
  const [log] = toBatches(drawn.events, drawn.plan.state, seededRandom(seed), { positionArrays: false })
  const readers = {
    merger: Merger.create(core, drawn.plan),
    normaliser: new RowNormaliser(core, drawn.plan.state),
  }
  return { drawn, log: log!, lanes, shards, readers }
}

interface Planned {
  readonly call: number
  readonly fault: CallFault
}

interface Outcome {
  readonly rows: ReadonlyMap<string, Uint8Array>
  readonly outcomes: Record<Verdict, number>
  readonly subject: IngestSubject
  /** Calls to the store by each process in turn. */
  readonly calls: readonly number[]
}

/** Runs the stream in as many processes as it takes; `faults[i]` is what happens to the i-th. */
async function run(stream: Stream, faults: readonly Planned[]): Promise<Outcome> {
  const { plan, notAfterMs, shape, events } = stream.drawn
  // Writes of a row or two, so that a flush has several.
  const store = new FaultyStore(createMemoryStore({ writeBytesMax: 300 }))
  const nowMs = Math.max(notAfterMs, shape.startMs + 100 * shape.spanMs)
  const { lanes, shards, readers } = stream
  const options = { plan, logs: ['log'], lanes, notAfterMs, nowMs }
  const subject = new IngestSubject(
    { core, store: () => store, random: seededRandom(7), shards, readers },
    options,
    store,
  )
  const calls: number[] = []
  for (let died = true; died; ) {
    const planned = faults[calls.length]
    store.restart()
    if (planned) store.plan(planned.call, planned.fault)
    died = await wasKilled(live(subject, stream, calls.length))
    calls.push(store.calls)
  }
  store.restart()
  const { lateClockMs } = naiveAccept(events, plan.state, { notAfterMs })
  const watermarkMs = Math.max(0, lateClockMs - plan.state.disorderMs)
  return { rows: await subject.rows(watermarkMs), outcomes: await subject.outcomes(), subject, calls }
}

/** One process: takes the lanes, reads the log from where they stand, and flushes at other positions than the one before. */
async function live(subject: IngestSubject, { log }: Stream, life: number): Promise<void> {
  await subject.open()
  const from = subject.resumeFrom().get('log')!
  for (let at = from; at < log.length; ) {
    const end = Math.min(log.length, at + 1 + ((at + life) % 3))
    await subject.push('log', sliceBatch(log, at, end))
    at = end
    if ((at + life) % 4 < 2) await subject.flush()
  }
  await subject.flush()
}

function show(rows: ReadonlyMap<string, Uint8Array>): Record<string, string> {
  return Object.fromEntries([...rows].sort().map(([key, row]) => [key, Buffer.from(row).toString('hex')]))
}

async function expectSame(stream: Stream, faults: readonly Planned[], undisturbed: Outcome): Promise<Outcome> {
  const outcome = await run(stream, faults)
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
      const undisturbed = await run(stream, [])
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
      const undisturbed = await run(stream, [])
      for (let call = 0; call < undisturbed.calls[0]!; call++) {
        await expectSame(stream, [{ call, fault: 'lose_reply' }], undisturbed)
      }
    },
    patience(5_000),
  )
})
