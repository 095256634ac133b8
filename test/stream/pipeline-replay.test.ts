/**
 * A generation that begins in the middle of a topic, filled by workers of its own beside those of the served one, killed on the way, and
 * switched to while records come in: against a real Kafka and a real Redis.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { partitionHash } from '../../src/model/key.ts'
import type { LogStart, ViewLayout } from '../../src/model/view-layout.ts'
import { createKafkaTimes } from '../../src/source/kafka-times.ts'
import { createMirrorTimes } from '../../src/source/mirror-times.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { type RedisServer, startRedis, whyNoRedis } from '../support/redis.ts'
import { drawPayments, expectedRows, type Payment, storedRows } from './payments.ts'
import { Pipeline, SEED, SESSION_TIMEOUT, type Stream } from './pipeline.ts'

const PARTITIONS = 3
const HOUR_MS = 3_600_000
const missing = whyNoKafka() ?? whyNoRedis()

interface Begun {
  readonly generation: number
  readonly starts: readonly LogStart[]
  readonly complete_since: string
}

describe.skipIf(missing !== undefined)('a replay beside the served generation', { timeout: 240_000 }, () => {
  let kafka: KafkaCluster
  let redis: RedisServer
  let pipeline: Pipeline

  beforeAll(async () => {
    ;[kafka, redis] = await Promise.all([startKafka(), startRedis()])
    pipeline = new Pipeline(kafka, [redis.url])
  }, 120_000)

  afterAll(async () => {
    await pipeline?.close()
    await redis?.stop()
    await kafka?.stop()
  }, 60_000)

  async function asked<Answer>(stream: Stream, ...args: string[]): Promise<Answer> {
    const brokers = args[1] === 'begin' ? ['--kafka-brokers', kafka.brokers.join(',')] : []
    const worker = pipeline.spawn(stream, args[0]!, ...args.slice(1), ...brokers, '-o', 'json')
    expect(await pipeline.exitOf(worker), worker.log()).toBe(0)
    return JSON.parse(worker.log()) as Answer
  }

  async function holds({ plan, namespace }: Stream, generation: number, rows: ReadonlyMap<string, string>) {
    let found = new Map<string, string>()
    for (const untilMs = Date.now() + 60_000; Date.now() < untilMs; await sleep(200)) {
      found = await storedRows(pipeline.store, plan, namespace, generation)
      if ([...rows].every(([card, row]) => found.get(card) === row)) break
    }
    expect([...found.keys()].filter((card) => found.get(card) !== rows.get(card))).toEqual([])
    expect(found.size).toBe(rows.size)
  }

  it('has the rows of either source, survives kill -9, and takes the readers over under live traffic', async () => {
    const random = seededRandom(SEED)
    const stream = await pipeline.stream('replay', PARTITIONS)
    const { plan, namespace, topic } = stream
    const payments = drawPayments(random, 4_000, 60)
    const [before, beside, live] = [payments.slice(0, 2_000), payments.slice(2_000, 2_800), payments.slice(2_800)]
    const partitionOf = ({ card }: Payment) => partitionHash(Buffer.from(card)) % PARTITIONS
    const logs = Array.from({ length: PARTITIONS }, (_, i) => before.filter((each) => partitionOf(each) === i))
    await pipeline.produce(stream, before)
    const dir = join(pipeline.folder, 'mirror')
    const mirror = pipeline.spawn(
      stream,
      'mirror',
      ...['--kafka-brokers', kafka.brokers.join(','), '--kafka-group', `${namespace}-mirror`],
      ...['--dir', dir, '--file-age', '300ms', ...SESSION_TIMEOUT],
    )
    const served = pipeline.start(stream)
    await pipeline.settles(stream, await expectedRows(plan, before), 'served')

    // Positions in time: what brokers say is what the records say, and what the mirror says.
    const instantMs = logs[0]![Math.floor(logs[0]!.length / 3)]!.at
    const starts = logs.map((log, i) => ({
      log: `${topic}.${i}`,
      position: log.findIndex(({ at }) => at >= instantMs),
    }))
    const times = createKafkaTimes({ brokers: kafka.brokers })
    try {
      expect(await times.ends(topic)).toEqual(logs.map((log, partition) => ({ partition, first: 0, next: log.length })))
      expect(await times.firstAt(topic, instantMs)).toEqual(new Map(starts.map(({ position }, i) => [i, position])))
      expect(await times.firstAt(topic, payments.at(-1)!.at + HOUR_MS)).toEqual(
        new Map(logs.map((log, i) => [i, log.length])),
      )
      const upTo = new Map(logs.map((log, i) => [i, random.below(log.length)]))
      const newestMs = Math.max(...logs.flatMap((log, i) => log.slice(0, upTo.get(i)! + 1).map(({ at }) => at)))
      expect(await times.newestUpTo(topic, upTo)).toBe(newestMs)
    } finally {
      await times.close()
    }

    const from = ['--from', new Date(instantMs).toISOString()]
    const begun = await asked<Begun>(stream, 'generation', 'begin', 'spend', ...from)
    expect(begun).toMatchObject({ generation: 2, starts })
    expect(Date.parse(begun.complete_since)).toBe(instantMs + plan.state.maxFutureMs)
    const fromMirror = createMirrorTimes(dir)
    for (const untilMs = Date.now() + 30_000; Date.now() < untilMs; await sleep(200)) {
      const ends = await fromMirror.ends(topic).catch(() => [])
      if (ends.length === PARTITIONS && ends.every(({ partition, next }) => next === logs[partition]!.length)) break
    }
    mirror.child.kill('SIGTERM')
    expect(await pipeline.exitOf(mirror), mirror.log()).toBe(0)
    const again = await asked<Begun>(stream, 'generation', 'begin', 'spend', ...from, '--mirror', dir)
    expect(again).toMatchObject({ generation: 3, starts, complete_since: begun.complete_since })

    // One is filled by workers, of which one is killed; the other by the mirror and then by a worker.
    const producing = pipeline.produceSlowly(stream, beside, 4, 2_000)
    const doomed = pipeline.start(stream, '--generation', '2')
    await pipeline.logged(doomed, '"reading ')
    await sleep(300 + random.below(700))
    doomed.child.kill('SIGKILL')
    const next = [pipeline.start(stream, '--generation', '2'), pipeline.start(stream, '--generation', '2')]
    expect(await asked(stream, 'rebuild', '--mirror', dir, '--generation', '3')).toMatchObject({ finished: true })
    const third = pipeline.start(stream, '--generation', '3')
    await producing

    // Readers are moved while records come in, and nobody is stopped.
    let isOver = false
    const traffic = pipeline.produceSlowly(stream, live, 12, 8_000).finally(() => (isOver = true))
    await sleep(500)
    const moved = await asked(stream, 'generation', 'switch', 'spend', '--generation', '2', '--wait', '60s')
    expect(moved).toMatchObject({ current: { generation: 2 } })
    process.stderr.write(`replay: seed ${SEED}, switched ${isOver ? 'behind' : 'under'} the traffic\n`)
    await traffic

    const counted = Array.from({ length: PARTITIONS }, (_, i) =>
      payments.filter((each) => partitionOf(each) === i).slice(starts[i]!.position),
    ).flat()
    const rows = await expectedRows(plan, counted)
    await pipeline.settles(stream, rows, 'behind the switch')
    await holds(stream, 3, rows)
    await holds(stream, 1, await expectedRows(plan, payments))
    // A worker that is started now joins those of the generation that readers see.
    const late = pipeline.start(stream)
    await pipeline.logged(late, `"group":"${namespace}-${plan.stateHash}-2"`)
    const brokers = ['--kafka-brokers', kafka.brokers.join(',')]
    const { partitions } = await asked<{ partitions: { applied: number; next: number; lag: number }[] }>(
      stream,
      ...['lag', '--generation', '3', ...brokers],
    )
    expect(partitions.map(({ applied, lag }) => [applied, lag])).toEqual(partitions.map(({ next }) => [next - 1, 0]))
    await pipeline.finish(served, ...next, third, late)
    for (const { log } of [served, third]) expect(log()).not.toMatch(/FENCED|REGRESSED|STORE_LOST|LOG_GAP/)
    await holds(stream, 2, rows)
    const layout = JSON.parse((await pipeline.store.readLayout(namespace, plan.view))!) as ViewLayout
    expect(layout.current!.generation).toBe(2)
  })
})
