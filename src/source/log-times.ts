/** Positions of a topic in time, as its brokers or its mirror know them: the same answers from either, as far as both hold the topic. */

export interface LogEnds {
  readonly partition: number
  /** Positions in [first, next) are there. */
  readonly first: number
  readonly next: number
}

export interface LogTimes {
  /** For messages: where the answers come from. */
  readonly name: string
  /** By partition. Throws SOURCE_NOT_FOUND where there is no such topic, LOG_UNAVAILABLE, MIRROR_INVALID. */
  ends(topic: string): Promise<readonly LogEnds[]>
  /** The first position of each partition whose record time isn't before `timeMs`; where none is, the one behind the last. */
  firstAt(topic: string, timeMs: number): Promise<ReadonlyMap<number, number>>
  /**
   * The newest record time of all records at or before the given position of their partition; undefined where there is none. Each
   * position is below the partition's `next`.
   */
  newestUpTo(topic: string, positions: ReadonlyMap<number, number>): Promise<number | undefined>
  close(): Promise<void>
}
