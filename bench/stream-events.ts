/** The events of the claim `stream`: JSON messages of 190 bytes, of which a view reads three fields, by Zipf-distributed keys. */
import type { Producer } from 'kafkajs'
import { partitionHash } from '../src/model/key.ts'
import type { Plan } from '../src/model/plan.ts'
import { valuePlan } from './engine-plan.ts'
import { Random, zipfSampler } from './random.ts'
import { createKeys, dyadicValue, keyStrings } from './workload.ts'

export const PARTITIONS = 4
export const MESSAGE_BYTES = 190
/** Of live events, and the times of a backlog. */
export const PER_SECOND = 5_000
export const DAY_MS = 24 * 3_600_000
/** The view's kind of events; topics are named by the run. */
export const SOURCE = 'events'
const SKEW = 1
const SEND_MESSAGES = 4_000

export interface EventMessage {
  readonly key: string
  readonly value: string
  readonly timestamp: string
  readonly partition: number
}

export function streamPlan(): Promise<Plan> {
  return valuePlan({ windows: ['1h', '24h', '7d', '27d'], tiles: ['5m', '1h', '1d'] })
}

export class EventMaker {
  readonly keys: readonly string[]
  readonly #partitions: readonly number[]
  readonly #nextRank: () => number
  readonly #entityOfRank: Uint32Array

  constructor(entityCount: number, seed: number) {
    this.keys = keyStrings(createKeys(entityCount))
    this.#partitions = this.keys.map((key) => partitionHash(Buffer.from(key)) % PARTITIONS)
    const random = new Random(seed)
    this.#entityOfRank = random.permutation(entityCount)
    this.#nextRank = zipfSampler(entityCount, SKEW, random)
  }

  /** An event of the entity, or of one that the distribution draws. */
  make(timeMs: number, entity = this.#entityOfRank[this.#nextRank()]!): EventMessage {
    const time = Math.floor(timeMs)
    const key = this.keys[entity]!
    const fields = { key, time, value: dyadicValue(entity, time), country: 'PT', device: 'phone', agent: '' }
    const text = JSON.stringify(fields)
    const value = `${text.slice(0, -2)}${'-'.repeat(MESSAGE_BYTES - text.length)}"}`
    return { key, value, timestamp: `${time}`, partition: this.#partitions[entity]! }
  }

  /** `count` events over the time up to `endMs`, in their order; `everyEntity`: each entity has one of the first. */
  makeAll(count: number, spanMs: number, endMs: number, everyEntity = false): EventMessage[] {
    const first = everyEntity ? this.keys.length : 0
    return Array.from({ length: count }, (_, i) =>
      this.make(endMs - spanMs + (spanMs * i) / count, i < first ? this.#entityOfRank[i] : undefined),
    )
  }
}

/** The same events in any partition: those of a key are everywhere. */
export function scatter(messages: readonly EventMessage[]): EventMessage[] {
  return messages.map((message, i) => ({ ...message, partition: i % PARTITIONS }))
}

export async function produceAll(producer: Producer, topic: string, messages: readonly EventMessage[]): Promise<void> {
  for (let start = 0; start < messages.length; start += SEND_MESSAGES) {
    await producer.send({ topic, messages: messages.slice(start, start + SEND_MESSAGES), acks: -1 })
  }
}
