/** Which entities are compared: a share of all keys by their hash, or one. */
import { laneHash } from '../model/key.ts'

export interface Sample {
  /** Of `of` shares of all keys, this one takes share `index`. */
  readonly of: number
  readonly index: number
  /** Only this entity. */
  readonly key?: Uint8Array
}

/** A share that holds one entity and hardly another. */
const SHARES_OF_ONE = 65_521

/**
 * One key in about `of`. Entities are spread over lanes by the same hash, so a number of shares that has a factor in common
 * with a number of lanes would leave whole lanes out: it is raised to the next one that has none.
 */
export function sampleOf(of: number, index: number, laneCounts: readonly number[]): Sample {
  let shares = of
  while (shares > 1 && laneCounts.some((count) => commonFactor(shares, count) > 1)) shares++
  return { of: shares, index: index % shares }
}

export function sampleOfOne(key: Uint8Array): Sample {
  return { of: SHARES_OF_ONE, index: laneHash(key) % SHARES_OF_ONE, key }
}

/** The same entities in two halves. */
export function halvesOf({ of, index }: Sample): [Sample, Sample] {
  return [
    { of: of * 2, index },
    { of: of * 2, index: index + of },
  ]
}

export function isSampled({ of, index, key }: Sample, candidate: Uint8Array): boolean {
  return laneHash(candidate) % of === index && (key === undefined || Buffer.compare(key, candidate) === 0)
}

function commonFactor(a: number, b: number): number {
  return b === 0 ? a : commonFactor(b, a % b)
}
