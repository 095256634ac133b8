/**
 * Raw events: the order among them, and the delta's own store of them.
 *
 *   event       time i64 · op u8 (in the delta: entity u32) · nulls u32 · cells          rawBytes in all
 *   cells       the event id where one is declared, then every projected column; text is (heap offset, length)
 *
 * The order is total and knows nothing of arrival: event time, then event id, then the columns by type; null is smallest.
 * An *edge* needs the same order among events of one time, so it keeps a whole event too.
 *
 * The delta's events and their text are two growing blocks, emptied by each flush. Their addresses are good until the next
 * event is added; offsets are good until the flush. Offset 0 is nobody's.
 */
import { RAW_CELLS_AT, RAW_NULLS_AT, RAW_OP_AT, RAW_TIME_AT, TEXT_BYTES_LIMIT, TYPE_DEC, TYPE_F64, TYPE_I64, TYPE_UTF8 } from './layout'
import { column, columnCount, idRegister, idType, rawBytes } from './plan'
import { Register, isPresent, register, textLength } from './columns'
import { allocate, reallocate, release } from './arena'

export const NO_ENTITY: u32 = 0xffff_ffff

export let eventsAt: usize = 0
let eventsCapacity: usize = 0
/** Bytes in use; the first event starts at rawBytes. */
export let eventsEnd: usize = 0
export let textAt: usize = 0
let textCapacity: usize = 0
let textEnd: usize = 0

export function clearEvents(): void {
  eventsEnd = rawBytes
  textEnd = 0
}

export function eventBytesInUse(): usize {
  return eventsEnd + textEnd
}

/** Adds an empty event and returns its offset. */
export function addEvent(): usize {
  return addRoom(1)
}

/** Adds `count` empty events, one behind the other; returns the first one's offset. */
export function addRoom(count: i32): usize {
  const offset = eventsEnd
  const end = offset + (count as usize) * rawBytes
  if (end > eventsCapacity) growEvents(max(end << 1, 1 << 16))
  eventsEnd = end
  return offset
}

/** Room for `bytes` of events in all, so that adding them moves nothing. */
export function growEvents(bytes: usize): void {
  if (bytes <= eventsCapacity) return
  const next = allocate(bytes)
  if (eventsAt != 0) {
    memory.copy(next, eventsAt, eventsEnd)
    release(eventsAt, eventsCapacity)
  }
  eventsAt = next
  eventsCapacity = bytes
}

/** Writes row `row` of the registers over the event at `offset`. */
export function writeEvent(offset: usize, row: i32, timeMs: i64, entity: u32): void {
  let nulls: u32 = 0
  store<i64>(eventsAt + offset, timeMs, RAW_TIME_AT)
  store<u32>(eventsAt + offset, entity, RAW_OP_AT)
  if (idType != 0 && !writeCell(offset + RAW_CELLS_AT, register(idRegister), idType, row)) nulls |= 1
  for (let i = 0; i < columnCount; i++) {
    const each = column(i)
    if (!writeCell(offset + (each.cellAt as usize), register(each.register), each.type, row)) nulls |= 2 << i
  }
  store<u32>(eventsAt + offset, nulls, RAW_NULLS_AT)
}

/** False for a null cell, which is written as zeros: equal events have equal bytes. */
function writeCell(offset: usize, cells: Register, type: i32, row: i32): bool {
  const present = isPresent(cells, row) && (type != TYPE_UTF8 || textLength(cells, row) <= (TEXT_BYTES_LIMIT as u32))
  const at = eventsAt + offset
  if (type == TYPE_DEC) {
    store<u64>(at, present ? load<u64>(cells.data + ((row as usize) << 4)) : 0)
    store<u64>(at, present ? load<u64>(cells.data + ((row as usize) << 4), 8) : 0, 8)
  } else if (type != TYPE_UTF8) {
    store<u64>(at, present ? load<u64>(cells.data + ((row as usize) << 3)) : 0)
  } else if (!present) store<u64>(at, 0)
  else {
    const length = textLength(cells, row)
    const from = cells.data + (load<u32>(cells.offsets + ((row as usize) << 2)) as usize)
    store<u32>(at, addText(from, length) as u32)
    store<u32>(at, length, 4)
  }
  return present
}

function addText(from: usize, length: u32): usize {
  const offset = textEnd
  const end = offset + (length as usize)
  if (end > textCapacity) {
    const bytes = max(end << 1, 1 << 16)
    textAt = reallocate(textAt, textCapacity, bytes)
    textCapacity = bytes
  }
  memory.copy(textAt + offset, from, length)
  textEnd = end
  return offset
}

/** Adds a copy of an event whose text lies at `heap`; returns its offset. */
export function copyEvent(from: usize, heap: usize): usize {
  const offset = addEvent()
  memory.copy(eventsAt + offset, from, rawBytes)
  if (idType == TYPE_UTF8) adoptText(offset + RAW_CELLS_AT, heap)
  for (let i = 0; i < columnCount; i++) {
    if (column(i).type == TYPE_UTF8) adoptText(offset + (column(i).cellAt as usize), heap)
  }
  return offset
}

function adoptText(offset: usize, heap: usize): void {
  const cell = eventsAt + offset
  const length = load<u32>(cell, 4)
  if (length != 0) store<u32>(cell, addText(heap + (load<u32>(cell) as usize), length) as u32)
}

// ---- order ---------------------------------------------------------------------------------------------------------

/** Negative, zero or positive: two events of the same time, each given by its nulls and cells (RAW_NULLS_AT) and heap. */
export function compareCells(a: usize, aHeap: usize, b: usize, bHeap: usize): i32 {
  const aNulls = load<u32>(a)
  const bNulls = load<u32>(b)
  const cells = RAW_CELLS_AT - RAW_NULLS_AT
  if (idType != 0) {
    const order = compareCell(idType, a + cells, aHeap, (aNulls & 1) != 0, b + cells, bHeap, (bNulls & 1) != 0)
    if (order != 0) return order
  }
  for (let i = 0; i < columnCount; i++) {
    const at = (column(i).cellAt - RAW_NULLS_AT) as usize
    const bit = 2 << i
    const order = compareCell(column(i).type, a + at, aHeap, (aNulls & bit) != 0, b + at, bHeap, (bNulls & bit) != 0)
    if (order != 0) return order
  }
  return 0
}

function compareCell(type: i32, a: usize, aHeap: usize, aNull: bool, b: usize, bHeap: usize, bNull: bool): i32 {
  if (aNull || bNull) return (bNull as i32) - (aNull as i32)
  if (type == TYPE_F64) return compare<f64>(load<f64>(a), load<f64>(b))
  if (type == TYPE_I64) return compare<i64>(load<i64>(a), load<i64>(b))
  if (type == TYPE_DEC) {
    const high = compare<i64>(load<i64>(a, 8), load<i64>(b, 8))
    return high != 0 ? high : compare<u64>(load<u64>(a), load<u64>(b))
  }
  const aLength = load<u32>(a, 4)
  const bLength = load<u32>(b, 4)
  const order = memory.compare(
    aHeap + (load<u32>(a) as usize),
    bHeap + (load<u32>(b) as usize),
    min(aLength, bLength) as usize,
  )
  return order != 0 ? order : compare<u32>(aLength, bLength)
}

@inline
function compare<T>(a: T, b: T): i32 {
  return ((a > b) as i32) - ((a < b) as i32)
}

/** Full order of two events, time first. */
export function compareEvents(a: usize, aHeap: usize, b: usize, bHeap: usize): i32 {
  const order = compare<i64>(load<i64>(a), load<i64>(b))
  return order != 0 ? order : compareCells(a + RAW_NULLS_AT, aHeap, b + RAW_NULLS_AT, bHeap)
}

// ---- text ----------------------------------------------------------------------------------------------------------

/** Bytes of text that the cells (at their nulls) refer to. */
export function textBytesOf(nulls: usize): u32 {
  let bytes: u32 = idType == TYPE_UTF8 ? load<u32>(nulls + (RAW_CELLS_AT - RAW_NULLS_AT), 4) : 0
  for (let i = 0; i < columnCount; i++) {
    if (column(i).type == TYPE_UTF8) bytes += load<u32>(nulls + ((column(i).cellAt - RAW_NULLS_AT) as usize), 4)
  }
  return bytes
}

/** Copies nulls and cells to `into`, their text behind `heap + used`; returns the text bytes used then. */
export function copyCells(into: usize, from: usize, fromHeap: usize, heap: usize, used: u32): u32 {
  memory.copy(into, from, rawBytes - RAW_NULLS_AT)
  if (idType == TYPE_UTF8) used = moveText(into + (RAW_CELLS_AT - RAW_NULLS_AT), fromHeap, heap, used)
  for (let i = 0; i < columnCount; i++) {
    if (column(i).type != TYPE_UTF8) continue
    used = moveText(into + ((column(i).cellAt - RAW_NULLS_AT) as usize), fromHeap, heap, used)
  }
  return used
}

function moveText(cell: usize, fromHeap: usize, heap: usize, used: u32): u32 {
  const length = load<u32>(cell, 4)
  if (length == 0) {
    store<u32>(cell, 0)
    return used
  }
  memory.copy(heap + (used as usize), fromHeap + (load<u32>(cell) as usize), length)
  store<u32>(cell, used)
  return used + length
}

/**
 * Checks the cells' text references in a heap of `heapBytes`, `used` of them taken: as written, each text stands right behind
 * the one before, so no byte is anybody else's and copying cells can't take more than the heap. Returns the bytes taken then,
 * or -1.
 */
export function textFollows(nulls: usize, used: i64, heapBytes: u32): i64 {
  if (idType == TYPE_UTF8) used = cellFollows(nulls + (RAW_CELLS_AT - RAW_NULLS_AT), used, heapBytes)
  for (let i = 0; i < columnCount; i++) {
    if (column(i).type != TYPE_UTF8) continue
    used = cellFollows(nulls + ((column(i).cellAt - RAW_NULLS_AT) as usize), used, heapBytes)
  }
  return used
}

function cellFollows(cell: usize, used: i64, heapBytes: u32): i64 {
  const offset = load<u32>(cell) as i64
  const length = load<u32>(cell, 4) as i64
  if (length == 0) return offset == 0 ? used : -1
  return offset == used && used + length <= (heapBytes as i64) ? used + length : -1
}

/** Does the plan keep text at all? */
export function keepsText(): bool {
  if (idType == TYPE_UTF8) return true
  for (let i = 0; i < columnCount; i++) if (column(i).type == TYPE_UTF8) return true
  return false
}
