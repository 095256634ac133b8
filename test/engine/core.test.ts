import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, int64, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { Core } from '../../src/engine/core.ts'
import { loadCore } from '../../src/engine/module.ts'
import type { Shares } from '../../src/engine/program.ts'
import { unpackRows } from '../../src/model/packed-rows.ts'
import type { Plan } from '../../src/model/plan.ts'
import { withApplied } from '../../src/store/rules.ts'
import { eachSeed } from '../fuzz/effort.ts'
import { type NaiveEvent, naiveAccept } from '../oracle/naive.ts'
import { TIME_INPUT } from '../support/batches.ts'
import { seededRandom } from '../support/random.ts'
import { ALONE, batchOf, event, FAR_MS, Folder, hexKey, NOT_AFTER_MS, planOfEverything } from './folding.ts'

const FILE = 'test/engine/core.test.ts'
const START_MS = Date.UTC(2001, 5, 17, 9)
const MINUTE_MS = 60_000

/** A view with event ids that are remembered for an hour. */
const deduped: Plan = await compileView(
  defineView({
    name: 'deduped',
    source: {
      name: 'events',
      columns: { key: utf8(), event_id: utf8(), value: float64(), [TIME_INPUT]: timestamp('ms') },
    },
    entity: 'key',
    time: TIME_INPUT,
    aggregations: [count({ windows: ['1h'] }), sum('value', { windows: ['1h'] })],
    tiles: ['1m', '1h'],
    dedupe: { id: 'event_id', within: '1h' },
    disorder: '1m',
    head: '2m',
  }),
)
const simple = await planOfEverything({ whole: int64() })

function newCore(plan: Plan = simple, shares: Shares = ALONE): Core {
  return new Core(loadCore(), plan.state, shares, NOT_AFTER_MS)
}

function withId(minutes: number, id: string | null, value = 1, key = 'k'): NaiveEvent {
  return { ...event(START_MS + minutes * MINUTE_MS, { value }, [key]), id }
}

describe('clocks', () => {
  it('stand still before the first event', () => {
    const core = newCore()
    expect([core.position, core.watermarkMs, core.lateClockMs]).toEqual([-1, -1, -1])
    expect(core.headFrontierMs).toBe(0)
  })

  it('follow the newest event: the watermark behind it by the disorder, the head behind that by its length', () => {
    const core = newCore(deduped)
    core.prepare(batchOf([withId(60, 'a'), withId(30, 'b')], deduped.state)[0]!)
    core.fold(FAR_MS, false)
    expect(core.lateClockMs).toBe(START_MS + 60 * MINUTE_MS)
    expect(core.watermarkMs).toBe(START_MS + 59 * MINUTE_MS)
    expect(core.headFrontierMs).toBe(START_MS + 57 * MINUTE_MS)
    expect(core.position).toBe(1)
  })

  it('hold the head behind the wall clock, however far the log runs ahead', () => {
    const core = newCore(deduped)
    const wallMs = START_MS + 10 * MINUTE_MS
    core.prepare(batchOf([withId(60, 'a')], deduped.state)[0]!)
    core.fold(wallMs, false)
    expect(core.watermarkMs).toBe(START_MS + 59 * MINUTE_MS)
    expect(core.headFrontierMs).toBe(wallMs - 2 * MINUTE_MS)
  })

  it('are moved up by hand, and never back', () => {
    const core = newCore(deduped)
    core.advance(START_MS, FAR_MS)
    expect(core.headFrontierMs).toBe(START_MS - 2 * MINUTE_MS)
    core.advance(START_MS - MINUTE_MS, FAR_MS)
    expect(core.watermarkMs).toBe(START_MS)
    expect(core.headFrontierMs).toBe(START_MS - 2 * MINUTE_MS)
  })
})

describe('a flush', () => {
  const lanes = { ...ALONE, lanes: 4 }
  const events = Array.from({ length: 100 }, (_, i) => event(START_MS + i, { whole: BigInt(i) }, [`k${i % 37}`]))

  it('comes in chunks of one lane each, lanes ascending, no longer than asked for', () => {
    for (const size of [1, 3, 512]) {
      const core = newCore(simple, lanes)
      core.prepare(batchOf(events, simple.state)[0]!)
      core.fold(FAR_MS, false)
      const chunks = core.beginFlush(size)
      expect(chunks.map(({ lane }) => lane)).toEqual([...chunks.map(({ lane }) => lane)].sort())
      const places = chunks.flatMap(({ start, end }) => Array.from({ length: end - start }, (_, i) => start + i))
      expect(places).toEqual(Array.from({ length: 37 }, (_, i) => i))
      expect(Math.max(...chunks.map(({ start, end }) => end - start))).toBeLessThanOrEqual(size)
      const keys = chunks.flatMap((chunk) => core.keysOf(chunk).map((key) => Buffer.from(key).toString()))
      expect([...keys].sort()).toEqual([...new Set(events.map(({ key }) => key[0] as string))].sort())
    }
  })

  it('comes in the order of keys in each lane, so that a store writes neighbours together', () => {
    const random = seededRandom(7)
    const names = Array.from({ length: 4000 }, (_, i) => `customer-${i * 7919}${'x'.repeat(i % 9)}`)
    const many = random.shuffled(names).map((name, i) => event(START_MS + i, { whole: 1n }, [name]))
    const core = newCore(simple, lanes)
    core.prepare(batchOf(many, simple.state)[0]!)
    core.fold(FAR_MS, false)
    let [count, apart] = [0, 0]
    for (let lane = 0; lane < 4; lane++) {
      const chunks = core.beginFlush(512).filter((chunk) => chunk.lane === lane)
      const keys = chunks.flatMap((chunk) => core.keysOf(chunk).map((key) => Buffer.from(key).toString()))
      count += keys.length
      // Sorted by 8 bytes behind what all have in common: those are equal, or in order.
      for (let i = 1; i < keys.length; i++) if (keys[i - 1]!.slice(0, 17) > keys[i]!.slice(0, 17)) apart++
    }
    expect([count, apart]).toEqual([4000, 0])
  })

  it('writes the rows of new entities in one go as it writes them one by one', () => {
    const random = seededRandom(7)
    const many = Array.from({ length: 3000 }, (_, i) =>
      event(START_MS + i * random.below(MINUTE_MS), { whole: BigInt(random.below(1000)) }, [
        `customer-${random.below(900)}`,
      ]),
    )
    const [core, plain] = [newCore(simple, lanes), newCore(simple, lanes)]
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
    let before = 0
    // Of the second half most have a row, and some are new.
    for (const half of [many.slice(0, 1000), many.slice(1000)]) {
      const first = many.indexOf(half[0]!)
      for (const each of [core, plain]) {
        each.prepare(batchOf(half, simple.state, first, first)[0]!)
        each.fold(FAR_MS, false)
      }
      for (const chunk of core.beginFlush(100)) {
        const entities = core.entitiesOf(chunk)
        expect(entities.map((entity) => core.isUnwritten(entity))).toEqual(entities.map((entity) => entity >= before))
        expect(core.areUnwritten(chunk)).toBe(first === 0)
      }
      const chunks = plain.beginFlush(100)
      for (const chunk of chunks) {
        const rows = unpackRows(core.writeNewRows(chunk, core.position, { memory: new Uint8Array(0) }))
        expect(rows.map(({ key }) => hex(key))).toEqual(plain.keysOf(chunk).map(hex))
        const expected = plain.writeRows(chunk, Array(rows.length).fill(undefined), plain.position)
        expect(rows.map(({ bytes }) => hex(bytes))).toEqual(expected.map(hex))
      }
      before = core.entityCount
      for (const each of [core, plain]) each.endFlush()
    }
    core.forgetEntities()
    core.prepare(batchOf(many.slice(-1), simple.state, 3000, 3000)[0]!)
    core.fold(FAR_MS, false)
    expect(core.beginFlush(100).map((chunk) => core.areUnwritten(chunk))).toEqual([false])
  })

  it('holds no entity of another shard, and every event is judged in each', () => {
    const met = [0, 1].map((shard) => {
      const core = newCore(simple, { ...lanes, shard, shards: 2 })
      core.prepare(batchOf(events, simple.state)[0]!)
      core.fold(FAR_MS, false)
      expect(core.counters().applied).toBe(100)
      expect(core.beginFlush(512).every(({ lane }) => lane % 2 === shard)).toBe(true)
      return core.entityCount
    })
    expect(met[0]! + met[1]!).toBe(37)
  })

  it('knows where each entity began', () => {
    const core = newCore(simple, lanes)
    core.prepare(batchOf(events, simple.state, 0, 500)[0]!)
    core.fold(FAR_MS, false)
    for (const chunk of core.beginFlush(512)) {
      const positions = core.firstPositionsOf(chunk)
      for (const [i, key] of core.keysOf(chunk).entries()) {
        const first = events.findIndex((each) => each.key[0] === Buffer.from(key).toString())
        expect(positions[i]).toBe(500 + first)
      }
    }
  })

  it('of nothing has no chunks, and leaves nothing behind', () => {
    const core = newCore()
    expect(core.beginFlush(512)).toEqual([])
    core.endFlush()
    const folder = new Folder(loadCore(), simple.state).fold(batchOf(events, simple.state))
    const before = folder.core.deltaBytes
    folder.flush()
    expect(folder.core.deltaBytes).toBeLessThan(before)
    expect(folder.core.beginFlush(512)).toEqual([])
  })

  it('puts the applied position into each row, and raises it only', () => {
    const folder = new Folder(loadCore(), simple.state).fold(batchOf(events.slice(0, 37), simple.state)).flush()
    folder.fold(batchOf(events.slice(37, 40), simple.state, 0, 37)).flush()
    const applied = new Map([...folder.rows].map(([key, row]) => [key, Number(viewOf(row).getBigInt64(8, true))]))
    for (const [key, position] of applied) {
      const touched = events.slice(37, 40).some((each) => hexKey(simple.state, each.key) === key)
      expect(position).toBe(touched ? 39 : 36)
    }
  })

  it('refuses a stored row that holds events it is about to add, or that nobody has flushed yet', () => {
    const stored = new Folder(loadCore(), simple.state).fold(batchOf(events, simple.state)).flush().rows
    const core = newCore()
    core.prepare(batchOf(events.slice(0, 1), simple.state, 0, 50)[0]!)
    core.fold(FAR_MS, false)
    const [chunk] = core.beginFlush(1)
    const row = stored.get(hexKey(simple.state, ['k0']))!
    for (const applied of [50, 51, 99, 2 ** 40]) {
      expect(() => core.writeRows(chunk!, [withApplied(row, applied)], 50), `applied ${applied}`).toThrow(
        expect.objectContaining({ code: 'REGRESSED' }),
      )
    }
    expect(core.writeRows(chunk!, [withApplied(row, 49)], 50)).toHaveLength(1)
  })

  it('refuses a damaged row and says whose it is', () => {
    const core = newCore()
    core.prepare(batchOf(events.slice(0, 1), simple.state)[0]!)
    core.fold(FAR_MS, false)
    const [chunk] = core.beginFlush(1)
    expect(() => core.writeRows(chunk!, [new Uint8Array(80)], 0)).toThrow(
      expect.objectContaining({ code: 'ROW_CORRUPT', message: expect.stringContaining('entity k0') }),
    )
    // The delta is still there.
    expect(core.writeRows(chunk!, [undefined], 0)).toHaveLength(1)
  })
})

describe('a checkpoint', () => {
  const log = [withId(0, 'a'), withId(1, 'b'), withId(2, 'a'), withId(30, null), withId(90, 'c'), withId(50, 'b')]

  it('carries clocks, counters and ids to where they were', () => {
    const core = newCore(deduped)
    core.prepare(batchOf(log, deduped.state)[0]!)
    core.fold(FAR_MS, false)
    const next = newCore(deduped)
    next.readCheckpoint(core.writeCheckpoint())
    for (const each of ['position', 'watermarkMs', 'headFrontierMs', 'lateClockMs'] as const) {
      expect(next[each], each).toBe(core[each])
    }
    expect(next.counters()).toEqual(core.counters())
    // What comes then is judged the same: `c` is known, `a` long forgotten, `b` is known from its second event.
    const more = [withId(91, 'c'), withId(91, 'a'), withId(92, 'b'), withId(92, 'd')]
    const verdicts = [core, next].map((each) => {
      each.prepare(batchOf(more, deduped.state, 0, log.length)[0]!)
      return [...each.verdicts(more.length)]
    })
    expect(verdicts[1]).toEqual(verdicts[0])
    const positions = [...log, ...more].map((each, position) => ({ ...each, position }))
    const truth = naiveAccept(positions, deduped.state, { notAfterMs: NOT_AFTER_MS })
    expect(next.counters().applied).toBe(truth.applied.length)
    expect(next.counters().duplicate).toBe(2 + 1)
  })

  it('holds no ids that can no longer matter', () => {
    const core = newCore(deduped)
    core.prepare(batchOf(log, deduped.state)[0]!)
    const before = core.writeCheckpoint().length
    core.prepare(batchOf([withId(300, 'late')], deduped.state, 0, log.length)[0]!)
    expect(core.writeCheckpoint().length).toBeLessThan(before)
  })

  it('counts on what lanes of the other kind answer for, and is what it always was where they answer for nothing', () => {
    const [fromMs, toMs] = [START_MS + MINUTE_MS, START_MS + 50 * MINUTE_MS]
    const open = () => newCore(deduped, { ...ALONE, takes: { ranges: [{ fromMs, toMs }], inside: false } })
    const core = open()
    core.prepare(batchOf(log, deduped.state)[0]!)
    const { applied, duplicate, late, elsewhere, consumed } = core.counters()
    expect(elsewhere).toBe(log.filter(({ time }) => Number(time) >= fromMs && Number(time) < toMs).length)
    expect({ late, consumed: applied + duplicate + late }).toEqual({ late: elsewhere, consumed })
    const bytes = core.writeCheckpoint()
    const next = open()
    next.readCheckpoint(bytes)
    expect(next.counters()).toEqual(core.counters())
    for (let length = 0; length < bytes.length; length++) {
      expect(() => open().readCheckpoint(bytes.subarray(0, length)), `${length} bytes`).toThrow(/damaged/)
    }
    // Clocks, nine counters, ids: as lanes have it that were written before there were ranges.
    const plain = newCore(deduped)
    plain.prepare(batchOf(log.slice(0, 1), deduped.state)[0]!)
    const old = plain.writeCheckpoint()
    expect(old.length).toBe(32 + 9 * 8 + 8 + (8 + 4 + 1))
    next.readCheckpoint(old)
    expect(next.counters()).toMatchObject({ consumed: 1, applied: 1, elsewhere: 0 })
  })

  it('is refused when it is damaged, and never stops the core', async () => {
    const core = newCore(deduped)
    core.prepare(batchOf(log, deduped.state)[0]!)
    const good = core.writeCheckpoint()
    const missing = expect.objectContaining({ code: 'CHECKPOINT_MISSING' })
    for (let length = 0; length < good.length; length++) {
      expect(() => newCore(deduped).readCheckpoint(good.subarray(0, length)), `${length} bytes`).toThrow(missing)
    }
    await eachSeed(FILE, 0, 300, (seed) => {
      const random = seededRandom(seed)
      const bytes = random.chance(0.5) ? random.bytes(random.below(300)) : Uint8Array.from(good)
      // Counts and lengths that no memory could hold, where the ids are.
      if (bytes.length > 108) {
        new DataView(bytes.buffer).setUint32(
          104 + random.below(bytes.length - 107),
          random.pick([0xffff_ffff, 1 << 30, 0]),
          true,
        )
      }
      try {
        core.readCheckpoint(bytes)
      } catch (error) {
        expect(error).toEqual(missing)
      }
    })
    core.readCheckpoint(good)
    expect(core.position).toBe(log.length - 1)
  })
})

describe('a replay', () => {
  it('skips, entity by entity, what their rows hold', () => {
    const events = Array.from({ length: 12 }, (_, i) => event(START_MS + i, { whole: BigInt(i) }, [`k${i % 3}`]))
    const whole = new Folder(loadCore(), simple.state).fold(batchOf(events, simple.state)).flush().rows
    // A first process got as far as position 5 with k0 and k2, and no further than 2 with k1.
    const first = new Folder(loadCore(), simple.state).fold(batchOf(events.slice(0, 3), simple.state)).flush()
    const behind = first.rows.get(hexKey(simple.state, ['k1']))!
    first
      .fold(batchOf(events.slice(3, 6), simple.state, 0, 3))
      .flush()
      .rows.set(hexKey(simple.state, ['k1']), behind)

    const second = new Folder(loadCore(), simple.state, ALONE, first.rows)
    second.core.prepare(batchOf(events, simple.state)[0]!)
    for (let entity = 0; entity < second.core.entityCount; entity++) {
      const row = first.rows.get(Buffer.from(second.core.keyOf(entity)).toString('hex'))!
      second.core.setApplied(entity, Number(viewOf(row).getBigInt64(8, true)))
    }
    second.core.fold(FAR_MS, true)
    expect(new Map([...second.flush().rows].sort())).toEqual(new Map([...whole].sort()))
  })
})

function viewOf(row: Uint8Array): DataView {
  return new DataView(row.buffer, row.byteOffset, row.byteLength)
}
