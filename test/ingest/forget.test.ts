import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { Ingest } from '../../src/ingest/ingest.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import { effort, patience } from '../fuzz/effort.ts'
import { FaultyStore } from '../laws/faulty-store.ts'
import { wasKilled } from '../laws/ingest-subject.ts'
import type { NaiveEvent } from '../oracle/naive.ts'
import { startRedis } from '../support/redis.ts'
import {
  at,
  isTombstone,
  LANES,
  laneName,
  MINUTE_MS,
  openIngest,
  push,
  request,
  rowsIn,
  rowsOfEvents,
  START_MS,
} from './forget-stream.ts'

const cleanUps: (() => Promise<void> | void)[] = []
afterAll(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp()
})

/** The minute as of which `b` is forgotten. */
const FORGOTTEN_MIN = 90
/** Events in log order: entity and minute; some are late, and some of these for the request. */
const LOG =
  'a0 b5 c7 b20 d31 a40 b55 c56 b60 d70 b75 a80 c81 d30 b82 a83 b84 c89 b12 a88 ' +
  'c91 b95 d100 b85 a120 b131 b90 c140'
const EVENTS = LOG.split(' ').map((each, i) => at(Number(each.slice(1)), each[0]!, i + 0.25))
/** From here on in the log the request may be known. */
const ASKED_AT = 13
/** Before this position there is no event of `b` from behind the instant: until here it doesn't matter when the lane erases. */
const ERASED_BY = 20

/** What is left of the log when `b` is forgotten. */
function leftOf(events: readonly NaiveEvent[]): NaiveEvent[] {
  return events.filter(({ key, time }) => key[0] !== 'b' || time! >= START_MS + FORGOTTEN_MIN * MINUTE_MS)
}

function conserved(ingest: Ingest): void {
  const { consumed, applied, duplicate, late, filtered, rejected } = ingest.counters
  expect(consumed).toBe(ingest.resumeFrom)
  expect(applied + duplicate + late + filtered + rejected).toBe(consumed)
}

it('has a log that can tell', () => {
  const own = EVENTS.map(({ key, time }, i) => ({ key: key[0], time, i })).filter(({ key }) => key === 'b')
  const line = START_MS + FORGOTTEN_MIN * MINUTE_MS
  expect(own.filter(({ i }) => i < ASKED_AT).length).toBeGreaterThan(2)
  expect(own.some(({ i, time }) => i >= ERASED_BY && time! < line)).toBe(true)
  expect(own.some(({ i, time }) => i >= ERASED_BY && time! >= line)).toBe(true)
  expect(own.every(({ i, time }) => i >= ERASED_BY || time! < line)).toBe(true)
})

describe('an entity that is forgotten', () => {
  it('loses its row and its delta, and counts again with what comes later', async () => {
    const store = createMemoryStore()
    const ingest = await openIngest(store)
    await push(ingest, EVENTS, 0, 6)
    await ingest.flush()
    await push(ingest, EVENTS, 6, ERASED_BY)
    await request(store, 'b', FORGOTTEN_MIN)
    await ingest.check()
    expect((await rowsIn(store)).get('b')).toBe('')
    conserved(ingest)
    expect(ingest.counters.filtered).toBe(0)

    await push(ingest, EVENTS, ERASED_BY)
    await ingest.flush()
    conserved(ingest)
    const late = EVENTS.slice(ERASED_BY).length - leftOf(EVENTS.slice(ERASED_BY)).length
    expect(ingest.counters.filtered).toBe(late)
    expect(await rowsIn(store)).toEqual(await rowsOfEvents(leftOf(EVENTS)))
  })

  it.each([
    ['in its row alone', true, false],
    ['in the delta alone', false, true],
    ['in both', true, true],
  ])('is erased %s', async (_, inRow, inDelta) => {
    const store = createMemoryStore()
    const ingest = await openIngest(store)
    const events = [...(inRow ? [at(1, 'b'), at(2, 'c')] : [at(2, 'c')]), ...(inDelta ? [at(9, 'b')] : [])]
    await push(ingest, events, 0, inDelta ? events.length - 1 : events.length)
    await ingest.flush()
    if (inDelta) await push(ingest, events, events.length - 1)
    await request(store, 'b', FORGOTTEN_MIN)
    await ingest.check()
    const rows = await rowsIn(store)
    expect([rows.get('b'), [...rows.keys()]]).toEqual(['', ['b', 'c']])
    expect(rows.get('c')).toBe((await rowsOfEvents([at(2, 'c')])).get('c'))
  })

  it('leaves no row where it never was', async () => {
    const store = createMemoryStore()
    const ingest = await openIngest(store)
    await push(ingest, [at(1, 'a')])
    await request(store, 'b', FORGOTTEN_MIN)
    await ingest.check()
    expect([...(await rowsIn(store)).keys()]).toEqual(['a'])
    // And the lanes say all the same that it is done: those that may hold it.
    const records = await Promise.all(LANES.map((lane) => store.readLane(laneName(lane))))
    expect(records.map((record) => record?.erased)).toContain(1)
  })

  it('is erased once: a restart does not erase what came since', async () => {
    const store = createMemoryStore()
    const first = await openIngest(store)
    await push(first, EVENTS, 0, ERASED_BY)
    await request(store, 'b', FORGOTTEN_MIN)
    await first.check()
    await push(first, EVENTS, ERASED_BY, EVENTS.length)
    await first.flush()
    const second = await openIngest(store)
    await second.check()
    await second.flush()
    expect(await rowsIn(store)).toEqual(await rowsOfEvents(leftOf(EVENTS)))
  })

  it('stays forgotten in a replay of the whole log into new lanes, and in a backfill', async () => {
    const store = createMemoryStore()
    await request(store, 'b', FORGOTTEN_MIN)
    for (const isHistory of [false, true]) {
      const lanes = isHistory ? ['h0', 'h1'] : LANES
      const ingest = await openIngest(store, { isHistory, lanes })
      await push(ingest, EVENTS)
      await ingest.flush()
      conserved(ingest)
      expect(ingest.counters.filtered).toBe(EVENTS.length - leftOf(EVENTS).length)
      const rows = await rowsIn(store, lanes)
      expect(rows).toEqual(await rowsOfEvents(leftOf(EVENTS)))
    }
  })

  it('is another entity for views that were not asked', async () => {
    const store = createMemoryStore()
    await request(store, 'b', FORGOTTEN_MIN)
    const ingest = await openIngest(store, { view: 'other', stateHash: 'f'.repeat(16) })
    await push(ingest, EVENTS)
    await ingest.flush()
    expect(ingest.counters.filtered).toBe(0)
  })

  it('is found by every shard, and counted the same by all', async () => {
    const store = createMemoryStore()
    await request(store, 'b', FORGOTTEN_MIN)
    const shards = await Promise.all([0, 1].map((shard) => openIngest(store, { shard, shards: 2 })))
    for (const ingest of shards) {
      await push(ingest, EVENTS)
      await ingest.flush()
    }
    expect(shards[0]!.counters).toEqual(shards[1]!.counters)
    expect(await rowsIn(store)).toEqual(await rowsOfEvents(leftOf(EVENTS)))
  })

  it('takes the latest of several requests, and each erases anew', async () => {
    const store = createMemoryStore()
    const ingest = await openIngest(store)
    await push(ingest, EVENTS, 0, ERASED_BY)
    await request(store, 'b', FORGOTTEN_MIN)
    await request(store, 'b', 10)
    await ingest.check()
    await push(ingest, EVENTS, ERASED_BY)
    await ingest.flush()
    expect(await rowsIn(store)).toEqual(await rowsOfEvents(leftOf(EVENTS)))
    await request(store, 'b', 200)
    await ingest.check()
    expect((await rowsIn(store)).get('b')).toBe('')
  })
})

// ---- every way to die ------------------------------------------------------------------------------------------------

interface Planned {
  readonly call: number
  readonly fault: 'before' | 'after' | 'lose_reply'
}

/** Runs the log in as many processes as it takes, `b` being asked to be forgotten once a process comes to ASKED_AT. */
async function run(
  inner: Store,
  faults: readonly Planned[],
  lanes = LANES,
): Promise<{ rows: Map<string, string>; calls: number[] }> {
  const store = new FaultyStore(inner)
  const calls: number[] = []
  let isAsked = false
  for (let died = true; died; ) {
    const planned = faults[calls.length]
    store.restart()
    if (planned) store.plan(planned.call, planned.fault)
    died = await wasKilled(
      live(store, lanes, calls.length, async () => {
        if (!isAsked) await request(inner, 'b', FORGOTTEN_MIN)
        isAsked = true
      }),
    )
    calls.push(store.calls)
  }
  return { rows: await rowsIn(inner, lanes), calls }
}

/** Calls of a run that nothing disturbs. */
async function callsOf(lanes: readonly string[]): Promise<number> {
  return (await run(createMemoryStore({ writeBytesMax: 300 }), [], [...lanes])).calls[0]!
}

/** One process; it flushes at other positions than the one before. */
async function live(store: Store, lanes: string[], life: number, ask: () => Promise<void>): Promise<void> {
  const ingest = await openIngest(store, { lanes })
  for (let from = ingest.resumeFrom; from < EVENTS.length; ) {
    // Looks at the list before anything comes that it would matter for.
    if (from >= ASKED_AT) await ask()
    if (from >= ASKED_AT + 2 + (life % 3) || from >= ERASED_BY) await ingest.check()
    const stop = from < ASKED_AT ? ASKED_AT : from < ERASED_BY ? ERASED_BY : EVENTS.length
    const to = Math.min(stop, from + 1 + ((from + life) % 3))
    await push(ingest, EVENTS, from, to)
    from = to
    if ((from + life) % 4 < 2) await ingest.flush()
  }
  await ingest.check()
  await ingest.flush()
  conserved(ingest)
}

describe('a death at any call', () => {
  it(
    'forgets the same, and so does one more death in the replay',
    async () => {
      const expected = await rowsOfEvents(leftOf(EVENTS))
      // In one lane, so that rows of others are written before and behind the tombstone.
      const runWith = (faults: readonly Planned[]) => run(createMemoryStore({ writeBytesMax: 300 }), faults, ['log.0'])
      const undisturbed = await runWith([])
      expect(undisturbed.rows).toEqual(expected)
      for (let first = 0; first < undisturbed.calls[0]!; first++) {
        // To the store, dying behind a call is dying before the next one.
        for (const fault of ['before', 'lose_reply'] as const) {
          const faults = [{ call: first, fault }]
          const once = await runWith(faults)
          expect(once.rows, JSON.stringify(faults)).toEqual(expected)
          if (fault !== 'before') continue
          const step = Math.max(1, Math.round(12 / effort()))
          for (let second = first % step; second < once.calls[1]!; second += step) {
            const both = [...faults, { call: second, fault }]
            expect((await runWith(both)).rows, JSON.stringify(both)).toEqual(expected)
          }
        }
      }
    },
    patience(20_000),
  )

  it('forgets the same on a disk', async () => {
    const path = mkdtempSync(join(tmpdir(), 'tilefold-forget-'))
    cleanUps.push(() => rmSync(path, { recursive: true, force: true }))
    const expected = await rowsOfEvents(leftOf(EVENTS))
    for (let call = 8; call < (await callsOf(LANES)); call += 4) {
      const store = createLmdbStore({ path: join(path, `${call}`) })
      expect((await run(store, [{ call, fault: 'after' }])).rows, `call ${call}`).toEqual(expected)
      await store.close()
    }
  }, 60_000)

  it('forgets the same in Redis', async () => {
    const redis = await startRedis()
    cleanUps.push(() => redis.stop())
    const expected = await rowsOfEvents(leftOf(EVENTS))
    for (let call = 8; call < (await callsOf(LANES)); call += 4) {
      const store = createRedisStore({ urls: redis.url })
      await redis.client.flushall()
      expect((await run(store, [{ call, fault: 'after' }])).rows, `call ${call}`).toEqual(expected)
      await store.close()
    }
  }, 60_000)

  it('a failover that loses the erasure brings it about again', async () => {
    const store = createMemoryStore({ history: true })
    const ingest = await openIngest(store)
    await push(ingest, EVENTS, 0, ERASED_BY)
    await ingest.flush()
    await request(store, 'b', FORGOTTEN_MIN)
    await ingest.check()
    for (const lane of LANES) store.regress(laneName(lane), Math.min(1, store.writesOf(laneName(lane))))
    const next = await openIngest(store)
    await push(next, EVENTS, next.resumeFrom)
    await next.flush()
    expect(await rowsIn(store)).toEqual(await rowsOfEvents(leftOf(EVENTS)))
  })
})

it('leaves a tombstone that says how far it is', async () => {
  const store = createMemoryStore()
  const ingest = await openIngest(store)
  await push(ingest, EVENTS, 0, ERASED_BY)
  await request(store, 'b', FORGOTTEN_MIN)
  await ingest.check()
  const found: Uint8Array[] = []
  for (const lane of LANES) {
    for await (const { key, bytes } of store.scanRows(laneName(lane))) {
      if (Buffer.from(key).toString() === 'b') found.push(bytes.slice())
    }
  }
  expect(found.map(isTombstone)).toEqual([true])
  expect(new DataView(found[0]!.buffer).getBigInt64(8, true)).toBe(BigInt(ERASED_BY - 1))
})
