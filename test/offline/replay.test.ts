/**
 * Replays from the middle of a log into a generation beside the served one: from topic, mirror, or both in turn, and the rows are those
 * of a stream that never knew what lies before.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { IngestPool } from '../../src/ingest/pool.ts'
import type { Plan } from '../../src/model/plan.ts'
import { logOfPartition } from '../../src/model/view-layout.ts'
import { compareWithMirror } from '../../src/offline/parity.ts'
import { rebuild } from '../../src/offline/rebuild.ts'
import { beginGeneration, type GenerationStart, readOffsets, switchGeneration } from '../../src/registry/generations.ts'
import { type AskedStart, findStart } from '../../src/registry/starts.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import type { LogTimes } from '../../src/source/log-times.ts'
import { createMirrorTimes } from '../../src/source/mirror-times.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { StreamJob, type StreamReport } from '../../src/stream/job.ts'
import { eachSeed } from '../fuzz/effort.ts'
import { FaultyStore } from '../laws/faulty-store.ts'
import { NAMESPACE, START_MS, storedRows } from '../stream/payments.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawStrictLog, makeFolder, mirrorLogs, ScriptedConsumer, ScriptedGroup, strictView } from './mirror-scene.ts'

const FILE = 'test/offline/replay.test.ts'
const clock = () => START_MS * 2
const TOPIC = 'payments'
type Log = readonly StreamMessage[]

const offsetOf = ({ offset }: StreamMessage) => Number(offset)
const timeOf = ({ timestamp }: StreamMessage) => Number(timestamp)

/** What brokers would say of logs in memory, in the plainest way. */
function timesOf(logs: readonly Log[]): LogTimes {
  const ends = logs.map((log, partition) => ({
    partition,
    first: offsetOf(log[0]!),
    next: offsetOf(log.at(-1)!) + 1,
  }))
  return {
    name: 'the logs',
    ends: async () => ends,
    firstAt: async (_, timeMs) =>
      new Map(
        logs.map((log, i) => {
          const found = log.find((message) => timeOf(message) >= timeMs)
          return [i, found ? offsetOf(found) : ends[i]!.next]
        }),
      ),
    newestUpTo: async (_, positions) =>
      Math.max(
        ...logs.flatMap((log, i) => log.filter((each) => offsetOf(each) <= (positions.get(i) ?? -1)).map(timeOf)),
      ),
    close: async () => {},
  }
}

describe('a replay from the middle of a log', () => {
  let plan: Plan
  beforeAll(async () => {
    plan = await strictView('strict')
  })

  const mirrored = (logs: readonly Log[]) => mirrorLogs(makeFolder(), [plan], TOPIC, logs)

  /** A worker of a group of its own over the logs. */
  async function worker(store: Store, logs: readonly Log[], random: Random, generation?: number) {
    const group = new ScriptedGroup(TOPIC, logs as StreamMessage[][], random)
    const consumer = new ScriptedConsumer(group)
    const reports: StreamReport[] = []
    const job = await StreamJob.create({
      plans: [plan],
      consumer,
      store,
      namespace: NAMESPACE,
      ...(generation === undefined ? {} : { generation }),
      decoder: createJsonDecoder,
      maxDeadRatio: 1,
      flushMaxMs: 3_600_000,
      clock,
      report: (report) => reports.push(report),
    })
    await job.start()
    for (const partition of logs.keys()) await group.assign(partition, consumer)
    const stops = () => reports.filter(({ event }) => event === 'stopped').map(({ code }) => code)
    const flush = () => Promise.all(job.runs.map((run) => run.flush()))
    return { group, consumer, job, stops, flush }
  }

  /** The logs to their end, at the group's ease. */
  async function streamed(store: Store, logs: readonly Log[], random: Random, generation?: number) {
    const { consumer, job, stops } = await worker(store, logs, random, generation)
    for (const partition of logs.keys()) while (await consumer.deliver(partition, random.between(1, 90))) {}
    await job.stop()
    return stops()
  }

  /** Some of the way, and then dead in the middle of a flush. */
  async function streamedSome(inner: Store, logs: readonly Log[], random: Random, generation: number): Promise<void> {
    const store = new FaultyStore(inner)
    const { consumer, flush } = await worker(store, logs, random, generation)
    for (let step = random.between(1, 6); step > 0; step--) {
      await consumer.deliver(random.below(logs.length), random.between(1, 60))
      if (random.chance(0.5)) await flush()
    }
    store.plan(random.below(6), random.pick(['before', 'after'] as const))
    await Promise.race([flush().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 5))])
  }

  async function rebuilt(store: Store, dir: string, generation: number, batches = Number.POSITIVE_INFINITY) {
    const pool = new IngestPool({ threads: 0, store, clock })
    const seat = { store, namespace: NAMESPACE, generation }
    const abort = new AbortController()
    let left = batches
    const onProgress = () => {
      if (--left === 0) abort.abort()
    }
    const more = { plans: [plan], dir, pool, clock, deltaBytesMax: 1, onProgress, signal: abort.signal }
    return rebuild({ seat, ...more }).finally(() => pool.close())
  }

  async function rebuiltSome(inner: Store, dir: string, random: Random, generation: number): Promise<void> {
    const store = new FaultyStore(inner)
    if (random.chance(0.6)) store.plan(random.below(14), random.pick(['before', 'after'] as const))
    await rebuilt(store, dir, generation, random.between(1, 4)).catch(() => {})
  }

  /** The rows of a stream over what lies at the start and behind it, in a store where nobody ever heard of a start. */
  async function expected(logs: readonly Log[], { starts }: GenerationStart, random: Random) {
    const store = createMemoryStore()
    const rest = logs.map((log, i) => {
      const start = starts!.find((each) => each.log === logOfPartition(TOPIC, i))!.position
      return log.filter((message) => offsetOf(message) >= start)
    })
    expect(await streamed(store, rest, random)).toEqual([])
    return storedRows(store, plan)
  }

  function drawAsked(random: Random, logs: readonly Log[]): AskedStart {
    const kind = random.below(4)
    if (kind === 0) return { at: 'earliest' }
    if (kind < 3) return { at: 'instant', timeMs: timeOf(random.pick(logs[0]!)) - random.below(2) }
    const starts = logs.map((log, i) => ({
      log: logOfPartition(TOPIC, i),
      position: offsetOf(random.pick(log)) + random.below(2),
    }))
    return { at: 'positions', starts }
  }

  const findOf = (times: LogTimes, asked: AskedStart) =>
    findStart({ asked, topic: TOPIC, times, maxFutureMs: plan.state.maxFutureMs, nowMs: clock() })

  it('has the same rows whichever source fills it, and dies on the way; the served generation is not disturbed', async () => {
    const seeds = await eachSeed(FILE, 0, 5, async (seed) => {
      const random = seededRandom(seed)
      const logs = Array.from({ length: 2 }, () => drawStrictLog(random, random.between(60, 200), -1))
      const cut = logs.map((log) => log.slice(0, random.between(30, log.length)))
      const [whole, half] = [await mirrored(logs), await mirrored(cut)]
      // Mirror and topic say the same of any start.
      const asked = Array.from({ length: 8 }, () => drawAsked(random, logs))
      const found = await Promise.all(asked.map((each) => foundOr(findOf(timesOf(logs), each))))
      for (const [i, each] of asked.entries()) {
        expect(await foundOr(findOf(createMirrorTimes(whole), each))).toEqual(found[i])
      }
      const start = found.find((each) => typeof each === 'object')!
      const rows = await expected(logs, start, random)

      const inner = createMemoryStore()
      const seat = { store: inner, namespace: NAMESPACE }
      const served = await worker(inner, logs, random)
      for (let i = 0; i < 4; i++) await beginGeneration(seat, plan, start)
      // 2: from the topic. 3: from the mirror. 4: a mirror, then the topic. 5: the topic, then a mirror.
      for (let step = 0; step < 12; step++) {
        await served.consumer.deliver(random.below(2), random.between(1, 40))
        const some = random.below(4)
        if (some === 0) await streamedSome(inner, logs, random, 2)
        if (some === 1) await rebuiltSome(inner, whole, random, 3)
        if (some === 2) await rebuiltSome(inner, half, random, 4)
        if (some === 3) await streamedSome(inner, logs, random, 5)
      }
      // Where the mirror ends in front of the start it has nothing to give.
      await rebuilt(inner, half, 4)
      expect((await rebuilt(inner, whole, 3)).finished).toBe(true)
      await rebuilt(inner, whole, 5)
      for (const generation of [2, 4]) expect(await streamed(inner, logs, random, generation)).toEqual([])
      for (const generation of [2, 3, 4, 5]) {
        expect(await storedRows(inner, plan, NAMESPACE, generation), `generation ${generation}`).toEqual(rows)
      }
      for (const partition of logs.keys()) while (await served.consumer.deliver(partition, 100)) {}
      await served.job.stop()
      expect(served.stops()).toEqual([])
      const alone = createMemoryStore()
      await streamed(alone, logs, random)
      expect(await storedRows(inner, plan)).toEqual(await storedRows(alone, plan))

      // The reference is the mirror from the same start.
      const parity = await compareWithMirror({ seat, plan, dir: whole, clock, generation: 2 })
      expect(parity.compared).toBeGreaterThanOrEqual(rows.size)
      expect(parity).toMatchObject({ equal: parity.compared, unverified: 0, unchecked: [], differences: [] })
      const offsets = (await readOffsets(seat, plan)).lanes.filter(({ generation }) => generation === 2)
      expect(offsets.map(({ start: from }) => from)).toEqual(start.starts!.map(({ position }) => position))
      await switchGeneration(seat, plan, 2)
      expect(await storedRows(inner, plan)).toEqual(rows)
    })
    expect(seeds).toBeGreaterThan(0)
  }, 240_000)

  it('is complete since the instant that it says: no event that counts lies at or behind it and before the start', async () => {
    let late = 0
    await eachSeed(FILE, 100, 60, async (seed) => {
      const random = seededRandom(seed)
      const { maxFutureMs } = plan.state
      // Ahead of their records by as much as is allowed, and a little more.
      const ahead = (message: StreamMessage) => {
        const byMs = random.chance(0.3) ? maxFutureMs + random.below(2) : random.below(maxFutureMs)
        return { ...message, timestamp: String((eventTimeOf(message) ?? timeOf(message)) - byMs) }
      }
      const logs = Array.from({ length: 2 }, () => drawStrictLog(random, random.between(20, 60), -1).map(ahead))
      const found = await foundOr(findOf(timesOf(logs), drawAsked(random, logs)))
      if (typeof found === 'string') return
      const { starts, completeSinceMs = 0 } = found
      for (const [i, log] of logs.entries()) {
        const { position } = starts!.find((each) => each.log === logOfPartition(TOPIC, i))!
        for (const message of log.filter((each) => offsetOf(each) < position)) {
          const at = eventTimeOf(message)
          if (at === undefined || at - timeOf(message) > maxFutureMs) continue
          expect(at).toBeLessThan(completeSinceMs)
          late++
        }
      }
    })
    expect(late).toBeGreaterThan(0)
  })

  it('moves its readers while both are written, by no more than it was allowed to', async () => {
    await eachSeed(FILE, 200, 6, async (seed) => {
      const random = seededRandom(seed)
      const logs = [drawStrictLog(random, 400, -1)]
      const store = createMemoryStore()
      const seat = { store, namespace: NAMESPACE }
      const old = await worker(store, logs, random)
      await beginGeneration(seat, plan, await findOf(timesOf(logs), { at: 'earliest' }))
      const next = await worker(store, logs, random, 2)
      const step = async (who: typeof old, count: number) => {
        await who.consumer.deliver(0, count)
        await who.flush()
      }
      await step(old, 100)
      await step(next, 60)
      await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
      await expect(switchGeneration(seat, plan, 2, { maxLag: 39 })).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
      // Both go on while it waits: the old one by a record, the new one by as many as it lacks.
      let moved = false
      const moving = switchGeneration(seat, plan, 2, { waitMs: 30_000 }).then(() => (moved = true))
      while (!moved) {
        await step(old, 1)
        await step(next, 7)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      await moving
      // A rebalance of the old group moves no worker of it over.
      await old.group.assign(0, old.consumer)
      // Nobody was stopped; who filled it writes what readers see, and the old one stays to go back to.
      for (const who of [old, next]) {
        while (await who.consumer.deliver(0, 50)) {}
        await who.job.stop()
        expect(who.stops()).toEqual([])
      }
      const alone = createMemoryStore()
      await streamed(alone, logs, random)
      const rows = await storedRows(alone, plan)
      expect(await storedRows(store, plan)).toEqual(rows)
      expect(await storedRows(store, plan, NAMESPACE, 1)).toEqual(rows)
      expect((await readOffsets(seat, plan)).lanes.map(({ isCurrent }) => isCurrent)).toEqual([false, true])
    })
  }, 60_000)

  it('may step back by as many records as it was told, and no more', async () => {
    const random = seededRandom(7)
    // Without holes a position is a record.
    const log = drawStrictLog(random, 80, -1).map((message, i) => ({ ...message, offset: String(i) }))
    const store = createMemoryStore()
    const seat = { store, namespace: NAMESPACE }
    const old = await worker(store, [log], random)
    await beginGeneration(seat, plan)
    const next = await worker(store, [log], random, 2)
    for (const [who, count] of [
      [old, 60],
      [next, 50],
    ] as const) {
      await who.consumer.deliver(0, count)
      await who.flush()
    }
    const markers = (await readOffsets(seat, plan)).lanes.map(({ marker }) => marker)
    const lag = markers[0]! - markers[1]!
    expect(lag).toBeGreaterThan(0)
    await expect(switchGeneration(seat, plan, 2, { maxLag: lag - 1 })).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
    await switchGeneration(seat, plan, 2, { maxLag: lag })
    for (const who of [old, next]) await who.job.stop()
  })

  it('never starts elsewhere: what is gone is a gap, in the topic and in the mirror', async () => {
    const random = seededRandom(9)
    const log = drawStrictLog(random, 120, -1)
    const late = log.slice(40)
    const store = createMemoryStore()
    const seat = { store, namespace: NAMESPACE }
    await streamed(store, [log], random)
    const start = { starts: [{ log: 'payments.0', position: offsetOf(log[20]!) }] }
    for (const each of [start, { starts: [] }, { starts: [{ log: 'payments.0', position: 10_000 }] }]) {
      await beginGeneration(seat, plan, each)
    }
    expect(await streamed(store, [late], random, 2)).toEqual(['LOG_GAP'])
    await expect(rebuilt(store, await mirrored([late]), 2)).rejects.toMatchObject({ code: 'LOG_GAP' })
    // A log that isn't named starts at 0.
    expect(await streamed(store, [late], random, 3)).toEqual(['LOG_GAP'])
    expect(await streamed(store, [log], random, 4)).toEqual(['LOG_GAP'])
    expect(await storedRows(store, plan, NAMESPACE, 2)).toEqual(new Map())
    expect(await streamed(store, [log], random, 2)).toEqual([])
    const whole = timesOf([late])
    await expect(findOf(whole, { at: 'instant', timeMs: timeOf(log[3]!) })).rejects.toMatchObject({ code: 'LOG_GAP' })
    await expect(findOf(whole, { at: 'positions', starts: start.starts })).rejects.toMatchObject({ code: 'LOG_GAP' })
    await expect(findOf(whole, { at: 'positions', starts: [{ log: 'other.0', position: 1 }] })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    })
    expect((await findOf(whole, { at: 'earliest' })).starts).toEqual([
      { log: 'payments.0', position: offsetOf(late[0]!) },
    ])
  })
})

/** The start, or why there is none: a log whose first record is of an instant may lack one before it. */
async function foundOr(start: Promise<GenerationStart>): Promise<GenerationStart | string> {
  return start.catch((error: { code: string }) => {
    expect(error.code).toBe('LOG_GAP')
    return error.code
  })
}

function eventTimeOf({ value }: StreamMessage): number | undefined {
  try {
    const { at } = JSON.parse(value?.toString() ?? '') as { at?: unknown }
    return typeof at === 'number' ? at : undefined
  } catch {
    return undefined
  }
}
