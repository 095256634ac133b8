/**
 * The shared store: Redis, alone, behind Sentinels or as a Cluster.
 *
 *   redis-connection.ts   the way there and back again; the client library
 *   redis-call.ts         every call's deadline, its attempts, its errors (redis-error.ts)
 *   redis-lane.ts         what a lane's owner does, by the scripts of redis-script.ts
 *   redis-checkpoint.ts   checkpoints, by the catalogue of redis-catalogue.ts
 *   redis-read.ts         rows for requests
 *   redis-rows.ts         the connection that they come over, one by one
 *   redis-scan.ts         everything of a lane
 *   redis-sweep.ts        every lane and view, and lanes that go
 *   redis-server.ts       is the server fit for rows?
 *   redis-settle.ts       are the rows on the replicas?
 *
 * Names are in redis-key.ts. A write is as safe as the server is: replication is asynchronous, and a failover may take back writes
 * that were answered. The lane protocol sees that (REGRESSED) and repeats them from the log.
 */
import type {
  Checkpoint,
  DropStep,
  LaneName,
  LaneRecord,
  LaneSize,
  LaneToken,
  LaneWrite,
  LedgerSegment,
  ReadOptions,
  RowRead,
  RowSink,
  StoredRow,
  SweptStore,
  TakenLane,
  WriteOutcome,
} from './port.ts'
import { RedisCalls, runScript } from './redis-call.ts'
import { RedisCheckpoints } from './redis-checkpoint.ts'
import { RedisConnection } from './redis-connection.ts'
import { RedisNames, redisLayoutKey } from './redis-key.ts'
import { RedisLanes } from './redis-lane.ts'
import type { RedisStoreOptions } from './redis-options.ts'
import { RedisReads } from './redis-read.ts'
import { scriptRequest } from './redis-request.ts'
import { deleteLane, sampleRows, scanRows } from './redis-scan.ts'
import { WRITE_LAYOUT } from './redis-script.ts'
import { checkServer, type RedisServerReport } from './redis-server.ts'
import { settle } from './redis-settle.ts'
import { dropLanes, listLanes, listViews } from './redis-sweep.ts'
import { seal, unseal } from './sealed.ts'

export type { RedisStoreOptions } from './redis-options.ts'

/** Connects in the background; the first call waits for it. Throws CONFIG_INVALID. */
export function createRedisStore(options: RedisStoreOptions): RedisStore {
  return new RedisStore(options)
}

export class RedisStore implements SweptStore {
  /**
   * Some 0.6 ms of the server's time with rows of 2 KB (12 us each), 0.8 ms with 500 bytes (5 us), 2 ms with 100 bytes (3.5 us):
   * other clients wait so long.
   */
  readonly writeBytesMax = 96 * 1024
  readonly #connection: RedisConnection
  readonly #calls: RedisCalls
  readonly #names = new RedisNames()
  readonly #checkpoints: RedisCheckpoints
  readonly #lanes: RedisLanes
  readonly #reads: RedisReads
  readonly #allowEviction: boolean

  constructor(options: RedisStoreOptions) {
    this.#connection = new RedisConnection(options)
    this.#calls = new RedisCalls(this.#connection, options.deadlineMs)
    this.#checkpoints = new RedisCheckpoints(this.#calls, this.#names)
    this.#lanes = new RedisLanes(this.#calls, this.#names, this.#checkpoints, options.expiryMs)
    this.#reads = new RedisReads(this.#calls, this.#names)
    this.#allowEviction = options.allowEviction ?? false
  }

  takeLane(lane: LaneName, nonce: string): Promise<LaneRecord> {
    return this.#lanes.take(lane, nonce)
  }

  readLane(lane: LaneName): Promise<LaneRecord | undefined> {
    return this.#lanes.read(lane)
  }

  write(lane: LaneName, token: LaneToken, sequence: number, change: LaneWrite): Promise<WriteOutcome> {
    return this.#lanes.write(lane, token, sequence, change)
  }

  readCheckpoint(lane: LaneName, position: number): Promise<Checkpoint | undefined> {
    return this.#checkpoints.read(lane, position)
  }

  readRows(reads: readonly RowRead[], sink: RowSink, options?: ReadOptions): Promise<void> {
    return this.#reads.read(reads, sink, options)
  }

  readOwnRows(
    lane: LaneName,
    token: LaneToken,
    sequence: number,
    keys: readonly Uint8Array[],
    sink: (index: number, bytes: Uint8Array | undefined) => void,
  ): Promise<WriteOutcome> {
    return this.#lanes.readOwnRows(lane, token, sequence, keys, sink)
  }

  readLedger(lane: LaneName): Promise<readonly LedgerSegment[]> {
    return this.#lanes.readLedger(lane)
  }

  /** Looks at every key of the server before the first row comes. */
  scanRows(lane: LaneName): AsyncIterable<StoredRow> {
    return scanRows(this.#calls, lane, this.#names.of(lane))
  }

  sampleRows(lanes: readonly LaneName[], count: number): Promise<readonly StoredRow[]> {
    return sampleRows(this.#calls, this.#names, this.#reads, lanes, count)
  }

  async readLayout(namespace: string, view: string): Promise<string | undefined> {
    const reply = await this.#calls.send(`read layout of ${view}`, 'GET', [redisLayoutKey(namespace, view)])
    return reply === null ? undefined : unseal<{ layout: string }>(reply as Buffer, `the layout of ${view}`).layout
  }

  async writeLayout(namespace: string, view: string, expected: string | undefined, layout: string): Promise<boolean> {
    const key = redisLayoutKey(namespace, view)
    const was = expected === undefined ? '' : seal({ layout: expected })
    const next = seal({ layout })
    const reply = await this.#calls.attempt(`write layout of ${view}`, (attempt) =>
      runScript(this.#connection, scriptRequest(WRITE_LAYOUT, [key], [was, next, attempt === 0 ? '0' : '1'])),
    )
    return reply === 1
  }

  /**
   * Can this server be trusted with rows, and may we use it? One report, of the first master. Throws STORE_UNSAFE where one may
   * evict rows or does not tell (unless allowed), STORE_UNAVAILABLE where a right is missing.
   */
  checkServer(): Promise<RedisServerReport> {
    return checkServer(this.#calls, this.#allowEviction)
  }

  /** Drops everything of a lane that nobody owns or reads any more; returns the number of keys. */
  async deleteLane(lane: LaneName): Promise<number> {
    const deleted = await deleteLane(this.#calls, lane, this.#names.of(lane))
    this.#checkpoints.forget(lane)
    return deleted
  }

  listViews(namespace: string): Promise<string[]> {
    return listViews(this.#calls, namespace)
  }

  listLanes(namespace: string): Promise<LaneSize[]> {
    return listLanes(this.#calls, this.#names, namespace)
  }

  async *dropLanes(lanes: readonly TakenLane[]): AsyncIterable<DropStep> {
    for (const { lane } of lanes) this.#checkpoints.forget(lane)
    yield* dropLanes(this.#calls, this.#names, lanes)
  }

  settle(): Promise<void> {
    return settle(this.#calls)
  }

  close(): Promise<void> {
    return this.#connection.close()
  }
}
