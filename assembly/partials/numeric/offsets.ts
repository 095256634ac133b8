// Sizes of the forms, and where their fields lie.
import {
  NUMERIC_MAX,
  NUMERIC_MIN,
  NUMERIC_PARAM_SQUARES_BASE,
  NUMERIC_PARAM_SQUARES_LIMBS,
  NUMERIC_PARAM_SUM_BASE,
  NUMERIC_PARAM_SUM_LIMBS,
  NUMERIC_SQUARES,
  NUMERIC_SUM,
  TYPE_DEC,
  TYPE_F64,
  TYPE_I64,
} from '../../layout'
import { PartialPlan } from '../../plan'

export function valueBytes(plan: PartialPlan): i32 {
  return plan.type == TYPE_DEC ? 16 : 8
}

export function slotSumWords(type: i32): i32 {
  return type == TYPE_DEC ? 3 : 2
}

export function slotSquaresWords(type: i32): i32 {
  return type == TYPE_F64 ? 4 : type == TYPE_I64 ? 3 : 5
}

export function sumWords(type: i32): i32 {
  return type == TYPE_F64 ? 4 : type == TYPE_I64 ? 2 : 3
}

export function squaresWords(type: i32): i32 {
  return type == TYPE_F64 ? 6 : type == TYPE_I64 ? 3 : 5
}

/** Limb index of the lowest limb of an accumulator's words. */
export function sumBase(type: i32): i32 {
  return type == TYPE_F64 ? -2 : 0
}

export function squaresBase(type: i32): i32 {
  return type == TYPE_F64 ? -4 : 0
}

/** Bytes of the slot's block. */
export function numericSlotBytes(plan: PartialPlan): i32 {
  if (plan.flags & NUMERIC_SQUARES) return slotSquaresAt(plan) + (slotSquaresWords(plan.type) << 3)
  if (plan.flags & (NUMERIC_MIN | NUMERIC_MAX)) return slotSquaresAt(plan)
  return plan.flags & NUMERIC_SUM ? slotMinAt(plan) : (SLOT_SUM_AT as i32)
}

export function numericAccBytes(plan: PartialPlan): usize {
  return (maxAt(plan) + (plan.flags & NUMERIC_MAX ? valueBytes(plan) : 0)) as usize
}

export function hasWide(plan: PartialPlan): bool {
  return plan.type == TYPE_F64 && (plan.flags & (NUMERIC_SUM | NUMERIC_SQUARES)) != 0
}

// Offsets in an accumulator, from its own start, where n is.
export const WIDE_AT: usize = 8
export const SUM_AT: usize = 16

export function squaresAt(plan: PartialPlan): i32 {
  return 16 + (plan.flags & NUMERIC_SUM ? sumWords(plan.type) << 3 : 0)
}

export function minAt(plan: PartialPlan): i32 {
  return squaresAt(plan) + (plan.flags & NUMERIC_SQUARES ? squaresWords(plan.type) << 3 : 0)
}

export function maxAt(plan: PartialPlan): i32 {
  return minAt(plan) + (plan.flags & NUMERIC_MIN ? valueBytes(plan) : 0)
}

// Offsets in a slot, from the block's start (plan.slotAt). The constants are those of the 8-byte types.
export const SLOT_WIDE_AT: usize = 4
export const SLOT_SUM_AT: usize = 8
export const SLOT_MIN_AT: usize = 24
export const SLOT_MAX_AT: usize = 32
export const SLOT_SQUARES_AT: usize = 40

export function slotMinAt(plan: PartialPlan): i32 {
  return (SLOT_SUM_AT as i32) + (slotSumWords(plan.type) << 3)
}

export function slotMaxAt(plan: PartialPlan): i32 {
  return slotMinAt(plan) + valueBytes(plan)
}

export function slotSquaresAt(plan: PartialPlan): i32 {
  return slotMaxAt(plan) + valueBytes(plan)
}

// Parameters of a run: how wide its cells are.

export function paramOf(plan: PartialPlan, params: usize): usize {
  return params + (plan.paramAt as usize)
}

export function paramSumBase(param: usize): i32 {
  return load<i8>(param, NUMERIC_PARAM_SUM_BASE) as i32
}

export function paramSumLimbs(param: usize): i32 {
  return load<u8>(param, NUMERIC_PARAM_SUM_LIMBS) as i32
}

export function paramSquaresBase(param: usize): i32 {
  return load<i8>(param, NUMERIC_PARAM_SQUARES_BASE) as i32
}

export function paramSquaresLimbs(param: usize): i32 {
  return load<u8>(param, NUMERIC_PARAM_SQUARES_LIMBS) as i32
}
