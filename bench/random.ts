/** Seeded randomness (sfc32): the same seed gives the same workload on every machine. */
export class Random {
  private a: number
  private b: number
  private c: number
  private counter = 1

  constructor(seed: number) {
    this.a = seed | 0
    this.b = 0x9e3779b9 | 0
    this.c = 0x243f6a88 | 0
    for (let i = 0; i < 12; i++) this.uint32()
  }

  /** A whole number in `[0, 2^32)`. */
  uint32(): number {
    const sum = (this.a + this.b + this.counter) | 0
    this.counter = (this.counter + 1) | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = (this.c + (this.c << 3)) | 0
    this.c = (((this.c << 21) | (this.c >>> 11)) + sum) | 0
    return sum >>> 0
  }

  /** A whole number in `[0, limit)`; the bias of 2^-32 · limit does not matter here. */
  below(limit: number): number {
    return Math.floor((this.uint32() / 2 ** 32) * limit)
  }

  /** `0..count-1` in random order. */
  permutation(count: number): Uint32Array {
    const order = new Uint32Array(count)
    for (let i = 0; i < count; i++) {
      const j = this.below(i + 1)
      order[i] = order[j]!
      order[j] = i
    }
    return order
  }
}

/** Draws ranks `0..count-1` with probability proportional to `1 / (rank + 1)^exponent`, by Walker's alias method. */
export function zipfSampler(count: number, exponent: number, random: Random): () => number {
  const weights = new Float64Array(count)
  let total = 0
  for (let rank = 0; rank < count; rank++) total += weights[rank] = (rank + 1) ** -exponent

  // Fill every column to height 1 with at most one other rank: the alias.
  const alias = new Uint32Array(count)
  const small: number[] = []
  const large: number[] = []
  for (let rank = 0; rank < count; rank++) {
    weights[rank] = (weights[rank]! * count) / total
    ;(weights[rank]! < 1 ? small : large).push(rank)
  }
  while (small.length > 0 && large.length > 0) {
    const low = small.pop()!
    const high = large[large.length - 1]!
    alias[low] = high
    weights[high] = weights[high]! - (1 - weights[low]!)
    if (weights[high]! < 1) small.push(large.pop()!)
  }
  for (const rank of [...small, ...large]) weights[rank] = 1

  return () => {
    const column = random.below(count)
    return random.uint32() / 2 ** 32 < weights[column]! ? column : alias[column]!
  }
}
