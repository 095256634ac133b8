/** How long it takes after each disturbance until everything that was in the log by then is stored and committed. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { KafkaCluster } from '../support/kafka.ts'
import type { Stream } from './pipeline.ts'

const POLL_MS = 250
/** A disturbance whose events are not committed by then is told as that. */
const GIVE_UP_MS = 30_000

export class Recovery {
  readonly #kafka: KafkaCluster
  readonly #stream: Stream
  readonly #waits: Promise<number>[] = []
  #committed: Promise<number[]> | undefined

  constructor(kafka: KafkaCluster, stream: Stream) {
    this.#kafka = kafka
    this.#stream = stream
  }

  /** To be called right after the disturbance. */
  disturbed(): Promise<number> {
    const wait = this.#wait(Date.now())
    this.#waits.push(wait)
    return wait
  }

  async report(): Promise<string> {
    const times = (await Promise.all(this.#waits)).sort((a, b) => a - b)
    const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))]
    return `${times.length} disturbances, recovered after p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, max ${times.at(-1)} ms`
  }

  async #wait(startMs: number): Promise<number> {
    let offsets: { partition: number; high: string }[] | undefined
    for (;;) {
      offsets ??= await this.#kafka.admin.fetchTopicOffsets(this.#stream.topic).catch(() => undefined)
      const committed = await this.#poll()
      const tookMs = Date.now() - startMs
      if (offsets?.every(({ partition, high }) => (committed[partition] ?? 0) >= Number(high))) return tookMs
      if (tookMs > GIVE_UP_MS) return tookMs
    }
  }

  /** One question at a time for all that wait. */
  #poll(): Promise<number[]> {
    this.#committed ??= this.#ask().finally(() => {
      this.#committed = undefined
    })
    return this.#committed
  }

  async #ask(): Promise<number[]> {
    await sleep(POLL_MS)
    const { topic, namespace } = this.#stream
    // A broker that was disturbed itself refuses for a while.
    const [found] = await this.#kafka.admin.fetchOffsets({ groupId: namespace, topics: [topic] }).catch(() => [])
    const committed: number[] = []
    for (const { partition, offset } of found?.partitions ?? []) committed[partition] = Number(offset)
    return committed
  }
}
