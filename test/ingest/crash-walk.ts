/** A small stream through the walk over a store that kills it at chosen calls, in as many processes as that takes. */
import { Merger } from '../../src/engine/merger.ts'
import { loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import type { ColumnBatch } from '../../src/model/columns.ts'
import { sliceBatch } from '../../src/model/columns.ts'
import type { Store } from '../../src/store/port.ts'
import { type CallFault, FaultyStore } from '../laws/faulty-store.ts'
import { IngestSubject, wasKilled } from '../laws/ingest-subject.ts'
import type { Verdict } from '../oracle/naive.ts'
import { naiveAccept } from '../oracle/naive.ts'
import { toBatches } from '../support/batches.ts'
import { type Case, type CaseOptions, drawCase } from '../support/cases.ts'
import { seededRandom } from '../support/random.ts'

const core = loadCore()

/** A log and how it is read. */
export interface Stream {
  readonly drawn: Case
  /** The whole log as one batch. */
  readonly log: ColumnBatch
  readonly lanes: number
  readonly shards: number
  readonly readers: { readonly merger: Merger; readonly normaliser: RowNormaliser }
}

export function drawStream(seed: number, lanes: number, shards: number, options: CaseOptions): Stream {
  const drawn = drawCase(seed, { count: 10, columns: 2, ...options })
  const [log] = toBatches(drawn.events, drawn.plan.state, seededRandom(seed), { positionArrays: false })
  const readers = {
    merger: Merger.create(core, drawn.plan),
    normaliser: new RowNormaliser(core, drawn.plan.state),
  }
  return { drawn, log: log!, lanes, shards, readers }
}

export interface Planned {
  readonly call: number
  readonly fault: CallFault
}

export interface Outcome {
  readonly rows: ReadonlyMap<string, Uint8Array>
  readonly outcomes: Record<Verdict, number>
  readonly subject: IngestSubject
  /** Calls to the store by each process in turn. */
  readonly calls: readonly number[]
}

/** Runs the stream in as many processes as it takes; `faults[i]` is what happens to the i-th. The store is new and empty. */
export async function run(stream: Stream, inner: Store, faults: readonly Planned[]): Promise<Outcome> {
  const { plan, notAfterMs, shape, events } = stream.drawn
  const store = new FaultyStore(inner)
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

export function show(rows: ReadonlyMap<string, Uint8Array>): Record<string, string> {
  return Object.fromEntries([...rows].sort().map(([key, row]) => [key, Buffer.from(row).toString('hex')]))
}
