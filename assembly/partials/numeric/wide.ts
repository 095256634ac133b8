// Doubles that the words do not hold: the wide block of exact.ts, made when the first of them comes.
import {
  WIDE_SQUARES_AT,
  WIDE_SQUARES_BASE,
  WIDE_SQUARES_LIMBS,
  WIDE_SUM_BASE,
  WIDE_SUM_LIMBS,
  addLimbs,
  addShifted,
  highOfSquare,
  newWide,
} from '../../exact'

/** The wide block of the 4-byte field at `at`, made when there is none. */
export function wideOf(at: usize): usize {
  let wide = load<u32>(at) as usize
  if (wide == 0) {
    wide = newWide()
    store<u32>(at, wide as u32)
  }
  return wide
}

/** wide sum += the finite double. */
export function addWideSum(wide: usize, bits: u64): void {
  const biased = ((bits >> 52) as i32) & 0x7ff
  const fraction = bits & 0xf_ffff_ffff_ffff
  const mantissa = biased == 0 ? fraction : fraction | 0x10_0000_0000_0000
  // Lowest bit 2^(exponent - 1075), counted from 2^(32 * WIDE_SUM_BASE).
  const bit = max(biased, 1) - 1075 - 32 * WIDE_SUM_BASE
  const signed = (bits as i64) < 0
  addShifted(wide, WIDE_SUM_LIMBS, signed ? (0 - mantissa) : mantissa, signed && mantissa != 0 ? -1 : 0, bit)
}

/** wide squares += the finite double's square. */
export function addWideSquare(wide: usize, bits: u64): void {
  const biased = ((bits >> 52) as i32) & 0x7ff
  const fraction = bits & 0xf_ffff_ffff_ffff
  const mantissa = biased == 0 ? fraction : fraction | 0x10_0000_0000_0000
  const bit = 2 * (max(biased, 1) - 1075) - 32 * WIDE_SQUARES_BASE
  addShifted(wide + WIDE_SQUARES_AT, WIDE_SQUARES_LIMBS, mantissa * mantissa, highOfSquare(mantissa) as i64, bit)
}

export function addWides(into: usize, from: usize): void {
  addLimbs(into, WIDE_SUM_BASE, WIDE_SUM_LIMBS, from, WIDE_SUM_BASE, WIDE_SUM_LIMBS)
  addLimbs(
    into + WIDE_SQUARES_AT,
    WIDE_SQUARES_BASE,
    WIDE_SQUARES_LIMBS,
    from + WIDE_SQUARES_AT,
    WIDE_SQUARES_BASE,
    WIDE_SQUARES_LIMBS,
  )
}
