/**
 * = <> < <=: a bool per row, null where a side is. The other comparisons swap sides (src/define/program.ts). Text compares
 * by its UTF-8 bytes, which is the order of its code points.
 */
import { scratch } from '../arena'
import { Register } from '../columns'
import { EXPR_EQ, EXPR_LE, EXPR_LT, EXPR_NE, TYPE_BOOL, TYPE_DEC, TYPE_F64, TYPE_I64, TYPE_UTF8 } from '../layout'
import { compareDecimals } from './decimal'
import { bothValid } from './mask'

export function compare(operation: i32, target: Register, left: Register, right: Register, n: i32): void {
  assert(left.type == right.type)
  const type = left.type
  target.type = TYPE_BOOL
  target.step = 1
  target.offsets = 0
  target.valid = bothValid(left.valid, right.valid, n)
  target.data = scratch(n)
  if (type == TYPE_F64) compareCells<f64>(operation, target.data, left, right, n)
  else if (type == TYPE_I64) compareCells<i64>(operation, target.data, left, right, n)
  else if (type == TYPE_DEC) compareDecimalCells(operation, target.data, left, right, n)
  else {
    assert(type == TYPE_UTF8)
    if (operation == EXPR_EQ || operation == EXPR_NE) equalTexts(operation == EXPR_NE, target.data, left, right, n)
    else compareTexts(operation, target.data, left, right, n)
  }
}

function compareCells<T>(operation: i32, data: usize, left: Register, right: Register, n: i32): void {
  if (operation == EXPR_EQ) loop<T, Equal>(data, left, right, n)
  else if (operation == EXPR_NE) loop<T, NotEqual>(data, left, right, n)
  else if (operation == EXPR_LT) loop<T, Less>(data, left, right, n)
  else {
    assert(operation == EXPR_LE)
    loop<T, LessOrEqual>(data, left, right, n)
  }
}

function loop<T, Operation>(data: usize, left: Register, right: Register, n: i32): void {
  const operation = changetype<Operation>(0)
  const stepA = left.step
  const stepB = right.step
  const end = data + (n as usize)
  let a = left.data
  let b = right.data
  for (; data < end; data++, a += stepA, b += stepB) {
    store<u8>(data, operation.apply<T>(load<T>(a), load<T>(b)) as u8)
  }
}

@final
@unmanaged
class Equal {
  @inline apply<T>(x: T, y: T): bool {
    return x == y
  }
}

@final
@unmanaged
class NotEqual {
  @inline apply<T>(x: T, y: T): bool {
    return x != y
  }
}

@final
@unmanaged
class Less {
  @inline apply<T>(x: T, y: T): bool {
    return x < y
  }
}

@final
@unmanaged
class LessOrEqual {
  @inline apply<T>(x: T, y: T): bool {
    return x <= y
  }
}

/** What a three-way comparison means for the operation. */
function holds(operation: i32, order: i32): bool {
  if (operation == EXPR_EQ) return order == 0
  if (operation == EXPR_NE) return order != 0
  if (operation == EXPR_LT) return order < 0
  assert(operation == EXPR_LE)
  return order <= 0
}

function compareDecimalCells(operation: i32, data: usize, left: Register, right: Register, n: i32): void {
  let a = left.data
  let b = right.data
  for (let i: usize = 0; i < (n as usize); i++, a += left.step, b += right.step) {
    store<u8>(data + i, holds(operation, compareDecimals(a, b)) as u8)
  }
}

// ---- text ------------------------------------------------------------------------------------------------------------

function equalTexts(negate: bool, data: usize, left: Register, right: Register, n: i32): void {
  if (right.step == 0 && equalToShort(negate, data, left, right, n)) return
  if (left.step == 0 && equalToShort(negate, data, right, left, n)) return
  let a = left.offsets
  let b = right.offsets
  for (let i: usize = 0; i < (n as usize); i++, a += left.step, b += right.step) {
    const fromA = load<u32>(a)
    const fromB = load<u32>(b)
    const length = load<u32>(a, 4) - fromA
    const equal = length == load<u32>(b, 4) - fromB && sameBytes(left.data + fromA, right.data + fromB, length)
    store<u8>(data + i, (equal != negate) as u8)
  }
}

/**
 * Equality with one short text, the common filter: eight bytes at once, those behind the text masked out. False when the
 * last text lies so near the end of memory that eight bytes can't be read.
 */
function equalToShort(negate: bool, data: usize, left: Register, right: Register, n: i32): bool {
  const length = load<u32>(right.offsets, 4) - load<u32>(right.offsets)
  const end = left.data + (load<u32>(left.offsets + (n as usize) * left.step) as usize)
  if (left.step == 0 || length > 8 || (end as u64) + 8 > (memory.size() as u64) << 16) return false
  const mask: u64 = length == 0 ? 0 : (-1 as u64) >> (64 - ((length as u64) << 3))
  let wanted: u64 = 0
  const text = right.data + load<u32>(right.offsets)
  for (let i: u32 = 0; i < length; i++) wanted |= (load<u8>(text + i) as u64) << ((i as u64) << 3)
  let offset = left.offsets
  let from = load<u32>(offset)
  for (const stop = data + (n as usize); data < stop; data++) {
    offset += 4
    const to = load<u32>(offset)
    const equal = i32(to - from == length) & i32((load<u64>(left.data + from) & mask) == wanted)
    store<u8>(data, equal ^ (negate as i32))
    from = to
  }
  return true
}

function sameBytes(a: usize, b: usize, length: u32): bool {
  let at: usize = 0
  const words = (length & ~7) as usize
  for (; at < words; at += 8) if (load<u64>(a + at) != load<u64>(b + at)) return false
  for (; at < (length as usize); at++) if (load<u8>(a + at) != load<u8>(b + at)) return false
  return true
}

function compareTexts(operation: i32, data: usize, left: Register, right: Register, n: i32): void {
  let a = left.offsets
  let b = right.offsets
  for (let i: usize = 0; i < (n as usize); i++, a += left.step, b += right.step) {
    const fromA = load<u32>(a)
    const fromB = load<u32>(b)
    const order = orderOfBytes(left.data + fromA, load<u32>(a, 4) - fromA, right.data + fromB, load<u32>(b, 4) - fromB)
    store<u8>(data + i, holds(operation, order) as u8)
  }
}

function orderOfBytes(a: usize, lengthA: u32, b: usize, lengthB: u32): i32 {
  const shared = min(lengthA, lengthB) as usize
  for (let at: usize = 0; at < shared; at++) {
    const order = (load<u8>(a + at) as i32) - (load<u8>(b + at) as i32)
    if (order != 0) return order
  }
  return (lengthA > lengthB ? 1 : 0) - (lengthA < lengthB ? 1 : 0)
}
