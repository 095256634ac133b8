/**
 * A look at the beginning of real events, before they are folded: do the columns fit, how much is null, do the times make
 * sense in their unit, is one entity much hotter than the others.
 */
import { estimateEntity } from '../define/estimate.ts'
import type { Column } from '../model/columns.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import type { Source } from '../source/port.ts'
import { type Cell, cellReader } from './cells.ts'
import { type EventFormat, inputsOf } from './event-files.ts'
import { formatBytes } from './table.ts'
import { sampleTimes, timeInput } from './times.ts'

export interface SampleReport {
  readonly rows: number
  /** True when there was more than was looked at. */
  readonly isCut: boolean
  readonly columns: readonly ColumnReport[]
  readonly views: readonly ViewSample[]
}

export interface ColumnReport {
  readonly name: string
  /** Share of rows, 0 to 1. */
  readonly nulls: number
  /** NaN and infinities, which count as null. */
  readonly nonFinite: number
}

export interface ViewSample {
  readonly view: string
  readonly firstMs?: number
  readonly lastMs?: number
  readonly entities: number
  /** The entities with the most rows, most first. */
  readonly hottest: readonly HotEntity[]
}

export interface HotEntity {
  readonly key: string
  readonly rows: number
  readonly share: number
  /** Over the sample's span of event time; absent where that is nothing. */
  readonly eventsPerSecond?: number
  /** What its row takes at that rate. */
  readonly bytes?: number
}

export interface SampleFindings extends SampleReport {
  /** What looks wrong, in sentences. */
  readonly warnings: readonly string[]
}

const HOTTEST_SHOWN = 5
/** A row is read whole by each request: from this size on it is worth a warning. */
const ROW_BYTES_MAX = 256 * 1024
const NULL_SHARE = 0.5

/** Reads up to `rowsMax` rows of a source whose inputs are those of the plans. */
export async function lookAt(
  source: Source,
  format: EventFormat,
  plans: readonly Plan[],
  rowsMax: number,
): Promise<SampleFindings> {
  const columns = inputsOf(plans).map((input) => new ColumnCount(input))
  const views = plans.map((plan) => new ViewCount(plan, format))
  let rows = 0
  let isCut = false
  for await (const { batch } of source.read(0)) {
    const length = Math.min(batch.length, rowsMax - rows)
    const readers = new Map(batch.columns.map((column) => [column.name, cellReader(column)]))
    for (const column of columns) column.add(batch.columns.find((each) => each.name === column.input.name)!, length)
    for (const view of views) view.add(readers, batch.columns, length)
    rows += length
    isCut = length < batch.length || rows === rowsMax
    if (rows === rowsMax) break
  }
  const report = {
    rows,
    isCut,
    columns: columns.map((column) => column.report(rows)),
    views: views.map((view) => view.report(rows)),
  }
  return {
    ...report,
    warnings: warningsOf(report, [...new Set(views.flatMap((view) => view.suspicions.slice(0, 1)))], columns),
  }
}

class ColumnCount {
  readonly input: InputColumn
  #nulls = 0
  #nonFinite = 0

  constructor(input: InputColumn) {
    this.input = input
  }

  add(column: Column, length: number): void {
    const read = cellReader(column)
    for (let row = 0; row < length; row++) {
      const cell = read(row)
      if (cell === null) this.#nulls++
      else if (typeof cell === 'number' && !Number.isFinite(cell)) this.#nonFinite++
    }
  }

  report(rows: number): ColumnReport {
    const of = (count: number) => (rows === 0 ? 0 : count / rows)
    return { name: this.input.name, nulls: of(this.#nulls), nonFinite: of(this.#nonFinite) }
  }
}

class ViewCount {
  readonly suspicions: string[] = []
  readonly #plan: Plan
  readonly #format: EventFormat
  readonly #counts = new Map<string, number>()
  #firstMs = Number.POSITIVE_INFINITY
  #lastMs = Number.NEGATIVE_INFINITY

  constructor(plan: Plan, format: EventFormat) {
    this.#plan = plan
    this.#format = format
  }

  add(readers: ReadonlyMap<string, (row: number) => Cell>, columns: readonly Column[], length: number): void {
    const time = timeInput(this.#plan)
    const column = columns.find((each) => each.name === time.name)!
    const times = sampleTimes(column, time, this.#format, length)
    if (times !== undefined) {
      this.#firstMs = Math.min(this.#firstMs, times.firstMs)
      this.#lastMs = Math.max(this.#lastMs, times.lastMs)
      if (times.suspicion !== undefined) {
        this.suspicions.push(`column ${JSON.stringify(time.name)}: ${times.suspicion}`)
      }
    }

    const parts = this.#plan.state.entity.map((part) => readers.get(part.name)!)
    for (let row = 0; row < length; row++) {
      const key = parts.map((part) => String(part(row) ?? '∅')).join(', ')
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
    }
  }

  report(rows: number): ViewSample {
    const hasTime = this.#lastMs >= this.#firstMs
    const seconds = hasTime ? (this.#lastMs - this.#firstMs) / 1000 : 0
    const hottest = [...this.#counts].sort(([, a], [, b]) => b - a).slice(0, HOTTEST_SHOWN)
    return {
      view: this.#plan.view,
      ...(hasTime ? { firstMs: this.#firstMs, lastMs: this.#lastMs } : {}),
      entities: this.#counts.size,
      hottest: hottest.map(([key, count]): HotEntity => {
        const eventsPerSecond = seconds > 0 ? count / seconds : undefined
        const bytes = eventsPerSecond === undefined ? undefined : estimateEntity(this.#plan, eventsPerSecond).totalBytes
        return { key, rows: count, share: count / rows, eventsPerSecond, bytes }
      }),
    }
  }
}

function warningsOf(report: SampleReport, suspicions: readonly string[], columns: readonly ColumnCount[]): string[] {
  const warnings = [...suspicions]
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`
  if (report.rows === 0) warnings.push('the sample has no rows')
  for (const [i, { name, nulls, nonFinite }] of report.columns.entries()) {
    const { type } = columns[i]!.input
    if (nulls === 1) warnings.push(`column ${JSON.stringify(name)} is null in every row`)
    else if (nulls >= NULL_SHARE)
      warnings.push(`column ${JSON.stringify(name)} (${type}) is null in ${percent(nulls)} of the rows`)
    if (nonFinite > 0)
      warnings.push(
        `column ${JSON.stringify(name)} is NaN or infinite in ${percent(nonFinite)} of the rows, which counts as null`,
      )
  }
  for (const { view, hottest, firstMs, lastMs } of report.views) {
    const large = hottest.find(({ bytes }) => bytes !== undefined && bytes > ROW_BYTES_MAX)
    if (large) {
      warnings.push(
        `view ${view}: at its rate in the sample the row of entity ${large.key} takes ${formatBytes(large.bytes!)}; "head_step" keeps rows of hot entities small`,
      )
    }
    if (firstMs !== undefined && firstMs < 0) warnings.push(`view ${view}: event times before 1970 are rejected`)
    if (lastMs !== undefined && lastMs >= 4_102_444_800_000)
      warnings.push(`view ${view}: event times reach behind 2100`)
  }
  return warnings
}
