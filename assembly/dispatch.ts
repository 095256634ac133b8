/**
 * From a partial's kind to its functions: the only switch, taken once per partial and batch, span or tile, never per event.
 */
import { PARTIAL_EDGE, PARTIAL_NUMERIC, TILE_INDEX_AT, TILE_ROWS_AT } from './layout'
import { PartialPlan, accBytes, column, partial, partialCount } from './plan'
import { allocate } from './arena'
import { register } from './columns'
import { wideCount } from './exact'
import { Run, boundOf, cellAt, shapeOf, shapesAreBounds } from './partials/partial'
import {
  numericAddAcc,
  numericAddEvents,
  numericAddSlot,
  numericAddTiles,
  numericBoundShape,
  numericCellBytes,
  numericCopyTile,
  numericDropAcc,
  numericDropSlot,
  numericFold,
  numericInitAcc,
  numericInitShape,
  numericInitSlot,
  numericLower,
  numericMeasureAcc,
  numericMeasureTile,
  numericOwnWide,
  numericPlainForm,
  numericAddPlainTiles,
  numericTakesEdge,
  numericWriteAcc,
  numericWriteParams,
} from './partials/numeric'
import {
  edgeAddAcc,
  edgeAddEvents,
  edgeAddSlot,
  edgeAddTiles,
  edgeCellBytes,
  edgeCopyTile,
  edgeFold,
  edgeInitAcc,
  edgeInitSlot,
  edgeLower,
  edgeTextOfAcc,
  edgeTextOfTile,
  edgeWriteAcc,
} from './partials/edge'

import {
  bitsAddAcc,
  bitsAddEvents,
  bitsAddSlot,
  bitsAddTiles,
  bitsCellBytes,
  bitsCopyTile,
  bitsFold,
  bitsInitAcc,
  bitsInitSlot,
  bitsLower,
  bitsWriteAcc,
} from './partials/bits'

export function initSlot(slot: usize): void {
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    if (plan.kind == PARTIAL_NUMERIC) numericInitSlot(plan, slot)
    else if (plan.kind == PARTIAL_EDGE) edgeInitSlot(plan, slot)
    else bitsInitSlot(plan, slot)
  }
}

export function dropSlot(slot: usize): void {
  for (let i = 0; i < partialCount; i++) if (partial(i).kind == PARTIAL_NUMERIC) numericDropSlot(partial(i), slot)
}

/** Folds n resolved events: rows[k] of the registers into slots[k], offsets[k] ms into its tile. */
export function foldPartials(rows: usize, slots: usize, offsets: usize, n: i32, times: usize): void {
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    const cells = register(column(plan.column).register)
    if (plan.kind == PARTIAL_NUMERIC) {
      // An inline edge has the plan's only column, and stands behind its numeric partial.
      const follows = i + 1 < partialCount && partial(i + 1).inlined != 0 && numericTakesEdge(plan)
      numericFold(plan, follows ? partial(i + 1) : changetype<PartialPlan>(0), cells, rows, slots, offsets, n)
      if (follows) i++
    } else if (plan.kind == PARTIAL_EDGE) edgeFold(plan, cells, rows, slots, offsets, n, times)
    else bitsFold(plan, cells, rows, slots, n)
  }
}

// ---- accumulators: rows i64, then each partial's ---------------------------------------------------------------------

let emptyAcc: usize = 0

/** The neutral accumulator. */
export function initAcc(acc: usize): void {
  if (emptyAcc == 0) {
    emptyAcc = allocate(accBytes)
    initAccFields(emptyAcc)
  }
  copyBlock(acc, emptyAcc, accBytes)
}

function initAccFields(acc: usize): void {
  store<i64>(acc, 0)
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    if (plan.kind == PARTIAL_NUMERIC) numericInitAcc(plan, acc + (plan.accAt as usize))
    else if (plan.kind == PARTIAL_EDGE) edgeInitAcc(plan, acc + (plan.accAt as usize))
    else bitsInitAcc(plan, acc + (plan.accAt as usize))
  }
}

/** Copies a few dozen bytes, a multiple of 32: a call of `memory.copy` costs more than that. */
export function copyBlock(into: usize, from: usize, bytes: usize): void {
  for (const end = into + bytes; into < end; into += 32, from += 32) {
    if (ASC_FEATURE_SIMD) {
      v128.store(into, v128.load(from))
      v128.store(into, v128.load(from, 16), 16)
    } else {
      store<u64>(into, load<u64>(from))
      store<u64>(into, load<u64>(from, 8), 8)
      store<u64>(into, load<u64>(from, 16), 16)
      store<u64>(into, load<u64>(from, 24), 24)
    }
  }
}

/** into = from; what `into` held is overwritten, not dropped. */
export function copyAcc(into: usize, from: usize): void {
  copyBlock(into, from, accBytes)
  if (wideCount == 0) return
  for (let i = 0; i < partialCount; i++) {
    if (partial(i).kind == PARTIAL_NUMERIC) numericOwnWide(partial(i), into + (partial(i).accAt as usize))
  }
}

/** Gives back what accumulators hold outside themselves. */
export function dropAccs(accs: usize, count: i32): void {
  if (wideCount == 0) return
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    if (plan.kind != PARTIAL_NUMERIC) continue
    for (let j = 0; j < count; j++) numericDropAcc(plan, accs + (j as usize) * accBytes + (plan.accAt as usize))
  }
}

export function addAcc(into: usize, from: usize): void {
  store<i64>(into, load<i64>(into) + load<i64>(from))
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    const at = plan.accAt as usize
    if (plan.kind == PARTIAL_NUMERIC) numericAddAcc(plan, into + at, from + at)
    else if (plan.kind == PARTIAL_EDGE) edgeAddAcc(plan, into + at, from + at)
    else bitsAddAcc(plan, into + at, from + at)
  }
}

/** acc += slot, whose tile starts at `tileMs`. */
export function addSlot(acc: usize, slot: usize, rows: u32, tileMs: i64): void {
  store<i64>(acc, load<i64>(acc) + (rows as i64))
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    const at = acc + (plan.accAt as usize)
    if (plan.kind == PARTIAL_NUMERIC) numericAddSlot(plan, at, slot)
    else if (plan.kind == PARTIAL_EDGE) edgeAddSlot(plan, at, slot, tileMs)
    else bitsAddSlot(plan, at, slot)
  }
}

/** acc += `count` raw events from `first` on, their text in `heap`. */
export function addEvents(acc: usize, first: usize, count: i32, heap: usize): void {
  store<i64>(acc, load<i64>(acc) + (count as i64))
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    const at = acc + (plan.accAt as usize)
    if (plan.kind == PARTIAL_NUMERIC) numericAddEvents(plan, at, first, count)
    else if (plan.kind == PARTIAL_EDGE) edgeAddEvents(plan, at, first, count, heap)
    else bitsAddEvents(plan, at, first, count)
  }
}

/** acc += `count` tiles of the run from `first` on, in place. */
export function addTiles(acc: usize, run: Run, first: usize, count: i32): void {
  const stride = run.stride
  let rows: i64 = 0
  let i = 0
  if (run.plain >= 0) {
    rows = numericAddPlainTiles(acc + (partial(0).accAt as usize), run.plain, first, stride, count)
    i = 1
  } else if (run.rowsWidth == 4) {
    for (let j = 0, at = first; j < count; j++, at += stride) rows += load<i32>(at, TILE_ROWS_AT) as i64
  } else {
    for (let j = 0, at = first; j < count; j++, at += stride) rows += load<i64>(at, TILE_ROWS_AT)
  }
  store<i64>(acc, load<i64>(acc) + rows)
  for (; i < partialCount; i++) {
    const plan = partial(i)
    const at = acc + (plan.accAt as usize)
    if (plan.kind == PARTIAL_NUMERIC) numericAddTiles(plan, at, run, first, cellAt(run.cells, i), count, rows)
    else if (plan.kind == PARTIAL_EDGE) edgeAddTiles(plan, at, run, first, cellAt(run.cells, i), count)
    else bitsAddTiles(plan, at, run, first, cellAt(run.cells, i), count)
  }
}

/** How `addTiles` may take a run's first partial, with the rows: a form of numeric's, or -1. */
export function plainForm(run: Run): i32 {
  if (partialCount == 0 || run.rowsWidth != 4 || partial(0).kind != PARTIAL_NUMERIC) return -1
  return numericPlainForm(partial(0), run.params)
}

// ---- runs ----------------------------------------------------------------------------------------------------------

export function tileRows(run: Run, tile: usize): i64 {
  return run.rowsWidth == 4 ? (load<i32>(tile, TILE_ROWS_AT) as i64) : load<i64>(tile, TILE_ROWS_AT)
}

/**
 * Bytes of a tile under a run's parameters, and where its cells lie; -1 when the parameters are not ones this plan can have
 * written.
 */
export function tileBytes(params: usize, rowsWidth: i32, cells: usize): i32 {
  let bytes = TILE_ROWS_AT + rowsWidth
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    let cell: i32
    if (plan.kind == PARTIAL_NUMERIC) cell = numericCellBytes(plan, params)
    else if (plan.kind == PARTIAL_EDGE) cell = edgeCellBytes(plan)
    else cell = bitsCellBytes()
    if (cell < 0) return -1
    store<u16>(cells + ((i as usize) << 1), bytes as u16)
    bytes += cell
  }
  return bytes
}

// What the tiles measured since `initShapes` need.
export let shapeRowsWidth: i32 = 4
export let shapeTextBytes: u32 = 0

export function initShapes(): void {
  shapeRowsWidth = 4
  shapeTextBytes = 0
  for (let i = 0; i < partialCount; i++) numericInitShape(shapeOf(i))
}

function measureRows(rows: i64): void {
  if (rows != ((rows as i32) as i64)) shapeRowsWidth = 8
}

export function measureAcc(acc: usize): void {
  const rows = load<i64>(acc)
  measureRows(rows)
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    const at = acc + (plan.accAt as usize)
    if (plan.kind == PARTIAL_NUMERIC) numericMeasureAcc(plan, shapeOf(i), at, rows)
    else if (plan.kind == PARTIAL_EDGE) shapeTextBytes += edgeTextOfAcc(plan, at)
  }
}

/** Bounds what stored tiles of `run` can still add to what was measured so far. */
export function boundShapes(run: Run): void {
  boundRowsWidth = max(shapeRowsWidth, run.rowsWidth)
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    if (plan.kind == PARTIAL_NUMERIC) numericBoundShape(plan, shapeOf(i), boundOf(i), run.params)
    else numericInitShape(boundOf(i))
  }
}

let boundRowsWidth: i32 = 4

/** Measuring further tiles of the bounded run can't change the shape. */
export function isMeasured(): bool {
  return shapeRowsWidth == boundRowsWidth && shapesAreBounds(partialCount)
}

export function measureTile(run: Run, tile: usize): void {
  const rows = tileRows(run, tile)
  measureRows(rows)
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    const cell = tile + cellAt(run.cells, i)
    if (plan.kind == PARTIAL_NUMERIC) numericMeasureTile(plan, shapeOf(i), run, cell, rows)
    else if (plan.kind == PARTIAL_EDGE) shapeTextBytes += edgeTextOfTile(plan, cell)
  }
}

/** Cell offsets of the run that is being written. */
const writtenCells = memory.data(128 * 2, 8)

/** Writes the parameters of the measured shape; returns the bytes of a tile. */
export function writeParams(params: usize): i32 {
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    if (plan.kind == PARTIAL_NUMERIC) numericWriteParams(plan, shapeOf(i), params, shapeRowsWidth)
  }
  return tileBytes(params, shapeRowsWidth, writtenCells)
}

function writeRows(tile: usize, index: u32, rows: i64, rowsWidth: i32): void {
  store<u32>(tile, index, TILE_INDEX_AT)
  if (rowsWidth == 4) store<i32>(tile, rows as i32, TILE_ROWS_AT)
  else store<i64>(tile, rows, TILE_ROWS_AT)
}

/** Writes an accumulator as the tile `index`, text behind `heap + used`; returns the text bytes used then. */
export function writeAcc(
  params: usize,
  rowsWidth: i32,
  tile: usize,
  index: u32,
  stepMs: i64,
  acc: usize,
  heap: usize,
  used: u32,
): u32 {
  writeRows(tile, index, load<i64>(acc), rowsWidth)
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    const at = acc + (plan.accAt as usize)
    const cell = tile + cellAt(writtenCells, i)
    if (plan.kind == PARTIAL_NUMERIC) numericWriteAcc(plan, params, cell, at)
    else if (plan.kind == PARTIAL_EDGE) used = edgeWriteAcc(plan, cell, at, (index as i64) * stepMs, heap, used)
    else bitsWriteAcc(cell, at)
  }
  return used
}

/** Writes a stored tile of `run` in other widths; returns the text bytes used then. */
export function copyTile(
  params: usize,
  rowsWidth: i32,
  tile: usize,
  run: Run,
  from: usize,
  heap: usize,
  used: u32,
): u32 {
  const rows = tileRows(run, from)
  writeRows(tile, load<u32>(from, TILE_INDEX_AT), rows, rowsWidth)
  for (let i = 0; i < partialCount; i++) {
    const plan = partial(i)
    const cell = tile + cellAt(writtenCells, i)
    const fromCell = from + cellAt(run.cells, i)
    if (plan.kind == PARTIAL_NUMERIC) numericCopyTile(plan, params, cell, run, fromCell, rows)
    else if (plan.kind == PARTIAL_EDGE) used = edgeCopyTile(plan, cell, run, fromCell, heap, used)
    else bitsCopyTile(cell, fromCell)
  }
  return used
}

// ---- values --------------------------------------------------------------------------------------------------------

export function lower(plan: PartialPlan, acc: usize, op: i32, out: usize): i32 {
  const at = acc + (plan.accAt as usize)
  if (plan.kind == PARTIAL_NUMERIC) return numericLower(plan, at, op, out)
  if (plan.kind == PARTIAL_EDGE) return edgeLower(plan, at, out)
  return bitsLower(at, out)
}
