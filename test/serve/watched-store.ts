/** A store between the reader and the rows that can be slow, broken in part or whole, or watched. */
import { createMemoryStore } from '../../src/store/memory.ts'
import type { LaneName, ReadOptions, RowRead, RowSink, Store } from '../../src/store/port.ts'
import { describeLane } from '../../src/store/rules.ts'

export class WatchedStore implements Store {
  readonly inner: Store
  readonly writeBytesMax: number
  /** Calls of readRows, with what each asked for. */
  readonly trips: (readonly RowRead[])[] = []
  layoutReads = 0
  #gate: Promise<void> | undefined
  #open: () => void = () => {}
  #failure: unknown
  #layoutGate: Promise<void> | undefined
  readonly #lanes = new Map<string, unknown>()

  constructor(inner: Store = createMemoryStore()) {
    this.inner = inner
    this.writeBytesMax = inner.writeBytesMax
  }

  /** Reads wait until `letGo`. */
  hold(): void {
    this.#gate ??= new Promise((resolve) => {
      this.#open = resolve
    })
  }

  letGo(): void {
    this.#lanes.clear()
    this.#gate = undefined
    this.#open()
  }

  /** Layouts wait until the promise is kept. */
  holdLayouts(until: Promise<void> | undefined): void {
    this.#layoutGate = until
  }

  /** Reads fail with it until it is undefined again. */
  fail(cause: unknown): void {
    this.#failure = cause
  }

  /** Rows of the lane wait until `letGo`, or are refused with a cause; the others are answered. */
  lose(lane: LaneName, cause?: unknown): void {
    this.hold()
    this.#lanes.set(describeLane(lane), cause)
  }

  async readRows(reads: readonly RowRead[], sink: RowSink, options?: ReadOptions): Promise<void> {
    this.trips.push(reads)
    if (this.#lanes.size === 0) await this.#gate
    if (this.#failure !== undefined) throw this.#failure
    const [whole, late]: number[][] = [[], []]
    for (const [i, { lane }] of reads.entries()) {
      const name = describeLane(lane)
      const cause = this.#lanes.get(name)
      if (cause !== undefined) options!.onMissing!(i, cause)
      else if (this.#lanes.has(name)) late.push(i)
      else whole.push(i)
    }
    const readSome = (indexes: readonly number[]) =>
      this.inner.readRows(
        indexes.map((i) => reads[i]),
        (index, bytes) => sink(indexes[index], bytes),
        options && { ...options, onMissing: (index, why) => options.onMissing?.(indexes[index], why) },
      )
    await readSome(whole)
    if (late.length === 0) return
    await this.#gate
    await readSome(late)
  }

  async readLayout(namespace: string, view: string): Promise<string | undefined> {
    this.layoutReads++
    await this.#layoutGate
    if (this.#failure !== undefined) throw this.#failure
    return this.inner.readLayout(namespace, view)
  }

  takeLane(...call: Parameters<Store['takeLane']>) {
    return this.inner.takeLane(...call)
  }
  readLane(...call: Parameters<Store['readLane']>) {
    return this.inner.readLane(...call)
  }
  write(...call: Parameters<Store['write']>) {
    return this.inner.write(...call)
  }
  readOwnRows(...call: Parameters<Store['readOwnRows']>) {
    return this.inner.readOwnRows(...call)
  }
  readCheckpoint(...call: Parameters<Store['readCheckpoint']>) {
    return this.inner.readCheckpoint(...call)
  }
  readLedger(...call: Parameters<Store['readLedger']>) {
    return this.inner.readLedger(...call)
  }
  sampleRows(...call: Parameters<Store['sampleRows']>) {
    return this.inner.sampleRows(...call)
  }

  scanRows(...call: Parameters<Store['scanRows']>) {
    return this.inner.scanRows(...call)
  }
  writeLayout(...call: Parameters<Store['writeLayout']>) {
    return this.inner.writeLayout(...call)
  }
  close() {
    return this.inner.close()
  }
}
