/**
 * A consumer group over logs in memory, for faults that no broker can be made to show at will: members that come, go, die
 * and stay on as zombies at chosen moments, and deliveries cut anywhere.
 */
import type { StreamBounds, StreamConsumer, StreamHandler, StreamMessage } from '../../src/source/stream.ts'
import type { Random } from '../support/random.ts'

export class ScriptedGroup {
  readonly topic: string
  readonly logs: readonly StreamMessage[][]
  readonly random: Random
  /** Member of each partition. */
  readonly owners: (ScriptedConsumer | undefined)[]
  readonly committed: ({ position: number; metadata: string } | undefined)[]
  compacted = false

  constructor(topic: string, logs: readonly StreamMessage[][], random: Random) {
    this.topic = topic
    this.logs = logs
    this.random = random
    this.owners = logs.map(() => undefined)
    this.committed = logs.map(() => undefined)
  }

  boundsOf(partition: number): StreamBounds {
    const log = this.logs[partition]!
    return {
      first: log.length === 0 ? 0 : Number(log[0]!.offset),
      next: log.length === 0 ? 0 : Number(log.at(-1)!.offset) + 1,
      compacted: this.compacted,
      partitions: this.logs.length,
      ...(this.committed[partition] ? { committed: this.committed[partition] } : {}),
    }
  }

  /** Gives the partition to another member; the one before is told, or not (it sleeps). */
  async assign(partition: number, to: ScriptedConsumer | undefined, tellsOld = true): Promise<void> {
    const old = this.owners[partition]
    this.owners[partition] = to
    if (old && old !== to && tellsOld) await old.lose(partition)
    if (to) await to.gain(partition)
  }
}

export class ScriptedConsumer implements StreamConsumer {
  readonly ended = new Promise<never>(() => {})
  readonly #group: ScriptedGroup
  readonly #next = new Map<number, number>()
  #handler: StreamHandler | undefined
  /** Partitions that `restart` was asked for. */
  readonly waiting = new Set<number>()

  constructor(group: ScriptedGroup) {
    this.#group = group
  }

  async start(handler: StreamHandler): Promise<void> {
    this.#handler = handler
  }

  async gain(partition: number): Promise<void> {
    this.#next.delete(partition)
    this.waiting.delete(partition)
    try {
      const from = await this.#handler!.assigned(this.#group.topic, partition, this.#group.boundsOf(partition))
      this.#next.set(partition, from)
    } catch {
      // Parked: the handler has said what comes next.
    }
  }

  async lose(partition: number): Promise<void> {
    this.#next.delete(partition)
    this.waiting.delete(partition)
    await this.#handler!.revoked([{ topic: this.#group.topic, partition }])
  }

  /** Delivers up to `count` messages of a partition, as a zombie too; false when there were none. */
  async deliver(partition: number, count: number): Promise<boolean> {
    const from = this.#next.get(partition)
    if (from === undefined) return false
    const log = this.#group.logs[partition]!
    const batch = log.filter((message) => Number(message.offset) >= from).slice(0, count)
    if (batch.length === 0) return false
    try {
      await this.#handler!.messages(this.#group.topic, partition, batch, this.#group.boundsOf(partition).next)
      this.#next.set(partition, Number(batch.at(-1)!.offset) + 1)
    } catch {
      this.#next.delete(partition)
    }
    return true
  }

  /** What the timers of a real consumer would do: asks again for the partitions that are still ours. */
  async retry(): Promise<void> {
    for (const partition of [...this.waiting]) {
      this.waiting.delete(partition)
      if (this.#group.owners[partition] === this) await this.gain(partition)
    }
  }

  async commit(_topic: string, partition: number, position: number, metadata: string): Promise<boolean> {
    this.#group.committed[partition] = { position, metadata }
    return true
  }

  restart(_topic: string, partition: number, _delayMs: number): void {
    this.#next.delete(partition)
    this.waiting.add(partition)
  }

  async stop(): Promise<void> {
    this.#next.clear()
  }
}
