import { describe, expect, it } from 'vitest'
import { Random, zipfSampler } from '../../bench/random.ts'
import {
  createKeys,
  createWorkload,
  disorder,
  keyColumn,
  keyStrings,
  START_MS,
  STEP_MS,
  toInt64,
} from '../../bench/workload.ts'

const OPTIONS = { rows: 20_000, entityCount: 500, skew: 1.1, seed: 7 }

describe('zipfSampler', () => {
  it('draws rank r with probability proportional to 1 / (r + 1)^s', () => {
    const count = 50
    const draws = 400_000
    const next = zipfSampler(count, 1.1, new Random(3))
    const seen = new Float64Array(count)
    for (let i = 0; i < draws; i++) seen[next()]!++
    const weights = Array.from({ length: count }, (_, rank) => (rank + 1) ** -1.1)
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    for (const [rank, weight] of weights.entries()) {
      const expected = (draws * weight) / total
      // Six standard deviations of a binomial count.
      expect(Math.abs(seen[rank]! - expected), `rank ${rank}, seed 3`).toBeLessThan(6 * Math.sqrt(expected))
    }
  })
})

describe('createWorkload', () => {
  it('is a function of its seed', () => {
    expect(createWorkload(OPTIONS)).toEqual(createWorkload(OPTIONS))
    expect(createWorkload({ ...OPTIONS, seed: 8 }).entities).not.toEqual(createWorkload(OPTIONS).entities)
  })

  it('is in time order, inside its tiles, with every tile in use', () => {
    const { times, tiles } = createWorkload(OPTIONS)
    expect(times.every((time, i) => i === 0 || time >= times[i - 1]!)).toBe(true)
    const used = new Set(Array.from(times, (time) => Math.floor((time - START_MS) / STEP_MS)))
    expect([...used].sort((a, b) => a - b)).toEqual(Array.from({ length: tiles }, (_, tile) => tile))
  })

  it('has dyadic values of both signs that agree for one entity and millisecond', () => {
    const { entities, times, values } = createWorkload({ ...OPTIONS, rows: 600_000, entityCount: 3, tiles: 1 })
    expect(values.every((value) => Number.isInteger(value * 8) && value !== 0 && Math.abs(value) < 1024)).toBe(true)
    const known = new Map<string, number>()
    let agree = true
    for (let i = 0; i < values.length; i++) {
      const name = `${entities[i]} ${times[i]}`
      agree &&= (known.get(name) ?? values[i]) === values[i]
      known.set(name, values[i]!)
    }
    expect(agree && known.size < values.length).toBe(true)
    expect([values.some((value) => value < 0), values.some((value) => value > 0)]).toEqual([true, true])
  })
})

describe('disorder', () => {
  it('delivers the same events, none more than the delay out of place, some of them out of order', () => {
    const ordered = createWorkload(OPTIONS)
    const shuffled = disorder(ordered, 60_000)
    const names = (workload: typeof ordered) =>
      Array.from(workload.times, (time, i) => `${time} ${workload.entities[i]} ${workload.values[i]}`).sort()
    expect(names(shuffled)).toEqual(names(ordered))

    let newest = 0
    let late = 0
    for (const time of shuffled.times) {
      newest = Math.max(newest, time)
      if (time < newest) late++
      expect(newest - time).toBeLessThan(60_000)
    }
    expect(late).toBeGreaterThan(OPTIONS.rows / 4)
  })
})

describe('createKeys', () => {
  it('makes distinct keys of 8 to 24 bytes, which a key column repeats row by row', () => {
    const keys = createKeys(5_000)
    const strings = keyStrings(keys)
    expect(new Set(strings.map((key) => key.slice(0, 8))).size).toBe(5_000)
    expect(new Set(strings.map((key) => key.length))).toEqual(new Set(Array.from({ length: 17 }, (_, i) => 8 + i)))

    const entities = Uint32Array.of(3, 4_999, 3, 0)
    const column = keyColumn(keys, entities)
    const text = Buffer.from(column.bytes).toString('latin1')
    const read = Array.from(entities, (_, row) => text.slice(column.offsets[row], column.offsets[row + 1]))
    expect(read).toEqual(Array.from(entities, (entity) => strings[entity]))
  })
})

describe('toInt64', () => {
  it('keeps every millisecond', () => {
    const times = Float64Array.of(0, 1, 2 ** 32 - 1, 2 ** 32, START_MS, Number.MAX_SAFE_INTEGER)
    expect(Array.from(toInt64(times), Number)).toEqual(Array.from(times))
  })
})
