/**
 * What a partial aggregate is: a commutative monoid with one canonical encoding, in four forms.
 *
 *   slot          one (entity, finest tile) since the last flush; small, fixed; what the hot loop folds into
 *   accumulator   any number of slots, tiles and events; roomy, fixed; what compaction and merge add into
 *   tile          its cell in a run of a stored row: canonical bytes, the run's parameters say how wide
 *   value         what a request gets
 *
 * A partial is a file (bits.ts is the smallest; numeric.ts has a folder) with these functions, and a case in each switch of
 * dispatch.ts. What a partial has no use for it leaves out, of parameters and of functions.
 *
 *   xSlotBytes  xAccBytes                     sizes: functions of its plan, or constants
 *   xInitSlot(plan, slot)                     the neutral element
 *   xFold(plan, cells, rows, slots, n)        slot = slot + event, for n events: HOT
 *   xDropSlot  xDropAcc  xOwnWide             only for memory outside: given back, or made its own after a copy
 *   xInitAcc(plan, acc)
 *   xAddSlot(plan, acc, slot, tileMs)         acc = acc + slot
 *   xAddTiles(plan, acc, run, first, cellAt, count)  acc = acc + tiles of one run, in place: HOT
 *   xAddEvents(plan, acc, first, count, heap) acc = acc + raw events
 *   xAddAcc(plan, into, from)                 into = into + from
 *   xCellBytes(plan, params)                  bytes of its cell in a tile, or -1 if the run's parameters can't be
 *   xInitShape  xMeasureAcc  xMeasureTile  xBoundShape  xWriteParams
 *                                             only where runs decide its widths: the shape behind a run's header
 *   xTextOfAcc  xTextOfTile                   only where its cells refer to text
 *   xWriteAcc / xCopyTile(plan, cell, …)      the canonical cell
 *   xLower(plan, acc, op, out)                acc -> value and status
 *
 * Cells come from outside: whatever stands in one, no function may trap or leave the row.
 *
 * Laws, tested over random data for every partial (test/laws): addition is commutative and associative with the neutral
 * element; write(add(a, b)) is the same bytes however a and b were split, ordered or copied; lower never rounds twice.
 */

/** What one partial needs in a run, while the run's tiles are measured. */
@unmanaged
export class Shape {
  /** Some tile's count of non-null cells is not its count of rows. */
  countsDiffer: i32
  /** Limb range of the sums; empty while low >= high. */
  sumLow: i32
  sumHigh: i32
  squaresLow: i32
  squaresHigh: i32
}

export const SHAPE_BYTES: usize = 20
const shapes = memory.data(128 * 20)
const bounds = memory.data(128 * 20)

export function shapeOf(index: i32): Shape {
  return changetype<Shape>(shapes + (index as usize) * SHAPE_BYTES)
}

/** What the shape can grow to at the most. */
export function boundOf(index: i32): Shape {
  return changetype<Shape>(bounds + (index as usize) * SHAPE_BYTES)
}

/** Has everything measured so far reached the bounds of `count` partials? Then no further tile can widen it. */
export function shapesAreBounds(count: i32): bool {
  return memory.compare(shapes, bounds, (count as usize) * SHAPE_BYTES) == 0
}

/** A run of a row while it is read: addresses are good while the row's bytes stay where they are. */
@unmanaged
export class Run {
  level: i32
  count: i32
  stride: usize
  /** First tile or event. */
  first: usize
  /** Text, `heapBytes` of it. */
  heap: usize
  heapBytes: u32
  /** Parameters behind the header. */
  params: usize
  /** Bytes of a tile's row count. */
  rowsWidth: i32
  /** Length of the level's tiles in ms. */
  stepMs: i64
  /** Offset of each partial's cell in a tile, u16 by partial. */
  cells: usize
  /** dispatch.ts plainForm. */
  plain: i32
}

/** Bytes of a run's cell offsets: u16 for PARTIALS_MAX partials. */
export const CELLS_BYTES: usize = 256

@inline
export function cellAt(cells: usize, partial: i32): usize {
  return load<u16>(cells + ((partial as usize) << 1)) as usize
}
