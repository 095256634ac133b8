/**
 * One partition of a routed topic while it is ours: the walk up to its verdicts, and the transactions between.
 *
 *   open:   take the transactional id (waits for, or ends, what its last holder left) -> the offset that the group has committed
 *           -> the clocks and ids of a checkpoint at or before it -> read from there
 *   take:   messages -> decode -> judge -> accepted rows to the lane of their entity      up to the committed offset: judged alone
 *   commit: dead letters -> one transaction: records of the lanes, and the source's offset -> now and then a checkpoint
 *
 * The committed offset is the authority, the checkpoint only memory: records behind it are judged again, as they were. So whatever
 * dies between any two steps, each stretch of the log is in the internal topic once; lanes check that (ingest/routed-sources.ts).
 */
import { randomUUID } from 'node:crypto'
import { Core } from '../engine/core.ts'
import type { CoreModule } from '../engine/module.ts'
import { segmentsOf } from '../ingest/flush.ts'
import { CHECKPOINT_INTERVAL_MS } from '../ingest/ingest.ts'
import { LaneOwner } from '../ingest/lane.ts'
import { sideRecords } from '../ingest/side.ts'
import type { ColumnBatch } from '../model/columns.ts'
import type { Counters } from '../model/counters.ts'
import { takenTimes } from '../model/covers.ts'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { logOfPartition, startOf } from '../model/view-layout.ts'
import type { WorkerMetrics } from '../observe/port.ts'
import type { OpenGeneration } from '../registry/layouts.ts'
import { routerLane } from '../registry/routes.ts'
import type { DeadLetters } from '../source/dead-letters.ts'
import type { RejectedRecord } from '../source/port.ts'
import { hashOf } from '../source/record-hash.ts'
import type { StreamBounds, StreamMessage } from '../source/stream.ts'
import type { OpenTransactions, Transactions } from '../source/transactions.ts'
import type { Store } from '../store/port.ts'
import { Asides, messageAt } from './asides.ts'
import type { DecoderOptions, MessageDecoder } from './partition.ts'
import { RouteLanes } from './route-lanes.ts'

export interface RouteOptions {
  readonly topic: string
  readonly partition: number
  readonly plan: Plan
  /** With the route. */
  readonly opened: OpenGeneration
  readonly namespace: string
  readonly store: Store
  readonly core: CoreModule
  readonly openTransactions: OpenTransactions
  readonly groupId: string
  readonly decoder: (options: DecoderOptions) => MessageDecoder
  readonly deadLetters: DeadLetters | undefined
  /** Of a thousand records, the share that may be unreadable before the run ends. */
  readonly maxDeadRatio: number
  /** Events wait so long for others of their transaction. */
  readonly lingerMs: number
  readonly clock: () => number
  readonly metrics: WorkerMetrics
  readonly onFailed: (run: RouteRun, error: unknown) => void
}

const BATCH_MESSAGES = 8192
/** More than these are not kept waiting. */
const TRANSACTION_ROWS_MAX = 50_000
/** A lane that gets no events hears so often how far the clock is. */
const CLOCK_EVERY_MS = 1_000
/** Keys are only needed to choose lanes. */
const ENTITIES_MAX = 1_000_000

export class RouteRun {
  readonly topic: string
  readonly partition: number
  /** Position of the first message to be given. */
  readonly readFrom: number
  readonly #options: RouteOptions
  readonly #log: string
  readonly #core: Core
  readonly #owner: LaneOwner
  readonly #transactions: Transactions
  readonly #lanes: RouteLanes
  readonly #decoder: MessageDecoder
  readonly #asides: Asides
  readonly #logs: number
  readonly #toldMs: number[]
  #layoutVersion: number
  #spreadVersion = -1
  #committed: number
  #seen: number
  #hash = ''
  #checkpointMs = Number.NEGATIVE_INFINITY
  #toldClockMs = -1
  #isFirst = true
  #isIdle = false
  #activeMs: number
  #timer: NodeJS.Timeout | undefined
  #last: Promise<unknown> = Promise.resolve()
  #closed = false
  #failed: Error | undefined

  /** Throws FENCED, LOG_UNAVAILABLE, LOG_GAP, LOG_CHANGED, ROUTE_BROKEN, CHECKPOINT_MISSING, STORE_UNAVAILABLE. */
  static async open(options: RouteOptions, bounds: StreamBounds): Promise<RouteRun> {
    const { topic, partition, plan, opened, namespace, store, openTransactions, groupId } = options
    const log = logOfPartition(topic, partition)
    const route = opened.generation.route!
    // The id before everything else: from here on nobody else can move the committed offset.
    const transactions = await openTransactions({
      groupId,
      transactionalId: `${groupId}.${log}`,
      sourceTopic: topic,
      sourcePartition: partition,
      topic: route.topic,
    })
    try {
      const { stateHash } = plan
      const { generation } = opened.generation
      const lane = { namespace, stateHash, generation, lane: routerLane(plan.view, log) }
      const owner = await LaneOwner.acquire({ store, lane, nonce: randomUUID(), layoutVersion: opened.layout.version })
      const run = new RouteRun(options, bounds, transactions, owner)
      await run.#begin(bounds)
      return run
    } catch (error) {
      await transactions.close().catch(() => {})
      throw error
    }
  }

  private constructor(options: RouteOptions, bounds: StreamBounds, transactions: Transactions, owner: LaneOwner) {
    const { topic, partition, plan, opened, core, clock } = options
    this.#options = options
    this.topic = topic
    this.partition = partition
    this.#log = logOfPartition(topic, partition)
    this.#transactions = transactions
    this.#owner = owner
    this.#logs = bounds.partitions
    const shares = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }
    const takes = takenTimes(opened.generation.covers, false)
    this.#core = new Core(core, plan.state, { ...shares, takes }, clock())
    // Where the log had lost its beginning when it was first routed there is a checkpoint that says so.
    const first = transactions.committed === undefined ? bounds.first : 0
    const start = startOf(opened.generation, this.#log) ?? first
    if (owner.checkpoint) this.#core.readCheckpoint(Buffer.concat(owner.checkpoint.segments))
    else this.#core.startAt(start)
    const inputs = plan.state.inputs.map(({ name }) => name)
    this.#lanes = new RouteLanes(this.#log, inputs, opened.generation.route!.lanes)
    this.#toldMs = new Array<number>(opened.generation.route!.lanes).fill(Number.NEGATIVE_INFINITY)
    this.#asides = new Asides(options)
    const onReject = (record: RejectedRecord) => this.#asides.bury(record)
    this.#decoder = options.decoder({ inputs: plan.state.inputs, onReject })
    this.#activeMs = clock()
    this.#layoutVersion = opened.layout.version

    const resume = this.#core.position + 1
    const { committed } = transactions
    this.#committed = committed?.position ?? resume
    this.#seen = resume - 1
    this.#checkBounds(resume, bounds, committed?.position)
    if (committed) this.#lanes.resume(committed.metadata, committed.position)
    // The record at the marker is read again and compared.
    const { marker, markerHash } = owner.record
    this.readFrom = markerHash !== '' && marker >= bounds.first ? Math.min(marker, resume) : resume
  }

  get log(): string {
    return this.#log
  }

  /** Entities that should be spread over so many lanes, since the last call. */
  takeWishes(): ReadonlyMap<string, number> {
    return this.#lanes.takeWishes()
  }

  /** Every reader knows by now that entities are spread so, from this layout on. */
  spread(layoutVersion: number, salts: ReadonlyMap<string, number>): void {
    if (layoutVersion === this.#spreadVersion) return
    this.#spreadVersion = layoutVersion
    this.#layoutVersion = layoutVersion
    this.#lanes.spread(salts)
  }

  get counters(): Counters {
    return this.#core.counters()
  }

  /** Everything before it is in the internal topic. */
  get committed(): number {
    return this.#committed
  }

  #checkBounds(resume: number, { first, next }: StreamBounds, committed: number | undefined): void {
    const { marker } = this.#owner.record
    const cannot = `cannot go on routing log ${this.#log}`
    if (committed === undefined && marker >= 0 && this.#owner.record.markerHash !== '') {
      throw new TilefoldError(
        'ROUTE_BROKEN',
        `${cannot}: its group ${this.#options.groupId} has no committed offset any more, and ${marker} was routed; begin a new generation`,
        { marker },
      )
    }
    if (committed !== undefined && committed < resume) {
      throw new TilefoldError(
        'ROUTE_BROKEN',
        `${cannot}: the committed offset of its group was set back; got ${committed}, expected ${resume} or more`,
        { committed, expected: resume },
      )
    }
    if (resume < first) {
      throw new TilefoldError(
        'LOG_GAP',
        `${cannot}: its records are gone; the log starts at ${first}, expected ${resume} or less`,
        {
          first,
          wanted: resume,
        },
      )
    }
    if (Math.max(resume, committed ?? 0) > next) {
      throw new TilefoldError(
        'LOG_CHANGED',
        `${cannot}: it ends at ${next}, and was routed up to ${committed ?? resume}; was the topic recreated?`,
        { next },
      )
    }
  }

  /** Nothing is committed before it is known where the walk begins: a takeover must judge the same records. */
  async #begin({ first }: StreamBounds): Promise<void> {
    if (this.#transactions.committed !== undefined || this.#owner.checkpoint || first === 0) return
    await this.#checkpoint(this.#core.position, '')
  }

  // ---- messages ------------------------------------------------------------------------------------------------------

  /** Messages in log order. Resolves when they are judged; they are routed within the linger. */
  take(messages: readonly StreamMessage[], next: number): Promise<void> {
    return this.#inTurn(async () => {
      for (let start = 0; start < messages.length && !this.#closed; start += BATCH_MESSAGES) {
        this.#judge(messages.slice(start, start + BATCH_MESSAGES))
        if (this.#lanes.rows >= TRANSACTION_ROWS_MAX) await this.#commit()
      }
      this.#activeMs = this.#options.clock()
      this.#isIdle = false
      this.#tell(next)
      this.#schedule()
    })
  }

  #tell(next: number): void {
    const { metrics, plan, topic, partition } = this.#options
    metrics.consumerLag(topic, partition, Math.max(0, next - 1 - this.#seen))
    metrics.laneCounted({ view: plan.view, topic, partition }, this.#core.counters())
  }

  #judge(messages: readonly StreamMessage[]): void {
    this.#checkMarker(messages)
    this.#asides.begin(messages)
    const batch = this.#decoder.decode(messages)
    this.#asides.judge(messages.length)
    if (batch.length > 0) {
      const before = this.#core.position
      this.#core.prepare(batch)
      this.#lanes.add(this.#core, batch, Math.max(this.#committed, before + 1))
      this.#putAside(batch)
    }
    const last = messages.at(-1)!
    this.#hash = hashOf(last)
    this.#seen = Math.max(this.#seen, Number(last.offset))
    // Records that became no row were judged, too.
    this.#core.judged(-1, this.#seen)
  }

  #checkMarker(messages: readonly StreamMessage[]): void {
    const { marker, markerHash } = this.#owner.record
    if (markerHash === '' || this.#seen > marker || Number(messages.at(-1)!.offset) < marker) return
    const found = messageAt(messages, marker)
    if (found === undefined || hashOf(found) === markerHash) return
    throw new TilefoldError(
      'LOG_CHANGED',
      `cannot go on routing log ${this.#log}: the record at offset ${marker} is another one than was routed; was the topic recreated? Begin a new generation`,
      { position: marker },
    )
  }

  #putAside(batch: ColumnBatch): void {
    const { plan, opened, deadLetters } = this.#options
    if (deadLetters === undefined) return
    const { view, state } = plan
    const spec = { view, log: this.#log, state, takes: takenTimes(opened.generation.covers, false) }
    this.#asides.put(sideRecords(spec, batch, this.#core.verdicts(batch.length)))
  }

  // ---- transactions --------------------------------------------------------------------------------------------------

  #schedule(): void {
    if (this.#timer !== undefined || this.#closed || this.#seen < this.#committed) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#inTurn(() => this.#commit()).catch((error: unknown) => this.#options.onFailed(this, error))
    }, this.#options.lingerMs)
  }

  /** One transaction of what waits. `toAll`: every lane hears the clock. */
  async #commit(toAll = false): Promise<void> {
    const to = this.#seen + 1
    if (to < this.#committed) return
    const nowMs = this.#options.clock()
    const { lateClockMs: clockMs } = this.#core
    const isDue = (lane: number) => nowMs - this.#toldMs[lane]! >= CLOCK_EVERY_MS && clockMs > this.#toldClockMs
    const also = (lane: number) => toAll || this.#isFirst || isDue(lane)
    const records = this.#lanes.records(
      to,
      { clockMs, isIdle: this.#isIdle, logs: this.#logs, layoutVersion: this.#layoutVersion },
      also,
    )
    if (records.length === 0 && to === this.#committed) return
    await this.#asides.flush()
    await this.#transactions.commit(records, to, this.#lanes.metadataAfter(records, to))
    this.#lanes.committed(records, to)
    for (const { partition } of records) this.#toldMs[partition] = nowMs
    if (this.#toldMs.every((toldMs) => toldMs === nowMs)) this.#toldClockMs = clockMs
    this.#committed = to
    this.#isFirst = false
    const every = CHECKPOINT_INTERVAL_MS[this.#options.plan.state.dedupe ? 'dedupe' : 'live']
    if (nowMs - this.#checkpointMs >= every) {
      await this.#checkpoint(this.#seen, this.#hash)
      this.#checkpointMs = nowMs
    }
    if (this.#core.entityCount > ENTITIES_MAX) {
      this.#core.forgetEntities()
      this.#lanes.forget()
    }
  }

  async #checkpoint(position: number, hash: string): Promise<void> {
    const segments = segmentsOf(this.#core.writeCheckpoint())
    this.#owner.beginFlush(position)
    await this.#owner.endFlush(position, hash, segments)
  }

  /** The idle look: is the lane still ours, and do all lanes know how far the clock is? */
  tick(idleMs: number): Promise<void> {
    return this.#inTurn(async () => {
      await this.#owner.check()
      if (this.#seen + 1 < this.#committed) return
      const isIdle = this.#options.clock() - this.#activeMs >= idleMs
      const turnsIdle = isIdle && !this.#isIdle
      this.#isIdle = isIdle
      if (turnsIdle || this.#isFirst || this.#core.lateClockMs > this.#toldClockMs) await this.#commit(true)
    })
  }

  /** Stops, after a last transaction if `flush` says so. */
  async close(flush: boolean): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    try {
      if (flush) await this.#inTurn(() => this.#commit())
    } finally {
      this.#closed = true
      await this.#last
      const { metrics, plan, topic, partition } = this.#options
      metrics.laneLeft({ view: plan.view, topic, partition })
      metrics.partitionLeft(topic, partition)
      await this.#transactions.close().catch(() => {})
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(async () => {
      if (this.#failed) throw this.#failed
      try {
        return await work()
      } catch (error) {
        // What was committed is not known any more, and the clocks may be ahead of it.
        this.#failed = error as Error
        throw error
      }
    })
    this.#last = turn.catch(() => {})
    return turn
  }
}
