/**
 * A look at the beginning of real events, before they are folded: do the columns fit, how much is null, do the times make
 * sense in their unit, is one entity much hotter than the others.
 */
import { estimateEntity } from '../define/estimate.ts'
import type { Column, TimeUnit } from '../model/columns.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import { suspectUnit } from '../source/match.ts'
import type { Source } from '../source/port.ts'
import { type Cell, cellReader } from './cells.ts'

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
/** From this share of all rows on, an entity is worth a warning. */
const HOT_SHARE = 0.2
const NULL_SHARE = 0.5

/** Reads up to `rowsMax` rows of a source whose inputs are those of the plans. */
export async function lookAt(
  source: Source,
  inputs: readonly InputColumn[],
  plans: readonly Plan[],
  rowsMax: number,
): Promise<SampleFindings> {
  const columns = inputs.map((input) => new ColumnCount(input))
  const views = plans.map((plan) => new ViewCount(plan))
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
  return { ...report, warnings: warningsOf(report, [...new Set(views.flatMap((view) => view.suspicions))], columns) }
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

/** Units of time in one millisecond, or milliseconds in one unit. */
const PER_MS: Record<TimeUnit, number> = { ms: 1, us: 1000, ns: 1_000_000, s: 1 / 1000, day: 1 / 86_400_000 }

class ViewCount {
  readonly suspicions: string[] = []
  readonly #plan: Plan
  readonly #time: InputColumn
  readonly #counts = new Map<string, number>()
  #firstMs = Number.POSITIVE_INFINITY
  #lastMs = Number.NEGATIVE_INFINITY

  constructor(plan: Plan) {
    this.#plan = plan
    const { time } = plan.state.expressions
    this.#time = plan.state.inputs.find((input) => input.name === time || `"${input.name}"` === time)!
  }

  add(readers: ReadonlyMap<string, (row: number) => Cell>, columns: readonly Column[], length: number): void {
    const time = columns.find((column) => column.name === this.#time.name)!
    const unit = time.unit ?? this.#time.unit ?? 'ms'
    const read = readers.get(time.name)!
    const times: number[] = []
    for (let row = 0; row < length; row++) {
      const cell = read(row)
      if (typeof cell !== 'bigint' && typeof cell !== 'number') continue
      times.push(Number(cell))
    }
    // A column that states its unit needs no guess.
    const suspicion = time.unit === undefined ? suspectUnit(times, unit) : undefined
    if (suspicion !== undefined) this.suspicions.push(`column ${JSON.stringify(time.name)}: ${suspicion}`)
    for (const each of times) {
      const ms = Math.floor(each / PER_MS[unit])
      if (ms < this.#firstMs) this.#firstMs = ms
      if (ms > this.#lastMs) this.#lastMs = ms
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
  for (const { view, hottest, entities, firstMs, lastMs } of report.views) {
    const [first] = hottest
    if (first && entities > 1 && first.share >= HOT_SHARE) {
      warnings.push(
        `view ${view}: entity ${first.key} has ${percent(first.share)} of the rows; "head_step" keeps rows of hot entities small`,
      )
    }
    if (firstMs !== undefined && firstMs < 0) warnings.push(`view ${view}: event times before 1970 are rejected`)
    if (lastMs !== undefined && lastMs >= 4_102_444_800_000)
      warnings.push(`view ${view}: event times reach behind 2100`)
  }
  return warnings
}
