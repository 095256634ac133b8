/**
 * The column program: what a definition's expressions compile to. An instruction is one tight loop over all rows of the
 * batch, from registers to a register, so the cost of deciding what to do is paid once per batch and not once per row.
 *
 *   delay > 15 AND origin = 'JFK'
 *
 *   0  LOAD   input 0 as int64          points into the input region: nothing is copied
 *   1  LOAD   input 1 as text           likewise
 *   2  CONST  15                        one cell for every row
 *   3  LT     r2 < r0                   one byte per row
 *   4  CONST  'JFK'
 *   5  EQ     r1 = r4
 *   6  AND    r3, r5                    eight rows at once
 *
 * Instruction i writes register i and reads lower ones: the program is in static single assignment form, so nothing in it
 * can loop, and a register is never written over while another still points at its bytes.
 *
 * Semantics are SQL's: three-valued logic, comparisons and arithmetic with a null are null. A result that its type can't
 * hold (overflow, division by zero, a non-finite double) is a null cell as well, and -0 becomes +0, at loads and in results.
 *
 * The program comes from this product's compiler, yet every operand is checked (once per instruction and batch), so that
 * a damaged one traps instead of reading elsewhere.
 */

import { scratch } from './arena'
import { register } from './columns'
import { arithmetic } from './expr/arithmetic'
import { cast, rescale } from './expr/cast'
import { compare } from './expr/compare'
import { loadColumn } from './expr/load'
import { andMasks, combineBools, filledMask, invertMask } from './expr/mask'
import { fill, select, setConstant, setNull } from './expr/select'
import {
  COLUMN_BYTES,
  EXPR_ADD,
  EXPR_AND,
  EXPR_CAST,
  EXPR_CONST,
  EXPR_EQ,
  EXPR_FILL,
  EXPR_IS_NULL,
  EXPR_IS_TRUE,
  EXPR_LE,
  EXPR_LOAD,
  EXPR_NOT,
  EXPR_NULL,
  EXPR_OR,
  EXPR_REM,
  EXPR_RESCALE,
  EXPR_SELECT,
  INSTRUCTION_BYTES,
  PROGRAM_HEADER_BYTES,
  PROGRAM_INPUTS_AT,
  PROGRAM_INSTRUCTIONS_AT,
  PROGRAM_REGISTERS_MAX,
  PROGRAM_VERSION,
  PROGRAM_VERSION_AT,
  TYPE_BOOL,
  TYPE_DEC,
  TYPE_F64,
  TYPE_UTF8,
} from './layout'

/**
 * Runs the program over the `n` rows that the descriptors at `columns` (layout.ts, COLUMN_) lay out, one per input.
 * Registers are good until the next `resetScratch`, and some of them point into the input region.
 */
export function evaluate(program: usize, programBytes: usize, columns: usize, n: i32): void {
  assert(programBytes >= (PROGRAM_HEADER_BYTES as usize) && load<u32>(program, PROGRAM_VERSION_AT) == PROGRAM_VERSION)
  const instructions = load<u32>(program, PROGRAM_INSTRUCTIONS_AT) as i32
  const inputs = load<u32>(program, PROGRAM_INPUTS_AT)
  assert(instructions >= 0 && instructions <= PROGRAM_REGISTERS_MAX)
  const constants = (PROGRAM_HEADER_BYTES + instructions * INSTRUCTION_BYTES) as usize
  assert(constants <= programBytes)

  let at = program + PROGRAM_HEADER_BYTES
  for (let i = 0; i < instructions; i++, at += INSTRUCTION_BYTES) {
    const operation = load<i32>(at)
    if (operation == EXPR_LOAD) {
      const input = load<u32>(at, 4)
      const type = load<i32>(at, 8)
      assert(input < inputs && type >= TYPE_F64 && type <= TYPE_UTF8)
      loadColumn(register(i), columns + (input as usize) * COLUMN_BYTES, type, load<i32>(at, 12), n)
    } else if (operation == EXPR_CONST) {
      const type = load<i32>(at, 4)
      const from = load<u32>(at, 8)
      const bytes = load<u32>(at, 12)
      const least = type == TYPE_BOOL ? 1 : type == TYPE_DEC ? 16 : 8
      assert(type >= TYPE_F64 && type <= TYPE_UTF8 && bytes >= (least as u32))
      assert((from as u64) + (bytes as u64) <= ((programBytes - constants) as u64))
      setConstant(register(i), type, program + constants + from, bytes as i32, n)
    } else compute(operation, i, at, n)
  }
}

/** One instruction on registers. */
function compute(operation: i32, index: i32, at: usize, n: i32): void {
  const target = register(index)
  const a = load<i32>(at, 4)
  if (operation == EXPR_NULL) {
    setNull(target, a, n)
    return
  }
  const left = register(operand(a, index))
  const b = load<i32>(at, 8)
  const c = load<i32>(at, 12)
  if (operation >= EXPR_ADD && operation <= EXPR_REM)
    arithmetic(operation, target, left, register(operand(b, index)), c, n)
  else if (operation >= EXPR_EQ && operation <= EXPR_LE)
    compare(operation, target, left, register(operand(b, index)), n)
  else if (operation == EXPR_SELECT) {
    select(target, left, register(operand(b, index)), register(operand(c, index)), n)
  } else if (operation == EXPR_CAST) cast(target, left, b, c, load<i32>(at, 16), n)
  else if (operation == EXPR_RESCALE) rescale(target, left, c, load<i32>(at, 16), n)
  else if (operation == EXPR_FILL) fill(target, left, n)
  else logic(operation, index, a, b, n)
}

function logic(operation: i32, index: i32, a: i32, b: i32, n: i32): void {
  const target = register(index)
  const left = register(a)
  target.type = TYPE_BOOL
  target.step = 1
  target.offsets = 0
  if (operation == EXPR_IS_NULL) {
    target.valid = 0
    if (left.valid == 0) target.data = filledMask(0, n)
    else {
      target.data = scratch(n)
      invertMask(target.data, left.valid, n)
    }
    return
  }
  assert(left.type == TYPE_BOOL)
  if (operation == EXPR_IS_TRUE) {
    target.valid = 0
    target.data = left.data
    if (left.valid == 0) return
    target.data = scratch(n)
    andMasks(target.data, left.data, left.valid, n)
    return
  }
  target.data = scratch(n)
  if (operation == EXPR_NOT) {
    target.valid = left.valid
    invertMask(target.data, left.data, n)
    return
  }
  const right = register(operand(b, index))
  assert(right.type == TYPE_BOOL && (operation == EXPR_AND || operation == EXPR_OR))
  const or = operation == EXPR_OR
  target.valid = combineBools(or, target.data, left.data, left.valid, right.data, right.valid, n)
}

/** An operand must have been written by a lower instruction. */
function operand(number: i32, index: i32): i32 {
  assert((number as u32) < (index as u32))
  return number
}
