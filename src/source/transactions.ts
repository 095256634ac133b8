/**
 * What moves records on exactly once needs of a log: to write records of an internal topic and the position behind their source in
 * one transaction. A transactional id has one holder; who takes it ends the predecessor's transaction and fences it.
 */

/** A record of the internal topic. */
export interface RoutedRecord {
  readonly partition: number
  readonly value: Buffer
}

export interface CommittedOffset {
  readonly position: number
  readonly metadata: string
}

/** One holder of one transactional id: what it writes is all there, with the source's offset, or not at all. */
export interface Transactions {
  /** What the group had committed when the id was taken; undefined: nothing yet. */
  readonly committed: CommittedOffset | undefined
  /**
   * One transaction: every record and the source's offset, or none of it. Records of one partition stay in order. Throws FENCED
   * where another holder has taken the id; LOG_UNAVAILABLE where it failed or its fate is unknown: close, and open again. After
   * an error nothing more can be committed.
   */
  commit(records: readonly RoutedRecord[], position: number, metadata: string): Promise<void>
  /** What is under way is finished first. */
  close(): Promise<void>
}

export interface TransactionsName {
  /** Whose offset it is. */
  readonly groupId: string
  readonly transactionalId: string
  readonly sourceTopic: string
  readonly sourcePartition: number
  /** The internal topic. */
  readonly topic: string
}

/** Takes the id: waits for the predecessor's commit that is under way, or undoes what it has begun. Throws LOG_UNAVAILABLE. */
export type OpenTransactions = (name: TransactionsName) => Promise<Transactions>
