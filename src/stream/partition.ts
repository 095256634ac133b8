/**
 * One partition of a topic while it is ours: its messages through every view that takes them, and the flushes between.
 *
 *   assigned -> open: take the lanes, restore the clocks -> read from the lowest position that a view needs
 *   messages -> decode once -> push to every view -> flush at the pace -> commit as a hint
 *
 * Any error ends the run: its memory may no longer match the store. The job opens another one, or leaves the partition.
 */
import type { IngestHandle, IngestPool } from '../ingest/pool.ts'
import type { SideRecord } from '../ingest/side.ts'
import { liveSpecs, sharesRows } from '../ingest/specs.ts'
import type { ColumnBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import { logOfPartition } from '../model/view-layout.ts'
import type { LaneLabels, WorkerMetrics } from '../observe/port.ts'
import { type LayoutSeat, openLog, openTopic } from '../registry/layouts.ts'
import type { DeadLetters } from '../source/dead-letters.ts'
import type { RejectedRecord } from '../source/port.ts'
import { hashOf } from '../source/record-hash.ts'
import { readRoutedRecord } from '../source/routed-record.ts'
import type { StreamBounds, StreamMessage } from '../source/stream.ts'
import { Asides, messageAt } from './asides.ts'
import { Pace } from './pace.ts'

export interface MessageDecoder {
  /** Rows of the messages that have one, with their positions and record times; the others go to `onReject`. */
  decode(messages: readonly StreamMessage[]): ColumnBatch
}

export interface DecoderOptions {
  readonly inputs: readonly InputColumn[]
  readonly onReject: (record: RejectedRecord) => void
}

export interface PartitionOptions {
  readonly topic: string
  readonly partition: number
  /** Views that take the topic's events. */
  readonly plans: readonly Plan[]
  readonly seatOf: (plan: Plan) => LayoutSeat
  readonly pool: IngestPool
  readonly decoder: (options: DecoderOptions) => MessageDecoder
  readonly deadLetters: DeadLetters | undefined
  /** Producers choose the partition by the view's entity, with murmur2. */
  readonly keyed: boolean
  /** A router writes the topic, for one view: its records are batches, keyed by the entity. */
  readonly isRouted: boolean
  /** Share of a thousand records that may be unreadable before the run ends. */
  readonly maxDeadRatio: number
  /** Folded events are readable after `flushMinMs` when little is going on, and after `flushMaxMs` at the latest. */
  readonly flushMinMs: number
  readonly flushMaxMs: number
  readonly deltaBytesMax: number
  readonly ledgerMs?: number | undefined
  readonly clock: () => number
  readonly metrics: WorkerMetrics
  /** Everything before `position` is stored. */
  readonly onFlushed: (run: PartitionRun, position: number) => void
  readonly onFailed: (run: PartitionRun, error: unknown) => void
}

/** One record at a time: it is a batch by itself, and says where it comes from. */
const ROUTED_RECORDS: MessageDecoder = {
  decode: ([message]) => readRoutedRecord(message!.value ?? NO_BYTES, Number(message!.offset)),
}
const NO_BYTES = new Uint8Array(0)

/** Messages decoded and pushed in one go. */
const BATCH_MESSAGES = 8192
/** So many messages behind the end of the log take some tenths of a second. */
const BEHIND_MESSAGES = 50_000

export class PartitionRun {
  readonly topic: string
  readonly partition: number
  /** Position of the first message to be given. */
  readonly readFrom: number
  readonly #options: PartitionOptions
  readonly #handles: readonly IngestHandle[]
  readonly #columns: ReadonlySet<string>
  readonly #decoder: MessageDecoder
  readonly #asides: Asides
  readonly #pace: Pace
  readonly #markers: Map<number, string>
  readonly #compacted: boolean
  #seen: number
  #flushed: number
  #timer: NodeJS.Timeout | undefined
  #flushing: Promise<void> | undefined
  #waitingTimes: number[] = []
  #isBehind = false
  #activeMs: number
  #closed = false

  /** Takes the lanes. Throws LOG_GAP, LOG_CHANGED, STORE_LOST, CHECKPOINT_MISSING, STORE_UNAVAILABLE, DEFINITION_CHANGED. */
  static async open(options: PartitionOptions, bounds: StreamBounds): Promise<PartitionRun> {
    const { topic, partition, plans, seatOf, pool, clock, deltaBytesMax, ledgerMs, isRouted } = options
    const log = logOfPartition(topic, partition)
    const handles: IngestHandle[] = []
    for (const plan of plans) {
      const seat = seatOf(plan)
      const keyed = options.keyed || isRouted ? await openTopic(seat, plan, topic, bounds.partitions) : undefined
      const counts = keyed?.generation.topics?.find((each) => each.name === topic)?.partitions
      const opened = await openLog(seat, plan, { name: log, shards: 1, notAfterMs: clock() })
      // Views of one state share its rows: their lanes have one owner.
      if (handles.some(({ spec }) => sharesRows(spec, opened.generation))) continue
      for (const spec of liveSpecs(seat.namespace, plan, log, opened, {
        shards: 1,
        deltaBytesMax,
        ledgerMs,
        isRouted,
        keyedBy: counts && { topic, partition, counts },
      })) {
        handles.push(await pool.open(spec))
      }
    }
    for (const handle of handles) checkBounds(handle, log, bounds)
    return new PartitionRun(options, handles, bounds)
  }

  private constructor(options: PartitionOptions, handles: readonly IngestHandle[], bounds: StreamBounds) {
    this.#options = options
    this.topic = options.topic
    this.partition = options.partition
    this.#handles = handles
    this.#compacted = bounds.compacted
    const inputs = [
      ...new Map(options.plans.flatMap((plan) => plan.state.inputs).map((each) => [each.name, each])).values(),
    ]
    this.#columns = new Set(inputs.map((input) => input.name))
    this.#asides = new Asides(options)
    const onReject = (record: RejectedRecord) => this.#asides.bury(record)
    this.#decoder = options.isRouted ? ROUTED_RECORDS : options.decoder({ inputs, onReject })
    this.#pace = new Pace(options.flushMinMs, options.flushMaxMs)
    this.#activeMs = options.clock()

    // The record at a marker is read again and compared: it tells a recreated topic from the one we know.
    const known = handles
      .map((handle) => handle.status.marker)
      .filter((each) => each.hash !== '' && each.position >= bounds.first)
    this.#markers = new Map(known.map(({ position, hash }) => [position, hash]))
    const resume = Math.min(...handles.map((handle) => handle.status.resumeFrom))
    this.readFrom = Math.max(Math.min(resume, ...this.#markers.keys()), bounds.first)
    this.#seen = resume - 1
    this.#flushed = resume - 1
    this.#tell()
  }

  get log(): string {
    return logOfPartition(this.topic, this.partition)
  }

  get deltaBytes(): number {
    return this.#handles.reduce((sum, handle) => sum + handle.status.deltaBytes, 0)
  }

  get memoryBytes(): number {
    return this.#handles.reduce((sum, handle) => sum + handle.status.memoryBytes, 0)
  }

  get spareBytes(): number {
    return this.#handles.reduce((sum, handle) => sum + handle.status.spareBytes, 0)
  }

  /** Writes what was taken in, and lets go of every resident entity. */
  async renew(): Promise<void> {
    await this.flush()
    for (const handle of this.#handles) await handle.renew()
  }

  get handles(): readonly IngestHandle[] {
    return this.#handles
  }

  /** Every view holds everything up to here; -1 before one does. */
  get applied(): number {
    return Math.min(...this.#handles.map((handle) => handle.status.applied))
  }

  /** Last position that was taken in. */
  get seen(): number {
    return this.#seen
  }

  /** Messages in log order. Resolves when they are folded. */
  async take(messages: readonly StreamMessage[], next: number): Promise<void> {
    this.#isBehind = next - Number(messages.at(-1)?.offset ?? next) > BEHIND_MESSAGES
    const step = this.#options.isRouted ? 1 : BATCH_MESSAGES
    for (let start = 0; start < messages.length && !this.#closed; start += step) {
      await this.#fold(messages.slice(start, start + step))
    }
    this.#options.metrics.consumerLag(this.topic, this.partition, Math.max(0, next - 1 - this.#seen))
    this.#tell()
  }

  async #fold(messages: readonly StreamMessage[]): Promise<void> {
    const { pool, clock, metrics } = this.#options
    this.#checkMarkers(messages)
    this.#asides.begin(messages)
    const batch = this.#decoder.decode(messages)
    this.#asides.judge(messages.length)
    if (batch.length > 0 || batch.routed) {
      const last = batch.routed?.position ?? (batch.positions as Float64Array)[batch.length - 1]!
      const hash = hashOf(messageAt(messages, last)!)
      const ready = pool.ready(batch, this.#columns)
      for (const handle of this.#handles) await handle.push(ready, hash)
      const times = batch.recordTimes
      if (times) this.#waitingTimes.push(times[0]!, times[batch.length - 1]!)
    }
    const last = Number(messages.at(-1)!.offset)
    if (last > this.#seen) {
      metrics.offsetHoles(this.topic, last - Math.max(this.#seen, Number(messages[0]!.offset) - 1) - messages.length)
      this.#seen = last
    }
    this.#activeMs = clock()
    this.#schedule()
  }

  #checkMarkers(messages: readonly StreamMessage[]): void {
    if (this.#markers.size === 0) return
    const last = Number(messages.at(-1)!.offset)
    for (const [position, hash] of this.#markers) {
      if (position > last) continue
      const found = messageAt(messages, position)
      if (found === undefined ? !this.#compacted : hashOf(found) !== hash) {
        throw new TilefoldError(
          'LOG_CHANGED',
          `cannot go on with log ${this.log}: the record at offset ${position} is ${found ? 'another one' : 'gone'} than the last one applied; was the topic recreated? Rebuild the view, or give it another namespace`,
          { position },
        )
      }
      this.#markers.delete(position)
    }
  }

  /** What a view put aside; called while its batch is pushed. */
  putAside(records: readonly SideRecord[]): void {
    this.#asides.put(records)
  }

  // ---- flushes -------------------------------------------------------------------------------------------------------

  #schedule(): void {
    if (this.#timer !== undefined || this.#flushing !== undefined || this.#closed) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        this.flush().catch((error: unknown) => this.#options.onFailed(this, error))
      },
      this.#pace.delayMs(this.#options.clock(), this.#isBehind),
    )
  }

  /** Writes what was taken in; calls at the same time share one flush. */
  flush(): Promise<void> {
    this.#flushing ??= this.#flush().finally(() => {
      this.#flushing = undefined
      // What came meanwhile, be it only dead letters.
      if (this.#seen > this.#flushed) this.#schedule()
    })
    return this.#flushing
  }

  async #flush(): Promise<void> {
    const { metrics, clock } = this.#options
    const seen = this.#seen
    const times = this.#waitingTimes
    this.#waitingTimes = []
    const startMs = performance.now()
    const before = this.#handles.map((handle) => handle.status.written)
    // First what was put aside: the marker may pass a record only when its letter is safe.
    await this.#asides.flush()
    for (const handle of this.#handles) await handle.flush()
    const tookMs = performance.now() - startMs
    const nowMs = clock()
    this.#pace.flushed(nowMs, tookMs)
    for (const [i, { spec, status }] of this.#handles.entries()) {
      const { rows, bytes } = status.written
      metrics.flushed(spec.view, tookMs / 1000, rows - before[i]!.rows, bytes - before[i]!.bytes)
      for (const timeMs of times) metrics.freshness(spec.view, Math.max(0, nowMs - timeMs) / 1000, 1)
    }
    this.#tell()
    if (seen > this.#flushed) {
      this.#flushed = seen
      this.#options.onFlushed(this, seen + 1)
    }
  }

  #labels(view: string): LaneLabels {
    return { view, topic: this.topic, partition: this.partition }
  }

  #tell(): void {
    const { metrics } = this.#options
    for (const { spec, status } of this.#handles) {
      const lane = this.#labels(spec.view)
      metrics.laneCounted(lane, status.counters)
      if (status.watermarkMs >= 0) metrics.watermark(lane, status.watermarkMs)
      if (Number.isFinite(status.checkpointMs)) metrics.checkpointed(lane, status.checkpointMs)
      metrics.deltaBytes(spec.view, status.deltaBytes)
      metrics.memoryBytes(lane, status.memoryBytes)
    }
  }

  /** The idle look: the lanes are still ours, and time goes on without events. */
  async tick(idleMs: number): Promise<void> {
    const nowMs = this.#options.clock()
    for (const handle of this.#handles) {
      await handle.check()
      if (nowMs - this.#activeMs >= idleMs) await handle.advance(nowMs - handle.spec.state.disorderMs)
    }
  }

  /** Stops, after a last flush if `flush` says so. */
  async close(flush: boolean): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#timer = undefined
    try {
      await this.#flushing?.catch(() => {})
      if (flush) await this.#flush()
    } finally {
      for (const { spec } of this.#handles) this.#options.metrics.laneLeft(this.#labels(spec.view))
      this.#options.metrics.partitionLeft(this.topic, this.partition)
      for (const handle of this.#handles) await handle.drop().catch(() => {})
    }
  }
}

/** Throws LOG_GAP where records are missing, LOG_CHANGED where the log is shorter than what is applied, STORE_LOST. */
function checkBounds({ spec, status }: IngestHandle, log: string, bounds: StreamBounds): void {
  const { resumeFrom, applied } = status
  const own = `${spec.stateHash}/${spec.generation}`
  if (applied < 0 && bounds.committed?.metadata.split(' ').includes(own) && bounds.committed.position > bounds.first) {
    throw new TilefoldError(
      'STORE_LOST',
      `cannot start log ${log} for view ${spec.view}: the group has committed offset ${bounds.committed.position}, and the store has no marker; was it emptied? Delete the group's offsets to rebuild it from the log`,
      { committed: bounds.committed.position },
    )
  }
  // A lane whose start was told begins there or not at all.
  if ((resumeFrom > 0 || spec.start !== undefined) && resumeFrom < bounds.first) {
    throw new TilefoldError(
      'LOG_GAP',
      `cannot go on with log ${log} for view ${spec.view}: its records are gone; the log starts at ${bounds.first}, expected ${resumeFrom} or less`,
      { first: bounds.first, wanted: resumeFrom },
    )
  }
  if (applied < 0 && resumeFrom > bounds.next) {
    throw new TilefoldError(
      'LOG_GAP',
      `cannot start log ${log} for view ${spec.view}: its start is behind the log's end; got ${resumeFrom}, expected ${bounds.next} or less`,
      { next: bounds.next, wanted: resumeFrom },
    )
  }
  if (applied + 1 > bounds.next) {
    throw new TilefoldError(
      'LOG_CHANGED',
      `cannot go on with log ${log} for view ${spec.view}: it ends at ${bounds.next}, but offset ${applied} is applied; was the topic recreated? Rebuild the view, or give it another namespace`,
      { next: bounds.next, applied },
    )
  }
}
