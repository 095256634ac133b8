// Rows of several lanes as one: the same entity, folded apart.
import { ERROR_ROW_SHAPE, TILE_INDEX_AT } from '../layout'
import { levelCount } from '../plan'
import { resetScratch, scratch } from '../arena'
import { compareEvents } from '../events'
import { Row, compactedTile, evictedTile, headRun, levelRun, openRow } from '../row'
import { Run } from '../partials/partial'
import {
  ENTRY_BYTES,
  entryAt,
  openEvents,
  openedA,
  openedB,
  putEvent,
  setEntries,
  setFrontiers,
  setHeadFrontier,
  uniteTiles,
} from './draft'
import { finishRow } from './write'

/** Writes the union of two rows that stand at the same frontiers (advanceRow), as one row. */
export function uniteRows(a: usize, aBytes: u32, b: usize, bBytes: u32): i32 {
  resetScratch()
  const first = changetype<Row>(openedA)
  const second = changetype<Row>(openedB)
  let error = openRow(a, aBytes, first)
  if (error == 0) error = openRow(b, bBytes, second)
  if (error != 0) return error
  if (first.headFrontierMs != second.headFrontierMs) return ERROR_ROW_SHAPE
  setHeadFrontier(first.headFrontierMs)
  for (let i = 0; i < levelCount; i++) {
    setFrontiers(i, compactedTile(first, i), evictedTile(first, i))
  }
  uniteEvents(headRun(first), headRun(second))
  for (let i = 0; i < levelCount; i++) {
    const run = levelRun(second, i)
    const added = scratch((run.count as usize) * ENTRY_BYTES)
    for (let j = 0; j < run.count; j++) {
      const entry = entryAt(added, j)
      entry.tile = run.first + (j as usize) * run.stride
      entry.index = load<u32>(entry.tile, TILE_INDEX_AT)
      entry.run = changetype<usize>(run)
      entry.acc = 0
    }
    const list = scratch(((levelRun(first, i).count + run.count) as usize) * ENTRY_BYTES)
    setEntries(i, list, uniteTiles(list, 0, levelRun(first, i), added, run.count))
  }
  finishRow(first, max(first.applied, second.applied), max(first.layoutVersion, second.layoutVersion))
  return 0
}

function uniteEvents(a: Run, b: Run): void {
  const list = openEvents(a.count + b.count)
  let i = 0
  let j = 0
  for (let at = list; i < a.count || j < b.count; at += 8) {
    const x = a.first + (i as usize) * a.stride
    const y = b.first + (j as usize) * b.stride
    const takeA = j == b.count || (i < a.count && compareEvents(x, a.heap, y, b.heap) <= 0)
    putEvent(at, takeA ? x : y, takeA ? a.heap : b.heap)
    if (takeA) i++
    else j++
  }
}
