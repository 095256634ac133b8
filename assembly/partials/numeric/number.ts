// One number for what an accumulator's words and its wide block hold together.
import { NUMERIC_SQUARES, NUMERIC_SUM } from '../../layout'
import { PartialPlan } from '../../plan'
import {
  WIDE_SQUARES_AT,
  WIDE_SQUARES_BASE,
  WIDE_SQUARES_LIMBS,
  WIDE_SUM_BASE,
  WIDE_SUM_LIMBS,
  addLimbs,
} from '../../exact'
import { SUM_AT, WIDE_AT, hasWide, squaresAt, squaresBase, squaresWords, sumBase, sumWords } from './offsets'

/** Moves what the words hold into the wide block where there is one, so that one number is left to read. */
export function settle(plan: PartialPlan, acc: usize): void {
  if (!hasWide(plan)) return
  const wide = load<u32>(acc, WIDE_AT) as usize
  if (wide == 0) return
  if (plan.flags & NUMERIC_SUM) {
    addLimbs(wide, WIDE_SUM_BASE, WIDE_SUM_LIMBS, acc + SUM_AT, -2, 8)
    memory.fill(acc + SUM_AT, 0, 32)
  }
  if (plan.flags & NUMERIC_SQUARES) {
    const at = acc + (squaresAt(plan) as usize)
    addLimbs(wide + WIDE_SQUARES_AT, WIDE_SQUARES_BASE, WIDE_SQUARES_LIMBS, at, -4, 12)
    memory.fill(at, 0, 48)
  }
}

// A settled accumulator's sum and squares: address, base, limbs.
export let numberAt: usize = 0
export let numberBase: i32 = 0
export let numberLimbs: i32 = 0

export function readSum(plan: PartialPlan, acc: usize): void {
  const wide = hasWide(plan) ? (load<u32>(acc, WIDE_AT) as usize) : 0
  numberAt = wide != 0 ? wide : acc + SUM_AT
  numberBase = wide != 0 ? WIDE_SUM_BASE : sumBase(plan.type)
  numberLimbs = wide != 0 ? WIDE_SUM_LIMBS : sumWords(plan.type) << 1
}

export function readSquares(plan: PartialPlan, acc: usize): void {
  const wide = hasWide(plan) ? (load<u32>(acc, WIDE_AT) as usize) : 0
  numberAt = wide != 0 ? wide + WIDE_SQUARES_AT : acc + (squaresAt(plan) as usize)
  numberBase = wide != 0 ? WIDE_SQUARES_BASE : squaresBase(plan.type)
  numberLimbs = wide != 0 ? WIDE_SQUARES_LIMBS : squaresWords(plan.type) << 1
}
