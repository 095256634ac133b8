/**
 * Where ingests run: in this thread (`threads: 0`; tests, small jobs) or spread over worker threads. A thread owns whole
 * ingests and never shares one, so a trap, a full memory or a dead thread is an error of its ingests alone.
 */
import { randomUUID } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import { type CoreModule, loadCore } from '../engine/module.ts'
import { type PackedBatch, packBatch } from '../engine/pack.ts'
import type { ColumnBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import { closeAtExit, closeGuard, createWriteGuard, forgetGuard, type WriteGuard } from '../store/guard.ts'
import type { Store } from '../store/port.ts'
import { Ingest, type IngestSpec } from './ingest.ts'
import { type Answer, type Call, type IngestStatus, readError } from './messages.ts'
import { Pace, type PaceState } from './pace.ts'
import type { SideRecord } from './side.ts'
import type { RedisAddress, StoreAddress } from './thread-store.ts'

export interface WorkerData {
  readonly module: CoreModule['module']
  readonly address: StoreAddress
  readonly guard: WriteGuard
  readonly pace?: PaceState
}

export interface PoolOptions {
  /** Worker threads; 0 runs everything in the caller's. */
  readonly threads: number
  readonly store: Store
  /** Directory of the store, which worker threads open for themselves; this or `redis` is needed when there are any. */
  readonly storePath?: string
  readonly redis?: RedisAddress
  /** Rows are written no faster, over all threads. */
  readonly pace?: PaceState
  readonly clock: () => number
  readonly onSide?: (records: SideRecord[]) => void
  readonly core?: CoreModule
}

/** A batch ready for any ingest of a pool: shared memory where there are threads. */
export type PoolBatch = { readonly local: ColumnBatch } | { readonly packed: PackedBatch }

/** One ingest, wherever it runs. Calls are carried out in order. */
export interface IngestHandle {
  readonly spec: IngestSpec
  readonly status: IngestStatus
  /** Resolves when the batch is folded. `hash`: of its last record. */
  push(batch: PoolBatch, hash?: string): Promise<void>
  /** Resolves to the applied position. `isLast`: another process goes on right there. */
  flush(isLast?: boolean): Promise<number>
  advance(ms: number): Promise<void>
  check(): Promise<void>
  /** Forgets resident entities, to give memory back; nothing happens while something waits for a flush. */
  renew(): Promise<void>
  drop(): Promise<void>
}

export function statusOf(ingest: Ingest): IngestStatus {
  return {
    resumeFrom: ingest.resumeFrom,
    applied: ingest.applied,
    marker: ingest.marker,
    watermarkMs: ingest.watermarkMs,
    deltaBytes: ingest.deltaBytes,
    memoryBytes: ingest.memoryBytes,
    spareBytes: ingest.spareBytes,
    counters: ingest.counters,
    written: ingest.written,
    checkpointMs: ingest.checkpointMs,
    sequences: [...ingest.sequences],
  }
}

/** Views share the threads: a view is split only where there are more threads than views. */
export function shardsOf(threads: number, views: number, lanes: number): number {
  return Math.max(1, Math.min(lanes, Math.floor(threads / Math.max(1, views))))
}

export class IngestPool {
  readonly #options: PoolOptions
  readonly #core: CoreModule
  readonly #threads: PoolThread[]
  readonly #pace: Pace | undefined
  #nextThread = 0

  constructor(options: PoolOptions) {
    this.#options = options
    this.#core = options.core ?? loadCore()
    const address = addressOf(options)
    this.#pace = options.pace && new Pace(options.pace)
    if (options.threads > 0 && address === undefined) {
      throw new TilefoldError('CONFIG_INVALID', 'cannot use worker threads: this store can only be used by one thread')
    }
    this.#threads = Array.from({ length: options.threads }, () => {
      const guard = createWriteGuard()
      const { pace } = options
      const data: WorkerData = { module: this.#core.module, address: address!, guard, ...(pace && { pace }) }
      return new PoolThread(data, options.onSide)
    })
  }

  get threads(): number {
    return this.#threads.length
  }

  /** Opens an ingest in the next thread. Throws CHECKPOINT_MISSING, STORE_UNAVAILABLE. */
  async open(spec: IngestSpec): Promise<IngestHandle> {
    const nonce = randomUUID()
    if (this.#threads.length === 0) {
      const { store, clock, onSide } = this.#options
      const core = this.#core
      const pace = this.#pace
      return new LocalHandle(await Ingest.open(spec, { store, core, clock, nonce, onSide, ...(pace && { pace }) }))
    }
    const thread = this.#threads[this.#nextThread++ % this.#threads.length]!
    return thread.open(spec, nonce)
  }

  /** Makes a batch ready for this pool's ingests; only the named columns travel. */
  ready(batch: ColumnBatch, names: ReadonlySet<string>): PoolBatch {
    return this.#threads.length === 0 ? { local: batch } : { packed: packBatch(batch, names) }
  }

  /** Stops the threads; what is not flushed is dropped. */
  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.stop()))
  }
}

function addressOf({ storePath, redis }: PoolOptions): StoreAddress | undefined {
  if (redis !== undefined) return { redis }
  return storePath === undefined ? undefined : { path: storePath }
}

class LocalHandle implements IngestHandle {
  readonly spec: IngestSpec
  readonly #ingest: Ingest

  constructor(ingest: Ingest) {
    this.#ingest = ingest
    this.spec = ingest.spec
  }

  get status(): IngestStatus {
    return statusOf(this.#ingest)
  }

  push(batch: PoolBatch, hash?: string): Promise<void> {
    return this.#ingest.push((batch as { local: ColumnBatch }).local, hash)
  }

  flush(isLast?: boolean): Promise<number> {
    return this.#ingest.flush(isLast)
  }

  advance(ms: number): Promise<void> {
    return this.#ingest.advance(ms)
  }

  check(): Promise<void> {
    return this.#ingest.check()
  }

  renew(): Promise<void> {
    return this.#ingest.renew()
  }

  async drop(): Promise<void> {}
}

/** The compiled worker: beside this file, or in dist/ when the sources run as they are. */
function workerUrl(): URL {
  const isSource = import.meta.url.endsWith('.ts')
  return new URL(isSource ? '../../dist/src/ingest/worker.js' : './worker.js', import.meta.url)
}

interface Waiting {
  resolve(status: IngestStatus | undefined): void
  reject(error: TilefoldError): void
}

class PoolThread {
  readonly #worker: Worker
  readonly #guard: WriteGuard
  readonly #waiting = new Map<number, Waiting>()
  #nextId = 0
  #nextHandle = 0
  #gone: TilefoldError | undefined

  constructor(data: WorkerData, onSide: PoolOptions['onSide']) {
    this.#guard = data.guard
    closeAtExit(data.guard)
    this.#worker = new Worker(workerUrl(), { workerData: data })
    this.#worker.on('message', (answer: Answer) => {
      if ('side' in answer) {
        onSide?.(answer.side)
        return
      }
      const waiting = this.#waiting.get(answer.id)
      this.#waiting.delete(answer.id)
      if ('error' in answer) waiting?.reject(readError(answer.error))
      else waiting?.resolve(answer.status)
      this.#hold()
    })
    this.#worker.on('error', (error) => this.#end(`its thread failed: ${error.message}`))
    this.#worker.on('exit', (code) => this.#end(`its thread ended with code ${code}`))
    this.#hold()
  }

  /** An idle thread does not keep the process alive. */
  #hold(): void {
    if (this.#waiting.size > 0) this.#worker.ref()
    else this.#worker.unref()
  }

  #end(reason: string): void {
    this.#gone ??= new TilefoldError('ENGINE_CLOSED', `cannot go on with the ingest: ${reason}`)
    for (const waiting of this.#waiting.values()) waiting.reject(this.#gone)
    this.#waiting.clear()
  }

  call(call: Call): Promise<IngestStatus | undefined> {
    if (this.#gone) return Promise.reject(this.#gone)
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#hold()
      this.#worker.postMessage({ ...call, id })
    })
  }

  async open(spec: IngestSpec, nonce: string): Promise<IngestHandle> {
    const handle = this.#nextHandle++
    const status = await this.call({ op: 'open', handle, spec, nonce })
    return new ThreadHandle(this, handle, spec, status!)
  }

  async stop(): Promise<void> {
    if (!this.#gone) {
      await this.call({ op: 'stop' }).catch(() => {})
      closeGuard(this.#guard)
      await this.#worker.terminate()
    }
    forgetGuard(this.#guard)
  }
}

class ThreadHandle implements IngestHandle {
  readonly spec: IngestSpec
  readonly #thread: PoolThread
  readonly #handle: number
  #status: IngestStatus

  constructor(thread: PoolThread, handle: number, spec: IngestSpec, status: IngestStatus) {
    this.#thread = thread
    this.#handle = handle
    this.spec = spec
    this.#status = status
  }

  get status(): IngestStatus {
    return this.#status
  }

  async #call(call: Call): Promise<void> {
    this.#status = (await this.#thread.call(call)) ?? this.#status
  }

  push(batch: PoolBatch, hash?: string): Promise<void> {
    return this.#call({ op: 'push', handle: this.#handle, batch: (batch as { packed: PackedBatch }).packed, hash })
  }

  async flush(isLast = false): Promise<number> {
    await this.#call({ op: 'flush', handle: this.#handle, isLast })
    return this.#status.applied
  }

  advance(ms: number): Promise<void> {
    return this.#call({ op: 'advance', handle: this.#handle, ms })
  }

  check(): Promise<void> {
    return this.#call({ op: 'check', handle: this.#handle })
  }

  renew(): Promise<void> {
    return this.#call({ op: 'renew', handle: this.#handle })
  }

  drop(): Promise<void> {
    return this.#call({ op: 'drop', handle: this.#handle })
  }
}
