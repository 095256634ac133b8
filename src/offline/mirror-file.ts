/**
 * One file of a mirror while it is written: messages to rows, row groups to `_tmp`, and what is to be said of it.
 */
import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import type { Column, ColumnBatch } from '../model/columns.ts'
import type { MirrorFacts } from '../source/mirror-manifest.ts'
import { type ParquetStyle, ParquetWriter } from '../source/parquet-writer.ts'
import type { ColumnBuffer } from '../source/parquet-writer-columns.ts'
import { hashOf } from '../source/record-hash.ts'
import type { StreamMessage } from '../source/stream.ts'
import type { Disk } from './manifest-disk.ts'
import type { Clocks } from './mirror-clocks.ts'
import { type MirrorColumns, TOMBSTONE } from './mirror-columns.ts'

export interface MirrorFileOptions {
  readonly topic: string
  readonly partition: number
  readonly columns: MirrorColumns
  readonly style: ParquetStyle
  /** Keeps the payload of every record, not only of those that could not be decoded. */
  readonly keepsValues: boolean
}

/** What the decoder made of some messages. */
export interface Decoded {
  readonly messages: readonly StreamMessage[]
  /** Rows of the messages that have one, in their order. */
  readonly batch: ColumnBatch
  /** Why the others have none, by offset; tombstones are not in it. */
  readonly errors: ReadonlyMap<number, string>
}

export class OpenFile {
  readonly temp: string
  /** First offset that it covers. */
  readonly start: number
  /** Record time of its first record. */
  readonly firstTimeMs: number
  readonly openedMs: number
  readonly #options: MirrorFileOptions
  readonly #disk: Disk
  readonly #handle: FileHandle
  readonly #writer: ParquetWriter
  readonly #sha = createHash('sha256')
  readonly #startClocks: Clocks
  readonly #topic: Uint8Array
  readonly #payload: readonly ColumnBuffer[]
  readonly #hashes: [number, string][] = []
  #end: number
  #failed = 0
  #recordTimes: [number, number] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  #eventTimes: [number, number] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  /** The last record with columns since the last row group. */
  #lastDecoded: StreamMessage | undefined

  static async create(
    disk: Disk,
    temp: string,
    options: MirrorFileOptions,
    from: { readonly start: number; readonly timeMs: number; readonly clocks: Clocks; readonly nowMs: number },
  ): Promise<OpenFile> {
    return new OpenFile(disk, await disk.create(temp), temp, options, from)
  }

  private constructor(
    disk: Disk,
    handle: FileHandle,
    temp: string,
    options: MirrorFileOptions,
    { start, timeMs, clocks, nowMs }: Parameters<typeof OpenFile.create>[3],
  ) {
    this.#disk = disk
    this.#handle = handle
    this.temp = temp
    this.#options = options
    this.start = start
    this.firstTimeMs = timeMs
    this.openedMs = nowMs
    this.#startClocks = clocks
    this.#end = start - 1
    this.#topic = Buffer.from(options.topic)
    this.#writer = new ParquetWriter(options.columns.fields, options.style, {
      write: (bytes) => {
        this.#sha.update(bytes)
        return disk.write(handle, bytes, temp)
      },
    })
    this.#payload = options.columns.inputs.map(({ name }) => this.#column(name)!)
  }

  get rows(): number {
    return this.#writer.rows
  }

  /** On disk. */
  get bytes(): number {
    return this.#writer.bytes
  }

  get waitingRows(): number {
    return this.#writer.waitingRows
  }

  get waitingBytes(): number {
    return this.#writer.waitingBytes
  }

  append({ messages, batch, errors }: Decoded): void {
    const { columns, keepsValues } = this.#options
    const [key, error, value] = [this.#column('_key')!, this.#column('_error')!, this.#column('_value')!]
    const [offsets, times] = [this.#column('_offset')!, this.#column('_record_ts')!]
    const [topic, partition] = [this.#column('_topic')!, this.#column('_partition')!]
    const positions = batch.positions as Float64Array
    let row = 0
    let written = 0
    let [oldest, newest] = this.#recordTimes
    const failed = new Map<string, Uint8Array>()
    for (const message of messages) {
      const [offset, timeMs] = [+message.offset, +message.timestamp]
      topic.appendBytes(this.#topic)
      partition.appendWhole(this.#options.partition)
      offsets.appendWhole(offset)
      times.appendWhole(timeMs)
      key.appendBytes(message.key)
      if (timeMs < oldest) oldest = timeMs
      if (timeMs > newest) newest = timeMs
      if (row < batch.length && positions[row] === offset) {
        row++
        this.#lastDecoded = message
        error.appendNulls(1)
        value.appendBytes(keepsValues ? message.value : null)
        continue
      }
      this.#appendRows(batch.columns, written, row)
      written = row
      for (const column of this.#payload) column.appendNulls(1)
      if (columns.eventTime !== undefined) this.#column('_event_ts')!.appendNulls(1)
      this.#failed++
      const reason = message.value === null ? TOMBSTONE : (errors.get(offset) ?? 'unknown')
      let text = failed.get(reason)
      if (text === undefined) {
        text = Buffer.from(reason)
        failed.set(reason, text)
      }
      error.appendBytes(text)
      value.appendBytes(message.value)
    }
    this.#appendRows(batch.columns, written, row)
    this.#recordTimes = [oldest, newest]
    this.#end = +messages.at(-1)!.offset
  }

  #appendRows(columns: readonly Column[], from: number, to: number): void {
    if (from === to) return
    for (const [i, column] of columns.entries()) this.#payload[i]!.append(column, from, to)
    const { eventTime } = this.#options.columns
    if (eventTime === undefined) return
    const times = columns.find(({ name }) => name === eventTime)!
    this.#column('_event_ts')!.append(times, from, to)
    const cells = new BigInt64Array(times.values.buffer, times.values.byteOffset, to)
    let [oldest, newest] = this.#eventTimes
    for (let row = from; row < to; row++) {
      // A null lies as 0 in the cells: an event time that is too early widens the range, and no more.
      const timeMs = Number(cells[row])
      if (timeMs < oldest) oldest = timeMs
      if (timeMs > newest) newest = timeMs
    }
    this.#eventTimes = [oldest, newest]
  }

  async endRowGroup(): Promise<void> {
    const last = this.#lastDecoded
    this.#lastDecoded = undefined
    if (last !== undefined) this.#hashes.push([+last.offset, hashOf(last)])
    await this.#writer.endRowGroup()
  }

  /** Writes the rest and syncs. What is said of it stands in the footer, too. */
  async finish(
    endClocks: Clocks,
    about: Pick<MirrorFacts, 'definitions' | 'engine'>,
  ): Promise<{ readonly bytes: number; readonly sha256: string; readonly facts: MirrorFacts }> {
    await this.endRowGroup()
    const facts: MirrorFacts = {
      start: this.start,
      end: this.#end,
      rows: this.rows,
      holes: this.#end - this.start + 1 - this.rows,
      failed: this.#failed,
      recordTimes: this.#recordTimes,
      ...(this.#eventTimes[0] <= this.#eventTimes[1] ? { eventTimes: this.#eventTimes } : {}),
      clocks: this.#startClocks,
      endClocks,
      hashes: this.#hashes,
      inputs: this.#options.columns.inputs.map(({ accepts: _, ...declared }) => declared),
      keepsValues: this.#options.keepsValues,
      ...about,
    }
    await this.#writer.finish({ tilefold: JSON.stringify(facts) })
    await this.#disk.syncAndClose(this.#handle, this.temp)
    return { bytes: this.bytes, sha256: this.#sha.digest('hex'), facts }
  }

  /** Nothing of it counts. Best effort: a start removes what is left. */
  async abandon(): Promise<void> {
    await this.#handle.close().catch(() => {})
    await this.#disk.remove(this.temp).catch(() => {})
  }

  #column(name: string): ColumnBuffer | undefined {
    return this.#writer.columns.find(({ field }) => field.name === name)
  }
}
