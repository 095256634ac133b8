import { describe, expect, it } from 'vitest'
import { addTiles, foldColumns, internStrings, mergeTiles, type TileMap } from '../../bench/baseline.ts'
import { addAggregates, Checksum } from '../../bench/checksum.ts'
import { readDataset, removeDataset, writeDataset } from '../../bench/dataset.ts'
import { AS_OF_MS, COVER, createTileWorkload, storedTiles, tileColumns, WINDOWS_MS } from '../../bench/tiles.ts'
import { createWorkload, disorder, STEP_MS } from '../../bench/workload.ts'

/** Aggregates of some events, by brute force. */
function aggregate(events: readonly { time: number; value: number }[]) {
  const newest = Math.max(...events.map((event) => event.time))
  return {
    count: events.length,
    sum: events.reduce((sum, event) => sum + event.value, 0),
    min: Math.min(...events.map((event) => event.value)),
    max: Math.max(...events.map((event) => event.value)),
    last: events.find((event) => event.time === newest)!.value,
  }
}

describe('foldColumns', () => {
  const workload = createWorkload({ rows: 3_000, entityCount: 20, skew: 1.1, seed: 5 })

  it('gives every tile the aggregates of its events', () => {
    const tilesOf: TileMap<number> = new Map()
    foldColumns(tilesOf, workload.entities, workload.times, workload.values, STEP_MS)
    let events = 0
    for (const [entity, tiles] of tilesOf) {
      for (const [number, tile] of tiles) {
        const own = Array.from(workload.times, (time, i) => ({ time, value: workload.values[i]!, i })).filter(
          ({ time, i }) => workload.entities[i] === entity && Math.floor(time / STEP_MS) === number,
        )
        expect(tile).toMatchObject(aggregate(own))
        events += own.length
      }
    }
    expect(events).toBe(workload.rows)
  })

  it('gives the same checksum for the same events in another order, and another one for other events', () => {
    const checksumOf = ({ entities, times, values }: typeof workload): string => {
      const tilesOf: TileMap<number> = new Map()
      foldColumns(tilesOf, entities, times, values, STEP_MS)
      const checksum = new Checksum()
      addTiles(checksum, tilesOf, workload.startMs / STEP_MS, (entity) => entity)
      return checksum.toString()
    }
    expect(checksumOf(disorder(workload, 60_000))).toBe(checksumOf(workload))
    const changed = { ...workload, values: workload.values.map((value, i) => (i === 2_000 ? value + 0.125 : value)) }
    expect(checksumOf(changed)).not.toBe(checksumOf(workload))
  })
})

describe('mergeTiles', () => {
  it('equals the aggregates of the events in each window', () => {
    const workload = createTileWorkload(3, 10, 11)
    const { tiles, events } = workload
    const starts = WINDOWS_MS.map((lengthMs) => AS_OF_MS - lengthMs)
    for (let entity = 0; entity < 3; entity++) {
      const stored = storedTiles(workload, entity)
      expect(tiles.entities.filter((each) => each === entity)).toHaveLength(COVER.length)
      const own = Array.from(events.times, (time, i) => ({ time, value: events.values[i]!, i })).filter(
        ({ i }) => events.entities[i] === entity,
      )
      for (const [window, answer] of mergeTiles(stored, starts).entries()) {
        expect(answer).toMatchObject(aggregate(own.filter(({ time }) => time >= starts[window]!)))
      }
    }
    expect(COVER).toHaveLength(61)
  })
})

describe('internStrings', () => {
  it('numbers keys in order of first appearance', () => {
    expect(internStrings(Buffer.from('abbcaab'), Uint32Array.of(0, 1, 2, 3, 4, 6, 7))).toEqual(
      Uint32Array.of(0, 1, 1, 2, 3, 1),
    )
  })
})

describe('datasets', () => {
  it('come back as they were written', () => {
    const workload = createTileWorkload(2, 5, 1)
    const columns = tileColumns(workload)
    const path = writeDataset('test', { rows: 122, entityCount: 2, stepMs: STEP_MS, startMs: AS_OF_MS }, columns)
    try {
      const dataset = readDataset(path)
      expect(dataset).toMatchObject({ rows: 122, entityCount: 2, stepMs: STEP_MS, startMs: AS_OF_MS })
      for (const [i, column] of columns.entries()) {
        expect(dataset.columns[i]).toEqual(new Uint8Array(column.buffer, column.byteOffset, column.byteLength))
        expect(dataset.columns[i]!.byteOffset % 8).toBe(0)
      }
    } finally {
      removeDataset(path)
    }
  })
})

describe('Checksum', () => {
  it('knows records by all their words, in any order of records', () => {
    const one = { count: 1, sum: 2, min: 3, max: 4, last: 5 }
    const sumOf = (...records: [number, number, typeof one][]) => {
      const checksum = new Checksum()
      for (const [number, entity, values] of records) addAggregates(checksum, number, entity, values)
      return checksum.toString()
    }
    const base = sumOf([0, 1, one], [1, 0, one])
    expect(sumOf([1, 0, one], [0, 1, one])).toBe(base)
    expect(sumOf([0, 0, one], [1, 1, one])).not.toBe(base)
    expect(sumOf([0, 1, one], [0, 1, one])).not.toBe(base)
    for (const field of ['count', 'sum', 'min', 'max', 'last'] as const) {
      expect(sumOf([0, 1, { ...one, [field]: 7 }], [1, 0, one]), field).not.toBe(base)
    }
  })
})
