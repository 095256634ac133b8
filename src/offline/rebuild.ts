/**
 * THE REBUILD: the lanes of a topic's partitions from its mirror, as the stream would have written them.
 *
 *   mirror -> batches with the log's own offsets -> each partition's lanes -> marker at the mirror's end -> the stream goes on there
 *
 * The mirror gives what the log gave: offsets, record times, the order. So late clock, duplicates and verdicts are those of the stream,
 * and where the mirror ends is a vector of offsets at which the stream takes over, with no gap and no overlap. A lane that holds
 * something goes on from its own marker: a rebuild also closes a gap that the log can no longer fill (LOG_GAP).
 *
 * Lanes have one owner: a worker that reads the same topic must be stopped, or one of the two is told FENCED.
 */
import type { IngestHandle, IngestPool } from '../ingest/pool.ts'
import { liveSpecs, sharesRows } from '../ingest/specs.ts'
import type { Counters } from '../model/counters.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import { type GenerationLayout, logOfPartition } from '../model/view-layout.ts'
import { plansOfGeneration } from '../registry/generations.ts'
import { type LayoutSeat, openGeneration, openLog } from '../registry/layouts.ts'
import { refuseRouted } from '../registry/routes.ts'
import { readMirror } from '../source/mirror.ts'
import { checkMirror, type FoundFile } from '../source/mirror-check.ts'
import { listMirror } from '../source/mirror-manifest.ts'
import type { RejectedRecord } from '../source/port.ts'

export interface RebuildOptions {
  readonly seat: LayoutSeat
  readonly plans: readonly Plan[]
  /** Directory of the mirror. */
  readonly dir: string
  /** Topic of each kind of events, where it isn't named like it. */
  readonly topics?: ReadonlyMap<string, string>
  readonly pool: IngestPool
  /** Milliseconds since the epoch. */
  readonly clock: () => number
  /** Of `count` processes that share the work, this one takes the partitions that are `index` modulo `count`. */
  readonly share?: { readonly index: number; readonly count: number }
  /** Bytes of folded tiles that wait for a flush, per view; 64 MiB unless told. */
  readonly deltaBytesMax?: number
  readonly onReject?: (record: RejectedRecord) => void
  readonly onProgress?: (progress: RebuildProgress) => void
  /** Aborted: stores what is folded and resolves; another call goes on from there. */
  readonly signal?: AbortSignal
}

export interface RebuildProgress {
  readonly recordsDone: number
  readonly recordsTotal: number
}

export interface RebuiltPartition {
  readonly topic: string
  readonly partition: number
  /** First offset read. */
  readonly from: number
  /** Where the stream goes on: behind the last record that could be decoded. */
  readonly goOnAt: number
}

export interface RebuildReport {
  /** False when the signal stopped it. */
  readonly finished: boolean
  readonly records: number
  readonly partitions: readonly RebuiltPartition[]
  /** Views whose events come by way of a router: a rebuild would count them twice. */
  readonly leftOut: readonly string[]
  readonly views: readonly { readonly view: string; readonly counters: Counters }[]
}

const DELTA_BYTES_MAX = 64 << 20

const COUNTS_TWICE =
  'its events would count twice. Let a router read the topic again, in a generation of its own (tilefold generation begin, then tilefold route --generation n)'

/** A mirrored partition, and the views that take its events. */
interface Part {
  readonly topic: string
  readonly partition: number
  readonly plans: readonly Plan[]
  readonly files: readonly FoundFile[]
}

/**
 * Throws SOURCE_NOT_FOUND, MIRROR_INVALID, LOG_GAP, SOURCE_CORRUPT, COLUMN_*, DEFINITION_CHANGED, FENCED, STORE_UNAVAILABLE; CONFIG_INVALID
 * where every view's events come by way of a router.
 */
export async function rebuild(options: RebuildOptions): Promise<RebuildReport> {
  // Views are corrected one by one: the others do not have the generation.
  const plans = await plansOfGeneration(options.seat, options.plans)
  const generations = new Map<Plan, GenerationLayout>()
  for (const plan of plans) generations.set(plan, (await openGeneration(options.seat, plan)).generation)
  const own = plans.filter((plan) => generations.get(plan)!.route === undefined)
  const routed = plans.filter((plan) => !own.includes(plan))
  if (own.length === 0) {
    for (const plan of routed)
      refuseRouted(generations.get(plan)!, `rebuild view ${plan.view} from a mirror`, COUNTS_TWICE)
  }
  const parts = await findParts({ ...options, plans: own })
  const recordsTotal = parts.reduce(
    (sum, { files }) => sum + files.reduce((rows, { entry }) => rows + entry.facts.rows, 0),
    0,
  )
  const leftOut = routed.map(({ view }) => view)
  const job = new Rebuild(options, recordsTotal, leftOut)
  // A thread has the views of one partition at a time; without threads this one has.
  const waiting = [...parts]
  const lines = Array.from({ length: Math.max(1, options.pool.threads) }, async () => {
    for (let part = waiting.shift(); part && !job.isStopped; part = waiting.shift()) await job.partition(part)
  })
  await Promise.all(lines)
  return job.report()
}

/** Every mirrored partition of the views' topics that is this process's. */
async function findParts({ dir, plans, topics, share }: RebuildOptions): Promise<Part[]> {
  const parts: Part[] = []
  for (const [index, { topic, partition }] of (await listMirror(dir)).entries()) {
    const own = plans.filter(({ state }) => (topics?.get(state.source) ?? state.source) === topic)
    if (own.length === 0 || (share && index % share.count !== share.index)) continue
    parts.push({ topic, partition, plans: own, files: await checkMirror(dir, topic, partition) })
  }
  return parts
}

class Rebuild {
  readonly #options: RebuildOptions
  readonly #recordsTotal: number
  readonly #partitions: RebuiltPartition[] = []
  readonly #counters = new Map<string, Counters>()
  readonly #leftOut: readonly string[]
  #recordsDone = 0
  #records = 0

  constructor(options: RebuildOptions, recordsTotal: number, leftOut: readonly string[]) {
    this.#options = options
    this.#leftOut = leftOut
    this.#recordsTotal = recordsTotal
  }

  get isStopped(): boolean {
    return this.#options.signal?.aborted ?? false
  }

  report(): RebuildReport {
    const byPartition = (a: RebuiltPartition, b: RebuiltPartition) =>
      a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1
    return {
      finished: !this.isStopped,
      records: this.#records,
      leftOut: this.#leftOut,
      partitions: this.#partitions.sort(byPartition),
      views: [...this.#counters].map(([view, counters]) => ({ view, counters })),
    }
  }

  async partition(part: Part): Promise<void> {
    const { topic, partition, files } = part
    const handles = await this.#open(part)
    const resume = Math.min(...handles.map((handle) => handle.status.resumeFrom))
    const to = files.at(-1)!.entry.facts.end + 1
    // A lane that holds nothing begins where the mirror does, or where it was told to.
    const isTold = handles.some(({ spec }) => spec.start !== undefined)
    const from = resume === 0 && !isTold ? files[0]!.entry.facts.start : Math.min(resume, to)
    // Files in front of where the lanes stand count as done.
    for (const { entry } of files) if (entry.facts.end < from) this.#recordsDone += entry.facts.rows
    if (from < to) {
      await lookAhead(handles, files)
      await this.#replay(part, handles, from, to)
    }
    await Promise.all(handles.map((handle) => handle.flush(true)))
    const goOnAt = Math.min(...handles.map((handle) => handle.status.resumeFrom))
    // Who was asked to be forgotten meanwhile.
    await Promise.all(handles.map((handle) => handle.check()))
    for (const { status, spec } of handles) this.#count(spec.view, status.counters)
    await Promise.all(handles.map((handle) => handle.drop()))
    this.#partitions.push({ topic, partition, from, goOnAt })
  }

  /** The lanes of the partition, as a worker opens them. */
  async #open({ topic, partition, plans }: Part): Promise<IngestHandle[]> {
    const { seat, pool, clock, deltaBytesMax = DELTA_BYTES_MAX } = this.#options
    const log = logOfPartition(topic, partition)
    const handles: IngestHandle[] = []
    for (const plan of plans) {
      const opened = await openLog(seat, plan, { name: log, shards: 1, notAfterMs: clock() })
      if (handles.some(({ spec }) => sharesRows(spec, opened.generation))) continue
      for (const spec of liveSpecs(seat.namespace, plan, log, opened, { shards: 1, deltaBytesMax })) {
        handles.push(await pool.open(spec))
      }
    }
    return handles
  }

  async #replay(part: Part, handles: readonly IngestHandle[], from: number, to: number): Promise<void> {
    const { dir, pool, onReject, onProgress } = this.#options
    const { topic, partition, plans } = part
    const inputs = inputsOf(plans)
    const names = new Set(inputs.map((input) => input.name))
    let done = 0
    for await (const { batch, hash, rowsDone } of readMirror({ dir, topic, partition, inputs, from, to, onReject })) {
      const ready = pool.ready(batch, names)
      await Promise.all(handles.map((handle) => handle.push(ready, hash)))
      this.#recordsDone += rowsDone - done
      this.#records += batch.length
      done = rowsDone
      onProgress?.({ recordsDone: this.#recordsDone, recordsTotal: this.#recordsTotal })
      if (this.isStopped) return
    }
  }

  #count(view: string, counters: Counters): void {
    const before = this.#counters.get(view)
    const names = Object.keys(counters) as (keyof Counters)[]
    const sum = Object.fromEntries(names.map((name) => [name, (before?.[name] ?? 0) + counters[name]]))
    this.#counters.set(view, sum as unknown as Counters)
  }
}

/**
 * Moves the watermark to where the mirror's end will bring it, as a backfill does: what is old by then goes straight into the tiles that
 * outlive it. The late clock, which decides what counts, isn't touched.
 */
async function lookAhead(handles: readonly IngestHandle[], files: readonly FoundFile[]): Promise<void> {
  const { endClocks } = files.at(-1)!.entry.facts
  for (const handle of handles) {
    const { stateHash, state } = handle.spec
    const endMs = endClocks[stateHash]
    if (endMs !== undefined && endMs >= 0) await handle.advance(endMs - state.disorderMs)
  }
}

/** One column each, whichever views read it. */
function inputsOf(plans: readonly Plan[]): InputColumn[] {
  return [...new Map(plans.flatMap((plan) => plan.state.inputs).map((input) => [input.name, input])).values()]
}
