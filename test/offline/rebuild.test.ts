/**
 * Stream, mirror, wipe, rebuild, and the stream goes on: the bytes of a stream that nobody disturbed, whatever is interrupted, killed or
 * split on the way.
 */
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { IngestPool } from '../../src/ingest/pool.ts'
import type { Plan } from '../../src/model/plan.ts'
import { type RebuildReport, rebuild } from '../../src/offline/rebuild.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { StreamJob } from '../../src/stream/job.ts'
import { eachSeed } from '../fuzz/effort.ts'
import { FaultyStore } from '../laws/faulty-store.ts'
import { START_MS, storedRows } from '../stream/payments.ts'
import { seededRandom } from '../support/random.ts'
import { drawStrictLog, makeFolder, mirrorLogs, ScriptedConsumer, ScriptedGroup, strictView } from './mirror-scene.ts'

const FILE = 'test/offline/rebuild.test.ts'
const NAMESPACE = 'rebuilt'
const clock = () => START_MS * 2

describe('a rebuild from a mirror', () => {
  let plans: Plan[]

  beforeAll(async () => {
    plans = [await strictView('strict'), await strictView('again')]
  })

  /** All of the group's logs through a stream job, in drawn turns. */
  async function stream(store: Store, group: ScriptedGroup): Promise<string[]> {
    const consumer = new ScriptedConsumer(group)
    const reports: string[] = []
    const job = await StreamJob.create({
      plans,
      consumer,
      store,
      namespace: NAMESPACE,
      decoder: createJsonDecoder,
      maxDeadRatio: 1,
      flushMaxMs: 3_600_000,
      clock,
      report: ({ event, code, log }) => {
        if (event !== 'assigned') reports.push(`${log} ${event} ${code}`)
      },
    })
    await job.start()
    for (const partition of group.logs.keys()) await group.assign(partition, consumer)
    for (const partition of group.logs.keys()) while (await consumer.deliver(partition, group.random.between(1, 90))) {}
    await job.stop()
    return reports
  }

  const mirrored = (logs: readonly StreamMessage[][]) => mirrorLogs(makeFolder(), plans, 'payments', logs)

  /** `batches`: is told to stop behind so many. */
  async function rebuildOnce(
    store: Store,
    dir: string,
    more: { share?: { index: number; count: number }; batches?: number; threads?: number; path?: string } = {},
  ): Promise<RebuildReport> {
    const { threads = 0, batches = Number.POSITIVE_INFINITY } = more
    const pool = new IngestPool({ threads, store, clock, ...(more.path ? { storePath: more.path } : {}) })
    const abort = new AbortController()
    let left = batches
    try {
      return await rebuild({
        seat: { store, namespace: NAMESPACE },
        plans,
        dir,
        pool,
        clock,
        // Flushed on the way, between checkpoints.
        deltaBytesMax: 1,
        ...(more.share ? { share: more.share } : {}),
        onProgress: () => {
          if (--left === 0) abort.abort()
        },
        signal: abort.signal,
      })
    } finally {
      await pool.close()
    }
  }

  async function expectSame(store: Store, undisturbed: Store): Promise<void> {
    for (const plan of plans) {
      const expected = await storedRows(undisturbed, plan, NAMESPACE)
      expect(expected.size).toBeGreaterThan(3)
      expect(await storedRows(store, plan, NAMESPACE)).toEqual(expected)
    }
  }

  it('and the stream behind it give the bytes of the stream alone, whatever dies on the way', async () => {
    const seeds = await eachSeed(FILE, 0, 12, async (seed) => {
      const random = seededRandom(seed)
      const logs = Array.from({ length: 3 }, () => drawStrictLog(random, random.between(60, 400), random.below(50)))
      const undisturbed = createMemoryStore()
      await stream(undisturbed, new ScriptedGroup('payments', logs, random))

      const cuts = logs.map((log) => random.between(10, log.length))
      const dir = await mirrored(logs.map((log, i) => log.slice(0, cuts[i])))
      const goOnAt: number[] = []

      const inner = createMemoryStore()
      const shares = random.between(1, 3)
      for (let attempt = 0; attempt < 6; attempt++) {
        const store = new FaultyStore(inner)
        if (random.chance(0.6)) store.plan(random.below(12), random.pick(['before', 'after'] as const))
        const share = { index: random.below(shares), count: shares }
        await rebuildOnce(store, dir, { share, batches: random.between(1, 6) }).catch(() => {})
      }
      for (let index = 0; index < shares; index++) {
        const { finished, partitions } = await rebuildOnce(inner, dir, { share: { index, count: shares } })
        expect(finished).toBe(true)
        for (const each of partitions) goOnAt[each.partition] = each.goOnAt
      }
      // Kafka has forgotten what the rebuilt lanes do not need: all but a record before, where offsets have a hole.
      const rest = logs.map((log, i) => {
        const next = log.findIndex(({ offset }) => Number(offset) >= goOnAt[i]!)
        return next === -1 ? log.slice(-1) : log.slice(Math.max(0, next - 1))
      })
      for (const [i, log] of rest.entries()) expect(logs[i]!.length - log.length).toBeGreaterThan(cuts[i]! - 12)
      expect(await stream(inner, new ScriptedGroup('payments', rest, random))).toEqual([])
      await expectSame(inner, undisturbed)
    })
    expect(seeds).toBeGreaterThan(0)
  }, 120_000)

  it('is spread over threads into a directory, says where the stream goes on, and has nothing to do again', async () => {
    const random = seededRandom(7)
    const logs = Array.from({ length: 4 }, () => drawStrictLog(random, 300, 5))
    const dir = await mirrored(logs)
    const path = join(makeFolder(), 'store')
    const store = createLmdbStore({ path })
    const first = await rebuildOnce(store, dir, { threads: 2, path })
    expect(first.partitions.map(({ from }) => from)).toEqual(logs.map((log) => Number(log[0]!.offset)))
    for (const [i, { goOnAt }] of first.partitions.entries()) {
      expect(goOnAt).toBeLessThanOrEqual(Number(logs[i]!.at(-1)!.offset) + 1)
      expect(goOnAt).toBeGreaterThan(Number(logs[i]!.at(-6)!.offset))
    }
    expect(first.views.map(({ view }) => view)).toEqual(['strict'])
    const undisturbed = createMemoryStore()
    await stream(undisturbed, new ScriptedGroup('payments', logs, random))
    await expectSame(store, undisturbed)
    const again = await rebuildOnce(store, dir)
    expect(again).toMatchObject({ finished: true, records: 0 })
    await expectSame(store, undisturbed)
    await store.close()
  })

  it('fills a gap that the log no longer can, and refuses one that the mirror cannot', async () => {
    const random = seededRandom(8)
    const log = drawStrictLog(random, 300, 0)
    const store = createMemoryStore()
    await stream(store, new ScriptedGroup('payments', [log.slice(0, 100)], random))
    const late = new ScriptedGroup('payments', [log.slice(200)], random)
    expect(await stream(store, late)).toEqual(['payments.0 stopped LOG_GAP'])
    // A mirror that begins behind the lane is of no use.
    await expect(rebuildOnce(store, await mirrored([log.slice(120)]))).rejects.toMatchObject({ code: 'LOG_GAP' })
    await rebuildOnce(store, await mirrored([log.slice(0, 220)]))
    expect(await stream(store, new ScriptedGroup('payments', [log.slice(200)], random))).toEqual([])
    const undisturbed = createMemoryStore()
    await stream(undisturbed, new ScriptedGroup('payments', [log], random))
    await expectSame(store, undisturbed)
  })

  it('is refused where another process takes the lanes', async () => {
    const log = drawStrictLog(seededRandom(9), 300, 0)
    const dir = await mirrored([log])
    const store = createMemoryStore()
    const pool = new IngestPool({ threads: 0, store, clock })
    let taken: Promise<unknown> | undefined
    const options = { seat: { store, namespace: NAMESPACE }, plans, dir, pool, clock }
    const first = rebuild({
      ...options,
      onProgress: () => {
        taken ??= rebuildOnce(store, dir)
      },
    })
    await expect(first).rejects.toMatchObject({ code: 'FENCED' })
    expect(await taken).toMatchObject({ finished: true })
  })
})
