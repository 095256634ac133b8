/** The core's memory: bounded however long an instance lives, and an error with a code where it ends. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { float64, utf8 } from '../../src/define/dsl.ts'
import { Core } from '../../src/engine/core.ts'
import { Merger } from '../../src/engine/merger.ts'
import { type CoreExports, type CoreModule, coreOf, loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import { Ingest, type IngestSpec } from '../../src/ingest/ingest.ts'
import type { Column, ColumnBatch } from '../../src/model/columns.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import {
  ALONE,
  answersFrom,
  batchOf,
  event,
  FAR_MS,
  Folder,
  NOT_AFTER_MS,
  planOfEverything,
} from '../engine/folding.ts'
import { patience } from '../fuzz/effort.ts'
import { type NaiveEvent, naiveFeatures } from '../oracle/naive.ts'
import { TIME_INPUT } from '../support/batches.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawCell } from '../support/values.ts'

const START_MS = Date.UTC(2001, 5, 17, 9)
const MINUTE_MS = 60_000
const PAGE_BYTES = 65_536
/** The block that a sum takes once it leaves the usual window (assembly/exact.ts), as the arena rounds it. */
const WIDE_BYTES = 1_024
const plan = await planOfEverything({ value: float64(), text: utf8() }, { windows: ['12m', '1h'], retention: '1d' })

/** A module whose instances can be looked into. */
function watched(core: CoreModule): { core: CoreModule; bytes: () => number } {
  const instances: CoreExports[] = []
  return {
    core: {
      module: core.module,
      instantiate() {
        const exports = core.instantiate()
        instances.push(exports)
        return exports
      },
    },
    bytes: () => instances.reduce((sum, each) => sum + (each.memoryBytes() >>> 0), 0),
  }
}

/** Sums beyond the usual window, text, raw events and tiles, of many entities. */
function drawEvents(random: Random, count: number, entities: number, startMs: number, keys = 'k'): NaiveEvent[] {
  return Array.from({ length: count }, () =>
    event(
      startMs + random.below(8 * MINUTE_MS),
      {
        value: drawCell(random, 'float64', 'extremes'),
        text: random.chance(0.2) ? 't'.repeat(random.below(600)) : drawCell(random, 'utf8', 'words'),
      },
      [`${keys}${random.below(entities)}`],
    ),
  )
}

describe('memory', () => {
  it(
    'stays the same however many batches and flushes there were',
    () => {
      const random = seededRandom(1)
      const { core, bytes } = watched(loadCore())
      const folder = new Folder(core, plan.state)
      let settled = 0
      for (let cycle = 0; cycle < 240; cycle++) {
        // Batches of any size, so that nothing fits what the one before it left.
        for (let batch = 0; batch < 2; batch++) {
          const events = drawEvents(random, random.between(1, 200), 60, START_MS + cycle * MINUTE_MS)
          folder.fold(batchOf(events, plan.state, random.bits(), folder.core.position + 1))
        }
        folder.flush()
        if (cycle === 120) settled = bytes()
      }
      expect(folder.rows.size).toBe(60)
      // Only the most blocks in use at once may still rise a little: a single one lost per flush would show.
      expect(bytes() - settled).toBeLessThan(64 * WIDE_BYTES)
      expect(settled).toBeLessThan(16 << 20)
    },
    patience(8_000),
  )

  it(
    'grows with entities, and not once they are forgotten',
    () => {
      const random = seededRandom(2)
      const grown = [false, true].map((forgets) => {
        const { core, bytes } = watched(loadCore())
        const folder = new Folder(core, plan.state)
        let settled = 0
        for (let cycle = 0; cycle < 60; cycle++) {
          const events = drawEvents(random, 800, 800, START_MS, `${cycle}:`)
          folder.fold(batchOf(events, plan.state, cycle, folder.core.position + 1)).flush()
          if (forgets) folder.core.forgetEntities()
          if (cycle === 20) settled = bytes()
        }
        return bytes() - settled
      })
      expect(grown[0]).toBeGreaterThan(1 << 20)
      expect(grown[1]).toBeLessThan(64 * WIDE_BYTES)
    },
    patience(8_000),
  )

  it('loses nothing when entities are forgotten between flushes', () => {
    const random = seededRandom(3)
    const folders = [false, true].map((forgets) => ({ forgets, folder: new Folder(loadCore(), plan.state) }))
    for (let cycle = 0; cycle < 10; cycle++) {
      const events = drawEvents(random, 50, 9, START_MS + cycle * 5 * MINUTE_MS)
      for (const { forgets, folder } of folders) {
        folder.fold(batchOf(events, plan.state, cycle, folder.core.position + 1)).flush()
        if (forgets) folder.core.forgetEntities()
      }
    }
    const [kept, forgotten] = folders.map(({ folder }) =>
      [...folder.rows].sort().map(([key, row]) => `${key}: ${Buffer.from(row).toString('hex')}`),
    )
    expect(forgotten).toEqual(kept)
    expect(folders[1]!.folder.core.entityCount).toBe(0)
  })

  it('keeps its entities while some of them wait for a flush', () => {
    const folder = new Folder(loadCore(), plan.state).fold(batchOf([event(START_MS, {})], plan.state))
    expect(() => folder.core.forgetEntities()).toThrow(expect.objectContaining({ code: 'CORE_TRAP' }))
  })

  it(
    'stays the same however many rows were merged and normalised',
    () => {
      const random = seededRandom(4)
      const folder = new Folder(loadCore(), plan.state)
      for (let i = 0; i < 40; i++) {
        const events = drawEvents(random, 40, 5, START_MS + i * 5 * MINUTE_MS)
        folder.fold(batchOf(events, plan.state, i, folder.core.position + 1)).flush()
      }
      const rows = [...folder.rows.values()]
      const { core, bytes } = watched(loadCore())
      const merger = Merger.create(core, plan)
      const normaliser = new RowNormaliser(core, plan.state)
      let settled = 0
      for (let round = 0; round < 300; round++) {
        answersFrom(merger, plan, random.shuffled(rows), START_MS + 200 * MINUTE_MS + round)
        normaliser.normalise(random.shuffled(rows), START_MS + 400 * MINUTE_MS)
        if (round === 30) settled = bytes()
      }
      expect(bytes()).toBe(settled)
    },
    patience(4_000),
  )
})

// ---- where it ends ---------------------------------------------------------------------------------------------------

/** The core with a lower ceiling: its memory section says `pages` at most. */
function limited(pages: number): CoreModule {
  const bytes = readFileSync(new URL('../../dist/core.wasm', import.meta.url))
  const sections: Uint8Array[] = [bytes.subarray(0, 8)]
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at]!
    const [size, start] = readNumber(bytes, at + 1)
    // Section 5: one memory, with flag 1 (it has a maximum), its minimum and its maximum.
    if (id === 5) {
      const [minimum] = readNumber(bytes, start + 2)
      const body = [1, 1, ...writeNumber(minimum), ...writeNumber(pages)]
      sections.push(Uint8Array.from([5, ...writeNumber(body.length), ...body]))
    } else sections.push(bytes.subarray(at, start + size))
    at = start + size
  }
  return coreOf(new WebAssembly.Module(Buffer.concat(sections)))
}

/** An unsigned LEB128 number and where it ends. */
function readNumber(bytes: Uint8Array, from: number): [number, number] {
  let value = 0
  for (let at = from, shift = 0; ; at++, shift += 7) {
    value += (bytes[at]! & 127) * 2 ** shift
    if (bytes[at]! < 128) return [value, at + 1]
  }
}

function writeNumber(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...writeNumber(value >>> 7)]
}

const FULL = expect.objectContaining({ code: 'CORE_MEMORY', status: 500 })

/** Some 8 MiB. */
const LITTLE_PAGES = 128

/** A batch of `rows` rows with `bytes` of text each, every one of a new entity. */
function heavyBatch(rows: number, bytes: number, position: number): ColumnBatch {
  const texts = (name: string, each: (row: number) => string): Column => {
    const parts = Array.from({ length: rows }, (_, row) => Buffer.from(each(row)))
    const offsets = new Int32Array(rows + 1)
    for (const [row, part] of parts.entries()) offsets[row + 1] = offsets[row]! + part.length
    return { name, type: 'utf8', values: Buffer.concat(parts), offsets }
  }
  const times = BigInt64Array.from({ length: rows }, (_, row) => BigInt(START_MS + row))
  const values = Float64Array.from({ length: rows }, (_, row) => row)
  return {
    length: rows,
    positions: position,
    columns: [
      texts('key', (row) => `k${position + row}`),
      texts('text', () => 'x'.repeat(bytes)),
      { name: TIME_INPUT, type: 'int64', values: new Uint8Array(times.buffer) },
      { name: 'value', type: 'float64', values: new Uint8Array(values.buffer) },
    ],
  }
}

describe('a memory that is full', () => {
  const core = limited(LITTLE_PAGES)

  it('is the size that was asked for', () => {
    const exports = core.instantiate()
    expect(exports.memory.buffer.byteLength).toBeLessThanOrEqual(LITTLE_PAGES * PAGE_BYTES)
    expect(() => exports.reserveInput(LITTLE_PAGES * PAGE_BYTES, 0)).toThrow(/unreachable/)
  })

  it('is an error with a code when a batch does not fit', () => {
    const batch = heavyBatch(4_000, 4_000, 0)
    expect(() => new Core(core, plan.state, ALONE, NOT_AFTER_MS).prepare(batch)).toThrow(FULL)
  })

  it('is one when the delta does not fit', () => {
    const folder = new Folder(core, plan.state)
    const flood = () => {
      for (let i = 0; i < 400; i++) folder.fold([heavyBatch(400, 10, i * 400)])
    }
    expect(flood).toThrow(FULL)
  })

  it('is one when a checkpoint, stored rows or rows to merge do not fit', () => {
    const large = new Uint8Array(LITTLE_PAGES * PAGE_BYTES)
    const folder = new Folder(core, plan.state)
    expect(() => folder.core.readCheckpoint(large)).toThrow(FULL)
    const merger = Merger.create(core, plan)
    merger.begin(1, START_MS)
    expect(() => merger.addRow(0, large)).toThrow(FULL)
    expect(() => new RowNormaliser(core, plan.state).normalise([large], START_MS)).toThrow(FULL)
    const other = new Folder(core, plan.state).fold([heavyBatch(1, 1, 0)])
    const [chunk] = other.core.beginFlush(1)
    expect(() => other.core.writeRows(chunk!, [large], 0)).toThrow(FULL)
  })

  it('leaves every other instance alive', () => {
    const alive = new Folder(core, plan.state)
    const merger = Merger.create(core, plan)
    const events = [event(START_MS, { value: 1.5, text: 'a' }), event(START_MS + 5, { value: 2.5, text: 'b' })]
    alive.fold(batchOf(events.slice(0, 1), plan.state))
    expect(() => new Core(core, plan.state, ALONE, NOT_AFTER_MS).prepare(heavyBatch(4_000, 4_000, 0))).toThrow(FULL)
    alive.fold(batchOf(events.slice(1), plan.state, 0, 1)).flush()
    const asOfMs = START_MS + MINUTE_MS
    expect(answersFrom(merger, plan, [...alive.rows.values()], asOfMs)).toEqual(
      naiveFeatures(events, plan, ['k'], asOfMs),
    )
  })

  it('ends its ingest and nothing else: opened again, it goes on where the store stands', async () => {
    const store = createMemoryStore()
    const spec: IngestSpec = {
      view: plan.view,
      state: plan.state,
      stateHash: plan.stateHash,
      namespace: 'memory',
      generation: 1,
      log: 'log',
      lanes: ['log.0'],
      shard: 0,
      shards: 1,
      notAfterMs: NOT_AFTER_MS,
      completeSinceMs: 0,
      layoutVersion: 1,
      deltaBytesMax: 1 << 30,
      isHistory: false,
    }
    const open = (nonce: string) => Ingest.open(spec, { store, core, clock: () => FAR_MS, nonce })
    const first = await open('first')
    await first.push(heavyBatch(10, 5, 0))
    await first.flush()
    await expect(first.push(heavyBatch(4_000, 4_000, 10))).rejects.toThrow(FULL)
    // Its memory can't be trusted any more.
    await expect(first.push(heavyBatch(1, 1, 10))).rejects.toThrow(FULL)
    await expect(first.flush()).rejects.toThrow(FULL)

    const second = await open('second')
    expect(second.resumeFrom).toBe(10)
    await second.push(heavyBatch(5, 5, 10))
    expect(await second.flush()).toBe(14)
    expect(second.counters).toMatchObject({ consumed: 15, applied: 15 })
  })
})
