/** SELECT, constants, and FILL: registers made of other registers' cells, without a computation. */
import { scratch } from '../arena'
import { Register } from '../columns'
import { TYPE_BOOL, TYPE_DEC, TYPE_F64, TYPE_UTF8 } from '../layout'
import { andMasks, filledMask } from './mask'

/** Sixteen zero bytes: the cell, and the offsets, of a null for every row. */
const nothing = memory.data(16)

export function setNull(target: Register, type: i32, n: i32): void {
  assert(type >= TYPE_F64 && type <= TYPE_UTF8)
  target.type = type
  target.valid = filledMask(0, n)
  target.step = 0
  target.data = nothing
  target.offsets = type == TYPE_UTF8 ? nothing : 0
  if (type != TYPE_BOOL) return
  // Bools always have a cell for each row: the loops over them take eight at once.
  target.step = 1
  target.data = target.valid
}

/** The constant at `from`: cells as registers hold them; text behind its two offsets. */
export function setConstant(target: Register, type: i32, from: usize, bytes: i32, n: i32): void {
  target.type = type
  target.valid = 0
  target.step = 0
  target.data = from
  target.offsets = 0
  if (type == TYPE_BOOL) {
    target.step = 1
    target.data = filledMask(u8(load<u8>(from) != 0), n)
  } else if (type == TYPE_UTF8) {
    assert(load<u32>(from) == 0 && (load<u32>(from, 4) as i32) == bytes - 8)
    target.offsets = from
    target.data = from + 8
  }
}

/** A register with a cell for each row, as plans need it. */
export function fill(target: Register, source: Register, n: i32): void {
  target.type = source.type
  target.valid = source.valid
  target.step = source.step
  target.data = source.data
  target.offsets = source.offsets
  if (source.step != 0) return
  if (source.type == TYPE_UTF8) {
    fillTexts(target, source, n)
    return
  }
  const width: usize = source.type == TYPE_DEC ? 16 : 8
  const data = scratch((n as usize) * width)
  for (let i: usize = 0; i < (n as usize); i++) memory.copy(data + i * width, source.data, width)
  target.data = data
  target.step = width
}

function fillTexts(target: Register, source: Register, n: i32): void {
  const length = load<u32>(source.offsets, 4)
  const data = scratch((n as usize) * (length as usize))
  const offsets = scratch(((n as usize) + 1) << 2)
  store<u32>(offsets, 0)
  for (let i: usize = 0; i < (n as usize); i++) {
    memory.copy(data + i * (length as usize), source.data, length)
    store<u32>(offsets + (i << 2), ((i as u32) + 1) * length, 4)
  }
  target.data = data
  target.offsets = offsets
  target.step = 4
}

/** Row by row the left cell where the condition is true, else (false or null) the right one. */
export function select(target: Register, condition: Register, left: Register, right: Register, n: i32): void {
  assert(condition.type == TYPE_BOOL && left.type == right.type)
  target.type = left.type
  target.offsets = 0
  let picks = condition.data
  if (condition.valid != 0) {
    picks = scratch(n)
    andMasks(picks, condition.data, condition.valid, n)
  }
  target.valid = selectValid(picks, left.valid, right.valid, n)
  if (left.type == TYPE_UTF8) {
    selectTexts(target, picks, left, right, n)
    return
  }
  const width: usize = left.type == TYPE_BOOL ? 1 : left.type == TYPE_DEC ? 16 : 8
  target.step = width
  target.data = scratch((n as usize) * width)
  let at = target.data
  let a = left.data
  let b = right.data
  for (let i: usize = 0; i < (n as usize); i++, at += width, a += left.step, b += right.step) {
    const from = pick(load<u8>(picks + i), a, b)
    if (width == 8) store<u64>(at, load<u64>(from))
    else if (width == 1) store<u8>(at, load<u8>(from))
    else {
      store<u64>(at, load<u64>(from))
      store<u64>(at, load<u64>(from, 8), 8)
    }
  }
}

/** `a` where the byte is 1, `b` where it is 0, without a branch: picks are as random as data. */
@inline
function pick(byte: u8, a: usize, b: usize): usize {
  return b ^ ((a ^ b) & (0 - (byte as usize)))
}

function selectValid(picks: usize, left: usize, right: usize, n: i32): usize {
  if (left == right) return left
  const a = left == 0 ? filledMask(1, n) : left
  const b = right == 0 ? filledMask(1, n) : right
  const valid = scratch(n)
  for (let i: usize = 0; i < (n as usize); i += 8) {
    const taken = load<u64>(picks + i)
    store<u64>(valid + i, (load<u64>(a + i) & taken) | (load<u64>(b + i) & ~taken))
  }
  return valid
}

/** Copies the texts picked; null rows get none, so the copy is never longer than both sides together. */
function selectTexts(target: Register, picks: usize, left: Register, right: Register, n: i32): void {
  const offsets = scratch(((n as usize) + 1) << 2)
  let length: u32 = 0
  for (let i: usize = 0; i < (n as usize); i++) {
    store<u32>(offsets + (i << 2), length)
    if (target.valid != 0 && load<u8>(target.valid + i) == 0) continue
    const at = load<u8>(picks + i) != 0 ? left.offsets + i * left.step : right.offsets + i * right.step
    length += load<u32>(at, 4) - load<u32>(at)
  }
  store<u32>(offsets + ((n as usize) << 2), length)

  const data = scratch(length)
  for (let i: usize = 0; i < (n as usize); i++) {
    const to = load<u32>(offsets + (i << 2))
    const bytes = load<u32>(offsets + (i << 2), 4) - to
    if (bytes == 0) continue
    const side = load<u8>(picks + i) != 0 ? left : right
    memory.copy(data + to, side.data + load<u32>(side.offsets + i * side.step), bytes)
  }
  target.data = data
  target.offsets = offsets
  target.step = 4
}
