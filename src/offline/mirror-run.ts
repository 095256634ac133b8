/**
 * One partition while this process mirrors it.
 *
 *   assigned -> claim (manifest.ts) -> read from behind the last file
 *   messages -> decode, clocks -> row groups to _tmp -> a file is full, its hour over, or it is old -> commit -> a hint
 *
 * Any error ends the run: what was being written is thrown away, and the next run reads it again.
 */
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { logOfPartition } from '../model/view-layout.ts'
import type { WorkerMetrics } from '../observe/port.ts'
import { createJsonDecoder, type JsonDecoder } from '../source/json-messages.ts'
import { hourOf, type MirrorFile, mirrorFileName } from '../source/mirror-manifest.ts'
import type { ParquetStyle } from '../source/parquet-writer.ts'
import { hashOf } from '../source/record-hash.ts'
import type { StreamBounds, StreamMessage } from '../source/stream.ts'
import { Manifest } from './manifest.ts'
import type { Disk } from './manifest-disk.ts'
import type { Clocks, LateClocks } from './mirror-clocks.ts'
import type { MirrorColumns } from './mirror-columns.ts'
import { OpenFile } from './mirror-file.ts'

export interface MirrorLimits {
  readonly rowGroupRows: number
  readonly rowGroupBytes: number
  readonly fileRows: number
  readonly fileBytes: number
  /** A file is closed so long after its first record came, at the latest. */
  readonly fileAgeMs: number
}

export interface MirrorRunOptions {
  readonly topic: string
  readonly partition: number
  readonly plans: readonly Plan[]
  readonly disk: Disk
  readonly nonce: string
  readonly columns: MirrorColumns
  readonly clocks: LateClocks
  readonly style: ParquetStyle
  readonly keepsValues: boolean
  readonly limits: MirrorLimits
  readonly engine: string
  readonly clock: () => number
  readonly metrics: WorkerMetrics
  readonly onFile: (run: MirrorRun, file: MirrorFile) => void
  readonly onFailed: (run: MirrorRun, error: unknown) => void
}

/** Messages decoded in one go. */
const BATCH_MESSAGES = 8192

export class MirrorRun {
  readonly topic: string
  readonly partition: number
  /** Offset of the first message to be given. */
  readonly readFrom: number
  readonly #options: MirrorRunOptions
  readonly #manifest: Manifest
  readonly #decoder: JsonDecoder
  readonly #compacted: boolean
  readonly #errors = new Map<number, string>()
  /** Offset behind the last message taken in. */
  #next: number
  #clocks: Clocks
  #marker: readonly [offset: number, hash: string] | undefined
  #file: OpenFile | undefined
  #timer: NodeJS.Timeout | undefined
  #turn: Promise<unknown> = Promise.resolve()
  #closed = false

  /** Claims the partition. Throws LOG_GAP, LOG_CHANGED, MIRROR_UNAVAILABLE, MIRROR_INVALID. */
  static async open(options: MirrorRunOptions, bounds: StreamBounds): Promise<MirrorRun> {
    const manifest = await Manifest.claim(options.disk, options)
    checkBounds(options, manifest.last, bounds)
    return new MirrorRun(options, manifest, bounds)
  }

  private constructor(options: MirrorRunOptions, manifest: Manifest, bounds: StreamBounds) {
    this.#options = options
    this.topic = options.topic
    this.partition = options.partition
    this.#manifest = manifest
    this.#compacted = bounds.compacted
    this.#decoder = createJsonDecoder({
      inputs: options.columns.inputs,
      onReject: ({ position, reason, message }) => {
        this.#errors.set(position, message)
        options.metrics.deadLetters(options.topic, reason, 1)
      },
    })
    const facts = manifest.last?.facts
    this.#next = facts === undefined ? bounds.first : facts.end + 1
    this.#clocks = facts === undefined ? options.clocks.start() : options.clocks.resume(facts.endClocks)
    // The last record that left a hash is read again and compared: it tells a recreated topic from the one we know.
    const marker = facts?.hashes.at(-1)
    this.#marker = marker !== undefined && marker[0] >= bounds.first ? marker : undefined
    this.readFrom = Math.min(this.#next, this.#marker?.[0] ?? this.#next)
  }

  get log(): string {
    return logOfPartition(this.topic, this.partition)
  }

  get next(): number {
    return this.#next
  }

  /** Bytes that wait for the end of their row group. */
  get waitingBytes(): number {
    return this.#file?.waitingBytes ?? 0
  }

  /** Messages in log order. Resolves when they are in row groups, or wait for theirs. */
  take(messages: readonly StreamMessage[], next: number): Promise<void> {
    return this.#inTurn(async () => {
      this.#checkMarker(messages)
      const fresh = messages.filter(({ offset }) => +offset >= this.#next)
      for (let at = 0; at < fresh.length; ) {
        const count = await this.#room(fresh, at)
        await this.#append(fresh.slice(at, at + count))
        at += count
      }
      this.#options.metrics.consumerLag(this.topic, this.partition, Math.max(0, next - this.#next))
    })
  }

  /** Ends the row group under way, so that its memory is free. */
  spill(): Promise<void> {
    return this.#inTurn(async () => this.#file?.endRowGroup())
  }

  /** Commits what was taken in, however little. */
  finish(): Promise<void> {
    return this.#inTurn(() => this.#finish())
  }

  /** Stops; what is not committed is thrown away unless `finish` says otherwise. */
  async close(finish: boolean): Promise<void> {
    try {
      if (finish && !this.#closed) await this.finish()
    } finally {
      this.#closed = true
      clearTimeout(this.#timer)
      await this.#turn.catch(() => {})
      await this.#file?.abandon()
      this.#file = undefined
      this.#options.metrics.partitionLeft(this.topic, this.partition)
    }
  }

  // ---- inside ----------------------------------------------------------------------------------------------------------

  /** How many of the messages from `at` on go into the open file's row group; closes and opens what must be before. */
  async #room(messages: readonly StreamMessage[], at: number): Promise<number> {
    const { limits } = this.#options
    const timeMs = +messages[at]!.timestamp
    if (this.#file !== undefined && this.#isOver(this.#file, timeMs)) await this.#finish()
    const file = this.#file ?? (await this.#open(timeMs))
    if (file.waitingRows >= limits.rowGroupRows || file.waitingBytes >= limits.rowGroupBytes) await file.endRowGroup()
    const most = Math.min(
      BATCH_MESSAGES,
      messages.length - at,
      limits.rowGroupRows - file.waitingRows,
      limits.fileRows - file.rows,
    )
    for (let count = 1; count < most; count++) {
      if (isLater(+messages[at + count]!.timestamp, file.firstTimeMs)) return count
    }
    return Math.max(1, most)
  }

  /** Is the file full, or the record of a later hour? One of an earlier hour came late, and stays with its neighbours. */
  #isOver(file: OpenFile, timeMs: number): boolean {
    const { fileRows, fileBytes } = this.#options.limits
    return file.rows >= fileRows || file.bytes >= fileBytes || isLater(timeMs, file.firstTimeMs)
  }

  async #open(timeMs: number): Promise<OpenFile> {
    const { disk, clock, limits } = this.#options
    const from = { start: this.#next, timeMs, clocks: this.#clocks, nowMs: clock() }
    this.#file = await OpenFile.create(disk, this.#manifest.temp('parquet'), this.#options, from)
    this.#timer = setTimeout(() => {
      this.finish().catch((error: unknown) => this.#options.onFailed(this, error))
    }, limits.fileAgeMs)
    return this.#file
  }

  async #append(messages: readonly StreamMessage[]): Promise<void> {
    const { clocks, metrics } = this.#options
    this.#errors.clear()
    const batch = this.#decoder.decode(messages)
    this.#file!.append({ messages, batch, errors: this.#errors })
    if (batch.length > 0) this.#clocks = clocks.advance(this.#clocks, batch)
    const last = +messages.at(-1)!.offset
    metrics.offsetHoles(this.topic, last + 1 - this.#next - messages.length)
    this.#next = last + 1
    const { rowGroupRows, rowGroupBytes } = this.#options.limits
    const file = this.#file!
    if (file.waitingRows >= rowGroupRows || file.waitingBytes >= rowGroupBytes) await file.endRowGroup()
  }

  async #finish(): Promise<void> {
    const file = this.#file
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (file === undefined) return
    const { topic, partition, plans, engine, clock, metrics } = this.#options
    const startMs = clock()
    const definitions = Object.fromEntries(plans.map(({ view, definitionHash }) => [view, definitionHash]))
    const written = await file.finish(this.#clocks, { definitions, engine })
    const { start, end } = written.facts
    const name = mirrorFileName(topic, partition, start, end, file.firstTimeMs)
    this.#file = undefined
    const entry = await this.#manifest.add({ kind: 'file', file: name, temp: file.temp, ...written })
    metrics.flushed(`mirror/${topic}`, Math.max(0, clock() - startMs) / 1000, entry.facts.rows, entry.bytes)
    this.#options.onFile(this, entry)
  }

  #checkMarker(messages: readonly StreamMessage[]): void {
    const marker = this.#marker
    if (marker === undefined || marker[0] > +messages.at(-1)!.offset) return
    const found = messages.find(({ offset }) => +offset >= marker[0])
    const isThere = found !== undefined && +found.offset === marker[0]
    if (isThere ? hashOf(found) !== marker[1] : !this.#compacted) {
      throw new TilefoldError(
        'LOG_CHANGED',
        `cannot go on with the mirror of ${this.log}: the record at offset ${marker[0]} is ${isThere ? 'another one' : 'gone'} than the one mirrored; was the topic recreated? Mirror it into another directory`,
        { position: marker[0] },
      )
    }
    this.#marker = undefined
  }

  /** Calls run one after the other, none behind a failure. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(() => {
      if (this.#closed) throw new TilefoldError('ENGINE_CLOSED', `cannot mirror ${this.log}: it is not open`)
      return work()
    })
    this.#turn = turn.catch(() => {
      this.#closed = true
    })
    return turn
  }
}

function isLater(timeMs: number, firstTimeMs: number): boolean {
  return (hourOf(timeMs) ?? -1) > (hourOf(firstTimeMs) ?? Number.POSITIVE_INFINITY)
}

function checkBounds({ topic, partition }: MirrorRunOptions, last: MirrorFile | undefined, bounds: StreamBounds): void {
  if (last === undefined) return
  const log = logOfPartition(topic, partition)
  const next = last.facts.end + 1
  if (next < bounds.first) {
    throw new TilefoldError(
      'LOG_GAP',
      `cannot go on with the mirror of ${log}: records are gone before they were mirrored; the log starts at ${bounds.first}, expected ${next} or less. Mirror it into another directory`,
      { first: bounds.first, wanted: next },
    )
  }
  if (next > bounds.next) {
    throw new TilefoldError(
      'LOG_CHANGED',
      `cannot go on with the mirror of ${log}: it ends at ${bounds.next}, but offset ${next - 1} is mirrored; was the topic recreated? Mirror it into another directory`,
      { next: bounds.next, mirrored: next - 1 },
    )
  }
}
