/** Exact decimals as text: the form in which they enter and leave, because no JavaScript number holds them. */

/** The 128-bit integer `high:low` with `scale` digits behind the point: `formatDecimal(0n, 1250n, 2)` is `12.50`. */
export function formatDecimal(high: bigint, low: bigint, scale: number): string {
  const unscaled = (high << 64n) | low
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString().padStart(scale + 1, '0')
  const whole = digits.slice(0, digits.length - scale)
  const text = scale === 0 ? whole : `${whole}.${digits.slice(digits.length - scale)}`
  return unscaled < 0n ? `-${text}` : text
}
