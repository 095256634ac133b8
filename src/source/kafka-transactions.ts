/**
 * Kafka's transactions: records and the offset of their source, all or nothing, fenced by the transactional id alone.
 *
 * 1. The id is initialised: Kafka completes the predecessor's commit that has begun, aborts what has not, and refuses from then on
 *    whatever the predecessor still sends.
 * 2. Only then the committed offset is fetched. The other way round, a commit that lands in between would go unseen, and its
 *    records would be written once more.
 * 3. A transaction is begun, sent one partition per call (`kafka-producer.ts` says why), given the offset, and ended.
 *
 * kafkajs ends a transaction once and does not ask again, so the fate of a commit without an answer is unknown. Who opens the id
 * anew learns it from the committed offset.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { TilefoldError } from '../model/errors.ts'
import {
  type Admin,
  KafkaClient,
  type KafkaOptions,
  logUnavailable,
  type Producer,
  type Transaction,
  tryForAWhile,
} from './kafka.ts'
import { checkAnswer } from './kafka-producer.ts'
import type { CommittedOffset, OpenTransactions, RoutedRecord, Transactions, TransactionsName } from './transactions.ts'

export interface KafkaTransactions {
  readonly open: OpenTransactions
  /** Creates the topic where there is none; resolves to the partitions it has, which may be others. Throws LOG_UNAVAILABLE. */
  readonly ensureTopic: (topic: string, partitions: number, settings?: TopicSettings) => Promise<number>
  /** Closes every holder, also those that are being opened. */
  readonly close: () => Promise<void>
}

/** Of a topic, by Kafka's names. They are not changed where the topic is there already. */
export type TopicSettings = Readonly<Record<string, string>>

export interface TransactionSettings {
  /** Kafka aborts a transaction that is not committed by then. Until then one that is left behind stops all who read committed. */
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 60_000
const ALL_REPLICAS = -1
/** A transaction waits for the end markers of the one before: some ms as a rule. Some 25 s in all, for a leader's move. */
const RETRY = { initialRetryTime: 10, maxRetryTime: 1_000, retries: 30 }
const WAITS = 'another concurrent operation on the same transaction was ongoing'
/** kafkajs makes one batch of a call, and Kafka's limit for a message (1 MB unless told) holds for the batch. */
const CALL_BYTES = 512 * 1024

export function kafkaTransactions(options: KafkaOptions, settings: TransactionSettings = {}): KafkaTransactions {
  const { timeoutMs = TIMEOUT_MS } = settings
  const quiet = withoutWaits(options)
  const held = new Set<Promise<Transactions>>()
  return {
    open(name) {
      const opening: Promise<Transactions> = take(quiet, name, timeoutMs, () => held.delete(opening))
      held.add(opening)
      return opening
    },
    ensureTopic: (topic, partitions, settings) => ensureTopic(options, topic, partitions, settings),
    async close() {
      await Promise.allSettled([...held].map(async (opening) => (await opening).close()))
    },
  }
}

/** kafkajs logs two errors for each wait for the transaction before. */
function withoutWaits(options: KafkaOptions): KafkaOptions {
  const { log } = options
  if (log === undefined) return options
  return {
    ...options,
    log: (entry) => {
      if (!`${entry.message}: ${entry.facts.error}`.includes(WAITS)) log(entry)
    },
  }
}

// ---- taking the id -----------------------------------------------------------------------------------------------------

async function take(
  options: KafkaOptions,
  name: TransactionsName,
  timeoutMs: number,
  closed: () => void,
): Promise<Transactions> {
  const client = new KafkaClient(options)
  const producer = client.producer({
    transactionalId: name.transactionalId,
    transactionTimeout: timeoutMs,
    allowAutoTopicCreation: false,
    retry: RETRY,
  })
  const end = async () => {
    await producer.disconnect().catch(() => {})
    client.end()
    closed()
  }
  try {
    await producer.connect()
    await initialise(producer)
    const committed = await fetchCommitted(client.admin(), name)
    return new Holder({ options, name, timeoutMs, producer, end }, committed)
  } catch (error) {
    await end()
    throw logUnavailable(`take the transactional id ${name.transactionalId}`, options, error)
  }
}

/** kafkajs does it in the first transaction. An empty one is unknown to Kafka: nothing is sent to abort it. */
async function initialise(producer: Producer): Promise<void> {
  const empty = await producer.transaction()
  await empty.abort()
}

async function fetchCommitted(admin: Admin, name: TransactionsName): Promise<CommittedOffset | undefined> {
  const { groupId, sourceTopic, sourcePartition } = name
  try {
    await admin.connect()
    const [topic] = await tryForAWhile(() => admin.fetchOffsets({ groupId, topics: [sourceTopic] }))
    const found = topic?.partitions.find(({ partition }) => partition === sourcePartition)
    // Not the same as no offset: that would have everything written once more.
    if (found === undefined) throw new Error(`no broker knows of ${sourceTopic}/${sourcePartition}`)
    const position = Number(found.offset)
    return position < 0 ? undefined : { position, metadata: found.metadata ?? '' }
  } finally {
    await admin.disconnect().catch(() => {})
  }
}

// ---- committing --------------------------------------------------------------------------------------------------------

interface Held {
  readonly options: KafkaOptions
  readonly name: TransactionsName
  readonly timeoutMs: number
  readonly producer: Producer
  readonly end: () => Promise<void>
}

class Holder implements Transactions {
  readonly committed: CommittedOffset | undefined
  readonly #held: Held
  /** End of the commit under way. */
  #last: Promise<unknown> = Promise.resolve()
  /** Why nothing more can be committed. */
  #failure: TilefoldError | undefined
  #closing: Promise<void> | undefined

  constructor(held: Held, committed: CommittedOffset | undefined) {
    this.#held = held
    this.committed = committed
  }

  commit(records: readonly RoutedRecord[], position: number, metadata: string): Promise<void> {
    const done = this.#last.then(() => this.#commit(records, position, metadata))
    this.#last = done.catch(() => {})
    return done
  }

  close(): Promise<void> {
    this.#closing ??= this.#last.then(() => {
      this.#failure ??= logUnavailable(this.#what, this.#held.options, new Error('it is closed'))
      return this.#held.end()
    })
    return this.#closing
  }

  async #commit(records: readonly RoutedRecord[], position: number, metadata: string): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    const { name, producer } = this.#held
    const startMs = performance.now()
    let transaction: Transaction | undefined
    try {
      transaction = await producer.transaction()
      await sendRecords(transaction, name.topic, records)
      await sendOffset(transaction, name, position, metadata)
      await transaction.commit()
    } catch (error) {
      this.#failure = await this.#giveUp(error, transaction, startMs)
      throw this.#failure
    }
  }

  /** Ends what was begun, and says what it came to. What Kafka answers to the abort tells whether the id is still ours. */
  async #giveUp(error: unknown, transaction: Transaction | undefined, startMs: number): Promise<TilefoldError> {
    const { name, options, timeoutMs } = this.#held
    const wasEnding = transaction !== undefined && !transaction.isActive()
    const refusal = transaction?.isActive() ? await transaction.abort().catch((refusal: unknown) => refusal) : undefined
    // Nothing of ours is under way at a commit: it meets a transition of Kafka's, which is fencing us.
    const isFenced = isFencing(error) || isFencing(refusal) || (wasEnding && hasType(error, CONCURRENT_TYPES))
    // A transaction that takes too long is fenced as well; there need not be another holder.
    const isLate = performance.now() - startMs >= timeoutMs
    if (!isFenced || isLate) return logUnavailable(this.#what, options, error)
    const { transactionalId } = name
    const message = `cannot ${this.#what}: another holder has taken the id`
    return new TilefoldError('FENCED', message, { transactionalId }, { cause: error })
  }

  get #what(): string {
    const { sourceTopic, sourcePartition, transactionalId } = this.#held.name
    return `commit ${sourceTopic}/${sourcePartition} under the transactional id ${transactionalId}`
  }
}

/** Several partitions side by side. All calls are over when it settles: an abort must not overtake a call. */
async function sendRecords(transaction: Transaction, topic: string, records: readonly RoutedRecord[]): Promise<void> {
  const sent = await Promise.allSettled(
    [...byPartition(records)].map(async ([partition, values]) => {
      for (const call of callsOf(values)) {
        const messages = call.map((value) => ({ key: null, value, partition }))
        checkAnswer(topic, partition, await transaction.send({ topic, acks: ALL_REPLICAS, messages }))
      }
    }),
  )
  for (const each of sent) if (each.status === 'rejected') throw each.reason
}

function byPartition(records: readonly RoutedRecord[]): Map<number, Buffer[]> {
  const values = new Map<number, Buffer[]>()
  for (const { partition, value } of records) {
    const own = values.get(partition)
    if (own === undefined) values.set(partition, [value])
    else own.push(value)
  }
  return values
}

/** Cut at CALL_BYTES; a larger value goes alone. */
function callsOf(values: readonly Buffer[]): Buffer[][] {
  const calls: Buffer[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const value of values) {
    bytes += value.length
    if (bytes > CALL_BYTES) {
      calls.push([])
      bytes = value.length
    }
    calls.at(-1)!.push(value)
  }
  return calls
}

/** kafkajs does not wait for the markers of the transaction before where the offset is all there is to send. */
async function sendOffset(
  transaction: Transaction,
  name: TransactionsName,
  position: number,
  metadata: string,
): Promise<void> {
  const partitions = [{ partition: name.sourcePartition, offset: String(position), metadata }]
  const offsets = { consumerGroupId: name.groupId, topics: [{ topic: name.sourceTopic, partitions }] }
  let delayMs = RETRY.initialRetryTime
  for (let attempt = 0; ; attempt++) {
    try {
      await transaction.sendOffsets(offsets)
      return
    } catch (error) {
      if (attempt === RETRY.retries || !hasType(error, CONCURRENT_TYPES)) throw error
      await sleep(delayMs)
      delayMs = Math.min(delayMs * 2, RETRY.maxRetryTime)
    }
  }
}

const CONCURRENT_TYPES = new Set(['CONCURRENT_TRANSACTIONS'])
/** Kafka has given the id a newer epoch than ours. */
const FENCING_TYPES = new Set(['INVALID_PRODUCER_EPOCH', 'PRODUCER_FENCED'])

function isFencing(error: unknown): boolean {
  return hasType(error, FENCING_TYPES)
}

function hasType(error: unknown, types: ReadonlySet<string>): boolean {
  for (let each = error; each instanceof Error; each = each.cause) {
    if (types.has((each as Error & { readonly type: string }).type)) return true
  }
  return false
}

// ---- the topic ---------------------------------------------------------------------------------------------------------

/** As many replicas as the cluster gives a topic by default. Several processes may do it side by side. */
async function ensureTopic(
  options: KafkaOptions,
  topic: string,
  partitions: number,
  settings: TopicSettings = {},
): Promise<number> {
  const client = new KafkaClient(options)
  const admin = client.admin()
  try {
    await admin.connect()
    if (!(await admin.listTopics()).includes(topic)) {
      const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
      // kafkajs' own wait takes a broker that has not heard of the topic yet for a failure.
      await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions: partitions, configEntries }] })
    }
    return await tryForAWhile(() => countLed(admin, topic))
  } catch (error) {
    const [first = error] = (error as Partial<AggregateError>).errors ?? []
    throw logUnavailable(`create topic ${JSON.stringify(topic)}`, options, first)
  } finally {
    await admin.disconnect().catch(() => {})
    client.end()
  }
}

async function countLed(admin: Admin, topic: string): Promise<number> {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  const { partitions } = topics[0]!
  if (partitions.length === 0 || partitions.some(({ leader }) => leader < 0)) throw new Error('it has no leaders yet')
  return partitions.length
}
