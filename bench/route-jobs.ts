/** What the claim `route` runs: the router and the worker behind it as the commands make them, and a router that writes each event. */
import { loadCore } from '../src/engine/module.ts'
import { partitionHash } from '../src/model/key.ts'
import { createJsonDecoder } from '../src/source/json-messages.ts'
import { createKafkaConsumer } from '../src/source/kafka-consumer.ts'
import { kafkaTransactions } from '../src/source/kafka-transactions.ts'
import type { StreamHandler, StreamMessage } from '../src/source/stream.ts'
import type { OpenTransactions, RoutedRecord, Transactions } from '../src/source/transactions.ts'
import type { Store } from '../src/store/port.ts'
import { type OpenRoute, openViewRoute, RouteJob } from '../src/stream/route-job.ts'
import { streamPlan } from './stream-events.ts'
import { type Onlooker, startWorker, type WorkerSettings, watched } from './stream-worker.ts'

export const LANES = 16
/** As the router has them (stream/route-run.ts). */
export const LINGER_MS = 100
const TRANSACTION_ROWS_MAX = 50_000

export interface Running {
  stop(): Promise<void>
}

/** The route of `topic`, and its internal topic; whoever comes second finds them. */
export async function openBenchRoute({ brokers, topic, namespace }: WorkerSettings, store: Store): Promise<OpenRoute> {
  const route = await openViewRoute({ store, namespace }, await streamPlan(), topic, LANES)
  await kafkaTransactions({ brokers }).ensureTopic(route.topic, LANES)
  return route
}

/** `onStored`: everything of the source's partition before `position` is in the internal topic. */
export async function startRouter(settings: WorkerSettings, store: Store, onlooker: Onlooker): Promise<Running> {
  const { brokers, topic, namespace } = settings
  const route = await openBenchRoute(settings, store)
  const transactions = kafkaTransactions({ brokers })
  const job = new RouteJob({
    route,
    consumer: watched(createKafkaConsumer({ brokers, groupId: route.groupId, topics: [topic] }), onlooker),
    store,
    namespace,
    core: loadCore(),
    openTransactions: watchedCommits(transactions.open, onlooker),
    decoder: createJsonDecoder,
    lingerMs: LINGER_MS,
    report: ({ level, event, log, message }) => {
      if (level !== 'info') console.error(`router: ${log} ${event}: ${message}`)
    },
  })
  await job.start()
  return stopping(job, transactions)
}

/** A record for each event, as it came, by the partition of its entity: the same consumer, transactions and linger. */
export async function startNaiveRouter(settings: WorkerSettings, onlooker: Onlooker): Promise<Running> {
  const { brokers, topic, namespace } = settings
  const transactions = kafkaTransactions({ brokers })
  const internal = `${namespace}.naive`
  await transactions.ensureTopic(internal, LANES)
  const consumer = watched(createKafkaConsumer({ brokers, groupId: internal, topics: [topic] }), onlooker)
  await consumer.start(new NaiveRouter(internal, watchedCommits(transactions.open, onlooker)))
  return stopping(consumer, transactions)
}

/** `onStored`: these records are readable. Resolves when the group has joined. */
export async function startLanes(
  settings: WorkerSettings,
  store: Store,
  onStored: (records: readonly Buffer[]) => void,
  onBatch?: () => void,
): Promise<Running> {
  const { topic } = await openBenchRoute(settings, store)
  const waiting = new Map<number, StreamMessage[]>()
  return startWorker({ ...settings, topic, isRouted: true }, store, {
    onBatch(partition, messages) {
      onBatch?.()
      waiting.set(partition, [...(waiting.get(partition) ?? []), ...messages])
    },
    onStored(partition, position) {
      const all = waiting.get(partition) ?? []
      const count = all.filter(({ offset }) => Number(offset) < position).length
      onStored(all.splice(0, count).map(({ value }) => value!))
    },
  })
}

export function rowsOf(record: Buffer): number {
  return record.readUInt32LE(4)
}

/** The source's partition that a record is of, and where each of its rows stood there (source/routed-record.ts). */
export function sourceOf(record: Buffer): [partition: number, positions: number[]] {
  const { log, base } = JSON.parse(record.subarray(16, 16 + record.readUInt32LE(8)).toString())
  const rows = rowsOf(record)
  const at = record.length - ((rows * 4 + 7) & ~7)
  const positions = Array.from({ length: rows }, (_, row) => base + record.readUInt32LE(at + row * 4))
  return [Number(/\d+$/.exec(log)![0]), positions]
}

function watchedCommits(open: OpenTransactions, { onStored }: Onlooker): OpenTransactions {
  return async (name) => {
    const inner = await open(name)
    return {
      committed: inner.committed,
      async commit(records, position, metadata) {
        await inner.commit(records, position, metadata)
        onStored?.(name.sourcePartition, position)
      },
      close: () => inner.close(),
    }
  }
}

function stopping(job: Running, transactions: { close(): Promise<void> }): Running {
  return {
    async stop() {
      await job.stop()
      await transactions.close()
    },
  }
}

interface NaiveLog {
  readonly transactions: Transactions
  waiting: RoutedRecord[]
  position: number
  timer: NodeJS.Timeout | undefined
}

class NaiveRouter implements StreamHandler {
  readonly #logs = new Map<number, NaiveLog>()

  constructor(
    private readonly topic: string,
    private readonly open: OpenTransactions,
  ) {}

  async assigned(sourceTopic: string, sourcePartition: number): Promise<number> {
    const names = { groupId: this.topic, transactionalId: `${this.topic}.${sourcePartition}`, topic: this.topic }
    const transactions = await this.open({ ...names, sourceTopic, sourcePartition })
    const position = transactions.committed?.position ?? 0
    this.#logs.set(sourcePartition, { transactions, waiting: [], position, timer: undefined })
    return position
  }

  async messages(_topic: string, partition: number, batch: readonly StreamMessage[]): Promise<void> {
    const log = this.#logs.get(partition)!
    for (const { value } of batch) {
      const { key } = JSON.parse(value!.toString())
      log.waiting.push({ partition: partitionHash(Buffer.from(key)) % LANES, value: value! })
    }
    log.position = Number(batch.at(-1)!.offset) + 1
    if (log.waiting.length >= TRANSACTION_ROWS_MAX) await this.#commit(log)
    else log.timer ??= setTimeout(() => void this.#commit(log), LINGER_MS)
  }

  async revoked(): Promise<void> {}

  async #commit(log: NaiveLog): Promise<void> {
    clearTimeout(log.timer)
    log.timer = undefined
    const { waiting, position } = log
    log.waiting = []
    if (waiting.length > 0) await log.transactions.commit(waiting, position, '')
  }
}
