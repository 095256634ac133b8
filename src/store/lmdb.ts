/**
 * The default store: one LMDB environment per directory. One process writes (with any number of threads), any number read
 * beside it; each `write` is one transaction, on disk when it resolves.
 *
 *   <path>/data.mdb, lock.mdb     the environment; keys in lmdb-key.ts, records in sealed.ts
 *   <path>/gate/                  an environment that never holds anything: its write lock is a lock between processes
 *
 * Why the gate. lmdb 3.5.6 stores the id of the newest transaction into the shared lock file whenever a process opens the
 * environment, from a header that it read a moment before. If another process commits in that moment the id goes back by
 * one, and the next commit overwrites the last: lost writes, then a broken free list (seconds of opening and closing a
 * reader beside a writer show it). So opening and committing exclude each other. LMDB's own write lock does that, taken
 * in an environment in which nothing is ever committed: it costs about 1 us a write, and the kernel frees it when its holder is
 * killed. For the same reason a read-only store is a writable environment in which this class refuses to write: one
 * process cannot hold an environment both ways.
 *
 * Transactions are synchronous. Measured with 500 rows of 2 KB a transaction on a disk that syncs in 2-6 ms: 4-12 ms for
 * `transactionSync`, 11-12 for `transaction` and `batch`, which can neither be aborted nor report a full disk plainly.
 * Reads copy nothing of their own: a row is handed out in lmdb's buffer, which the next read overwrites.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { open } from 'lmdb'
import { TilefoldError } from '../model/errors.ts'
import { guardWrite, type WriteGuard } from './guard.ts'
import { LmdbCheckpoints } from './lmdb-checkpoint.ts'
import { type Environment, plain } from './lmdb-environment.ts'
import { coded } from './lmdb-error.ts'
import { checkDataFile, checkRoom } from './lmdb-file.ts'
import {
  endOf,
  type LaneKeys,
  laneKeys,
  layoutKey,
  ledgerKey,
  RowKey,
  segmentKey,
  WRITER_KEY,
  writeKey,
} from './lmdb-key.ts'
import { LmdbRows } from './lmdb-rows.ts'
import { LmdbSweep } from './lmdb-sweep.ts'
import type {
  Checkpoint,
  DropStep,
  LaneName,
  LaneRecord,
  LaneSize,
  LaneToken,
  LaneWrite,
  LedgerSegment,
  RowRead,
  StoredRow,
  SweptStore,
  TakenLane,
  WriteOutcome,
} from './port.ts'
import { describeLane, judgeRead, judgeWrite, segmentHash, takenRecord, writtenRecord } from './rules.ts'
import { firstRows } from './sample.ts'
import { seal, unseal } from './sealed.ts'
import { joinWriter, leaveWriter, newHolder, type WriterRecord } from './writer.ts'

export interface LmdbStoreOptions {
  /** A directory on a local disk; made if absent, unless `readOnly`. */
  readonly path: string
  /** Read beside the process that writes. */
  readonly readOnly?: boolean
  /** For a store in a thread that another one may end; see guard.ts. */
  readonly guard?: WriteGuard
  /** Address space to begin with, 1 GiB unless told; it grows by itself. No memory is used by it. */
  readonly mapSizeBytes?: number
}

/** lmdb's ABORTABLE | SYNCHRONOUS_COMMIT: an exception takes everything back, and a commit is on disk when it returns. */
const TRANSACTION = 3
/** Rows scanned between two looks at the event loop; a cursor kept longer would pin old pages. */
const SCAN_ROWS = 256

const DATA_FILE = 'data.mdb'

/** Is there a store in the directory? It may be there for other things. */
export function holdsLmdbStore(path: string): boolean {
  return existsSync(join(resolve(path), DATA_FILE))
}

/**
 * Opens the store of a directory. Throws STORE_LOCKED where another process writes to it, STORE_FORMAT for files that are no
 * store or are damaged, STORE_UNAVAILABLE where the directory cannot be used.
 */
export function createLmdbStore(options: LmdbStoreOptions): LmdbStore {
  return new LmdbStore(options)
}

export class LmdbStore implements SweptStore {
  /** Some 500 rows of 2 KB: about 4 ms of work and one sync. Four times as much saves 15 % and stalls the thread for 15 ms. */
  readonly writeBytesMax = 1 << 20
  readonly #path: string
  readonly #guard: WriteGuard | undefined
  readonly #holder: string | undefined
  readonly #gate: Environment
  readonly #db: Environment
  readonly #rows: LmdbRows
  readonly #checkpoints: LmdbCheckpoints
  readonly #epoch: number
  /** The data file that was opened; another one in its place means that the store was removed under us. */
  readonly #file: number
  readonly #keysByLane = new WeakMap<LaneName, LaneKeys>()
  readonly #keysByName = new Map<string, LaneKeys>()
  readonly #rowKey = new RowKey()
  readonly #sweep = new LmdbSweep({
    db: () => this.#db,
    read: (verb, work) => this.#read(verb, work),
    transact: (verb, work) => this.#transact(verb, work),
    record: (lane) => this.#recordOf(this.#keysOf(lane), lane),
  })
  #closed = false

  constructor(options: LmdbStoreOptions) {
    this.#path = resolve(options.path)
    this.#guard = options.guard
    this.#holder = options.readOnly === true ? undefined : newHolder()
    const gatePath = join(this.#path, 'gate')
    const dataPath = join(this.#path, DATA_FILE)
    if (options.readOnly === true && !holdsLmdbStore(this.#path)) {
      throw new TilefoldError('STORE_UNAVAILABLE', `cannot open store ${this.#path}: there is none in this directory`)
    }
    const opened: Environment[] = []
    try {
      mkdirSync(gatePath, { recursive: true })
      checkRoom(gatePath)
      checkDataFile(join(gatePath, 'data.mdb'))
      const gate = guardWrite(this.#guard, () => openEnvironment(gatePath, 1 << 20))
      opened.push(gate)
      this.#gate = gate
      this.#db = this.#enterGate(() => {
        checkRoom(this.#path)
        checkDataFile(dataPath)
        return openEnvironment(this.#path, options.mapSizeBytes ?? 2 ** 30)
      })
      opened.push(this.#db)
      this.#rows = new LmdbRows(this.#db)
      this.#checkpoints = new LmdbCheckpoints(this.#db)
      this.#file = statSync(dataPath).ino
      this.#epoch = this.#holder === undefined ? 0 : this.#joinWriters(this.#holder)
    } catch (error) {
      for (const environment of opened) void environment.close()
      throw coded(error, `open store ${this.#path}`, this.#path)
    }
  }

  async takeLane(lane: LaneName, nonce: string): Promise<LaneRecord> {
    return this.#transact(`take lane ${describeLane(lane)}`, () => {
      const keys = this.#keysOf(lane)
      const record = takenRecord(this.#recordOf(keys, lane), nonce)
      this.#db.put(keys.record, seal(record))
      return record
    })
  }

  async readLane(lane: LaneName): Promise<LaneRecord | undefined> {
    return this.#read(`read lane ${describeLane(lane)}`, () => {
      this.#checkFile()
      return this.#recordOf(this.#keysOf(lane), lane)
    })
  }

  async write(lane: LaneName, token: LaneToken, sequence: number, change: LaneWrite): Promise<WriteOutcome> {
    return this.#transact(`write lane ${describeLane(lane)}`, () => {
      const keys = this.#keysOf(lane)
      const stored = this.#recordOf(keys, lane)
      const verdict = judgeWrite(stored, token, sequence)
      if (verdict !== 'write') return verdict === 'landed' ? 'ok' : verdict

      const record = writtenRecord(stored!, change)
      const { rows = [] } = change
      if ('bounds' in rows) this.#rows.putPacked(keys, rows, stored!.flushingTo)
      else for (const row of rows) this.#rows.put(keys, row, stored!.flushingTo)
      for (const segment of change.segments ?? []) {
        this.#db.put(segmentKey(keys, segmentHash(segment)), plain(segment))
      }
      if (change.checkpoint !== undefined)
        this.#checkpoints.put(keys, lane, change.checkpoint, record.sequence, change.segments)
      if (change.ledger !== undefined) {
        const { number, bytes, dropped } = change.ledger
        for (const old of dropped) this.#db.remove(ledgerKey(keys, old))
        this.#db.put(ledgerKey(keys, number), plain(bytes))
      }
      this.#db.put(keys.record, seal(record))
      return 'ok'
    })
  }

  async readCheckpoint(lane: LaneName, position: number): Promise<Checkpoint | undefined> {
    return this.#read(`read checkpoints of lane ${describeLane(lane)}`, () => {
      return this.#checkpoints.read(this.#keysOf(lane), lane, position)
    })
  }

  async readRows(
    reads: readonly RowRead[],
    sink: (index: number, bytes: Uint8Array | undefined) => void,
  ): Promise<void> {
    this.#read('read rows', () => {
      const key = this.#rowKey
      let lane: LaneName | undefined
      for (let i = 0; i < reads.length; i++) {
        const read = reads[i]!
        if (read.lane !== lane) {
          lane = read.lane
          key.prefix = this.#keysOf(lane).rows
        }
        key.entity = read.key
        sink(i, viewOf(this.#db.getBinaryFast(key)))
      }
    })
  }

  async readOwnRows(
    lane: LaneName,
    token: LaneToken,
    sequence: number,
    keys: readonly Uint8Array[],
    sink: (index: number, bytes: Uint8Array | undefined) => void,
  ): Promise<WriteOutcome> {
    // One snapshot: nothing here gives up the thread.
    return this.#read(`read rows of lane ${describeLane(lane)}`, () => {
      const laneKeys = this.#keysOf(lane)
      const verdict = judgeRead(this.#recordOf(laneKeys, lane), token, sequence)
      if (verdict !== 'ok') return verdict
      const key = this.#rowKey
      key.prefix = laneKeys.rows
      for (let i = 0; i < keys.length; i++) {
        key.entity = keys[i]!
        sink(i, viewOf(this.#db.getBinaryFast(key)))
      }
      return verdict
    })
  }

  async readLedger(lane: LaneName): Promise<readonly LedgerSegment[]> {
    return this.#read(`read the ledger of lane ${describeLane(lane)}`, () => {
      const { ledger } = this.#keysOf(lane)
      return [...this.#db.getKeys({ start: ledger, end: endOf(ledger) })].map((key) => ({
        number: key.readUInt32BE(ledger.length),
        bytes: new Uint8Array(this.#db.getBinary(key)!),
      }))
    })
  }

  sampleRows(lanes: readonly LaneName[], count: number): Promise<readonly StoredRow[]> {
    return firstRows(this, lanes, count)
  }

  async *scanRows(lane: LaneName): AsyncIterable<StoredRow> {
    const { rows: prefix } = this.#keysOf(lane)
    const end = endOf(prefix)
    let start: Buffer = prefix
    for (;;) {
      const found = this.#read(`scan lane ${describeLane(lane)}`, () =>
        [...this.#db.getKeys({ start, end, limit: SCAN_ROWS })].map((key) => ({
          key: key.subarray(prefix.length),
          bytes: this.#db.getBinary(key)!,
        })),
      )
      yield* found
      if (found.length < SCAN_ROWS) return
      // The least key behind the last one.
      start = Buffer.concat([prefix, found.at(-1)!.key, Buffer.alloc(1)])
    }
  }

  async readLayout(namespace: string, view: string): Promise<string | undefined> {
    return this.#read(`read layout of ${view}`, () => this.#layoutAt(namespace, view))
  }

  async writeLayout(namespace: string, view: string, expected: string | undefined, layout: string): Promise<boolean> {
    return this.#transact(`write layout of ${view}`, () => {
      if (this.#layoutAt(namespace, view) !== expected) return false
      this.#db.put(layoutKey(namespace, view), seal({ layout }))
      return true
    })
  }

  listViews(namespace: string): Promise<string[]> {
    return this.#sweep.listViews(namespace)
  }

  listLanes(namespace: string): Promise<LaneSize[]> {
    return this.#sweep.listLanes(namespace)
  }

  dropLanes(lanes: readonly TakenLane[]): AsyncIterable<DropStep> {
    return this.#sweep.dropLanes(lanes)
  }

  async close(): Promise<void> {
    if (this.#closed) return
    if (this.#holder !== undefined) this.#leaveWriters(this.#holder)
    this.#closed = true
    await this.#db.close()
    await this.#gate.close()
  }

  #keysOf(lane: LaneName): LaneKeys {
    let keys = this.#keysByLane.get(lane)
    if (keys !== undefined) return keys
    const name = describeLane(lane)
    keys = this.#keysByName.get(name) ?? laneKeys(lane)
    this.#keysByName.set(name, keys)
    this.#keysByLane.set(lane, keys)
    return keys
  }

  #recordOf(keys: LaneKeys, lane: LaneName): LaneRecord | undefined {
    const sealed = this.#db.getBinary(keys.record)
    return sealed === undefined ? undefined : unseal<LaneRecord>(sealed, `the record of lane ${describeLane(lane)}`)
  }

  #layoutAt(namespace: string, view: string): string | undefined {
    const sealed = this.#db.getBinary(layoutKey(namespace, view))
    return sealed === undefined ? undefined : unseal<{ layout: string }>(sealed, `the layout of ${view}`).layout
  }

  #joinWriters(holder: string): number {
    return this.#commit(() => {
      const stored = this.#writer()
      const joined = joinWriter(stored, holder)
      if (joined === undefined) {
        throw new TilefoldError(
          'STORE_LOCKED',
          `cannot open store ${this.#path} for writing: process ${stored!.pid} writes to it; stop it, or open the store read-only`,
          { pid: stored!.pid },
        )
      }
      this.#db.put(WRITER_KEY, seal(joined))
      return joined.epoch
    })
  }

  #leaveWriters(holder: string): void {
    try {
      this.#transact('close store', () => {
        this.#db.put(WRITER_KEY, seal(leaveWriter(this.#writer()!, holder)))
      })
    } catch {
      // Removed, taken over or full: then nobody waits for us to leave, and closing must go on.
    }
  }

  #writer(): WriterRecord | undefined {
    const sealed = this.#db.getBinary(WRITER_KEY)
    return sealed === undefined ? undefined : unseal<WriterRecord>(sealed, `the writer of store ${this.#path}`)
  }

  #transact<T>(verb: string, work: () => T): T {
    try {
      this.#checkOpen()
      if (this.#holder === undefined) {
        throw new TilefoldError('STORE_UNAVAILABLE', `cannot ${verb}: store ${this.#path} was opened read-only`)
      }
      this.#checkFile()
      return this.#commit(() => {
        this.#checkEpoch()
        return work()
      })
    } catch (error) {
      throw coded(error, verb, this.#path)
    }
  }

  #commit<T>(work: () => T): T {
    return this.#enterGate(() => this.#db.transactionSync(work, TRANSACTION))
  }

  #enterGate<T>(work: () => T): T {
    return guardWrite(this.#guard, () => this.#gate.transactionSync(work, TRANSACTION))
  }

  #read<T>(verb: string, work: () => T): T {
    try {
      this.#checkOpen()
      // Otherwise a loop that never leaves the microtask queue would see one snapshot for ever.
      this.#db.resetReadTxn()
      return work()
    } catch (error) {
      throw coded(error, verb, this.#path)
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw new TilefoldError('STORE_UNAVAILABLE', `cannot use store ${this.#path}: it is closed`)
  }

  #checkEpoch(): void {
    const writer = this.#writer()
    if (writer?.epoch === this.#epoch) return
    throw new TilefoldError(
      'STORE_LOCKED',
      `cannot write to store ${this.#path}: process ${writer?.pid} has taken it over; got epoch ${writer?.epoch}, expected ${this.#epoch}`,
    )
  }

  /** LMDB would go on writing into a file that has been deleted. */
  #checkFile(): void {
    const found = statSync(join(this.#path, 'data.mdb'), { throwIfNoEntry: false })
    if (found?.ino === this.#file) return
    throw new TilefoldError(
      'STORE_UNAVAILABLE',
      `cannot use store ${this.#path}: its data file was removed or replaced`,
    )
  }
}

function openEnvironment(path: string, mapSize: number): Environment {
  // A directory whose name has a dot is a directory, too. Plain commits: the overlapping ones gain nothing at this size.
  const options = { path, mapSize, noSubdir: false, overlappingSync: false, encoding: 'binary' as const }
  return open({ ...options, keyEncoder: { writeKey, readKey } }) as unknown as Environment
}

function readKey(source: Buffer, start: number, end: number): Buffer {
  return Buffer.from(source.subarray(start, end))
}

/** lmdb's reused buffer says the value's length in `length` alone; every other property is the whole buffer's. */
function viewOf(bytes: Buffer | undefined): Uint8Array | undefined {
  return bytes === undefined ? undefined : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}
