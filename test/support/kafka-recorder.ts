/** A stream handler for tests: reads every partition from where it stopped, and writes down what came. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { StreamBounds, StreamHandler, StreamMessage } from '../../src/source/stream.ts'

export interface Taken {
  readonly partition: number
  readonly offset: number
  readonly key: string | undefined
  readonly value: string | null
}

export class Recorder implements StreamHandler {
  readonly taken: Taken[] = []
  readonly bounds: { readonly partition: number; readonly bounds: StreamBounds }[] = []
  readonly revokedOnes: number[] = []
  /** Behind the last message of each partition; shared between members, it is their store. */
  readonly positions: Map<string, number>
  /** Where to start, instead. */
  start: ((partition: number, bounds: StreamBounds) => number | Promise<number>) | undefined
  /** Called before a batch is written down. */
  before: ((partition: number, batch: readonly StreamMessage[]) => void | Promise<void>) | undefined

  constructor(positions = new Map<string, number>()) {
    this.positions = positions
  }

  async assigned(topic: string, partition: number, bounds: StreamBounds): Promise<number> {
    this.bounds.push({ partition, bounds })
    return (await this.start?.(partition, bounds)) ?? this.positions.get(`${topic}/${partition}`) ?? bounds.first
  }

  async messages(topic: string, partition: number, batch: readonly StreamMessage[]): Promise<void> {
    await this.before?.(partition, batch)
    for (const { offset, key, value } of batch) {
      this.taken.push({ partition, offset: Number(offset), key: key?.toString(), value: value?.toString() ?? null })
    }
    this.positions.set(`${topic}/${partition}`, Number(batch.at(-1)!.offset) + 1)
  }

  async revoked(partitions: readonly { readonly partition: number }[]): Promise<void> {
    this.revokedOnes.push(...partitions.map(({ partition }) => partition))
  }

  of(partition: number): Taken[] {
    return this.taken.filter((each) => each.partition === partition)
  }
}

/** Waits until `holds`; fails after a minute with what `describe` says. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  describe: () => unknown = () => '',
): Promise<void> {
  for (let attempt = 0; attempt < 1200; attempt++) {
    if (await holds()) return
    await sleep(50)
  }
  throw new Error(`it did not come to be within a minute: ${JSON.stringify(describe())}`)
}
