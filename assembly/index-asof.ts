/** The ABI of training sets: answers as of many instants, out of events that are held. index.ts exports it. */
import { clearEntities } from './entities'
import { eventBytesInUse } from './events'
import { answerAsOf, dropBlocks, openBlocks } from './asof'
import { askKeys, coverRows, dropHeld, forgetAsked, holdBatch, loadPart, orderEvents, reserveHeld, spillPart, writeAsked } from './asof-events'

/** Adds `n` keys, whose offsets stand at `offsets`, to the entities asked about; before the first event. See asof-events.ts. */
export function asofKeys(data: usize, offsets: usize, n: i32): void {
  askKeys(data, offsets, n)
}

/** Rows that will be asked about, entity numbers u32 and instants f64: before the first event, all of them or none. */
export function asofCover(n: i32, entities: usize, asOfs: usize): void {
  coverRows(n, entities, asOfs)
}

/** Room for `count` events. */
export function asofReserve(count: u32): void {
  reserveHeld(count)
}

/** Holds what `prepareBatch` accepted, where it is asked about; returns the bytes held. */
export function asofHold(): usize {
  holdBatch()
  return eventBytesInUse()
}

/** Forgets all keys, those asked about too: `asofKeys` names them again. What is held stays. */
export function asofForget(): void {
  forgetAsked()
  clearEntities()
}

/** Held events of entities ≡ part (mod parts) as a block of bytes at outputAddress; returns how many. */
export function asofSpill(part: u32, parts: u32): usize {
  return spillPart(part, parts)
}

/** Holds the events of such a block. */
export function asofLoad(at: usize): void {
  loadPart(at)
}

/** Holds nothing any more. */
export function asofClear(): void {
  dropBlocks()
  dropHeld()
}

/** Everything is held: puts it in order for `asofAnswer`, a step a call. Returns 1 when it is done. */
export function asofOrder(): i32 {
  if (!orderEvents()) return 0
  openBlocks()
  return 1
}

/** Answers `n` rows, as `merge` does: entity numbers u32, instants f64. */
export function asofAnswer(n: i32, entities: usize, asOfs: usize): void {
  answerAsOf(n, entities, asOfs)
}

/** Rows 0..n-1 of the last prepared batch: f64 time each, then u32 entity each (2^32 - 1: not accepted); the address. */
export function asofRows(n: i32): usize {
  return writeAsked(n)
}
