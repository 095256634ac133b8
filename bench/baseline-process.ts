/**
 * Plain JavaScript in a process of its own (process.ts starts it): its garbage and its heap stay out of the others' rounds.
 *
 * usage: node baseline-process.js fold|keys|merge FILE; the datasets and variants are those of the claims of these names
 */
import { createInterface } from 'node:readline'
import {
  addTiles,
  foldColumns,
  foldEvents,
  internStrings,
  mergeTiles,
  type StoredTile,
  type TileMap,
} from './baseline.ts'
import { addAggregates, Checksum } from './checksum.ts'
import { type Measure, timed } from './contest.ts'
import { type Dataset, readDataset } from './dataset.ts'
import { createKeys, keyStrings } from './workload.ts'

type Round = (variant: string) => Measure

const PROGRAMS: Record<string, (dataset: Dataset) => Round> = { fold: foldRounds, keys: keyRounds, merge: mergeRounds }

/** Events per chunk of the `events` variant: what a consumer would parse at a time. */
const CHUNK_EVENTS = 8192

/**
 * - `columns`: ids, times and values from typed arrays, nothing to decode
 * - `events`: an object per event with a string for its key, both fresh, as any decoder delivers them; making them is not
 *   timed, hashing and comparing the strings is
 */
function foldRounds(dataset: Dataset): Round {
  const { rows, stepMs } = dataset
  const entities = new Uint32Array(cells(dataset, 0))
  const times = Float64Array.from(new BigInt64Array(cells(dataset, 1)), Number)
  const values = new Float64Array(cells(dataset, 2))
  const firstTile = dataset.startMs / stepMs

  const checksumOf = <Key>(tiles: TileMap<Key>, numberOf: (key: Key) => number): string => {
    const checksum = new Checksum()
    addTiles(checksum, tiles, firstTile, numberOf)
    return checksum.toString()
  }

  const columnsRound = (): Measure => {
    const tiles: TileMap<number> = new Map()
    return timed(
      rows,
      () => foldColumns(tiles, entities, times, values, stepMs),
      () => checksumOf(tiles, (entity) => entity),
    )
  }

  const keys = createKeys(dataset.entityCount)
  const text = Buffer.from(keys.bytes)
  const eventsRound = (): Measure => {
    const tiles: TileMap<string> = new Map()
    let ns = 0
    for (let start = 0; start < rows; start += CHUNK_EVENTS) {
      const events = Array.from({ length: Math.min(CHUNK_EVENTS, rows - start) }, (_, i) => {
        const entity = entities[start + i]!
        const key = text.toString('latin1', keys.offsets[entity]!, keys.offsets[entity + 1]!)
        return { key, time: times[start + i]!, value: values[start + i]! }
      })
      ns += timed(events.length, () => foldEvents(tiles, events, stepMs), String).ns
    }
    const numbers = new Map(keyStrings(keys).map((name, entity) => [name, entity]))
    return { ns, ops: rows, checksum: checksumOf(tiles, (name) => numbers.get(name)!) }
  }

  return (variant) => (variant === 'columns' ? columnsRound() : eventsRound())
}

function keyRounds(dataset: Dataset): Round {
  const offsets = new Uint32Array(cells(dataset, 0))
  const text = Buffer.from(cells(dataset, 1))
  return () => {
    let ids: Uint32Array = new Uint32Array(0)
    return timed(
      dataset.rows,
      () => {
        ids = internStrings(text, offsets)
      },
      () => {
        const checksum = new Checksum()
        for (let row = 0; row < ids.length; row++) checksum.word(row).word(ids[row]!).end()
        return checksum.toString()
      },
    )
  }
}

function mergeRounds(dataset: Dataset): Round {
  const [entities, levels, numbers, counts] = [0, 1, 2, 3].map((column) => new Uint32Array(cells(dataset, column)))
  const [sums, mins, maxs, lasts] = [4, 5, 6, 7].map((column) => new Float64Array(cells(dataset, column)))
  const lastOffsets = new Uint32Array(cells(dataset, 8))
  const windowStarts = Array.from(new BigInt64Array(cells(dataset, 9)), Number)
  const steps = Array.from(new BigInt64Array(cells(dataset, 10)), Number)
  const requests = new Uint32Array(cells(dataset, 11))

  const tilesOf: StoredTile[][] = Array.from({ length: dataset.entityCount }, () => [])
  for (let i = 0; i < dataset.rows; i++) {
    const stepMs = steps[levels![i]!]!
    tilesOf[entities![i]!]!.push({
      startMs: numbers![i]! * stepMs,
      stepMs,
      count: counts![i]!,
      sum: sums![i]!,
      min: mins![i]!,
      max: maxs![i]!,
      last: lasts![i]!,
      lastTime: numbers![i]! * stepMs + lastOffsets[i]!,
    })
  }

  let kept = 0
  return () =>
    timed(
      requests.length,
      () => {
        for (let i = 0; i < requests.length; i++) kept += mergeTiles(tilesOf[requests[i]!]!, windowStarts)[0]!.count
      },
      () => {
        if (kept === 0) throw new Error('the merges found nothing')
        const checksum = new Checksum()
        for (const [entity, tiles] of tilesOf.entries()) {
          for (const [window, answer] of mergeTiles(tiles, windowStarts).entries()) {
            addAggregates(checksum, window, entity, answer)
          }
        }
        return checksum.toString()
      },
    )
}

/** A column's bytes as a buffer of their own, for a typed array of any cell to be laid over. */
function cells(dataset: Dataset, column: number): ArrayBuffer {
  return new Uint8Array(dataset.columns[column]!).buffer
}

const [program, path] = process.argv.slice(2)
const start = PROGRAMS[program ?? '']
if (!start || !path) throw new Error(`usage: baseline-process ${Object.keys(PROGRAMS).join('|')} FILE`)
const round = start(readDataset(path))
console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  const { ns, ops, checksum } = round(line)
  console.log(`${Math.round(ns)} ${ops} ${checksum}`)
}
