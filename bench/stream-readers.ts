/**
 * What readers feel of ingest: 100 entities × 4 windows from Redis, with 5,000 events a second coming in and without.
 *
 * The worker and the producer are processes of their own; the reader is this one. It asks at a fixed pace, so that with and
 * without ingest it asks the same, and takes no core for itself.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { freshNamespace } from '../test/support/redis.ts'
import { judge, type Row, timesRow } from './contest.ts'
import { Random } from './random.ts'
import { StreamProcess } from './stream-child.ts'
import { type EventMaker, PER_SECOND } from './stream-events.ts'
import { checkCounted, ENTITIES_PER_REQUEST, openReader, quantileOf, type Servers } from './stream-servers.ts'

const PAUSE_MS = 10

/** `topic` has `events` events already; more are added. */
export async function timeReaders(servers: Servers, topic: string, maker: EventMaker, events: number): Promise<void> {
  const { settings, rounds, store } = servers
  const seconds = settings.short ? 2 : 8
  const names = { topic, namespace: freshNamespace(), entityCount: maker.keys.length }
  const worker = await StreamProcess.start(servers, { role: 'worker', ...names })
  const producer = await StreamProcess.start(servers, { role: 'producer', ...names })
  try {
    await worker.storedUpTo(events)
    const reader = await openReader(store, names.namespace)
    const random = new Random(settings.seed)
    /** Nanoseconds of each request until `isDone`. */
    const ask = async (isDone: () => boolean): Promise<number[]> => {
      const times: number[] = []
      while (!isDone()) {
        const entities = Array.from({ length: ENTITIES_PER_REQUEST }, () => ({
          key: maker.keys[random.below(maker.keys.length)]!,
        }))
        const start = process.hrtime.bigint()
        const { rows } = await reader.getFeatures({ view: 'bench', entities })
        times.push(Number(process.hrtime.bigint() - start))
        if (rows.length !== ENTITIES_PER_REQUEST) throw new Error(`got ${rows.length} rows`)
        await sleep(PAUSE_MS)
      }
      return times
    }
    const askFor = (ms: number) => {
      const endMs = performance.now() + ms
      return ask(() => performance.now() >= endMs)
    }
    const arms = {
      quiet: () => askFor(seconds * 1000),
      busy: async () => {
        let done = false
        const producing = producer.produce({ perSecond: PER_SECOND, seconds: seconds + 1 }).finally(() => {
          done = true
        })
        await sleep(1000)
        const times = await ask(() => done)
        await producing
        events += PER_SECOND * (seconds + 1)
        await worker.storedUpTo(events)
        return times
      },
    }
    await askFor(2000)
    const times = { quiet: [] as number[][], busy: [] as number[][] }
    for (let round = 0; round < rounds; round++) {
      for (const name of round % 2 === 0 ? (['quiet', 'busy'] as const) : (['busy', 'quiet'] as const)) {
        times[name].push(await arms[name]())
      }
    }
    await checkCounted(servers, names.namespace, maker.keys, events)

    const title = `readers: 100 of ${maker.keys.length} entities, 4 windows, 5 aggregates, with ${PER_SECOND} events/s coming in`
    const contest = { claim: 'stream', title, unit: 'request' }
    const pair = (name: string, quantile: number, limit?: number): Row[] => {
      const busy = times.busy.map((round) => quantileOf(round, quantile))
      const quiet = times.quiet.map((round) => quantileOf(round, quantile))
      return [
        timesRow(contest, `with ingest, ${name}`, busy),
        {
          ...timesRow(contest, `without, ${name}`, quiet),
          ...judge(
            busy.map((ns, round) => ns / quiet[round]!),
            'cost',
            limit === undefined ? undefined : { kind: 'cost', limit },
          ),
        },
      ]
    }
    settings.emit([...pair('p50', 0.5), ...pair('p99', 0.99, 1.5)])
  } finally {
    await Promise.all([worker.kill9(), producer.kill9()])
  }
}
