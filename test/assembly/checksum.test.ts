/** What the row's checksum must notice beyond single bits; test/assembly/row.test.ts holds this twin and the core together. */
import { describe, expect, it } from 'vitest'
import { seededRandom } from '../support/random.ts'
import { checksum } from './naive-row.ts'

const SEED = 7

describe('the checksum', () => {
  it('notices two flips of one bit, at every distance between their words', () => {
    const bytes = seededRandom(SEED).bytes(512)
    const intact = checksum(bytes)
    const missed: string[] = []
    for (const bit of [0, 31, 62, 63]) {
      for (let first = 0; first < 64; first++) {
        for (let second = first + 1; second < 64; second++) {
          const damaged = bytes.slice()
          for (const word of [first, second]) damaged[word * 8 + (bit >> 3)]! ^= 1 << (bit & 7)
          if (checksum(damaged) === intact) missed.push(`bit ${bit} of words ${first} and ${second}`)
        }
      }
    }
    expect(missed, `seed ${SEED}`).toEqual([])
  })

  it('notices two words that change places', () => {
    const bytes = seededRandom(SEED).bytes(256)
    const swapped = bytes.slice()
    swapped.set(bytes.subarray(0, 8), 64)
    swapped.set(bytes.subarray(64, 72), 0)
    expect(checksum(swapped)).not.toBe(checksum(bytes))
  })
})
