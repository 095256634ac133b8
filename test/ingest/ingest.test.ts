import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, last, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { Merger } from '../../src/engine/merger.ts'
import { loadCore } from '../../src/engine/module.ts'
import { Ingest, type IngestOptions, type IngestSpec } from '../../src/ingest/ingest.ts'
import type { SideRecord } from '../../src/ingest/side.ts'
import type { ColumnBatch } from '../../src/model/columns.ts'
import { laneHash } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { createMemoryStore, type MemoryStore } from '../../src/store/memory.ts'
import { answersAt, batchOf, event, NOT_AFTER_MS } from '../engine/folding.ts'
import { FaultyStore } from '../laws/faulty-store.ts'
import { wasKilled } from '../laws/ingest-subject.ts'
import { type NaiveEvent, naiveAccept, naiveFeatures } from '../oracle/naive.ts'
import { TIME_INPUT } from '../support/batches.ts'
import { seededRandom } from '../support/random.ts'

const START_MS = Date.UTC(2001, 5, 17, 9)
const MINUTE_MS = 60_000

function planWith(policy: 'accept' | 'side_output' | 'drop', dedupe: boolean): Promise<Plan> {
  return compileView(
    defineView({
      name: 'clicks',
      source: {
        name: 'events',
        columns: { key: utf8(), event_id: utf8(), value: float64(), [TIME_INPUT]: timestamp('ms') },
      },
      entity: 'key',
      time: TIME_INPUT,
      aggregations: [
        count({ windows: ['1h', '1d'] }),
        sum('value', { windows: ['1h', '1d'] }),
        last('value', { windows: ['1d'] }),
      ],
      lateness: { allowed: '10m', policy },
      ...(dedupe && { dedupe: { id: 'event_id', within: '1h' } }),
    }),
  )
}

const plan = await planWith('accept', false)

function specOf(changes: Partial<IngestSpec> = {}, of: Plan = plan): IngestSpec {
  return {
    view: of.view,
    state: of.state,
    stateHash: of.stateHash,
    namespace: 'test',
    generation: 1,
    log: 'log',
    lanes: ['log.0', 'log.1', 'log.2'],
    shard: 0,
    shards: 1,
    notAfterMs: NOT_AFTER_MS,
    completeSinceMs: 0,
    layoutVersion: 1,
    deltaBytesMax: 1 << 30,
    isHistory: false,
    ...changes,
  }
}

let takers = 0

function open(store: IngestOptions['store'], spec = specOf(), more: Partial<IngestOptions> = {}): Promise<Ingest> {
  return Ingest.open(spec, { store, core: loadCore(), clock: () => NOT_AFTER_MS, nonce: `taker-${takers++}`, ...more })
}

function at(minutes: number, key: string, value = 1, id: string | null = null): NaiveEvent {
  return { ...event(START_MS + minutes * MINUTE_MS, { value }, [key]), id }
}

function batch(events: readonly NaiveEvent[], first: number, of: Plan = plan): ColumnBatch {
  return batchOf(events, of.state, first, first)[0]!
}

const KEYS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']

/** Every answer about one key from what the store holds. */
async function ask(store: IngestOptions['store'], key: string, asOfMs: number, spec = specOf()) {
  const bytes = Buffer.from(key)
  const merger = Merger.create(loadCore(), plan)
  merger.begin(1, asOfMs)
  const lane = spec.lanes[laneHash(bytes) % spec.lanes.length]!
  const { namespace, stateHash, generation } = spec
  await store.readRows([{ lane: { namespace, stateHash, generation, lane }, key: bytes }], (_, row) => {
    if (row) merger.addRow(0, row)
  })
  merger.run()
  return answersAt(merger, plan, 0)
}

async function rowsIn(store: MemoryStore, lane: string): Promise<number> {
  let rows = 0
  const { namespace, stateHash, generation } = specOf()
  for await (const _ of store.scanRows({ namespace, stateHash, generation, lane })) rows++
  return rows
}

describe('the event walk', () => {
  it('takes events to rows that answer', async () => {
    const store = createMemoryStore()
    const ingest = await open(store)
    expect([ingest.resumeFrom, ingest.applied]).toEqual([0, -1])
    const events = KEYS.flatMap((key, i) => [at(i, key, i), at(i + 60, key, 10 * i)])
    await ingest.push(batch(events, 0))
    expect(ingest.resumeFrom).toBe(events.length)
    expect(ingest.applied).toBe(-1)
    expect(await ingest.flush()).toBe(events.length - 1)
    for (const key of KEYS) {
      const asOfMs = START_MS + 70 * MINUTE_MS
      expect(await ask(store, key, asOfMs)).toEqual(naiveFeatures(events, plan, [key], asOfMs))
    }
    expect(await Promise.all(specOf().lanes.map((lane) => rowsIn(store, lane)))).toEqual(
      specOf().lanes.map((_, lane) => KEYS.filter((key) => laneHash(Buffer.from(key)) % 3 === lane).length),
    )
  })

  it('flushes by itself once the delta is over its budget', async () => {
    const store = createMemoryStore()
    const ingest = await open(store, specOf({ deltaBytesMax: 1 }))
    await ingest.push(batch([at(0, 'a')], 0))
    expect(ingest.applied).toBe(0)
    await ingest.push(batch([at(1, 'b')], 1))
    expect(ingest.applied).toBe(1)
  })

  it('reads nothing of a lane that began empty, and never what it wrote; another owner reads it anew', async () => {
    const store = createMemoryStore()
    const asked: string[] = []
    const { readOwnRows } = store
    store.readOwnRows = (lane, token, sequence, keys, sink) => {
      asked.push(...keys.map((key) => Buffer.from(key).toString()))
      return readOwnRows.call(store, lane, token, sequence, keys, sink)
    }
    const events: NaiveEvent[] = []
    const take = async (ingest: Ingest, key: string): Promise<void> => {
      events.push(at(events.length, key, events.length))
      await ingest.push(batch(events.slice(-1), events.length - 1))
    }
    const first = await open(store)
    for (let round = 0; round < 4; round++) {
      for (const key of KEYS) await take(first, key)
      await first.flush()
    }
    expect(asked).toEqual([])
    const before = first.memoryBytes
    await first.renew()
    expect(first.memoryBytes).toBeLessThan(before)
    await take(first, 'a')
    await first.flush()
    expect(asked.splice(0)).toEqual(['a'])
    const second = await open(store)
    await take(second, 'a')
    await second.flush()
    expect(asked).toEqual(['a'])
    for (const key of KEYS) {
      const asOfMs = START_MS + 70 * MINUTE_MS
      expect(await ask(store, key, asOfMs)).toEqual(naiveFeatures(events, plan, [key], asOfMs))
    }
  })

  it('adds a history up over flushes, whoever was forgotten or has taken over in between', async () => {
    const spec = specOf({ isHistory: true, lanes: ['h0', 'h1', 'h2'] })
    const keys = Array.from({ length: 300 }, (_, i) => `customer-${i}`)
    const random = seededRandom(7)
    for (const between of ['nothing', 'renewed', 'taken'] as const) {
      const store = createMemoryStore({ writeBytesMax: 2000 })
      const events: NaiveEvent[] = []
      let ingest = await open(store, spec)
      for (let round = 0; round < 4; round++) {
        const first = events.length
        for (let i = 0; i < 100; i++) events.push(at(events.length / 10, random.pick(keys), random.below(100)))
        await ingest.push(batch(events.slice(first), first))
        await ingest.flush()
        if (between === 'renewed') await ingest.renew()
        if (between === 'taken') ingest = await open(store, spec)
      }
      for (const key of new Set(events.map(({ key: [part] }) => part as string))) {
        const asOfMs = START_MS + 50 * MINUTE_MS
        expect(await ask(store, key, asOfMs, spec), between).toEqual(naiveFeatures(events, plan, [key], asOfMs))
      }
    }
  })

  it('adds a history up from a death at every call', async () => {
    const spec = specOf({ isHistory: true, lanes: ['h0', 'h1'] })
    const random = seededRandom(7)
    const keys = KEYS.flatMap((key) => [key, `${key}${key}`])
    const events = Array.from({ length: 60 }, (_, i) => at(i, random.pick(keys), random.below(100)))
    const asOfMs = START_MS + 60 * MINUTE_MS
    const live = async (store: FaultyStore, life: number) => {
      const ingest = await open(store, spec)
      for (let first = ingest.resumeFrom; first < events.length; first += 10) {
        await ingest.push(batch(events.slice(first, first + 10), first))
        if ((first / 10 + life) % 2 === 0) await ingest.flush()
      }
      await ingest.flush()
    }
    let deaths = 0
    for (const fault of ['before', 'after', 'lose_reply'] as const) {
      for (let call = 0, didDie = true; didDie; call++) {
        const inner = createMemoryStore({ writeBytesMax: 600 })
        const store = new FaultyStore(inner)
        store.plan(call, fault)
        let life = 0
        for (; await wasKilled(live(store, life)); life++) store.restart()
        deaths += life
        didDie = call < store.calls || life > 0
        for (const key of keys) {
          const answers = await ask(inner, key, asOfMs, spec)
          expect(answers, `${fault} call ${call}`).toEqual(naiveFeatures(events, plan, [key], asOfMs))
        }
      }
    }
    expect(deaths).toBeGreaterThan(40)
  })

  it('carries out its calls in the order they were made, without waiting for each', async () => {
    const store = createMemoryStore()
    const ingest = await open(store)
    const calls = KEYS.map((key, i) => ingest.push(batch([at(i, key, i)], i)))
    const applied = ingest.flush()
    calls.push(ingest.push(batch([at(9, 'a', 100)], KEYS.length)))
    await Promise.all(calls)
    expect(await applied).toBe(KEYS.length - 1)
    expect(await ingest.flush()).toBe(KEYS.length)
  })

  it('refuses a broken batch and goes on with the next', async () => {
    const store = createMemoryStore()
    const ingest = await open(store)
    const good = batch([at(0, 'a'), at(1, 'b')], 0)
    const broken = { ...good, columns: good.columns.filter(({ name }) => name !== 'value') }
    await expect(ingest.push(broken)).rejects.toThrow(expect.objectContaining({ code: 'COLUMN_MISSING' }))
    expect(ingest.resumeFrom).toBe(0)
    await ingest.push(good)
    expect(await ingest.flush()).toBe(1)
    expect(ingest.counters).toMatchObject({ consumed: 2, applied: 2 })
  })

  it('is dead after any other error, and says why to every later call', async () => {
    const store = new FaultyStore(createMemoryStore())
    const ingest = await open(store)
    await ingest.push(batch([at(0, 'a')], 0))
    store.plan(0, 'before')
    await expect(ingest.flush()).rejects.toThrow(/killed before call/)
    store.restart()
    await expect(ingest.push(batch([at(1, 'a')], 1))).rejects.toThrow(/killed before call/)
    await expect(ingest.flush()).rejects.toThrow(/killed before call/)
    await expect(ingest.advance(5)).rejects.toThrow(/killed before call/)
    const next = await open(store)
    expect(next.resumeFrom).toBe(0)
  })

  it('is fenced by whoever takes its lanes', async () => {
    const store = createMemoryStore()
    const first = await open(store)
    await first.push(batch([at(0, 'a')], 0))
    await first.flush()
    await first.check()
    const second = await open(store)
    expect(second.resumeFrom).toBe(1)
    await expect(first.check()).rejects.toThrow(expect.objectContaining({ code: 'FENCED' }))
    const again = await open(store)
    await second.push(batch([at(1, 'a')], 1))
    await expect(second.flush()).rejects.toThrow(expect.objectContaining({ code: 'FENCED' }))
    await again.push(batch([at(1, 'a')], 1))
    expect(await again.flush()).toBe(1)
  })

  it('notices a store that went back in time', async () => {
    const store = createMemoryStore({ history: true })
    const spec = specOf({ lanes: ['log.0'] })
    const lane = { namespace: 'test', stateHash: plan.stateHash, generation: 1, lane: 'log.0' }
    const ingest = await open(store, spec)
    await ingest.push(batch([at(0, 'a', 1)], 0))
    await ingest.flush()
    const before = store.writesOf(lane)
    await ingest.push(batch([at(1, 'a', 2)], 1))
    await ingest.flush()
    store.regress(lane, store.writesOf(lane) - before)
    await ingest.push(batch([at(2, 'a', 4)], 2))
    await expect(ingest.flush()).rejects.toThrow(expect.objectContaining({ code: 'REGRESSED' }))
    // Whoever comes next replays what was lost.
    const next = await open(store, spec)
    expect(next.resumeFrom).toBe(1)
    const events = [at(0, 'a', 1), at(1, 'a', 2), at(2, 'a', 4)]
    await next.push(batch(events.slice(1), 1))
    await next.flush()
    const asOfMs = START_MS + 10 * MINUTE_MS
    expect(await ask(store, 'a', asOfMs, spec)).toEqual(naiveFeatures(events, plan, ['a'], asOfMs))
  })

  it('has no lanes to take where a shard has none', async () => {
    const spec = specOf({ lanes: ['log.0'], shard: 1, shards: 2 })
    await expect(open(createMemoryStore(), spec)).rejects.toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  })

  it('shares a log between shards: each judges all of it and folds its own', async () => {
    const store = createMemoryStore()
    const shards = await Promise.all([0, 1].map((shard) => open(store, specOf({ shard, shards: 2 }))))
    const events = KEYS.flatMap((key, i) => [at(i, key, i), at(i + 1, key, 10 * i)])
    for (const ingest of shards) {
      await ingest.push(batch(events, 0))
      await ingest.flush()
    }
    expect(shards.map(({ counters }) => counters.applied)).toEqual([events.length, events.length])
    expect(shards.map(({ sequences }) => [...sequences.keys()])).toEqual([[0, 2], [1]])
    for (const key of KEYS) {
      const asOfMs = START_MS + 30 * MINUTE_MS
      expect(await ask(store, key, asOfMs)).toEqual(naiveFeatures(events, plan, [key], asOfMs))
    }
  })

  it('starts from an older checkpoint where the newest is damaged', async () => {
    const store = createMemoryStore()
    const spec = specOf({ lanes: ['log.0'] })
    const ingest = await open(store, spec)
    await ingest.push(batch([at(0, 'a')], 0))
    await ingest.flush()
    const lane = { namespace: 'test', stateHash: plan.stateHash, generation: 1, lane: 'log.0' }
    store.damageCheckpoint(lane, 'garble')
    // The one before it is the empty one at the log's beginning: a longer replay, and nothing lost.
    const next = await open(store, spec)
    expect(next.resumeFrom).toBe(0)
    await next.push(batch([at(0, 'a'), at(1, 'a')], 0))
    await next.flush()
    const asOfMs = START_MS + 10 * MINUTE_MS
    expect(await ask(store, 'a', asOfMs, spec)).toEqual(naiveFeatures([at(0, 'a'), at(1, 'a')], plan, ['a'], asOfMs))
  })
})

describe('what is not applied', () => {
  const events = [
    at(0, 'a', 1, 'x'),
    at(60, 'a', 2, 'y'),
    // 40 minutes behind the clock, where 10 are allowed.
    at(20, 'a', 4, 'z'),
    at(61, 'a', 8, 'y'),
    { ...at(62, 'a'), time: null },
    at(63, ''),
    { ...at(64, 'a'), time: Date.UTC(2100, 0, 3) },
    // Older than any window, behind an event of five days later.
    at(5 * 1440, 'b'),
    at(1, 'a'),
  ]

  it.each([
    ['side_output', ['late', 'rejected_time', 'rejected_key', 'rejected_future', 'expired']],
    ['drop', ['rejected_time', 'rejected_key', 'rejected_future', 'expired']],
    ['accept', ['rejected_time', 'rejected_key', 'rejected_future', 'expired']],
  ] as const)('goes to the side by position and reason: %s', async (policy, reasons) => {
    const judged = await planWith(policy, true)
    const records: SideRecord[] = []
    const onSide = (some: SideRecord[]) => records.push(...some)
    const ingest = await open(createMemoryStore(), specOf({}, judged), { onSide })
    await ingest.push(batch(events.slice(0, 4), 100, judged))
    await ingest.push(batch(events.slice(4), 104, judged))
    expect(records.map(({ reason }) => reason)).toEqual(reasons)
    for (const record of records) expect(record).toMatchObject({ view: 'clicks', log: 'log' })
    const positions = { late: 102, rejected_time: 104, rejected_key: 105, rejected_future: 106, expired: 108 }
    expect(records.map(({ position }) => position)).toEqual(reasons.map((reason) => positions[reason]))

    const placed = events.map((each, i) => ({ ...each, position: 100 + i }))
    const truth = naiveAccept(placed, judged.state, { notAfterMs: NOT_AFTER_MS })
    expect(ingest.counters).toMatchObject({
      consumed: events.length,
      applied: truth.applied.length,
      duplicate: truth.verdicts.filter(({ verdict }) => verdict === 'duplicate').length,
      rejected: 3,
      expired: 1,
    })
  })

  it('is reported again by a replay, and counted once', async () => {
    const judged = await planWith('side_output', true)
    const store = createMemoryStore()
    const records: SideRecord[] = []
    const onSide = (some: SideRecord[]) => records.push(...some)
    const first = await open(store, specOf({}, judged), { onSide })
    await first.push(batch(events, 0, judged))
    await first.flush()
    const done = records.length
    // Its last words were lost: the log comes again from where the store stands, and a bit before.
    const second = await open(store, specOf({}, judged), { onSide })
    expect(second.resumeFrom).toBe(events.length)
    await second.push(batch(events, 0, judged))
    expect(records.length).toBe(done)
    expect({ ...second.counters, redelivered: 0 }).toEqual({ ...first.counters, redelivered: 0 })
    expect(second.counters.redelivered).toBe(events.length)
  })
})

describe('checkpoints', () => {
  it('with dedupe ids are written every ten seconds, and a restart replays from the last', async () => {
    const judged = await planWith('accept', true)
    const store = createMemoryStore()
    const spec = specOf({ lanes: ['log.0'] }, judged)
    let nowMs = NOT_AFTER_MS
    const first = await open(store, spec, { clock: () => nowMs })
    const events = Array.from({ length: 6 }, (_, i) => at(i, 'a', i, `id-${i}`))
    for (const [i, each] of events.entries()) {
      await first.push(batch([each], i, judged))
      await first.flush()
      nowMs += 4_000
    }
    // Flushes at 0, 4, 8, 12, 16 and 20 s: checkpoints at the first and at the fourth.
    expect(first.applied).toBe(5)
    const second = await open(store, spec, { clock: () => nowMs })
    expect(second.applied).toBe(5)
    expect(second.resumeFrom).toBe(4)
    // The ids come back with the replay: one that was seen then is a duplicate now, and nothing is folded twice.
    await second.push(batch([...events.slice(4), at(7, 'a', 50, 'id-5'), at(7, 'a', 60, 'id-1')], 4, judged))
    await second.flush()
    expect(second.counters).toMatchObject({ consumed: 8, applied: 6, duplicate: 2 })
    const rows = new Map<string, Uint8Array>()
    const { namespace, stateHash, generation } = spec
    for await (const { key, bytes } of store.scanRows({ namespace, stateHash, generation, lane: 'log.0' })) {
      rows.set(Buffer.from(key).toString(), bytes)
    }
    const merger = Merger.create(loadCore(), judged)
    merger.begin(1, START_MS + 10 * MINUTE_MS)
    merger.addRow(0, rows.get('a')!)
    merger.run()
    expect(answersAt(merger, judged, 0)).toEqual(naiveFeatures(events, judged, ['a'], START_MS + 10 * MINUTE_MS))
  })
})
