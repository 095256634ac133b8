/**
 * Rows come from a store, and a store may hold anything: whatever the bytes, a row is refused with a code or answered from; the
 * instance neither traps nor computes anything else differently afterwards.
 */
import { describe, expect, it } from 'vitest'
import {
  EDGE_NONE,
  FRONTIER_BYTES,
  RAW_CELLS_AT,
  ROW_APPLIED_AT,
  ROW_BYTES_AT,
  ROW_CHECKED_FROM,
  ROW_HEAD_FRONTIER_AT,
  ROW_HEADER_BYTES,
  ROW_RUNS_AT,
  RUN_COUNT_AT,
  RUN_HEAD_LEVEL,
  RUN_HEADER_BYTES,
  RUN_HEAP_BYTES_AT,
  RUN_LEVEL_AT,
  RUN_ROWS_WIDTH_AT,
  RUN_STRIDE_AT,
} from '../../assembly/layout.ts'
import { decimal, float64, int64, utf8 } from '../../src/define/dsl.ts'
import { Merger } from '../../src/engine/merger.ts'
import { CORE_BUILDS, type CoreBuild, loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import { TilefoldError } from '../../src/model/errors.ts'
import type { Plan } from '../../src/model/plan.ts'
import { sealRow } from '../assembly/naive-row.ts'
import { answersFrom, batchOf, event, FAR_MS, Folder, hexKey, planOfEverything } from '../engine/folding.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawCell } from '../support/values.ts'
import { eachSeed, patience } from './effort.ts'

const FILE = 'test/fuzz/rows.test.ts'
const START_MS = Date.UTC(2001, 5, 17, 9)
const MINUTE_MS = 60_000
const AS_OF_MS = START_MS + 200 * MINUTE_MS

/** A small view: a row of it has few bytes, but every kind of run. */
const small = await planOfEverything({ value: float64() }, { windows: ['12m'], tiles: ['1m', '5m'] })
/** Every type of cell, and text in raw events and in tiles. */
const rich = await planOfEverything(
  { value: float64(), whole: int64(), exact: decimal(38, 4), text: utf8() },
  { windows: ['12m', '1h', '3h'], retention: '1d' },
)

/** A row with raw events, tiles at every level, and tiles of parents. */
function rowOf(build: CoreBuild, plan: Plan, random: Random, count: number): Uint8Array {
  const folder = new Folder(loadCore(build), plan.state)
  const events = Array.from({ length: count }, (_, i) =>
    event(
      START_MS + Math.floor((i * 190 * MINUTE_MS) / count) + random.below(MINUTE_MS),
      Object.fromEntries(
        plan.state.columns.map(({ name, type }) => [
          name,
          random.chance(0.1) ? null : drawCell(random, type, random.pick(['words', 'cents', 'extremes'] as const)),
        ]),
      ),
    ),
  )
  for (let i = 0; i < 3; i++) events.push(event(AS_OF_MS - 40 + i, events[i]!.cells))
  return folder
    .fold(batchOf(events, plan.state))
    .flush()
    .rows.get(hexKey(plan.state, ['k']))!
}

/** Everything that reads rows, and what it says of a good one. */
class Readers {
  readonly plan: Plan
  readonly good: Uint8Array
  readonly #merger: Merger
  readonly #normaliser: RowNormaliser
  readonly #folder: Folder
  readonly #truth: string

  constructor(build: CoreBuild, plan: Plan, good: Uint8Array) {
    this.plan = plan
    this.good = good
    this.#merger = Merger.create(loadCore(build), plan)
    this.#normaliser = new RowNormaliser(loadCore(build), plan.state)
    this.#folder = new Folder(loadCore(build), plan.state)
    this.#truth = this.#everything()
  }

  merge(row: Uint8Array, asOfMs = AS_OF_MS): { answers: string; code: string | undefined } {
    const answers = answersFrom(this.#merger, this.plan, [row], asOfMs)
    const { error } = this.#merger.entityInfo(0)
    // A refused row is no part of any answer.
    if (error) expect(new Set(answers.map(({ status }) => status))).toEqual(new Set(['error']))
    return { answers: show(answers), code: error?.code }
  }

  /** The code of the refusal, or undefined. Anything but a coded refusal is thrown. */
  advance(row: Uint8Array): string | undefined {
    return refusal(() => this.#normaliser.normalise([row], AS_OF_MS + 90 * MINUTE_MS))
  }

  unite(row: Uint8Array): string | undefined {
    return refusal(() => this.#normaliser.normalise([row, this.good], AS_OF_MS + 90 * MINUTE_MS))
  }

  /** As the stored row under a delta. */
  flush(row: Uint8Array): string | undefined {
    const { core } = this.#folder
    const position = core.position + 1
    // Applied before the delta, so that it is the row's bytes that are judged.
    const stored = Uint8Array.from(row)
    if (stored.length >= ROW_CHECKED_FROM) new DataView(stored.buffer).setBigInt64(ROW_APPLIED_AT, -1n, true)
    const late = this.plan.state.columns.map(({ name }) => [name, null])
    this.#folder.fold(batchOf([event(START_MS, Object.fromEntries(late))], this.plan.state, 0, position), FAR_MS)
    const [chunk] = core.beginFlush(1)
    const code = refusal(() => core.writeRows(chunk!, [stored], position))
    core.endFlush()
    return code
  }

  /** Good rows are read as before. */
  expectUnharmed(): void {
    expect(this.#everything()).toBe(this.#truth)
  }

  #everything(): string {
    const answers = [0, 1, MINUTE_MS, 61 * MINUTE_MS].map((later) => this.merge(this.good, AS_OF_MS + later).answers)
    const advanced = this.#normaliser.normalise([this.good], AS_OF_MS + 90 * MINUTE_MS)
    const united = this.#normaliser.normalise([this.good, this.good], AS_OF_MS + 90 * MINUTE_MS)
    return show([answers, Buffer.from(advanced).toString('hex'), Buffer.from(united).toString('hex')])
  }
}

function show(value: unknown): string {
  return JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? `${each}n` : each))
}

function refusal(work: () => unknown): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    if (error instanceof TilefoldError && (error.code === 'ROW_CORRUPT' || error.code === 'REGRESSED'))
      return error.code
    throw error
  }
}

describe.each(CORE_BUILDS)('the %s core, given a damaged row', (build) => {
  const random = seededRandom(42)
  const readers = new Readers(build, small, rowOf(build, small, random, 12))
  const { good } = readers
  const answers = readers.merge(good).answers

  it('refuses every truncation', () => {
    expect(readers.merge(good).code).toBeUndefined()
    for (let length = 0; length < good.length; length++) {
      expect(readers.merge(good.subarray(0, length)).code, `${length} of ${good.length} bytes`).toBe('ROW_CORRUPT')
    }
    expect(readers.merge(Uint8Array.from([...good, 0, 0, 0, 0])).code).toBe('ROW_CORRUPT')
    readers.expectUnharmed()
  })

  it('refuses every flipped bit but those of the applied position, which no answer depends on', () => {
    for (let bit = 0; bit < good.length * 8; bit++) {
      const damaged = Uint8Array.from(good)
      damaged[bit >> 3]! ^= 1 << (bit & 7)
      const isApplied = bit >> 3 >= ROW_APPLIED_AT && bit >> 3 < ROW_CHECKED_FROM
      const merged = readers.merge(damaged)
      if (isApplied) expect(merged, `bit ${bit}`).toEqual({ answers, code: undefined })
      else expect(merged.code, `bit ${bit}`).toBe('ROW_CORRUPT')
    }
    readers.expectUnharmed()
  })

  it(
    'refuses garbage, with and without a good beginning',
    () =>
      eachSeed(FILE, 0, 300, (seed) => {
        const draw = seededRandom(seed)
        const row = draw.bytes(draw.below(400))
        if (draw.chance(0.7)) row.set(good.subarray(0, draw.below(Math.min(row.length, good.length) + 1)))
        if (draw.chance(0.5) && row.length >= ROW_HEADER_BYTES)
          new DataView(row.buffer).setUint32(ROW_BYTES_AT, row.length, true)
        for (const reader of [readers.merge(row).code, readers.advance(row), readers.unite(row), readers.flush(row)]) {
          expect(reader).toBe('ROW_CORRUPT')
        }
      }).then(() => readers.expectUnharmed()),
    patience(2_000),
  )
})

// ---- lies under a valid checksum -------------------------------------------------------------------------------------

interface RunAt {
  readonly at: number
  readonly level: number
  readonly count: number
  readonly stride: number
  readonly first: number
  readonly heapAt: number
  readonly heapBytes: number
}

/** Where the runs of a good row stand. */
function runsOf(plan: Plan, row: Uint8Array): RunAt[] {
  const view = new DataView(row.buffer, row.byteOffset, row.byteLength)
  const parameters = 8 * plan.state.partials.filter(({ kind }) => kind === 'numeric').length
  const runs: RunAt[] = []
  for (let at = ROW_HEADER_BYTES + plan.state.ladder.length * FRONTIER_BYTES; at < row.length; ) {
    const level = view.getUint8(at + RUN_LEVEL_AT)
    const count = view.getUint32(at + RUN_COUNT_AT, true)
    const stride = view.getUint32(at + RUN_STRIDE_AT, true)
    const heapBytes = view.getUint32(at + RUN_HEAP_BYTES_AT, true)
    const first = at + RUN_HEADER_BYTES + (level === RUN_HEAD_LEVEL ? 0 : parameters)
    const heapAt = first + count * stride
    runs.push({ at, level, count, stride, first, heapAt, heapBytes })
    at = heapAt + heapBytes
  }
  return runs
}

/** Where the offset of a raw event's only text stands in it. */
function textCellAt({ state }: Plan): number {
  const before = state.columns.slice(
    0,
    state.columns.findIndex(({ type }) => type === 'utf8'),
  )
  return RAW_CELLS_AT + before.reduce((bytes, { type }) => bytes + (type === 'decimal' ? 16 : 8), 0)
}

const WORDS = [0, 1, 2, 3, 4, 7, 8, 255, 256, 65_535, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0xffff_ffff]

/** One to four lies anywhere, more often where they hurt. */
function lie(random: Random, plan: Plan, good: Uint8Array): Uint8Array {
  const row = Uint8Array.from(good)
  const view = new DataView(row.buffer)
  const runs = runsOf(plan, good)
  for (let lies = random.between(1, 4); lies > 0; lies--) {
    const run = random.pick(runs)
    const at = random.pick([
      // Frontiers and the header, a run's header, its parameters, an item's first bytes, anything.
      ROW_CHECKED_FROM + random.below(ROW_HEADER_BYTES + plan.state.ladder.length * FRONTIER_BYTES - ROW_CHECKED_FROM),
      run.at + random.below(RUN_HEADER_BYTES),
      run.at + random.below(run.first - run.at),
      run.first + random.below(run.count) * run.stride + random.below(Math.min(run.stride, 12)),
      ROW_CHECKED_FROM + random.below(row.length - ROW_CHECKED_FROM),
    ])
    const word = Math.min(at & ~3, row.length - 4)
    if (random.chance(0.4)) row[at] = random.chance(0.5) ? random.below(256) : row[at]! ^ (1 << random.below(8))
    else view.setUint32(word, random.chance(0.8) ? random.pick(WORDS) : random.bits(), true)
  }
  return sealRow(row)
}

describe.each(CORE_BUILDS)('the %s core, given a row that lies', (build) => {
  it(
    'refuses it or answers from it, and lives on',
    async () => {
      const random = seededRandom(7)
      const all = [
        new Readers(build, small, rowOf(build, small, random, 20)),
        new Readers(build, rich, rowOf(build, rich, random, 30)),
      ]
      let refused = 0
      let accepted = 0
      const lies = await eachSeed(FILE, 0, 2_500, (seed) => {
        const draw = seededRandom(seed)
        const readers = draw.pick(all)
        const row = lie(draw, readers.plan, readers.good)
        const codes = [
          readers.merge(row, AS_OF_MS + draw.pick([0, -1, -MINUTE_MS, 1, 59 * MINUTE_MS, 2 ** 45])).code,
          readers.advance(row),
          readers.unite(row),
          readers.flush(row),
        ]
        for (const code of codes) code === undefined ? accepted++ : refused++
        if (seed % 20 === 0) readers.expectUnharmed()
      })
      for (const readers of all) readers.expectUnharmed()
      // Both happen, or the lies are not what they should be.
      if (lies > 100) expect(Math.min(refused, accepted)).toBeGreaterThan(lies / 10)
    },
    patience(10_000),
  )

  const random = seededRandom(11)
  const readers = new Readers(build, rich, rowOf(build, rich, random, 40))
  const runs = runsOf(rich, readers.good)

  /** The good row with something changed, sealed; refused by everyone with ROW_CORRUPT, or by nobody. */
  function judge(change: (row: Uint8Array, view: DataView) => void): string | undefined {
    const row = Uint8Array.from(readers.good)
    change(row, new DataView(row.buffer))
    sealRow(row)
    const code = readers.merge(row).code
    expect(readers.advance(row)).toBe(code)
    expect(readers.flush(row)).toBe(code)
    readers.expectUnharmed()
    return code
  }

  it('has runs of every kind to lie about', () => {
    expect(runs.map(({ level }) => level)).toEqual([RUN_HEAD_LEVEL, 0, 1, 2])
    expect(runs[0]!.heapBytes).toBeGreaterThan(0)
    expect(runs[1]!.heapBytes).toBeGreaterThan(0)
    expect(judge(() => {})).toBeUndefined()
  })

  it.each([
    ['a stride', RUN_STRIDE_AT],
    ['a count', RUN_COUNT_AT],
    ['the bytes of a heap', RUN_HEAP_BYTES_AT],
  ])('refuses %s that does not fit', (_, field) => {
    for (const run of runs) {
      const real = new DataView(readers.good.buffer, readers.good.byteOffset).getUint32(run.at + field, true)
      for (const wild of [0, 1, real - 1, real + 1, real + 4, 2 * real + 4, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
        expect(
          judge((_row, view) => view.setUint32(run.at + field, wild, true)),
          `${wild} for ${real}`,
        ).toBe('ROW_CORRUPT')
      }
    }
  })

  it('refuses limbs and widths that no cell can have', () => {
    for (const { at } of runs.slice(1)) {
      const parameters = at + RUN_HEADER_BYTES
      for (const [byte, wild] of [
        [0, 3],
        [0, 12],
        [1, 0x80],
        [2, 255],
        [3, 0x7f],
        [4, 255],
        [5, 1],
        [7, 1],
      ] as const) {
        expect(
          judge((row) => row.set([wild], parameters + byte)),
          `${wild} at ${byte}`,
        ).toBe('ROW_CORRUPT')
      }
      expect(judge((row) => row.set([3], at + RUN_ROWS_WIDTH_AT))).toBe('ROW_CORRUPT')
    }
  })

  it('refuses text that lies elsewhere than behind the text before it', () => {
    const [raw] = runs
    const cellAt = textCellAt(rich)
    const view = new DataView(readers.good.buffer, readers.good.byteOffset)
    let references = 0
    for (let i = 0; i < raw!.count; i++) {
      const cell = raw!.first + i * raw!.stride + cellAt
      const length = view.getUint32(cell + 4, true)
      if (length === 0) continue
      references++
      for (const [offset, bytes] of [
        [0xffff_ffff, length],
        [0, 0xffff_ffff],
        [raw!.heapBytes, length],
        [raw!.heapBytes - length + 1, length],
        [view.getUint32(cell, true) + 1, length],
        [view.getUint32(cell, true), length + 4],
      ] as const) {
        const code = judge((_row, changed) => {
          changed.setUint32(cell, offset, true)
          changed.setUint32(cell + 4, bytes, true)
        })
        expect(code, `${offset} + ${bytes}`).toBe('ROW_CORRUPT')
      }
    }
    expect(references).toBeGreaterThan(0)
  })

  it('refuses cells that share one text, however much of it there would be', () => {
    // 5,000 events that all refer to the same MiB: copied, they would take 5 GB, more than an address can say.
    const events = 5_000
    const text = 1 << 20
    const [raw] = runs
    const head = ROW_HEADER_BYTES + rich.state.ladder.length * FRONTIER_BYTES
    const row = new Uint8Array(head + RUN_HEADER_BYTES + events * raw!.stride + text)
    row.set(readers.good.subarray(0, head + RUN_HEADER_BYTES))
    const view = new DataView(row.buffer)
    view.setUint32(raw!.at + RUN_COUNT_AT, events, true)
    view.setUint32(raw!.at + RUN_HEAP_BYTES_AT, text, true)
    view.setUint16(ROW_RUNS_AT, 1, true)
    for (let i = 0; i < events; i++) {
      const at = raw!.first + i * raw!.stride
      row.set(readers.good.subarray(raw!.first, raw!.first + raw!.stride), at)
      view.setUint32(at + textCellAt(rich), 0, true)
      view.setUint32(at + textCellAt(rich) + 4, text, true)
    }
    sealRow(row)
    expect(readers.advance(row)).toBe('ROW_CORRUPT')
    expect(readers.merge(row).code).toBe('ROW_CORRUPT')
    readers.expectUnharmed()
  })

  it('is not harmed by what stands in a cell that says it is empty', async () => {
    // A tile is its number, its rows, and two edges of an offset, nulls and a text each: of it all but one are short of text.
    const texts = await planOfEverything({ text: utf8() }, { windows: ['12m', '3h'], tiles: ['1m', '1h'], slack: '1d' })
    const events = Array.from({ length: 20 }, (_, i) =>
      event(START_MS + i * 10 * MINUTE_MS, { text: i === 0 ? 'abc' : '' }),
    )
    const folder = new Folder(loadCore(build), texts.state).fold(batchOf(events, texts.state)).flush()
    const good = folder.rows.get(hexKey(texts.state, ['k']))!
    const readers = new Readers(build, texts, good)
    for (const run of runsOf(texts, good)) {
      if (run.level === RUN_HEAD_LEVEL) continue
      expect(run.stride).toBe(4 + 4 + 2 * (4 + 4 + 8))
      for (let tile = 1; tile < run.count; tile++) {
        const row = Uint8Array.from(good)
        const view = new DataView(row.buffer)
        for (const edge of [8, 24]) {
          const cell = run.first + tile * run.stride + edge
          view.setUint32(cell, EDGE_NONE, true)
          view.setUint32(cell + 8, 7, true)
          view.setUint32(cell + 12, 0x7fff_ffff, true)
        }
        sealRow(row)
        expect(readers.merge(row).code).toBeUndefined()
        for (const code of [readers.advance(row), readers.unite(row), readers.flush(row)]) expect(code).toBeUndefined()
        readers.expectUnharmed()
      }
    }
  })

  it('is not harmed by raw events from any time', () => {
    const [raw] = runs
    for (const timeMs of [-1n, 2n ** 63n - 1n, -(2n ** 63n), 0n, 2n ** 43n, 2n ** 53n]) {
      for (const only of [true, false]) {
        const row = Uint8Array.from(readers.good)
        for (let i = 0; i < (only ? 1 : raw!.count); i++) {
          new DataView(row.buffer).setBigInt64(raw!.first + i * raw!.stride, timeMs, true)
        }
        sealRow(row)
        expect(readers.merge(row).code).toBeUndefined()
        for (const code of [readers.advance(row), readers.unite(row), readers.flush(row)]) expect(code).toBeUndefined()
        readers.expectUnharmed()
      }
    }
  })

  it('is not harmed by tiles and events out of order, or twice', () => {
    for (const run of runs) {
      const swap = (row: Uint8Array) => {
        const first = row.slice(run.first, run.first + 4)
        row.copyWithin(
          run.first,
          run.first + (run.count - 1) * run.stride,
          run.first + (run.count - 1) * run.stride + 4,
        )
        row.set(first, run.first + (run.count - 1) * run.stride)
      }
      const double = (row: Uint8Array) => {
        for (let i = 1; i < run.count; i++) row.copyWithin(run.first + i * run.stride, run.first, run.first + 4)
      }
      expect([undefined, 'ROW_CORRUPT']).toContain(judge(swap))
      expect([undefined, 'ROW_CORRUPT']).toContain(judge(double))
    }
  })

  it('is not harmed by frontiers from any time', () => {
    const ends = [0n, -1n, 1n, 2n ** 31n, 2n ** 63n - 1n, -(2n ** 63n), 992_768_400_000n]
    const fields = [ROW_HEAD_FRONTIER_AT, ROW_HEAD_FRONTIER_AT + 8]
    for (let i = 0; i < 2 * rich.state.ladder.length; i++) fields.push(ROW_HEADER_BYTES + 8 * i)
    for (const field of fields) {
      for (const end of ends) {
        const row = Uint8Array.from(readers.good)
        new DataView(row.buffer).setBigInt64(field, end, true)
        sealRow(row)
        readers.merge(row)
        readers.advance(row)
        readers.unite(row)
        readers.flush(row)
        readers.expectUnharmed()
      }
    }
  })
})
