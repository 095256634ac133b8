/** Events to weigh a definition with: from files, or the newest of a topic, each partition a log of its own. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ColumnBatch, sliceBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn } from '../model/plan.ts'
import { createJsonDecoder } from '../source/json-messages.ts'
import type { KafkaOptions } from '../source/kafka.ts'
import { createKafkaConsumer } from '../source/kafka-consumer.ts'
import type { SourceOptions } from '../source/port.ts'
import type { StreamMessage } from '../source/stream.ts'
import { type EventFiles, openEventFiles } from './event-files.ts'

export interface SampleBatch {
  /** The log it is of. */
  readonly log: string
  readonly batch: ColumnBatch
}

export interface Sample {
  readonly batches: AsyncIterable<SampleBatch>
  /** Microseconds of CPU that reading and decoding took, so far. */
  readonly readMicros: () => number
  /** What `readMicros` covers. */
  readonly readWhat: string
}

/** The first `rowsMax` rows, or as many from row `from` on. */
export function sampleFiles(files: EventFiles, options: SourceOptions, rowsMax: number, from = 0): Sample {
  let micros = 0
  async function* batches(): AsyncGenerator<SampleBatch> {
    const iterator = openEventFiles(files, 'sample', options).read(from)[Symbol.asyncIterator]()
    try {
      for (let rows = 0; rows < rowsMax; ) {
        const before = cpuMicros()
        const next = await iterator.next()
        micros += cpuMicros() - before
        if (next.done) return
        const { batch } = next.value
        const length = Math.min(batch.length, rowsMax - rows)
        rows += length
        yield { log: 'sample.0', batch: sliceBatch(batch, 0, length) }
      }
    } finally {
      await iterator.return?.()
    }
  }
  return { batches: batches(), readMicros: () => micros, readWhat: `read and decode ${files.format}` }
}

export interface TopicSample {
  readonly kafka: KafkaOptions
  readonly topic: string
  readonly inputs: readonly InputColumn[]
  readonly rowsMax: number
  readonly onReject: SourceOptions['onReject']
}

const BATCH_MESSAGES = 8192
/** Nothing new for so long: what was read is the sample. */
const QUIET_MS = 5_000

/** The newest records, at most `rowsMax` over all partitions, read in a group of the moment. */
export async function sampleTopic({ kafka, topic, inputs, rowsMax, onReject }: TopicSample): Promise<Sample> {
  const found = await newestMessages(kafka, topic, rowsMax)
  if (found.size === 0) {
    throw new TilefoldError('SOURCE_NOT_FOUND', `cannot sample topic ${topic}: it holds no records`, { topic })
  }
  let micros = 0
  async function* batches(): AsyncGenerator<SampleBatch> {
    for (const [partition, messages] of found) {
      const decoder = createJsonDecoder({ inputs, onReject: (record) => onReject?.(record) })
      for (let start = 0; start < messages.length; start += BATCH_MESSAGES) {
        const before = cpuMicros()
        const batch = decoder.decode(messages.slice(start, start + BATCH_MESSAGES))
        micros += cpuMicros() - before
        if (batch.length > 0) yield { log: `${topic}.${partition}`, batch }
      }
    }
  }
  return { batches: batches(), readMicros: () => micros, readWhat: 'decode JSON (the Kafka client not counted)' }
}

async function newestMessages(
  kafka: KafkaOptions,
  topic: string,
  rowsMax: number,
): Promise<ReadonlyMap<number, readonly StreamMessage[]>> {
  const groupId = `tilefold-estimate-${randomBytes(4).toString('hex')}`
  const consumer = createKafkaConsumer({ ...kafka, groupId, topics: [topic] })
  const found = new Map<number, StreamMessage[]>()
  const ends = new Map<number, number>()
  const next = new Map<number, number>()
  let partitions = Number.POSITIVE_INFINITY
  let heardMs = performance.now()
  let failure: unknown
  consumer.ended.catch((error) => {
    failure = error
  })
  try {
    await consumer.start({
      assigned: async (_topic, partition, bounds) => {
        ;({ partitions } = bounds)
        const share = Math.ceil(rowsMax / partitions)
        const from = Math.max(bounds.first, bounds.next - share)
        ends.set(partition, bounds.next)
        next.set(partition, from)
        heardMs = performance.now()
        return from
      },
      messages: async (_topic, partition, messages) => {
        const own = messages.filter(({ offset }) => Number(offset) < ends.get(partition)!)
        found.set(partition, [...(found.get(partition) ?? []), ...own])
        next.set(partition, Number(messages.at(-1)!.offset) + 1)
        heardMs = performance.now()
      },
      revoked: async () => {},
    })
    heardMs = performance.now()
    const isRead = () => ends.size >= partitions && [...ends].every(([partition, end]) => next.get(partition)! >= end)
    while (!isRead() && failure === undefined && performance.now() - heardMs < QUIET_MS) await sleep(25)
  } finally {
    await consumer.stop()
  }
  if (failure !== undefined) throw failure
  return found
}

/** CPU of this process, user and system. */
export function cpuMicros(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}
