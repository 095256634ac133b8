/**
 * A process of the claims `stream` and `route`: the worker, the loop it is compared with, the router, the worker behind it, or the
 * producer; told what to be by its argument.
 */
import { Redis } from 'ioredis'
import kafkajs, { type Kafka, type Producer } from 'kafkajs'
import { createRedisStore } from '../src/store/redis.ts'
import { sourceOf, startLanes, startRouter } from './route-jobs.ts'
import { EventMaker, type EventMessage, scatter } from './stream-events.ts'
import { startWorker } from './stream-worker.ts'

export interface ProcessTask {
  readonly role: 'worker' | 'setter' | 'router' | 'lanes' | 'producer'
  readonly brokers: readonly string[]
  readonly redisUrl: string
  readonly topic: string
  readonly namespace: string
  readonly sessionTimeoutMs?: number
  readonly entityCount: number
  readonly seed: number
  /** The producer goes round the partitions, whatever the key. */
  readonly isScattered?: boolean
}

/** To the producer. */
export interface ProduceCommand {
  readonly perSecond: number
  readonly seconds: number
}

/** Times are `nowMs()`. */
export type ProcessReport =
  | { readonly ready: true }
  | { readonly assigned: number }
  /** Everything of the partition before `position` is readable. */
  | { readonly stored: readonly [partition: number, position: number, atMs: number] }
  /** These positions of a routed partition are readable. */
  | { readonly rows: ReadableRows }
  /** Of each batch: the partition, its first offset, how many events, and when they were sent. */
  | { readonly sent: readonly SentBatch[] }

export type SentBatch = readonly [partition: number, offset: number, events: number, atMs: number]

export type ReadableRows = readonly [partition: number, positions: readonly number[], atMs: number]

/** Comparable between processes of one machine, finer than a millisecond. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now()
}

/** The producer sends what has come up since the last time. */
const TICK_MS = 5
/** After a pause of the whole machine no request gets larger than the broker takes. */
const SEND_MESSAGES_MAX = 1_000

if (process.send !== undefined) await main(JSON.parse(process.argv[2]!))

async function main(task: ProcessTask): Promise<void> {
  // Nobody is left to report to.
  process.on('disconnect', () => process.exit())
  if (task.role === 'worker') await work(task)
  else if (task.role === 'setter') await setEach(task)
  else if (task.role === 'router') await route(task)
  else if (task.role === 'lanes') await workLanes(task)
  else await produce(task)
  tell({ ready: true })
}

function tell(report: ProcessReport): void {
  process.send!(report)
}

async function work(task: ProcessTask): Promise<void> {
  const store = createRedisStore({ urls: task.redisUrl })
  await startWorker(task, store, {
    onAssigned: () => tell({ assigned: nowMs() }),
    onStored: (partition, position) => tell({ stored: [partition, position, nowMs()] }),
  })
}

async function route(task: ProcessTask): Promise<void> {
  await startRouter(task, createRedisStore({ urls: task.redisUrl }), {
    onStored: (partition, position) => tell({ stored: [partition, position, nowMs()] }),
  })
}

/** The worker of the topic that the router writes for `topic`. */
async function workLanes(task: ProcessTask): Promise<void> {
  await startLanes(task, createRedisStore({ urls: task.redisUrl }), (records) => {
    const atMs = nowMs()
    for (const record of records) tell({ rows: [...sourceOf(record), atMs] })
  })
}

/** Consume and SET, nothing else: one pipelined SET per event. */
async function setEach({ brokers, redisUrl, topic, namespace }: ProcessTask): Promise<void> {
  const redis = new Redis(redisUrl)
  const consumer = connect(brokers).consumer({ groupId: namespace, maxWaitTimeInMs: 250 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  consumer.on('consumer.crash', () => process.exit(1))
  const joined = new Promise((resolve) => consumer.on('consumer.group_join', resolve))
  await consumer.run({
    autoCommit: false,
    partitionsConsumedConcurrently: 16,
    eachBatch: async ({ batch }) => {
      const pipeline = redis.pipeline()
      for (const { key, value } of batch.messages) pipeline.set(`${namespace}/${key}`, value!)
      for (const [error] of (await pipeline.exec())!) if (error) throw error
      tell({ stored: [batch.partition, Number(batch.lastOffset()) + 1, nowMs()] })
    },
  })
  await joined
}

async function produce({ brokers, topic, entityCount, seed, isScattered }: ProcessTask): Promise<void> {
  const producer = connect(brokers).producer()
  await producer.connect()
  const maker = new EventMaker(entityCount, seed)
  process.on('message', async ({ perSecond, seconds }: ProduceCommand) => {
    const sent: SentBatch[] = []
    const answers: Promise<void>[] = []
    const startMs = performance.now()
    for (let made = 0; made < perSecond * seconds; ) {
      const due = Math.min(perSecond * seconds, Math.floor(((performance.now() - startMs) * perSecond) / 1000))
      while (due > made) {
        const atMs = nowMs()
        const count = Math.min(due - made, SEND_MESSAGES_MAX)
        const keyed = Array.from({ length: count }, () => maker.make(atMs))
        const messages = isScattered ? scatter(keyed) : keyed
        answers.push(send(producer, topic, messages, nowMs(), sent))
        made += count
      }
      await new Promise((resolve) => setTimeout(resolve, TICK_MS))
    }
    await Promise.all(answers)
    tell({ sent })
  })
}

async function send(producer: Producer, topic: string, messages: EventMessage[], atMs: number, sent: SentBatch[]) {
  for (const { partition, baseOffset } of await producer.send({ topic, messages, acks: -1 })) {
    const events = messages.filter((message) => message.partition === partition).length
    sent.push([partition, Number(baseOffset), events, atMs])
  }
}

function connect(brokers: readonly string[]): Kafka {
  process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
  return new kafkajs.Kafka({ brokers: [...brokers], logLevel: kafkajs.logLevel.ERROR })
}
