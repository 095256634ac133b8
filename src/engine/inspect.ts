/**
 * A stored row as plain data: what it says, and what each of its bytes is for. Read by the constants of
 * assembly/layout.ts alone, without the core, so that it also tells when the two disagree; assembly/row.ts has the drawing.
 *
 * Sums are kept exactly, so they are given as text: every digit of the number that the limbs hold. int64 and decimal cells
 * are text, too.
 */
import {
  EDGE_NONE,
  ERROR_ROW_CHECKSUM,
  ERROR_ROW_MAGIC,
  ERROR_ROW_SHAPE,
  ERROR_ROW_SHORT,
  ERROR_ROW_VERSION,
  FRONTIER_BYTES,
  FRONTIER_COMPACTED_AT,
  FRONTIER_EVICTED_AT,
  HEAD_RAW,
  NUMERIC_PARAM_BYTES,
  NUMERIC_PARAM_N_WIDTH,
  NUMERIC_PARAM_SQUARES_BASE,
  NUMERIC_PARAM_SQUARES_LIMBS,
  NUMERIC_PARAM_SUM_BASE,
  NUMERIC_PARAM_SUM_LIMBS,
  RAW_CELLS_AT,
  RAW_NULLS_AT,
  RAW_OP_AT,
  RAW_TIME_AT,
  ROW_APPLIED_AT,
  ROW_BYTES_AT,
  ROW_CHECKSUM_AT,
  ROW_COMPLETE_SINCE_AT,
  ROW_HEAD_FRONTIER_AT,
  ROW_HEAD_KIND_AT,
  ROW_HEADER_BYTES,
  ROW_LAYOUT_VERSION_AT,
  ROW_LEVELS_AT,
  ROW_MAGIC,
  ROW_MAGIC_AT,
  ROW_RUNS_AT,
  ROW_VERSION,
  ROW_VERSION_AT,
  RUN_COUNT_AT,
  RUN_HEAD_LEVEL,
  RUN_HEADER_BYTES,
  RUN_HEAP_BYTES_AT,
  RUN_KIND_AT,
  RUN_LEVEL_AT,
  RUN_RAW,
  RUN_ROWS_WIDTH_AT,
  RUN_STRIDE_AT,
  RUN_TILES,
  TILE_INDEX_AT,
  TILE_ROWS_AT,
} from '../../assembly/layout.ts'
import type { PartialPlan, StatePlan, ValueType } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import { rowChecksum } from './row-checksum.ts'
import type {
  BytePart,
  CellDescription,
  EventDescription,
  PartialDescription,
  RowDescription,
  TileDescription,
} from './row-description.ts'
import { rowError } from './row-error.ts'

/** Describes a row of a view of this state. Throws ROW_CORRUPT. */
export function inspectRow(bytes: Uint8Array, state: StatePlan): RowDescription {
  try {
    return new RowReader(bytes, state).read()
  } catch (error) {
    // A count or a length that leads out of the bytes.
    if (error instanceof RangeError) throw rowError(ERROR_ROW_SHORT, 'stored row')
    throw error
  }
}

/** A projected cell, or the event id: they lie one behind the other in an event. */
interface Cell {
  readonly name: string
  readonly type: ValueType
  readonly scale: number
  readonly nullBit: number
  readonly at: number
  readonly bytes: number
}

interface Run {
  readonly kind: number
  /** -1 for the head. */
  readonly level: number
  readonly section: string
  readonly rowsWidth: number
  readonly count: number
  readonly stride: number
  readonly params: number
  readonly first: number
  readonly heap: number
  readonly heapBytes: number
  readonly end: number
}

class RowReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #state: StatePlan
  readonly #cells: readonly Cell[]
  /** Of a raw event, cells included. */
  readonly #eventBytes: number
  readonly #parts: BytePart[] = []
  /** Text of the run under way. */
  #textBytes = 0

  constructor(bytes: Uint8Array, state: StatePlan) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#state = state
    this.#cells = cellsOf(state)
    this.#eventBytes = RAW_CELLS_AT + this.#cells.reduce((sum, cell) => sum + cell.bytes, 0)
  }

  read(): RowDescription {
    const view = this.#view
    this.#checkHeader()
    this.#part('header', 'magic, version, levels', 1, ROW_CHECKSUM_AT)
    this.#part('header', 'checksum', 1, ROW_APPLIED_AT - ROW_CHECKSUM_AT)
    this.#part('header', 'applied position', 1, ROW_LAYOUT_VERSION_AT - ROW_APPLIED_AT)
    this.#part('header', 'layout version', 1, ROW_BYTES_AT - ROW_LAYOUT_VERSION_AT)
    this.#part('header', 'row length', 1, ROW_HEAD_FRONTIER_AT - ROW_BYTES_AT)
    this.#part('header', 'head frontier', 1, ROW_COMPLETE_SINCE_AT - ROW_HEAD_FRONTIER_AT)
    this.#part('header', 'complete since', 1, ROW_RUNS_AT - ROW_COMPLETE_SINCE_AT)
    this.#part('header', 'runs, head kind, reserved', 1, ROW_HEADER_BYTES - ROW_RUNS_AT)
    const levels = this.#state.ladder.map(({ stepMs }, i) => this.#readFrontiers(stepMs, i))

    let events: EventDescription[] = []
    let at = ROW_HEADER_BYTES + levels.length * FRONTIER_BYTES
    let previous = -2
    for (let runs = view.getUint16(ROW_RUNS_AT, true); runs > 0; runs--) {
      const run = this.#openRun(at)
      if (run.level <= previous) throw shapeError()
      previous = run.level
      this.#textBytes = 0
      if (run.level < 0) events = this.#readEvents(run)
      else levels[run.level]!.tiles = this.#readTiles(run)
      this.#part(run.section, 'text', 1, this.#textBytes)
      this.#part(run.section, 'padding', 1, run.heapBytes - this.#textBytes)
      at = run.end
    }
    if (at !== this.#bytes.length) throw shapeError()
    return {
      formatVersion: view.getUint8(ROW_VERSION_AT),
      bytes: this.#bytes.length,
      checksum: hex(view.getUint32(ROW_CHECKSUM_AT, true)),
      applied: this.#int64(ROW_APPLIED_AT),
      layoutVersion: view.getUint32(ROW_LAYOUT_VERSION_AT, true),
      headFrontierMs: this.#int64(ROW_HEAD_FRONTIER_AT),
      completeSinceMs: this.#int64(ROW_COMPLETE_SINCE_AT),
      head: this.#state.head.kind,
      events,
      levels,
      parts: this.#parts,
    }
  }

  #checkHeader(): void {
    const view = this.#view
    const { length } = this.#bytes
    if (length < ROW_HEADER_BYTES) throw rowError(ERROR_ROW_SHORT, 'stored row')
    if (view.getUint16(ROW_MAGIC_AT, true) !== ROW_MAGIC) throw rowError(ERROR_ROW_MAGIC, 'stored row')
    if (view.getUint8(ROW_VERSION_AT) !== ROW_VERSION) throw rowError(ERROR_ROW_VERSION, 'stored row')
    if (view.getUint32(ROW_BYTES_AT, true) !== length || length % 4 !== 0) throw rowError(ERROR_ROW_SHORT, 'stored row')
    if (view.getUint32(ROW_CHECKSUM_AT, true) !== rowChecksum(view)) throw rowError(ERROR_ROW_CHECKSUM, 'stored row')
    if (view.getUint8(ROW_LEVELS_AT) !== this.#state.ladder.length) throw shapeError()
    const isRaw = view.getUint16(ROW_HEAD_KIND_AT, true) === HEAD_RAW
    if (isRaw !== (this.#state.head.kind === 'raw')) throw shapeError()
  }

  #readFrontiers(stepMs: number, level: number) {
    const at = ROW_HEADER_BYTES + level * FRONTIER_BYTES
    this.#part('frontiers', `${formatDuration(stepMs)}: compacted, evicted`, 1, FRONTIER_BYTES)
    return {
      stepMs,
      compactedMs: this.#int64(at + FRONTIER_COMPACTED_AT) * stepMs,
      evictedMs: this.#int64(at + FRONTIER_EVICTED_AT) * stepMs,
      tiles: [] as TileDescription[],
    }
  }

  #openRun(at: number): Run {
    const view = this.#view
    const levelByte = view.getUint8(at + RUN_LEVEL_AT)
    const level = levelByte === RUN_HEAD_LEVEL ? -1 : levelByte
    const kind = view.getUint8(at + RUN_KIND_AT)
    if (level >= this.#state.ladder.length || kind !== (level < 0 ? RUN_RAW : RUN_TILES)) throw shapeError()
    const section = level < 0 ? 'head' : formatDuration(this.#state.ladder[level]!.stepMs)
    const count = view.getUint32(at + RUN_COUNT_AT, true)
    const stride = view.getUint32(at + RUN_STRIDE_AT, true)
    const heapBytes = view.getUint32(at + RUN_HEAP_BYTES_AT, true)
    const params = at + RUN_HEADER_BYTES
    const first = params + (level < 0 ? 0 : numericCount(this.#state) * NUMERIC_PARAM_BYTES)
    const heap = first + count * stride
    const end = heap + heapBytes
    if (count === 0 || end > this.#bytes.length) throw rowError(ERROR_ROW_SHORT, 'stored row')
    this.#part(section, 'run header', 1, RUN_HEADER_BYTES)
    const rowsWidth = view.getUint8(at + RUN_ROWS_WIDTH_AT)
    return { kind, level, section, rowsWidth, count, stride, params, first, heap, heapBytes, end }
  }

  // ---- raw events ----------------------------------------------------------------------------------------------------

  #readEvents(run: Run): EventDescription[] {
    if (run.stride !== this.#eventBytes || run.rowsWidth !== 0) throw shapeError()
    this.#part(run.section, 'event: time', run.count, RAW_OP_AT - RAW_TIME_AT)
    this.#part(run.section, 'event: operation', run.count, RAW_NULLS_AT - RAW_OP_AT)
    this.#part(run.section, 'event: null bits', run.count, RAW_CELLS_AT - RAW_NULLS_AT)
    for (const cell of this.#cells) this.#part(run.section, `event: ${cell.name}`, run.count, cell.bytes)
    return Array.from({ length: run.count }, (_, i): EventDescription => {
      const at = run.first + i * run.stride
      return {
        timeMs: this.#int64(at + RAW_TIME_AT),
        op: this.#view.getUint8(at + RAW_OP_AT),
        cells: this.#readCells(at + RAW_NULLS_AT, run),
      }
    })
  }

  /** Cells of an event, given its null bits. */
  #readCells(nulls: number, run: Run): CellDescription[] {
    const bits = this.#view.getUint32(nulls, true)
    return this.#cells.map((cell) => {
      const value = this.#readCell(cell, nulls + cell.at - RAW_NULLS_AT, run)
      return { column: cell.name, value: (bits & cell.nullBit) === 0 ? value : null }
    })
  }

  #readCell(cell: Pick<Cell, 'type' | 'scale'>, at: number, run: Run): CellDescription['value'] {
    if (cell.type !== 'utf8') return this.#readNumber(cell, at)
    const offset = this.#view.getUint32(at, true)
    const length = this.#view.getUint32(at + 4, true)
    if (offset + length > run.heapBytes) throw rowError(ERROR_ROW_SHORT, 'stored row')
    this.#textBytes += length
    return decoder.decode(this.#bytes.subarray(run.heap + offset, run.heap + offset + length))
  }

  #readNumber({ type, scale }: Pick<Cell, 'type' | 'scale'>, at: number): number | string | boolean {
    if (type === 'float64') return this.#view.getFloat64(at, true)
    if (type === 'bool') return this.#view.getBigInt64(at, true) !== 0n
    if (type === 'int64') return String(this.#view.getBigInt64(at, true))
    return placePoint((this.#view.getBigInt64(at + 8, true) << 64n) | this.#view.getBigUint64(at, true), scale)
  }

  // ---- tiles ---------------------------------------------------------------------------------------------------------

  #readTiles(run: Run): TileDescription[] {
    const state = this.#state
    const { section } = run
    if (run.rowsWidth !== 4 && run.rowsWidth !== 8) throw shapeError()
    this.#part(section, 'parameters of numeric partials', numericCount(state), NUMERIC_PARAM_BYTES)
    this.#part(section, 'tile: number', run.count, TILE_ROWS_AT - TILE_INDEX_AT)
    this.#part(section, 'tile: rows', run.count, run.rowsWidth)
    const fields: TileField[] = []
    let at = TILE_ROWS_AT + run.rowsWidth
    let params = run.params
    for (const partial of state.partials) {
      const field = this.#fieldOf(partial, at, params)
      if (partial.kind === 'numeric') params += NUMERIC_PARAM_BYTES
      for (const [what, bytes] of field.pieces) {
        this.#part(section, `tile: ${what}`, run.count, bytes)
        at += bytes
      }
      fields.push(field)
    }
    if (at !== run.stride) throw shapeError()

    const stepMs = state.ladder[run.level]!.stepMs
    return Array.from({ length: run.count }, (_, i): TileDescription => {
      const tile = run.first + i * run.stride
      const startMs = this.#view.getUint32(tile + TILE_INDEX_AT, true) * stepMs
      const rows = this.#count(tile + TILE_ROWS_AT, run.rowsWidth)
      const partials = fields.map((field) => field.read(tile, startMs, rows, run))
      return { startMs, endMs: startMs + stepMs, rows, partials }
    })
  }

  #fieldOf(partial: PartialPlan, at: number, params: number): TileField {
    switch (partial.kind) {
      case 'numeric':
        return this.#numericField(partial, at, params)
      case 'edge':
        return this.#edgeField(partial, at)
      case 'bits':
        return this.#bitsField(partial, at)
    }
  }

  #numericField(partial: Extract<PartialPlan, { kind: 'numeric' }>, at: number, params: number): TileField {
    const view = this.#view
    const cell = this.#columnOf(partial)
    const countWidth = view.getUint8(params + NUMERIC_PARAM_N_WIDTH)
    if (countWidth !== 0 && countWidth !== 4 && countWidth !== 8) throw shapeError()
    const sum = {
      base: view.getInt8(params + NUMERIC_PARAM_SUM_BASE),
      limbs: view.getUint8(params + NUMERIC_PARAM_SUM_LIMBS),
    }
    const squares = {
      base: view.getInt8(params + NUMERIC_PARAM_SQUARES_BASE),
      limbs: view.getUint8(params + NUMERIC_PARAM_SQUARES_LIMBS),
    }
    const sumAt = at + countWidth
    const squaresAt = sumAt + sum.limbs * 4
    const minAt = squaresAt + squares.limbs * 4
    const maxAt = minAt + (partial.min ? cell.bytes : 0)
    const pieces: TileField['pieces'] = [
      [`count of ${cell.name}`, countWidth],
      [`sum of ${cell.name}`, sum.limbs * 4],
      [`sum of squares of ${cell.name}`, squares.limbs * 4],
      [`min of ${cell.name}`, maxAt - minAt],
      [`max of ${cell.name}`, partial.max ? cell.bytes : 0],
    ]
    const read: TileField['read'] = (tile, _startMs, rows) => {
      const cells = countWidth === 0 ? rows : this.#count(tile + at, countWidth)
      // Where there is no cell, min and max hold the ends of their type.
      const extreme = (extremeAt: number) => (cells === 0 ? null : this.#readNumber(cell, tile + extremeAt))
      return {
        kind: 'numeric',
        column: cell.name,
        cells,
        ...(partial.sum ? { sum: this.#limbs(tile + sumAt, sum, cell, 1) } : {}),
        ...(partial.squares ? { squares: this.#limbs(tile + squaresAt, squares, cell, 2) } : {}),
        ...(partial.min ? { min: extreme(minAt) } : {}),
        ...(partial.max ? { max: extreme(maxAt) } : {}),
      }
    }
    return { pieces, read }
  }

  #edgeField(partial: Extract<PartialPlan, { kind: 'edge' }>, at: number): TileField {
    const cell = this.#columnOf(partial)
    const kind = partial.last ? 'last' : 'first'
    // Where the column alone decides ties, the cell is all that is kept of the event.
    const isInline = this.#cells.length === 1 && cell.type !== 'utf8' && cell.type !== 'decimal'
    const pieces: [string, number][] = [[`time of ${kind} ${cell.name}`, 4]]
    if (isInline) pieces.push([`${kind} ${cell.name}`, 8])
    else {
      pieces.push([`null bits of ${kind} ${cell.name}`, RAW_CELLS_AT - RAW_NULLS_AT])
      for (const each of this.#cells) pieces.push([`${each.name} of ${kind} ${cell.name}`, each.bytes])
    }
    const read: TileField['read'] = (tile, startMs, _rows, run) => {
      const offset = this.#view.getUint32(tile + at, true)
      if (offset === EDGE_NONE) return { kind, column: cell.name, timeMs: null, value: null }
      const timeMs = startMs + offset
      if (isInline) return { kind, column: cell.name, timeMs, value: this.#readNumber(cell, tile + at + 4) }
      const event = this.#readCells(tile + at + 4, run)
      return { kind, column: cell.name, timeMs, value: event[this.#cells.indexOf(cell)]!.value, event }
    }
    return { pieces, read }
  }

  #bitsField(partial: Extract<PartialPlan, { kind: 'bits' }>, at: number): TileField {
    const { name: column } = this.#columnOf(partial)
    const kind = partial.and ? 'bit_and' : 'bit_or'
    const pieces: TileField['pieces'] = [
      [`presence of ${kind} ${column}`, 4],
      [`${kind} ${column}`, 8],
    ]
    const read: TileField['read'] = (tile) => {
      const seen = this.#view.getUint32(tile + at, true) !== 0
      return { kind, column, value: seen ? String(this.#view.getBigInt64(tile + at + 4, true)) : null }
    }
    return { pieces, read }
  }

  #columnOf(partial: PartialPlan): Cell {
    return this.#cells[partial.column + (this.#state.id ? 1 : 0)]!
  }

  #count(at: number, width: number): number {
    return width === 4 ? this.#view.getInt32(at, true) : this.#int64(at)
  }

  /** A number in limbs, with every digit. `power` 2: of squares, which have twice the digits behind the point. */
  #limbs(at: number, { base, limbs }: { base: number; limbs: number }, cell: Cell, power: 1 | 2): string {
    let number = 0n
    for (let i = limbs - 1; i >= 0; i--) number = (number << 32n) | BigInt(this.#view.getUint32(at + i * 4, true))
    return powerOfTwoText(BigInt.asIntN(limbs * 32, number), base * 32, cell.scale * power)
  }

  #int64(at: number): number {
    return Number(this.#view.getBigInt64(at, true))
  }

  #part(section: string, what: string, count: number, bytesEach: number): void {
    if (bytesEach < 0) throw shapeError()
    if (count * bytesEach > 0) this.#parts.push({ section, what, count, bytesEach, bytes: count * bytesEach })
  }
}

interface TileField {
  /** What the field's bytes are, in their order. */
  readonly pieces: readonly (readonly [what: string, bytes: number])[]
  readonly read: (tile: number, startMs: number, rows: number, run: Run) => PartialDescription
}

const decoder = new TextDecoder()

function cellsOf(state: StatePlan): Cell[] {
  const cells: Cell[] = []
  let at = RAW_CELLS_AT
  const add = (name: string, type: ValueType, scale: number, nullBit: number) => {
    const bytes = type === 'decimal' ? 16 : 8
    cells.push({ name, type, scale, nullBit, at, bytes })
    at += bytes
  }
  if (state.id) add('event id', state.id.type, 0, 1)
  for (const [i, { name, type, scale }] of state.columns.entries()) add(name, type, scale ?? 0, 2 << i)
  return cells
}

function numericCount(state: StatePlan): number {
  return state.partials.filter((each) => each.kind === 'numeric').length
}

function shapeError() {
  return rowError(ERROR_ROW_SHAPE, 'stored row')
}

function hex(word: number): string {
  return word.toString(16).padStart(8, '0')
}

// ---- numbers as text -------------------------------------------------------------------------------------------------

/** `number * 2^exponent` with every digit; `scale` digits of it belong behind the point. */
function powerOfTwoText(number: bigint, exponent: number, scale: number): string {
  if (exponent >= 0) return placePoint(number << BigInt(exponent), scale)
  // n / 2^k = n * 5^k / 10^k
  const digits = BigInt(-exponent)
  return placePoint(number * 5n ** digits, -exponent + scale).replace(/\.?0+$/, '')
}

function placePoint(number: bigint, scale: number): string {
  if (scale === 0) return String(number)
  const digits = String(number < 0n ? -number : number).padStart(scale + 1, '0')
  const text = `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
  return number < 0n ? `-${text}` : text
}
