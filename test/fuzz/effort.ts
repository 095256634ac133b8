/**
 * How much the random tests do: seconds by default, hours on demand.
 *
 *   TILEFOLD_FUZZ=50 npx vitest run test/fuzz     fifty times as many seeds
 *   TILEFOLD_SEED=7 npx vitest run test/laws      this seed alone, as a failure names it
 */

/** Runs `check` for `count` seeds from `first` on, times TILEFOLD_FUZZ. A failure says how to repeat it. */
export async function eachSeed(
  file: string,
  first: number,
  count: number,
  check: (seed: number) => void | Promise<void>,
): Promise<number> {
  const seeds = seedsFrom(first, count)
  for (const seed of seeds) {
    try {
      await check(seed)
    } catch (error) {
      const { message } = error as Error
      throw new Error(`seed ${seed}: ${message}\n  repeat it: TILEFOLD_SEED=${seed} npx vitest run ${file}`, {
        cause: error,
      })
    }
  }
  return seeds.length
}

function seedsFrom(first: number, count: number): number[] {
  const one = process.env.TILEFOLD_SEED
  if (one !== undefined) return [Number(one)]
  return Array.from({ length: Math.max(1, Math.round(count * effort())) }, (_, i) => first + i)
}

/** What random tests multiply their counts by. */
export function effort(): number {
  return Number(process.env.TILEFOLD_FUZZ ?? 1)
}

/** Milliseconds that a test may take which takes some `usualMs` with the default effort: machines may be busy. */
export function patience(usualMs: number): number {
  return Math.max(120_000, 12 * usualMs) * Math.max(1, effort())
}
