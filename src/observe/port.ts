/**
 * What the two walks tell while they run. They know these functions and no library; who wants no numbers passes
 * `NO_WORKER_METRICS` or `NO_SERVER_METRICS`.
 *
 * None of them ever throws, whatever it is told: a number is no reason to stop a lane. Labels are views, topics, partitions
 * and words from fixed sets; keys of entities are none.
 */
import type { Counters } from '../model/counters.ts'
import type { FeatureStatus } from '../model/plan.ts'

/** One view's share of one partition: the lane's owner tells of it. */
export interface LaneLabels {
  readonly view: string
  readonly topic: string
  readonly partition: number
}

export interface WorkerMetrics {
  /**
   * The first totals of a lane are where its new owner starts: they count for nothing. Later ones count for what they add
   * to the highest told, so that records folded anew after a restart of the lane count once.
   */
  laneCounted(lane: LaneLabels, totals: Counters): void
  /** Every record before it, in the lane's clock, is folded; the lag is worked out when it is asked for. */
  watermark(lane: LaneLabels, watermarkMs: number): void
  checkpointed(lane: LaneLabels, atMs: number): void
  /** What was known of the lane only its owner can know: it is not told any longer. */
  laneLeft(lane: LaneLabels): void
  lanesOwned(view: string, lanes: number): void
  fenced(view: string): void
  regressed(view: string): void

  /** Records between the last one read and the end of the partition. */
  consumerLag(topic: string, partition: number, records: number): void
  partitionLeft(topic: string, partition: number): void
  /** Offsets that no record has: transactions' marks, and what compaction took. */
  offsetHoles(topic: string, offsets: number): void
  /** `reason`: of a fixed set, as the decoder names it. */
  deadLetters(topic: string, reason: string, records: number): void

  /** Events that became readable together, so long after they happened. */
  freshness(view: string, seconds: number, events: number): void
  flushed(view: string, seconds: number, rows: number, bytes: number): void
  /** Folded tiles that wait for a flush. */
  deltaBytes(view: string, bytes: number): void
  memoryBytes(lane: LaneLabels, bytes: number): void
}

export interface ServerMetrics {
  /** `route`: as the server declares it, not as it was asked. */
  requestDone(route: string, status: number, seconds: number): void
  requestsInFlight(requests: number): void
  requestShed(): void
  /** One answer to a feature request. */
  answered(entities: number, isPartial: boolean): void
  values(status: FeatureStatus, values: number): void
  /** One trip to the store. */
  storeRead(seconds: number, rows: number, bytes: number): void
  /** Rows that were looked for among those kept, and how many were there. */
  rowsCached(lookups: number, hits: number): void
  /** Rows of the log of answers that are in whole files, and that had to be left out. */
  servedLogged(rows: number, dropped: number): void
}

export interface ParityMetrics {
  /** Rows that were compared, and those of them that are not what they should be. */
  compared(
    view: string,
    counts: {
      readonly compared: number
      readonly mismatched: number
      readonly missing: number
      readonly extra: number
    },
  ): void
  /** A comparison was carried out to its end; how long ago that is, is worked out when it is asked for. */
  turnDone(view: string, atMs: number): void
  turnFailed(view: string): void
}

/** The numbers as text for Prometheus. */
export interface Exposition {
  readonly contentType: string
  text(): Promise<string>
}

function nothing(): void {}

export const NO_WORKER_METRICS: WorkerMetrics = {
  laneCounted: nothing,
  watermark: nothing,
  checkpointed: nothing,
  laneLeft: nothing,
  lanesOwned: nothing,
  fenced: nothing,
  regressed: nothing,
  consumerLag: nothing,
  partitionLeft: nothing,
  offsetHoles: nothing,
  deadLetters: nothing,
  freshness: nothing,
  flushed: nothing,
  deltaBytes: nothing,
  memoryBytes: nothing,
}

export const NO_SERVER_METRICS: ServerMetrics = {
  requestDone: nothing,
  requestsInFlight: nothing,
  requestShed: nothing,
  answered: nothing,
  values: nothing,
  storeRead: nothing,
  rowsCached: nothing,
  servedLogged: nothing,
}
