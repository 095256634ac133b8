/**
 * How soon an event is readable by way of the router, beside a worker that reads a topic that is keyed: as the claim `stream` does it.
 */
import { freshNamespace } from '../test/support/redis.ts'
import { judge, type Row, timesRow } from './contest.ts'
import { LINGER_MS, openBenchRoute } from './route-jobs.ts'
import { StreamProcess } from './stream-child.ts'
import { type EventMaker, PARTITIONS, PER_SECOND } from './stream-events.ts'
import { latenciesOf, QUANTILES, WARMUP_SECONDS } from './stream-freshness.ts'
import type { SentBatch } from './stream-process.ts'
import { checkCounted, quantileOf, type Servers, TOPIC_SETTINGS } from './stream-servers.ts'

export async function timeRoutedFreshness(servers: Servers, maker: EventMaker): Promise<void> {
  const { settings, rounds } = servers
  const seconds = settings.short ? 2 : 8
  const times = { direct: [] as number[][], routed: [] as number[][] }
  for (let round = 0; round < rounds; round++) {
    for (const way of round % 2 === 0 ? (['direct', 'routed'] as const) : (['routed', 'direct'] as const)) {
      const latencies = await oneRound(servers, way, maker, seconds)
      times[way].push(QUANTILES.map(([, quantile]) => quantileOf(latencies, quantile) * 1e6))
    }
  }
  const linger = `transactions each ${LINGER_MS} ms`
  const title = `freshness: produced to readable in Redis, ${PER_SECOND} events/s, ${seconds} s a round, ${linger}`
  const contest = { claim: 'route', title, unit: 'event' }
  settings.emit(
    QUANTILES.flatMap(([name], i): Row[] => {
      const [routed, direct] = [times.routed.map((round) => round[i]!), times.direct.map((round) => round[i]!)]
      const ratios = routed.map((ns, round) => ns / direct[round]!)
      return [
        timesRow(contest, `by way of the router, ${name}`, routed),
        { ...timesRow(contest, `read directly, ${name}`, direct), ...judge(ratios, 'cost') },
      ]
    }),
  )
}

/** Milliseconds from sent to readable, of each event behind the warm-up. */
async function oneRound(servers: Servers, way: 'direct' | 'routed', maker: EventMaker, seconds: number) {
  const namespace = freshNamespace()
  const topic = await servers.kafka.createTopic(namespace, PARTITIONS, TOPIC_SETTINGS)
  const names = { topic, namespace, entityCount: maker.keys.length, isScattered: way === 'routed' }
  if (way === 'routed') await openBenchRoute({ brokers: servers.kafka.brokers, ...names }, servers.store)
  const roles = way === 'routed' ? (['router', 'lanes', 'producer'] as const) : (['worker', 'producer'] as const)
  const processes: StreamProcess[] = []
  try {
    for (const role of roles) processes.push(await StreamProcess.start(servers, { role, ...names }))
    const [follower, producer] = [processes.at(-2)!, processes.at(-1)!]
    const events = PER_SECOND * (WARMUP_SECONDS + seconds)
    const sent = await producer.produce({ perSecond: PER_SECOND, seconds: WARMUP_SECONDS + seconds })
    if (way === 'direct') await follower.storedUpTo(events)
    else await follower.until(`at ${events} readable rows`, () => countRows(follower) >= events)
    await checkCounted(servers, namespace, maker.keys, events)
    const warmMs = Math.min(...sent.map(([, , , atMs]) => atMs)) + WARMUP_SECONDS * 1000
    const all = way === 'direct' ? latenciesOf(sent, follower.stored) : routedLatencies(sent, follower)
    return all.filter(({ sentMs }) => sentMs >= warmMs).map(({ tookMs }) => tookMs)
  } finally {
    await Promise.all(processes.map((each) => each.kill9()))
  }
}

function countRows({ rows }: StreamProcess): number {
  return rows.reduce((sum, [, positions]) => sum + positions.length, 0)
}

function routedLatencies(sent: readonly SentBatch[], { rows }: StreamProcess) {
  const readable = Array.from({ length: PARTITIONS }, () => new Map<number, number>())
  for (const [partition, positions, atMs] of rows) for (const each of positions) readable[partition]!.set(each, atMs)
  return sent.flatMap(([partition, offset, events, sentMs]) =>
    Array.from({ length: events }, (_, i) => ({ sentMs, tookMs: readable[partition]!.get(offset + i)! - sentMs })),
  )
}
