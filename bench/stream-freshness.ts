/**
 * How soon an event is readable, against a loop that consumes and SETs.
 *
 * In each round a producer sends 5,000 events a second to a new topic, and a new worker (or loop) follows it, each in a
 * process of its own. Every event counts but those of the first seconds, in which V8 compiles: from the moment it was given
 * to the producer's `send` until the reply of the write that made it readable.
 */
import { freshNamespace } from '../test/support/redis.ts'
import { judge, type Row, timesRow } from './contest.ts'
import { type Stored, StreamProcess } from './stream-child.ts'
import { type EventMaker, PARTITIONS, PER_SECOND } from './stream-events.ts'
import type { ProcessTask, SentBatch } from './stream-process.ts'
import { checkCounted, quantileOf, type Servers, TOPIC_SETTINGS } from './stream-servers.ts'

export const WARMUP_SECONDS = 2
export const QUANTILES = [
  ['p50', 0.5],
  ['p90', 0.9],
  ['p99', 0.99],
  ['max', 1],
] as const

export async function timeFreshness(servers: Servers, maker: EventMaker): Promise<void> {
  const { settings, rounds } = servers
  const seconds = settings.short ? 2 : 8
  const roles = ['worker', 'setter'] as const
  const times = { worker: [] as number[][], setter: [] as number[][] }
  for (let round = 0; round < rounds; round++) {
    for (const role of round % 2 === 0 ? roles : [...roles].reverse()) {
      const latencies = await oneRound(servers, role, maker, seconds)
      times[role].push(QUANTILES.map(([, quantile]) => quantileOf(latencies, quantile) * 1e6))
    }
  }
  const title = `freshness: produced to readable in Redis, ${PER_SECOND} events/s, ${seconds} s a round`
  const contest = { claim: 'stream', title, unit: 'event' }
  const rows = QUANTILES.flatMap(([name], i): Row[] => {
    const [ours, theirs] = [times.worker.map((round) => round[i]!), times.setter.map((round) => round[i]!)]
    const ratios = ours.map((ns, round) => ns / theirs[round]!)
    return [
      timesRow(contest, `tilefold, ${name}`, ours),
      {
        ...timesRow(contest, `consume and SET, ${name}`, theirs),
        ...judge(ratios, 'cost', name === 'p99' ? { kind: 'cost', limit: 1.5 } : undefined),
      },
    ]
  })
  settings.emit(rows)
}

/** Milliseconds from sent to readable, of each event. */
async function oneRound(servers: Servers, role: ProcessTask['role'], maker: EventMaker, seconds: number) {
  const namespace = freshNamespace()
  const topic = await servers.kafka.createTopic(namespace, PARTITIONS, TOPIC_SETTINGS)
  const names = { topic, namespace, entityCount: maker.keys.length }
  const follower = await StreamProcess.start(servers, { role, ...names })
  const producer = await StreamProcess.start(servers, { role: 'producer', ...names })
  try {
    const sent = await producer.produce({ perSecond: PER_SECOND, seconds: WARMUP_SECONDS + seconds })
    const events = PER_SECOND * (WARMUP_SECONDS + seconds)
    await follower.storedUpTo(events)
    if (follower.positions.total !== events) throw new Error(`${follower.positions.total} events, expected ${events}`)
    if (role === 'worker') await checkCounted(servers, namespace, maker.keys, events)
    const warmMs = Math.min(...sent.map(([, , , atMs]) => atMs)) + WARMUP_SECONDS * 1000
    return latenciesOf(sent, follower.stored)
      .filter(({ sentMs }) => sentMs >= warmMs)
      .map(({ tookMs }) => tookMs)
  } finally {
    await Promise.all([follower.kill9(), producer.kill9()])
  }
}

export function latenciesOf(sent: readonly SentBatch[], stored: readonly Stored[]) {
  const latencies: { readonly sentMs: number; readonly tookMs: number }[] = []
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const marks = stored.filter((each) => each[0] === partition)
    const batches = sent.filter((each) => each[0] === partition).sort((a, b) => a[1] - b[1])
    let mark = 0
    for (const [, offset, events, sentMs] of batches) {
      for (let i = 0; i < events; i++) {
        while (marks[mark]![1] <= offset + i) mark++
        latencies.push({ sentMs, tookMs: marks[mark]![2] - sentMs })
      }
    }
  }
  return latencies
}
