/** Seeded randomness for tests and generators: the same seed gives the same run on every machine. */

export interface Random {
  /** The seed this stream started from, for failure messages. */
  readonly seed: number
  /** Uniform in [0, 1). */
  fraction(): number
  /** Uniform whole number in [0, end). */
  below(end: number): number
  /** Uniform whole number in [from, to], both included. */
  between(from: number, to: number): number
  /** 32 random bits, unsigned. */
  bits(): number
  /** 64 random bits, unsigned. */
  bits64(): bigint
  /** True with the given probability. */
  chance(probability: number): boolean
  pick<T>(items: readonly T[]): T
  /** A shuffled copy. */
  shuffled<T>(items: readonly T[]): T[]
  /** `count` bytes. */
  bytes(count: number): Uint8Array
  /** An independent stream, so that one generator drawing more does not shift the next one. */
  fork(): Random
}

export function seededRandom(seed: number): Random {
  // sfc32, started from the seed and stirred until its state no longer shows it.
  let a = 0x9e3779b9
  let b = 0x243f6a88
  let c = seed | 0
  let counter = 1
  const bits = (): number => {
    const sum = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + sum) | 0
    return sum >>> 0
  }
  for (let i = 0; i < 16; i++) bits()

  const fraction = (): number => ((bits() >>> 5) * 2 ** 26 + (bits() >>> 6)) / 2 ** 53
  const below = (end: number): number => Math.floor(fraction() * end)
  return {
    seed,
    fraction,
    below,
    between: (from, to) => from + below(to - from + 1),
    bits,
    bits64: () => (BigInt(bits()) << 32n) | BigInt(bits()),
    chance: (probability) => fraction() < probability,
    pick: (items) => {
      if (items.length === 0) throw new RangeError('cannot pick from an empty list')
      return items[below(items.length)]!
    },
    shuffled: (items) => {
      const copy = [...items]
      for (let i = copy.length - 1; i > 0; i--) {
        const j = below(i + 1)
        const swapped = copy[i]!
        copy[i] = copy[j]!
        copy[j] = swapped
      }
      return copy
    },
    bytes: (count) => {
      const drawn = new Uint8Array(count)
      for (let i = 0; i < count; i++) drawn[i] = bits() & 255
      return drawn
    },
    fork: () => seededRandom(bits()),
  }
}

/**
 * Draws 0..n-1 with probability proportional to 1 / (rank + 1)^exponent; 1.1 is the skew of busy airports and shops.
 * Ranks are not shuffled: 0 is the hottest.
 */
export function zipf(random: Random, n: number, exponent = 1.1): () => number {
  const cumulative: number[] = []
  let total = 0
  for (let rank = 0; rank < n; rank++) {
    total += 1 / (rank + 1) ** exponent
    cumulative.push(total)
  }
  return () => {
    const target = random.fraction() * total
    let low = 0
    let high = n - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if (cumulative[middle]! > target) high = middle
      else low = middle + 1
    }
    return low
  }
}
