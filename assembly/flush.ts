/**
 * Delta + stored row -> new row. Compaction and eviction happen here and nowhere else, per row, when it is flushed.
 *
 *   1  the row's frontiers move to the lane's head frontier (never back)
 *   2  raw events behind the head's frontier, and the delta's slots, add up to *additions*, one per tile and level
 *   3  level 0 = stored tiles + additions
 *   4  each coarser level:   parent already written  -> stored tile + the additions below it + its own
 *                            parent's end just passed -> the sum of its children, old and new: once, bounded work; + its own
 *                            parent still open        -> nothing yet
 *   5  every level drops what lies below its eviction frontier, is measured, and is written
 *
 *            evicted     compacted                 head frontier
 *   head                                                │ raw raw raw …
 *   5m                       ├──┼──┼──┼──┼──┼──┼──┼──┼──┤        the last one partly filled
 *   1h          ├───────────┼───────────┼───────────┤
 *   1d   ├───────────────────┤
 *
 * An addition below a level's eviction frontier still reaches the coarser levels that have its parent. What comes out is a
 * function of the events in row and delta and of the frontiers alone: arrival, batches and flushes don't show. A forgotten
 * entity's row comes out as its header alone, a *tombstone*: its applied position keeps a replay from folding again what was erased.
 *
 * Stages 1 to 4 are flush/rebuild.ts, which reads the delta by way of flush/delta.ts and flush/pairs.ts and leaves the new
 * row in flush/draft.ts; stage 5 is flush/write.ts, which puts it behind flush/output.ts. flush/unite.ts makes a draft of
 * two rows instead.
 */
import { ERROR_ROW_REGRESSED } from './layout'
import { layoutVersion, levelCount } from './plan'
import { resetScratch } from './arena'
import { Dirty, appliedOf, setApplied } from './entities'
import { headFrontierMs } from './fold'
import { isErasing } from './forget'
import { Row, emptyRow, openRow } from './row'
import { openedA, setHeadFrontier } from './flush/draft'
import { addLevel, addLevelZero, gatherEvents, moveFrontiers } from './flush/rebuild'
import { finishRow } from './flush/write'

/**
 * Writes the new row of a dirty entity behind outEnd. `stored` / `storedBytes`: its row in the store, 0 bytes when there is
 * none. Returns 0 or an ERROR_; then nothing was written.
 */
export function flushRow(entry: Dirty, stored: usize, storedBytes: u32, position: i64): i32 {
  resetScratch()
  const row = changetype<Row>(openedA)
  const erasing = isErasing(entry.entity)
  if (storedBytes > 0) {
    const error = openRow(stored, storedBytes, row)
    if (error != 0) return error
    // A row may be further than a replay that erases it: what it holds beyond goes with the rest.
    if ((row.applied > position && !erasing) || (row.applied as f64) >= entry.firstPosition) return ERROR_ROW_REGRESSED
  }
  if (erasing) {
    entry.slotCount = 0
    entry.eventCount = 0
    if (storedBytes > 0) emptyRow(row)
  }
  rebuild(storedBytes > 0 ? row : changetype<Row>(0), entry, headFrontierMs)
  finishRow(storedBytes > 0 ? row : changetype<Row>(0), position, layoutVersion)
  setApplied(entry.entity, max(appliedOf(entry.entity), position as f64))
  return 0
}

/** As if the row had been flushed at the head frontier `frontierMs` with nothing new. */
export function advanceRow(stored: usize, storedBytes: u32, frontierMs: i64): i32 {
  resetScratch()
  const row = changetype<Row>(openedA)
  const error = openRow(stored, storedBytes, row)
  if (error != 0) return error
  rebuild(row, changetype<Dirty>(0), frontierMs)
  finishRow(row, row.applied, row.layoutVersion)
  return 0
}

function rebuild(row: Row, entry: Dirty, frontierMs: i64): void {
  const isNew = changetype<usize>(row) == 0
  setHeadFrontier(isNew ? frontierMs : max(frontierMs, row.headFrontierMs))
  moveFrontiers(row, isNew)
  gatherEvents(row, isNew, entry)
  addLevelZero(row, isNew, entry)
  for (let i = 1; i < levelCount; i++) addLevel(row, isNew, i)
}
