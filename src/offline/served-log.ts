/**
 * The log of answers as Parquet, a folder for each view and day: what a model was given, to be joined with its labels later.
 *
 *   dir/spend/date=2026-11-24/served-20261124T101500Z-5f2c9a.parquet
 *
 * A row is one entity of one request. `event_timestamp` is its as-of, so that a file is a spine as it stands; `_applied` says up to
 * which position of each lane's log the answer had come. A file is there once it is whole: a server that dies takes with it what it
 * answered since the last one. An answer never waits for the log: what cannot be written, or comes faster than it can be, is
 * left out and counted.
 */
import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { hashAcceptance } from '../define/hash.ts'
import type { InputColumn, Plan, ValueType } from '../model/plan.ts'
import type { GenerationLayout } from '../model/view-layout.ts'
import type { ServerMetrics } from '../observe/port.ts'
import type { ServedLog, ServedRow } from '../serve/served.ts'
import { ParquetWriter } from '../source/parquet-writer.ts'
import type { WriterField, WriterType } from '../source/parquet-writer-columns.ts'
import { columnsToBatch, type PushedColumn } from '../source/rows.ts'
import { OutputFile } from './output-file.ts'
import { SPINE_TIME } from './training.ts'
import { featureInput, featureStatusName } from './training-columns.ts'

export interface ServedLogOptions {
  readonly directory: string
  /** 0 to 1: the part of the entities that is logged. */
  readonly share: number
  /** A file ends after so long. */
  readonly intervalMs: number
  readonly clock: () => number
  readonly metrics: Pick<ServerMetrics, 'servedLogged'>
  /** Told why rows could not be written. */
  readonly onFault: (cause: unknown) => void
}

/** Some 10 ms of the server's time to encode. */
const GROUP_ROWS = 4_096
/** Rows that wait for the disk, of all views; some 1 KB each. */
const WAITING_ROWS_MAX = 16 * GROUP_ROWS

interface OpenFile {
  readonly output: OutputFile
  readonly writer: ParquetWriter
}

interface ViewLog {
  readonly plan: Plan
  readonly columns: readonly LogColumn[]
  waiting: ServedRow[]
  file?: OpenFile
}

export class ServedLogWriter implements ServedLog {
  readonly share: number
  readonly #options: ServedLogOptions
  readonly #views = new Map<string, ViewLog>()
  readonly #timer: NodeJS.Timeout
  #waiting = 0
  /** Whatever is to be done, one after the other. */
  #work: Promise<void> = Promise.resolve()

  constructor(options: ServedLogOptions) {
    this.share = options.share
    this.#options = options
    this.#timer = setInterval(() => this.#endFiles(), options.intervalMs).unref()
  }

  take(rows: readonly ServedRow[]): void {
    if (rows.length === 0) return
    if (this.#waiting + rows.length > WAITING_ROWS_MAX) {
      this.#options.metrics.servedLogged(0, rows.length)
      return
    }
    this.#waiting += rows.length
    for (const row of rows) {
      const log = this.#logOf(row.plan)
      log.waiting.push(row)
      if (log.waiting.length === GROUP_ROWS) this.#then(() => this.#writeGroup(log))
    }
  }

  /** Resolves when what was taken is in whole files. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#endFiles()
    await this.#work
  }

  #logOf(plan: Plan): ViewLog {
    let log = this.#views.get(plan.view)
    if (log === undefined) {
      log = { plan, columns: logColumns(plan), waiting: [] }
      this.#views.set(plan.view, log)
    }
    return log
  }

  #then(step: () => Promise<void>): void {
    this.#work = this.#work.then(step)
  }

  #endFiles(): void {
    for (const log of this.#views.values()) {
      this.#then(() => this.#writeGroup(log))
      this.#then(() => this.#endFile(log))
    }
  }

  async #writeGroup(log: ViewLog): Promise<void> {
    const rows = log.waiting
    if (rows.length === 0) return
    log.waiting = []
    try {
      log.file ??= await this.#openFile(log)
      const { writer } = log.file
      appendRows(writer, log.columns, rows)
      await writer.endRowGroup()
    } catch (cause) {
      await this.#giveUp(log, rows.length, cause)
    } finally {
      this.#waiting -= rows.length
    }
  }

  async #endFile(log: ViewLog): Promise<void> {
    const { file, plan } = log
    if (file === undefined) return
    try {
      const { rows } = file.writer
      await file.writer.finish({
        'tilefold.kind': 'served',
        'tilefold.view': plan.view,
        'tilefold.definition_hash': plan.definitionHash,
        'tilefold.state_hash': plan.stateHash,
      })
      await file.output.finish()
      log.file = undefined
      this.#options.metrics.servedLogged(rows, 0)
    } catch (cause) {
      await this.#giveUp(log, 0, cause)
    }
  }

  async #openFile({ plan, columns }: ViewLog): Promise<OpenFile> {
    const now = new Date(this.#options.clock()).toISOString()
    const folder = join(this.#options.directory, plan.view, `date=${now.slice(0, 10)}`)
    await mkdir(folder, { recursive: true })
    const name = `served-${now.replace(/[-:]|\.\d+/g, '')}-${randomBytes(3).toString('hex')}.parquet`
    const output = await OutputFile.create(join(folder, name))
    const fields = columns.map(({ field }) => field)
    return { output, writer: new ParquetWriter(fields, { compression: 'zstd', isPlain: false }, output) }
  }

  /** The file is lost, and what is in it; the next rows begin another. */
  async #giveUp(log: ViewLog, rows: number, cause: unknown): Promise<void> {
    const lost = rows + (log.file?.writer.rows ?? 0)
    await log.file?.output.discard()
    log.file = undefined
    this.#options.metrics.servedLogged(0, lost)
    this.#options.onFault(cause)
  }
}

// ---- columns ---------------------------------------------------------------------------------------------------------

interface LogColumn {
  readonly input: InputColumn
  readonly field: WriterField
  cell(row: ServedRow): unknown
}

function logColumns(plan: Plan): LogColumn[] {
  const acceptanceHash = hashAcceptance(plan.state)
  const cells: LogColumn['cell'][] = [
    (row) => row.requestId,
    (row) => row.entity,
    ...plan.state.entity.map(
      (_, i): LogColumn['cell'] =>
        (row) =>
          row.keys[i],
    ),
    (row) => row.asOfMs,
    (row) => row.servedAtMs,
    (row) => row.version.definitionHash,
    (row) => row.version.stateHash,
    () => acceptanceHash,
    (row) => row.version.generation,
    (row) => row.version.layoutVersion,
    (row) => layoutText(row.generation),
    (row) => row.applied.map(({ lane, applied }) => `${lane}=${applied}`).join(','),
  ]
  return [
    ...servedInputs(plan).map((input, i) => logColumn(input, cells[i]!)),
    ...plan.features.flatMap((feature, i) => [
      logColumn(featureInput(plan.view, feature), (row) => row.answers.get(i)?.value ?? null),
      logColumn(input(featureStatusName(plan.view, feature), 'utf8'), (row) => row.answers.get(i)?.status ?? null),
    ]),
  ]
}

/** Of states that share it, positions say the same; the first logs do not have it. */
export const ACCEPTANCE = input('_acceptance_hash', 'utf8')

/** The generation's layout as JSON, without its state: what the applied positions are positions of. The first logs lack it, too. */
export const LAYOUT = input('_generation_layout', 'utf8')

const texts = new WeakMap<GenerationLayout, string>()

/** One text for all rows of a layout: a column of few values. */
function layoutText(layout: GenerationLayout): string {
  let text = texts.get(layout)
  if (text === undefined) {
    const { state: _state, ...own } = layout
    text = JSON.stringify(own)
    texts.set(layout, text)
  }
  return text
}

/** Every column but those of the features. */
export function servedInputs(plan: Plan): InputColumn[] {
  return [
    input('_request_id', 'utf8'),
    input('_request_row', 'int64'),
    ...plan.state.entity.map(({ name, type }) => input(name, type)),
    input(SPINE_TIME, 'timestamp'),
    input('_served_at', 'timestamp'),
    input('_definition_hash', 'utf8'),
    input('_state_hash', 'utf8'),
    ACCEPTANCE,
    input('_generation', 'int64'),
    input('_layout_version', 'int64'),
    LAYOUT,
    input('_applied', 'utf8'),
  ]
}

function input(name: string, type: 'utf8' | 'int64' | 'bool' | 'timestamp'): InputColumn {
  return type === 'timestamp' ? { name, type, unit: 'ms', accepts: ['int64'] } : { name, type, accepts: [type] }
}

const WRITTEN: Record<ValueType | 'timestamp', Exclude<WriterType, 'binary'>> = {
  bool: 'bool',
  int64: 'int64',
  float64: 'float64',
  decimal: 'decimal128',
  utf8: 'utf8',
  timestamp: 'int64',
}

function logColumn(of: InputColumn, cell: LogColumn['cell']): LogColumn {
  const { name, type, unit, scale } = of
  return { input: of, field: { name, type: WRITTEN[type], unit, scale }, cell }
}

function appendRows(writer: ParquetWriter, columns: readonly LogColumn[], rows: readonly ServedRow[]): void {
  const data: Record<string, PushedColumn> = {}
  for (const { input, cell } of columns) data[input.name] = rows.map((row) => cell(row))
  const batch = columnsToBatch(
    data,
    columns.map(({ input }) => input),
    0,
  )
  for (const [i, column] of batch.columns.entries()) writer.columns[i]!.append(column, 0, rows.length)
}
