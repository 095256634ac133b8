/**
 * What a partitioned log is to the stream job: partitions come and go, their messages arrive in order, and nothing is
 * fetched that nobody takes. The client library's own message objects pass through; no object is made per event.
 */

/** One message as the client makes it; numbers are decimal text, as on the wire of the client. */
export interface StreamMessage {
  readonly key: Buffer | null
  /** null: a tombstone. */
  readonly value: Buffer | null
  /** Record time, ms since the epoch. */
  readonly timestamp: string
  readonly offset: string
  readonly headers?: Readonly<Record<string, unknown>>
}

/** What the log still holds: positions in [first, next). */
export interface StreamBounds {
  readonly first: number
  readonly next: number
  /** Holes below `next` are ordinary: the topic is compacted. */
  readonly compacted: boolean
  /** How many partitions the topic has now. */
  readonly partitions: number
  /** What the group last committed here, if anything: a hint for people, and a witness that there was a store once. */
  readonly committed?: { readonly position: number; readonly metadata: string }
}

export interface StreamHandler {
  /**
   * A partition is ours: answers the position to read from. A rejection parks the partition: it is neither read nor
   * committed, and the others go on.
   */
  assigned(topic: string, partition: number, bounds: StreamBounds): Promise<number>
  /**
   * Messages in log order, all behind what was given before. Resolves when they are taken in; only then come more
   * (backpressure). A rejection parks the partition. `next`: the log's end when they were fetched.
   */
  messages(topic: string, partition: number, batch: readonly StreamMessage[], next: number): Promise<void>
  /** These are no longer ours, or will not be in a moment. Best effort: another process may own them already. */
  revoked(partitions: readonly { readonly topic: string; readonly partition: number }[]): Promise<void>
}

export interface StreamConsumer {
  /** Joins and delivers until `stop`. Resolves when joined. Throws LOG_UNAVAILABLE. */
  start(handler: StreamHandler): Promise<void>
  /** A hint for other tools: everything before `position` is done. False: it failed, which is logged, and the partition is still ours. */
  commit(topic: string, partition: number, position: number, metadata: string): Promise<boolean>
  /** Gives a partition up for `delayMs`, then asks `assigned` again, if it is still ours. */
  restart(topic: string, partition: number, delayMs: number): void
  /** Rejects when the consumer has ended by itself. */
  readonly ended: Promise<never>
  /** Leaves the group; what is under way is finished first. */
  stop(): Promise<void>
}
