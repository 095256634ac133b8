/**
 * One core instance that merges: stored rows of entities of one view into feature values. Synchronous and not re-entrant;
 * results are valid until the next `begin`.
 */
import {
  ENTITY_INFO_BYTES,
  INFO_COMPLETE_SINCE,
  INFO_COMPLETE_THROUGH,
  INFO_ERROR,
  INFO_EVENTS,
  INFO_LAYOUT_VERSION,
  INFO_OLDEST_AS_OF,
  INFO_ROWS,
  INFO_TILES,
  ROW_APPLIED_AT,
  STATUS_EMPTY,
  STATUS_ERROR,
  STATUS_OVERFLOW,
  STATUS_TOO_OLD,
  STATUS_UNKNOWN,
} from '../../assembly/layout.ts'
import { formatDecimal } from '../model/decimal.ts'
import type { TilefoldError } from '../model/errors.ts'
import type { FeaturePlan, FeatureStatus, FeatureValue, Plan } from '../model/plan.ts'
import { type CoreExports, type CoreModule, trapError } from './module.ts'
import { featureProgram, stateProgram } from './program.ts'
import { rowError } from './row-error.ts'

/** What was merged for one entity. */
export interface EntityInfo {
  readonly rows: number
  /** Lowest head frontier of its rows: everything before it is in. -1 without rows. */
  readonly completeThroughMs: number
  /** Highest head frontier of its rows: older as-of instants may not be answerable. -1 without rows. */
  readonly oldestAsOfMs: number
  /** Highest complete-since of its rows; -1 without rows. */
  readonly completeSinceMs: number
  readonly layoutVersion: number
  /** The first row that was refused. */
  readonly error?: TilefoldError
  readonly rowInfos: readonly { readonly applied: number; readonly bytes: number }[]
  readonly tilesRead: number
  readonly rawEventsRead: number
}

const decoder = new TextDecoder()

/** How a feature's 16 bytes are read. */
type Reader = (merger: MergedValues, cell: number) => FeatureValue

interface MergedValues {
  floats: Float64Array
  longs: BigInt64Array
  words: Uint32Array
  bytes: Uint8Array
}

export class Merger {
  readonly featureCount: number
  readonly #plan: Plan
  readonly #exports: CoreExports
  readonly #readers: readonly Reader[]
  /** 1 for features whose cell is a double. */
  readonly #isFloat: Uint8Array
  readonly #defaults: readonly FeatureValue[]
  #count = 0
  #asOf: Float64Array | number = 0
  // Rows added so far: entity, offset in the input region and bytes, three numbers each.
  #rows: number[] = []
  #inOrder = true
  #inputEnd = 0
  #memory: Uint8Array
  // Results of the last run.
  #view: MergedValues | undefined
  #infosAt = 0
  #statusesAt = 0
  #valuesAt = 0

  private constructor(core: CoreModule, plan: Plan) {
    this.#plan = plan
    this.featureCount = plan.features.length
    this.#exports = core.instantiate()
    this.#readers = plan.features.map(readerOf)
    this.#isFloat = Uint8Array.from(plan.features, (feature) => Number(isFloat(feature)))
    this.#defaults = plan.features.map(defaultOf)
    const shares = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 0, layoutVersion: 0 }
    for (const [program, configure] of [
      [stateProgram(plan.state, shares), (at: number) => this.#exports.configure(at)],
      [featureProgram(plan), (at: number) => this.#exports.configureFeatures(at)],
    ] as const) {
      const at = this.#exports.reserveInput(program.length, 0) >>> 0
      new Uint8Array(this.#exports.memory.buffer).set(program, at)
      configure(at)
    }
    this.#memory = new Uint8Array(this.#exports.memory.buffer)
  }

  static create(core: CoreModule, plan: Plan): Merger {
    return new Merger(core, plan)
  }

  /** Starts a call for `count` entities; `asOfMs` for all of them, or one each. */
  begin(count: number, asOfMs: Float64Array | number): void {
    this.#count = count
    this.#asOf = asOfMs
    this.#rows.length = 0
    this.#inOrder = true
    this.#inputEnd = 0
  }

  /** Copies the bytes of one stored row of entity `index`; several rows (lanes) per entity in any order. */
  addRow(index: number, bytes: Uint8Array): void {
    const at = this.#reserve(this.#inputEnd + bytes.length)
    this.#memory.set(bytes, at + this.#inputEnd)
    const last = this.#rows.length - 3
    if (last >= 0 && this.#rows[last]! > index) this.#inOrder = false
    this.#rows.push(index, this.#inputEnd, bytes.length)
    this.#inputEnd = (this.#inputEnd + bytes.length + 7) & ~7
  }

  /** Address of the input region with room for `bytes`; the view follows the memory when it grows. */
  #reserve(bytes: number): number {
    let at: number
    try {
      at = this.#exports.reserveInput(bytes, this.#inputEnd) >>> 0
    } catch (cause) {
      throw trapError(this.#exports, 'take up rows', cause)
    }
    if (this.#memory.buffer !== this.#exports.memory.buffer) this.#memory = new Uint8Array(this.#exports.memory.buffer)
    return at
  }

  run(): void {
    if (!this.#inOrder) this.#sortRows()
    const rowCount = this.#rows.length / 3
    const asOfAt = this.#inputEnd
    const tableAt = asOfAt + this.#count * 8
    const base = this.#reserve(tableAt + rowCount * 12)
    const asOfs = new Float64Array(this.#memory.buffer, base + asOfAt, this.#count)
    if (typeof this.#asOf === 'number') asOfs.fill(this.#asOf)
    else asOfs.set(this.#asOf.subarray(0, this.#count))
    const table = new Uint32Array(this.#memory.buffer, base + tableAt, rowCount * 3)
    for (let i = 0; i < table.length; i += 3) {
      table[i] = this.#rows[i]!
      table[i + 1] = base + this.#rows[i + 1]!
      table[i + 2] = this.#rows[i + 2]!
    }
    const core = this.#exports
    try {
      core.merge(this.#count, base + asOfAt, base + tableAt, rowCount)
    } catch (cause) {
      throw trapError(core, 'merge rows', cause)
    }
    const buffer = core.memory.buffer
    if (this.#view?.floats.buffer !== buffer) {
      this.#view = {
        floats: new Float64Array(buffer),
        longs: new BigInt64Array(buffer),
        words: new Uint32Array(buffer),
        bytes: new Uint8Array(buffer),
      }
      this.#memory = this.#view.bytes
    }
    this.#infosAt = core.infos() >>> 0
    this.#statusesAt = core.statuses() >>> 0
    this.#valuesAt = core.values() >>> 0
  }

  #sortRows(): void {
    const rows: [number, number, number][] = []
    for (let i = 0; i < this.#rows.length; i += 3) rows.push([this.#rows[i]!, this.#rows[i + 1]!, this.#rows[i + 2]!])
    rows.sort((a, b) => a[0] - b[0])
    this.#rows = rows.flat()
    this.#inOrder = true
  }

  /** The feature's value; null when there is none (its status says why). A default stands for an empty window only. */
  value(index: number, feature: number): FeatureValue {
    const status = this.#statusCode(index, feature)
    const plan = this.#plan.features[feature]!
    const isEmpty = status === STATUS_EMPTY || status === STATUS_UNKNOWN
    if (isEmpty && plan.op !== 'count') return this.#defaults[feature]!
    if (status !== 0 && !isEmpty) return null
    const cell = this.#valuesAt + (index * this.featureCount + feature) * 16
    return this.#readers[feature]!(this.#view!, cell)
  }

  status(index: number, feature: number): FeatureStatus {
    return STATUSES[this.#statusCode(index, feature)]!
  }

  /**
   * Puts values of the entity's features into the columns given, where all are `ok` numbers, the usual case. False in any
   * other, which `value` and `status` answer one by one.
   */
  takeNumbers(index: number, features: Int32Array, columns: Int32Array, into: number[]): boolean {
    const { bytes, floats } = this.#view!
    const isFloat = this.#isFloat
    const cells = index * this.featureCount
    const statusesAt = this.#statusesAt + cells
    const valuesAt = (this.#valuesAt >> 3) + cells * 2
    for (let i = 0; i < features.length; i++) {
      const feature = features[i]!
      if (bytes[statusesAt + feature] !== 0 || isFloat[feature] === 0) return false
      into[columns[i]!] = floats[valuesAt + feature * 2]!
    }
    return true
  }

  #statusCode(index: number, feature: number): number {
    return this.#view!.bytes[this.#statusesAt + index * this.featureCount + feature]!
  }

  // What every request asks of every entity, one by one: no object is made and no row is looked for.

  /** Highest layout version of the entity's rows. */
  layoutVersion(index: number): number {
    return this.#view!.words[(this.#infosAt + index * ENTITY_INFO_BYTES + INFO_LAYOUT_VERSION) >> 2]!
  }

  /** Highest head frontier of the entity's rows: how far its data go, and the oldest as-of. -1 without rows. */
  newestFrontierMs(index: number): number {
    return this.#infoFloat(index, INFO_OLDEST_AS_OF)
  }

  /** Highest complete-since of the entity's rows; -1 without rows. */
  completeSinceMs(index: number): number {
    return this.#infoFloat(index, INFO_COMPLETE_SINCE)
  }

  #infoFloat(index: number, field: number): number {
    return this.#view!.floats[(this.#infosAt + index * ENTITY_INFO_BYTES + field) >> 3]!
  }

  entityInfo(index: number): EntityInfo {
    const at = this.#infosAt + index * ENTITY_INFO_BYTES
    const view = new DataView(this.#exports.memory.buffer)
    const error = view.getUint32(at + INFO_ERROR, true)
    const rowInfos: { applied: number; bytes: number }[] = []
    const base = this.#exports.reserveInput(0, 0) >>> 0
    for (let i = 0; i < this.#rows.length; i += 3) {
      if (this.#rows[i] !== index) continue
      const bytes = this.#rows[i + 2]!
      const applied = bytes >= 16 ? Number(view.getBigInt64(base + this.#rows[i + 1]! + ROW_APPLIED_AT, true)) : -1
      rowInfos.push({ applied, bytes })
    }
    return {
      rows: view.getUint32(at + INFO_ROWS, true),
      completeThroughMs: view.getFloat64(at + INFO_COMPLETE_THROUGH, true),
      oldestAsOfMs: view.getFloat64(at + INFO_OLDEST_AS_OF, true),
      completeSinceMs: view.getFloat64(at + INFO_COMPLETE_SINCE, true),
      layoutVersion: view.getUint32(at + INFO_LAYOUT_VERSION, true),
      error: error === 0 ? undefined : rowError(error, `stored row of view ${this.#plan.view}`),
      rowInfos,
      tilesRead: view.getUint32(at + INFO_TILES, true),
      rawEventsRead: view.getUint32(at + INFO_EVENTS, true),
    }
  }
}

const STATUSES: Record<number, FeatureStatus> = {
  0: 'ok',
  [STATUS_EMPTY]: 'empty',
  [STATUS_UNKNOWN]: 'unknown_entity',
  [STATUS_TOO_OLD]: 'too_old',
  [STATUS_OVERFLOW]: 'overflow',
  [STATUS_ERROR]: 'error',
}

/** What stands for an empty window; int64 defaults are text in the plan, because JSON has no exact ones. */
function defaultOf(feature: FeaturePlan): FeatureValue {
  if (feature.default === undefined) return null
  return feature.type === 'int64' && feature.op !== 'count' ? BigInt(feature.default) : feature.default
}

function isFloat(feature: FeaturePlan): boolean {
  return feature.op === 'count' || feature.type === 'float64'
}

function readerOf(feature: FeaturePlan): Reader {
  if (isFloat(feature)) return (view, cell) => view.floats[cell >> 3]!
  if (feature.type === 'int64') return (view, cell) => view.longs[cell >> 3]!
  if (feature.type === 'bool') return (view, cell) => view.words[cell >> 2] !== 0
  if (feature.type === 'decimal') {
    const scale = feature.scale ?? 0
    return (view, cell) =>
      formatDecimal(view.longs[(cell >> 3) + 1]!, BigInt.asUintN(64, view.longs[cell >> 3]!), scale)
  }
  return (view, cell) => {
    const at = view.words[cell >> 2]!
    return decoder.decode(view.bytes.subarray(at, at + view.words[(cell >> 2) + 1]!))
  }
}
