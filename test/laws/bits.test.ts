/**
 * bit_or and bit_and beside DuckDB's, over random windows; and what makes them fit for events that come twice: they are
 * idempotent, in rows that other hands have touched as well.
 */
import { DuckDBInstance } from '@duckdb/node-api'
import { describe, expect, it } from 'vitest'
import {
  FRONTIER_BYTES,
  ROW_HEADER_BYTES,
  RUN_COUNT_AT,
  RUN_HEADER_BYTES,
  RUN_STRIDE_AT,
} from '../../assembly/layout.ts'
import { compileView } from '../../src/define/compile.ts'
import { bitAnd, bitOr, count, defineView, int64, timestamp, utf8 } from '../../src/define/dsl.ts'
import { Merger } from '../../src/engine/merger.ts'
import { CORE_BUILDS, type CoreBuild, loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import { sealRow } from '../assembly/naive-row.ts'
import { answersFrom, batchOf, event, Folder, hexKey } from '../engine/folding.ts'
import { eachSeed, patience } from '../fuzz/effort.ts'
import type { NaiveEvent } from '../oracle/naive.ts'
import { TIME_INPUT } from '../support/batches.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawCell } from '../support/values.ts'

const FILE = 'test/laws/bits.test.ts'
const MINUTE_MS = 60_000
const START_MS = Date.UTC(2026, 2, 3, 9)
const AS_OF_MS = START_MS + 180 * MINUTE_MS
const WINDOWS = ['12m', '1h', '3h'] as const

const plan = await compileView(
  defineView({
    name: 'cards',
    source: { name: 'payments', columns: { flags: int64(), key: utf8(), [TIME_INPUT]: timestamp('ms') } },
    entity: 'key',
    time: TIME_INPUT,
    tiles: ['1m', '5m', '15m'],
    retention: '1d',
    aggregations: [
      count({ windows: WINDOWS }),
      bitOr('flags', { windows: WINDOWS, as: 'seen' }),
      bitAnd('flags', { windows: WINDOWS, as: 'always' }),
    ],
  }),
)

/** Flags of three hours: null often enough that whole windows are, all of 64 bits, few of them at a time. */
function drawFlags(random: Random): NaiveEvent[] {
  const nulls = random.pick([0.1, 0.9, 1])
  return Array.from({ length: random.between(1, 60) }, () => {
    const one = 1n << BigInt(random.below(64))
    const flags = random.chance(0.6) ? random.pick([one, ~one]) : (drawCell(random, 'int64', 'extremes') as bigint)
    return event(START_MS + random.below(180 * MINUTE_MS), {
      flags: random.chance(nulls) ? null : BigInt.asIntN(64, flags),
    })
  })
}

function rowOf(events: readonly NaiveEvent[], build: CoreBuild): Uint8Array {
  return new Folder(loadCore(build), plan.state)
    .fold(batchOf(events, plan.state))
    .flush()
    .rows.get(hexKey(plan.state, ['k']))!
}

describe.each(CORE_BUILDS)('bits of the %s core', (build) => {
  it(
    "are DuckDB's bit_or and bit_and",
    async () => {
      const database = await (await DuckDBInstance.create(':memory:', { threads: '1' })).connect()
      const merger = Merger.create(loadCore(build), plan)
      let nulls = 0
      await eachSeed(FILE, 0, 30, async (seed) => {
        const random = seededRandom(seed)
        const events = drawFlags(random)
        const asOfMs = AS_OF_MS + random.below(150 * MINUTE_MS)
        const row = rowOf(events, build)
        const answers = new Map(answersFrom(merger, plan, [row], asOfMs).map(({ name, value }) => [name, value]))
        const values = events.map(({ time, cells }) => `(${time}, ${cells.flags ?? 'NULL'})`)
        for (const [i, window] of WINDOWS.entries()) {
          const { lengthMs, tailStepMs } = plan.windows[i]!
          const startMs = Math.floor((asOfMs - lengthMs) / tailStepMs) * tailStepMs
          const reader = await database.runAndReadAll(
            `SELECT bit_or(flags::BIGINT), bit_and(flags::BIGINT)
             FROM (VALUES ${values.join(', ')}) AS cells(instant, flags)
             WHERE instant >= ${startMs} AND instant < ${asOfMs}`,
          )
          const [expected] = reader.getRows()
          if (expected![0] === null) nulls++
          expect([answers.get(`seen_${window}`), answers.get(`always_${window}`)], window).toEqual(expected)
        }
      })
      expect(nulls).toBeGreaterThan(0)
      database.closeSync()
    },
    patience(3_000),
  )

  it('are the same of events that come twice', () => {
    const merger = Merger.create(loadCore(build), plan)
    for (let seed = 0; seed < 20; seed++) {
      const random = seededRandom(seed)
      const events = drawFlags(random)
      const once = answersFrom(merger, plan, [rowOf(events, build)], AS_OF_MS)
      const twice = answersFrom(merger, plan, [rowOf(random.shuffled([...events, ...events]), build)], AS_OF_MS)
      expect(twice.slice(WINDOWS.length), `seed ${seed}`).toEqual(once.slice(WINDOWS.length))
    }
  })

  it('count for nothing where a stored tile says that nothing was seen, in its parents neither', () => {
    // A tile of 1m, half an hour before the head, without a cell: number, rows, then twice presence and bits.
    const good = rowOf([event(START_MS, { flags: null }), event(START_MS + 30 * MINUTE_MS, { flags: 5n })], build)
    const normaliser = new RowNormaliser(loadCore(build), plan.state)
    const merger = Merger.create(loadCore(build), plan)
    const view = new DataView(good.buffer, good.byteOffset, good.byteLength)
    // The newer event is raw, in the first run; the tile is in the second.
    const rawAt = ROW_HEADER_BYTES + plan.state.ladder.length * FRONTIER_BYTES
    expect(view.getUint32(rawAt + RUN_COUNT_AT, true)).toBe(1)
    const tilesAt = rawAt + RUN_HEADER_BYTES + view.getUint32(rawAt + RUN_STRIDE_AT, true)
    const cell = tilesAt + RUN_HEADER_BYTES + 8
    expect(view.getUint32(tilesAt + RUN_STRIDE_AT, true)).toBe(8 + 2 * 12)
    expect([view.getUint32(cell, true), view.getUint32(cell + 12, true)]).toEqual([0, 0])
    const lying = Uint8Array.from(good)
    lying.fill(0x5a, cell + 4, cell + 12)
    lying.fill(0x5a, cell + 16, cell + 24)
    sealRow(lying)
    expect(answersFrom(merger, plan, [lying], AS_OF_MS)).toEqual(answersFrom(merger, plan, [good], AS_OF_MS))
    const [a, b] = [good, lying].map((row) => normaliser.normalise([row], AS_OF_MS))
    expect(Buffer.from(b!).toString('hex')).toBe(Buffer.from(a!).toString('hex'))

    // And any presence but 0 is one.
    const loud = Uint8Array.from(good)
    loud.fill(0xff, cell, cell + 4)
    loud.fill(0, cell + 4, cell + 12)
    sealRow(loud)
    expect(answersFrom(merger, plan, [loud], AS_OF_MS).find(({ name }) => name === 'seen_3h')?.value).toBe(5n)
    normaliser.normalise([loud], AS_OF_MS)
  })
})
