import { describe, expect, it } from 'vitest'
import { toMicros } from '../../src/source/int96.ts'

/** Cells of [nanoseconds of the day, Julian day], behind a few bytes that are another column's. */
function cells(...drawn: readonly (readonly [nanos: bigint, day: number])[]): Uint8Array {
  const bytes = new Uint8Array(8 + 12 * drawn.length)
  const view = new DataView(bytes.buffer)
  for (const [i, [nanos, day]] of drawn.entries()) {
    view.setBigUint64(8 + 12 * i, nanos, true)
    view.setInt32(16 + 12 * i, day, true)
  }
  return bytes.subarray(8)
}

function read(bytes: Uint8Array, validity?: Uint8Array, bitOffset = 0): bigint[] {
  const length = bytes.length / 12
  const micros = toMicros(bytes, length, validity, bitOffset)
  return [...new BigInt64Array(micros.slice().buffer, 0, length)]
}

const DAY = 86_400_000_000n

describe('INT96 instants', () => {
  it('are microseconds since the epoch, floored', () => {
    const drawn = cells([0n, 2_440_588], [999n, 2_440_588], [1000n, 2_440_587], [86_399_999_999_999n, 2_440_589])
    expect(read(drawn)).toEqual([0n, 0n, -DAY + 1n, 2n * DAY - 1n])
  })

  it('reach as far as 64 bits of microseconds do, and no cell is read that is null', () => {
    const far = 2_440_588 + 106_751_990
    expect(read(cells([0n, far], [0n, -104_311_403]))).toEqual([
      106_751_990n * DAY,
      BigInt(-104_311_403 - 2_440_588) * DAY,
    ])
    const odd = () => cells([0n, far + 2], [5000n, 2_440_588], [2n ** 63n, 0])
    expect(() => read(odd())).toThrow(/Julian day 109192580/)
    expect(() => read(odd(), Uint8Array.of(0b110))).toThrow(/into its day/)
    expect(read(odd(), Uint8Array.of(0b10))).toEqual([0n, 5n, 0n])
    expect(read(odd(), Uint8Array.of(0b01000), 2)).toEqual([0n, 5n, 0n])
  })
})
