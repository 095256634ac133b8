/** One worker as `tilefold run` makes it, with somebody who looks on: what came in, and what is stored. */
import { createJsonDecoder } from '../src/source/json-messages.ts'
import { createKafkaConsumer } from '../src/source/kafka-consumer.ts'
import type { StreamConsumer, StreamMessage } from '../src/source/stream.ts'
import type { Store } from '../src/store/port.ts'
import { StreamJob } from '../src/stream/job.ts'
import { SOURCE, streamPlan } from './stream-events.ts'

export interface WorkerSettings {
  readonly brokers: readonly string[]
  readonly topic: string
  /** Of the rows, and the group's name. */
  readonly namespace: string
  readonly sessionTimeoutMs?: number
  /** The view's router writes the topic. */
  readonly isRouted?: boolean
}

export interface Onlooker {
  readonly onAssigned?: () => void
  /** Before a batch is folded, and behind. */
  readonly onBatch?: (partition: number, messages: readonly StreamMessage[]) => void
  readonly onFolded?: (messages: number) => void
  /** Everything of the partition before `position` is readable. */
  readonly onStored?: (partition: number, position: number) => void
}

export async function startWorker(settings: WorkerSettings, store: Store, onlooker: Onlooker): Promise<StreamJob> {
  const { brokers, topic, namespace, sessionTimeoutMs, isRouted } = settings
  const plan = await streamPlan()
  const consumer = createKafkaConsumer({ brokers, groupId: namespace, topics: [topic], sessionTimeoutMs })
  const job = await StreamJob.create({
    plans: [plan],
    ...(isRouted
      ? { routes: new Map([[plan.view, topic]]) }
      : { topics: new Map([[SOURCE, topic]]), keyed: new Set([topic]) }),
    consumer: watched(consumer, onlooker),
    store,
    namespace,
    decoder: createJsonDecoder,
    onStored: (_topic, partition, position) => onlooker.onStored?.(partition, position),
    report: ({ level, event, log, message }) => {
      if (level !== 'info') console.error(`worker: ${log} ${event}: ${message}`)
    },
  })
  await job.start()
  return job
}

export function watched(inner: StreamConsumer, { onAssigned, onBatch, onFolded }: Onlooker): StreamConsumer {
  return {
    ended: inner.ended,
    start: (handler) =>
      inner.start({
        async assigned(topic, partition, bounds) {
          const position = await handler.assigned(topic, partition, bounds)
          onAssigned?.()
          return position
        },
        async messages(topic, partition, batch, next) {
          onBatch?.(partition, batch)
          await handler.messages(topic, partition, batch, next)
          onFolded?.(batch.length)
        },
        revoked: (partitions) => handler.revoked(partitions),
      }),
    commit: (topic, partition, position, metadata) => inner.commit(topic, partition, position, metadata),
    restart: (topic, partition, delayMs) => inner.restart(topic, partition, delayMs),
    stop: () => inner.stop(),
  }
}

/** How far each partition is readable; `total` of a topic that starts at offset 0. */
export class StoredPositions {
  readonly #positions = new Map<number, number>()

  set(partition: number, position: number): void {
    this.#positions.set(partition, position)
  }

  get total(): number {
    return [...this.#positions.values()].reduce((sum, position) => sum + position, 0)
  }
}
