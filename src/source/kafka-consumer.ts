/**
 * A consumer group as a stream of partitions: StreamConsumer over kafkajs.
 *
 *   joined ──> asking ── position ──> reading ── error ──> parked
 *                ^                       │                   │
 *                └────── waiting <── restart ────────────────┘
 *
 * Where a partition is read from is the handler's word alone: its answer is sought, the group's committed offset is shown
 * to it as a hint. A partition that stays ours over a rebalance is read on from where it stands, without a question: was
 * it somebody else's in between, the store's token tells (ingest/lane.ts).
 *
 * What kafkajs would do silently is undone here:
 * - After a rebalance it reads on from the committed offset: every partition is sought again.
 * - An offset out of range is reset to the log's start: its log line is caught, and a batch that was not fetched from
 *   where we stand is never delivered before the log's bounds were looked at.
 * - After a crash it starts itself again, or not, by the kind of error: here every crash ends the client, and the
 *   partitions go on with another one until the cause is one that stays.
 * - It skips what holds only markers and aborted records: `position` follows its reports.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { TilefoldError } from '../model/errors.ts'
import {
  type Admin,
  type Consumer,
  type EachBatchPayload,
  isFinal,
  KafkaClient,
  type KafkaLogEntry,
  type KafkaOptions,
  logUnavailable,
  tryForAWhile,
} from './kafka.ts'
import type { StreamBounds, StreamConsumer, StreamHandler } from './stream.ts'

export interface KafkaConsumerOptions extends KafkaOptions {
  readonly groupId: string
  readonly topics: readonly string[]
  /** Without a heartbeat for so long, a member's partitions go to others; 30,000 ms unless told. */
  readonly sessionTimeoutMs?: number
  /** Time for every member to finish its batch and join again; 60,000 ms unless told. */
  readonly rebalanceTimeoutMs?: number
  /** New partitions are found after this; 30,000 ms unless told. */
  readonly metadataMaxAgeMs?: number
  /** Of one partition in one fetch; 1 MiB unless told. A larger record comes all the same. */
  readonly fetchBytesMax?: number
  /** Partitions whose messages are handled at a time; 16 unless told. */
  readonly concurrency?: number
}

const SESSION_TIMEOUT_MS = 30_000
const REBALANCE_TIMEOUT_MS = 60_000
const METADATA_MAX_AGE_MS = 30_000
const FETCH_BYTES_MAX = 1024 * 1024
/** Over all partitions in one fetch. */
const FETCH_BYTES_TOTAL_MAX = 16 * 1024 * 1024
/** An empty fetch returns after this: a partition that is to be read again waits no longer. */
const FETCH_WAIT_MS = 250
const CONCURRENCY = 16
const REOPEN_DELAY_MS = 250
const REOPEN_DELAY_MAX_MS = 10_000

export function createKafkaConsumer(options: KafkaConsumerOptions): StreamConsumer {
  return new KafkaConsumer(options)
}

/** A partition of ours. */
interface Held {
  readonly topic: string
  readonly partition: number
  stage: 'asking' | 'reading' | 'parked' | 'waiting'
  /** Behind the last message delivered. */
  position: number
  /** Where kafkajs went by itself: everything before holds markers and aborted records only. */
  skippedTo: number
  /** Raised whenever what is under way no longer counts. */
  turn: number
  /** The delivery under way; also of whoever held the partition in this process before. */
  delivery: Promise<void>
  timer: NodeJS.Timeout | undefined
}

/** The compiled configuration of a topic says `compact`, alone or beside `delete`. */
const TOPIC_RESOURCE = 2

class KafkaConsumer implements StreamConsumer {
  readonly ended: Promise<never>
  readonly #options: KafkaConsumerOptions
  readonly #client: KafkaClient
  readonly #admin: Admin
  readonly #held = new Map<string, Held>()
  /** Deliveries of partitions that went away, by key: who gets one back waits for them. */
  readonly #leftovers = new Map<string, Promise<void>>()
  readonly #asked = new Set<Promise<void>>()
  #handler: StreamHandler | undefined
  #consumer: Consumer | undefined
  #opening: Promise<void> = Promise.resolve()
  #revoking: Promise<void> = Promise.resolve()
  #stopping = false
  #end: (error: unknown) => void = () => {}

  constructor(options: KafkaConsumerOptions) {
    this.#options = options
    this.#client = new KafkaClient({ ...options, log: (entry) => this.#onLog(entry) })
    this.#admin = this.#client.admin()
    this.ended = new Promise((_, reject) => {
      this.#end = reject
    })
    this.ended.catch(() => {})
  }

  async start(handler: StreamHandler): Promise<void> {
    this.#handler = handler
    try {
      await this.#admin.connect()
      await this.#findTopics()
      await tryForAWhile(
        () => this.#open(),
        () => this.#stopping,
      )
    } catch (error) {
      await this.stop()
      throw logUnavailable(`join group ${JSON.stringify(this.#options.groupId)}`, this.#options, error)
    }
  }

  async commit(topic: string, partition: number, position: number, metadata: string): Promise<boolean> {
    // A broker takes a commit from any member: of what is no longer ours, the new owner's stands.
    if (!this.#held.has(keyOf(topic, partition)) || this.#consumer === undefined) return true
    try {
      await this.#consumer.commitOffsets([{ topic, partition, offset: String(position), metadata }])
      return true
    } catch (error) {
      this.#log('warn', `cannot commit: ${(error as Error).message}`, { topic, partition, position })
      return false
    }
  }

  restart(topic: string, partition: number, delayMs: number): void {
    const held = this.#held.get(keyOf(topic, partition))
    if (held === undefined || this.#stopping) return
    this.#halt(held, 'waiting')
    held.timer = setTimeout(() => this.#ask(held), delayMs)
  }

  async stop(): Promise<void> {
    this.#stopping = true
    for (const held of this.#held.values()) clearTimeout(held.timer)
    // A client that is just joining can't be stopped: it would go on alone.
    await this.#opening.catch(() => {})
    await this.#consumer?.disconnect().catch((error) => this.#log('warn', `cannot leave: ${error.message}`, {}))
    await Promise.all([...this.#held.values()].map((held) => held.delivery))
    await Promise.all([...this.#leftovers.values(), ...this.#asked])
    await this.#revoking
    this.#held.clear()
    await this.#admin.disconnect().catch(() => {})
    this.#client.end()
  }

  async #findTopics(): Promise<void> {
    const found = await this.#admin.listTopics()
    const missing = this.#options.topics.filter((topic) => !found.includes(topic))
    if (missing.length === 0) return
    throw new Error(`it has no topic ${missing.map((topic) => JSON.stringify(topic)).join(', ')}, or not for this user`)
  }

  // ---- the client: one until it crashes, then another ------------------------------------------------------------------

  #open(): Promise<void> {
    this.#opening = this.#join()
    return this.#opening
  }

  async #join(): Promise<void> {
    const { groupId, topics, sessionTimeoutMs = SESSION_TIMEOUT_MS } = this.#options
    const consumer = this.#client.consumer({
      groupId,
      sessionTimeout: sessionTimeoutMs,
      heartbeatInterval: this.#heartbeatMs(),
      rebalanceTimeout: this.#options.rebalanceTimeoutMs ?? REBALANCE_TIMEOUT_MS,
      metadataMaxAge: this.#options.metadataMaxAgeMs ?? METADATA_MAX_AGE_MS,
      maxBytesPerPartition: this.#options.fetchBytesMax ?? FETCH_BYTES_MAX,
      maxBytes: FETCH_BYTES_TOTAL_MAX,
      maxWaitTimeInMs: FETCH_WAIT_MS,
      allowAutoTopicCreation: false,
      readUncommitted: false,
      retry: { restartOnFailure: async () => false },
    })
    this.#consumer = consumer
    let hasJoined = false
    const joined = new Promise<void>((resolve, reject) => {
      consumer.on('consumer.group_join', ({ payload }) => {
        if (this.#consumer !== consumer) return
        this.#settle(consumer, payload.memberAssignment)
        hasJoined = true
        resolve()
      })
      consumer.on('consumer.crash', ({ payload: { error } }) => {
        if (hasJoined) this.#reopen(consumer, error)
        else reject(error)
      })
    })
    joined.catch(() => {})
    consumer.on('consumer.end_batch_process', ({ payload }) => {
      if (payload.batchSize > 0) return
      const held = this.#held.get(keyOf(payload.topic, payload.partition))
      if (held !== undefined) held.skippedTo = Number(payload.lastOffset) + 1
    })
    try {
      await consumer.connect()
      await consumer.subscribe({ topics: [...topics], fromBeginning: true })
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        partitionsConsumedConcurrently: this.#options.concurrency ?? CONCURRENCY,
        eachBatch: (payload) => this.#take(consumer, payload),
      })
      await joined
    } catch (error) {
      await consumer.disconnect().catch(() => {})
      throw error
    }
  }

  /** The client has crashed and is disconnected: another one, sooner or later, unless the cause will stay. */
  async #reopen(crashed: Consumer, cause: unknown): Promise<void> {
    if (this.#stopping || this.#consumer !== crashed) return
    let error = cause
    for (let delayMs = REOPEN_DELAY_MS; !isFinal(error); delayMs = Math.min(delayMs * 2, REOPEN_DELAY_MAX_MS)) {
      this.#log('warn', `the consumer starts anew: ${(error as Error).message}`, {})
      await sleep(delayMs * (0.7 + Math.random() * 0.6))
      if (this.#stopping) return
      try {
        await this.#open()
        return
      } catch (next) {
        error = next
      }
    }
    if (!this.#stopping) this.#end(logUnavailable('go on reading', this.#options, error))
  }

  #heartbeatMs(): number {
    return Math.floor((this.#options.sessionTimeoutMs ?? SESSION_TIMEOUT_MS) / 10)
  }

  // ---- assignment ------------------------------------------------------------------------------------------------------

  /** Right after a join, before anything is fetched. */
  #settle(consumer: Consumer, assignment: Readonly<Record<string, readonly number[]>>): void {
    const lost = new Map(this.#held)
    const fresh: Held[] = []
    for (const [topic, partitions] of Object.entries(assignment)) {
      for (const partition of partitions) {
        const key = keyOf(topic, partition)
        const held = lost.get(key)
        lost.delete(key)
        if (held?.stage === 'reading') {
          seek(consumer, held)
          continue
        }
        consumer.pause([{ topic, partitions: [partition] }])
        if (held === undefined) fresh.push(this.#hold(topic, partition))
      }
    }
    for (const [key, held] of lost) {
      this.#halt(held, 'waiting')
      this.#held.delete(key)
      this.#leave(key, held.delivery)
    }
    if (lost.size > 0) this.#revoke([...lost.values()])
    for (const held of fresh) this.#ask(held)
  }

  #hold(topic: string, partition: number): Held {
    const key = keyOf(topic, partition)
    const delivery = this.#leftovers.get(key) ?? Promise.resolve()
    const held: Held = {
      topic,
      partition,
      stage: 'asking',
      position: 0,
      skippedTo: 0,
      turn: 0,
      delivery,
      timer: undefined,
    }
    this.#held.set(key, held)
    return held
  }

  #leave(key: string, delivery: Promise<void>): void {
    this.#leftovers.set(key, delivery)
    void delivery.then(() => {
      if (this.#leftovers.get(key) === delivery) this.#leftovers.delete(key)
    })
  }

  #revoke(lost: readonly Held[]): void {
    const partitions = lost.map(({ topic, partition }) => ({ topic, partition }))
    this.#revoking = this.#revoking.then(async () => {
      try {
        await this.#handler!.revoked(partitions)
      } catch (error) {
        this.#log('error', `the handler failed on revoked partitions: ${(error as Error).message}`, { partitions })
      }
    })
  }

  /** Asks where to read from, then reads; alone from the first step to the last. */
  #ask(held: Held): void {
    this.#halt(held, 'asking')
    const { turn } = held
    const asked = this.#answer(held, turn).catch((error) => this.#park(held, turn, error))
    this.#asked.add(asked)
    void asked.then(() => this.#asked.delete(asked))
  }

  async #answer(held: Held, turn: number): Promise<void> {
    const { topic, partition } = held
    await this.#revoking
    await held.delivery
    const bounds = await this.#boundsOf(held, turn)
    if (bounds === undefined || !this.#counts(held, turn)) return
    const position = await this.#handler!.assigned(topic, partition, bounds)
    if (!this.#counts(held, turn)) return
    if (!(position >= bounds.first && position <= bounds.next)) {
      throw new TilefoldError(
        'LOG_GAP',
        `cannot read ${topic}/${partition} from offset ${position}: the log holds ${bounds.first} to ${bounds.next}`,
        { topic, partition, position, first: bounds.first, next: bounds.next },
      )
    }
    held.position = position
    held.stage = 'reading'
    this.#steer((consumer) => {
      seek(consumer, held)
      consumer.resume([{ topic, partitions: [partition] }])
    })
  }

  /** Is `turn` still the partition's, and the partition ours? */
  #counts(held: Held, turn: number): boolean {
    return held.turn === turn && !this.#stopping
  }

  #halt(held: Held, stage: Held['stage']): void {
    held.turn++
    held.stage = stage
    clearTimeout(held.timer)
    this.#steer((consumer) => consumer.pause([{ topic: held.topic, partitions: [held.partition] }]))
  }

  /** Between two clients there is nothing to steer: the next join seeks and pauses by each partition's stage. */
  #steer(act: (consumer: Consumer) => void): void {
    if (this.#consumer === undefined) return
    try {
      act(this.#consumer)
    } catch (error) {
      if (!/not initialized/.test((error as Error).message)) throw error
    }
  }

  #park(held: Held, turn: number, error: unknown): void {
    if (!this.#counts(held, turn)) return
    this.#halt(held, 'parked')
    const { topic, partition } = held
    this.#log('error', `partition ${topic}/${partition} is parked: ${(error as Error).message}`, { topic, partition })
  }

  // ---- messages --------------------------------------------------------------------------------------------------------

  async #take(consumer: Consumer, payload: EachBatchPayload): Promise<void> {
    const { batch } = payload
    const held = this.#held.get(keyOf(batch.topic, batch.partition))
    if (held === undefined) return
    // Of a client that crashed in the meantime, the last delivery may still be under way.
    await held.delivery
    const { turn } = held
    if (held.stage !== 'reading' || this.#consumer !== consumer || !payload.isRunning() || payload.isStale()) return
    if (!(await this.#fitsPosition(held, turn, payload))) return
    await this.#deliver(consumer, held, turn, payload)
  }

  /** Was the batch fetched from where we stand, or from behind what kafkajs may skip? Else it is not to be delivered. */
  async #fitsPosition(held: Held, turn: number, { batch }: EachBatchPayload): Promise<boolean> {
    // kafkajs keeps it and does not declare it.
    const fetched = Number((batch as unknown as { readonly fetchedOffset: string }).fetchedOffset)
    if (fetched === held.position) return true
    if (fetched > held.position && fetched === held.skippedTo) return true
    const bounds = await this.#boundsOf(held, turn)
    if (bounds === undefined || !this.#counts(held, turn)) return false
    if (held.position < bounds.first || held.position > bounds.next) {
      this.#ask(held)
      return false
    }
    if (fetched > held.position) return true
    // Fetched before we stood here.
    this.#steer((consumer) => seek(consumer, held))
    return false
  }

  async #deliver(consumer: Consumer, held: Held, turn: number, payload: EachBatchPayload): Promise<void> {
    const { topic, partition, messages, highWatermark } = payload.batch
    const beat = setInterval(() => payload.heartbeat().catch(() => {}), this.#heartbeatMs())
    let isTaken = false
    held.delivery = this.#handler!.messages(topic, partition, messages, Number(highWatermark)).then(
      () => {
        isTaken = true
      },
      (error) => this.#park(held, turn, error),
    )
    await held.delivery
    clearInterval(beat)
    if (!isTaken || !this.#counts(held, turn)) return
    held.position = Number(payload.batch.lastOffset()) + 1
    // A join in the meantime has sought to where we stood before.
    if (this.#consumer !== consumer || payload.isStale()) this.#steer((current) => seek(current, held))
    else payload.resolveOffset(messages.at(-1)!.offset)
  }

  // ---- what the log holds ----------------------------------------------------------------------------------------------

  /** Undefined when the turn is over before the brokers answer. */
  async #boundsOf(held: Held, turn: number): Promise<StreamBounds | undefined> {
    const { topic, partition } = held
    for (
      let delayMs = REOPEN_DELAY_MS;
      this.#counts(held, turn);
      delayMs = Math.min(delayMs * 2, REOPEN_DELAY_MAX_MS)
    ) {
      try {
        const [offsets, compacted, committed] = await Promise.all([
          this.#admin.fetchTopicOffsets(topic),
          this.#isCompacted(topic),
          this.#admin.fetchOffsets({ groupId: this.#options.groupId, topics: [topic] }),
        ])
        const own = offsets.find((each) => each.partition === partition)
        if (own === undefined) throw new Error(`partition ${partition} is not there`)
        const bounds = { first: Number(own.low), next: Number(own.high), compacted, partitions: offsets.length }
        const commit = committed[0]?.partitions.find((each) => each.partition === partition)
        if (commit === undefined || Number(commit.offset) < 0) return bounds
        return { ...bounds, committed: { position: Number(commit.offset), metadata: commit.metadata ?? '' } }
      } catch (error) {
        if (isFinal(error)) throw logUnavailable(`ask for the bounds of ${topic}`, this.#options, error)
        this.#log('warn', `cannot ask for the bounds of ${topic}: ${(error as Error).message}`, { topic, partition })
        await sleep(delayMs)
      }
    }
    return undefined
  }

  /** Who may not read the configuration is told no. */
  async #isCompacted(topic: string): Promise<boolean> {
    const described = await this.#admin
      .describeConfigs({
        includeSynonyms: false,
        resources: [{ type: TOPIC_RESOURCE, name: topic, configNames: ['cleanup.policy'] }],
      })
      .catch((error) => {
        if (!isFinal(error)) throw error
        return undefined
      })
    return described?.resources[0]?.configEntries[0]?.configValue.includes('compact') ?? false
  }

  // ---- log -------------------------------------------------------------------------------------------------------------

  #onLog(entry: KafkaLogEntry): void {
    this.#options.log?.(entry)
    if (!entry.message.includes('Offset out of range')) return
    // kafkajs has no event for it. Without this line the next batch would show it, only later.
    const { topic, partition } = entry.facts as { readonly topic: string; readonly partition: number }
    const held = this.#held.get(keyOf(topic, partition))
    if (held?.stage === 'reading') this.#ask(held)
  }

  #log(level: KafkaLogEntry['level'], message: string, facts: Readonly<Record<string, unknown>>): void {
    this.#options.log?.({ level, message, facts: { groupId: this.#options.groupId, ...facts } })
  }
}

function keyOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}

function seek(consumer: Consumer, held: Held): void {
  held.skippedTo = held.position
  consumer.seek({ topic: held.topic, partition: held.partition, offset: String(held.position) })
}
