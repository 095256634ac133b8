/**
 * The real pipeline: Apache Kafka, Redis, workers as processes. Whatever is killed, the rows come out as those of a run
 * that nobody disturbed.
 *
 * TILEFOLD_KILLS=200 kills workers so often (5 unless told); TILEFOLD_SEED draws other events and other moments.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import { createFeatureReader } from '../../src/serve/reader.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { anyRedis, whyNoRedis } from '../support/redis.ts'
import { drawPayments, expectedRows, START_MS } from './payments.ts'
import { BIN, Pipeline, SEED, SESSION_MS } from './pipeline.ts'
import { Recovery } from './recovery.ts'

const KILLS = Number(process.env.TILEFOLD_KILLS ?? 5)
/** Between two kills, on average: less than the group needs to come to rest. */
const KILL_EVERY_MS = 1250
/** After so many the group is left alone until it has recovered, and the time is taken. */
const BURST = 5
/** Events come in all the while. */
const PRODUCE_MS = 2500
const PARTITIONS = 4
const missing = whyNoKafka() ?? whyNoRedis()

describe.skipIf(missing !== undefined)(
  'the pipeline from Kafka to Redis',
  { timeout: 300_000 + KILLS * 10_000 },
  () => {
    let kafka: KafkaCluster
    let redis: Awaited<ReturnType<typeof anyRedis>>
    let pipeline: Pipeline

    beforeAll(async () => {
      ;[kafka, redis] = await Promise.all([startKafka(), anyRedis()])
      pipeline = new Pipeline(kafka, [redis.url])
    }, 120_000)

    afterAll(async () => {
      await pipeline?.close()
      await Promise.all([kafka?.stop(), redis?.stop()])
    }, 60_000)

    it(`gives the rows of an undisturbed run after ${KILLS} times kill -9 and a stopped process that wakes up`, async () => {
      const random = seededRandom(SEED)
      const stream = await pipeline.stream('payments', PARTITIONS)
      const payments = drawPayments(random, 20_000, 500)
      const expected = await expectedRows(stream.plan, payments)
      const recovery = new Recovery(kafka, stream)

      const start = () => pipeline.start(stream, '--keyed', stream.topic)
      const team = [start(), start()]
      const producing = pipeline.produceSlowly(stream, payments, 20 + 2 * KILLS, KILLS * PRODUCE_MS)
      for (let kill = 0; kill < KILLS; kill++) {
        await sleep(KILL_EVERY_MS * (0.4 + 1.2 * random.fraction()))
        const at = random.below(team.length)
        team[at]!.child.kill('SIGKILL')
        team[at] = start()
        if (kill % BURST === BURST - 1) await recovery.disturbed()
      }
      // Past the session timeout its partitions are others'; then it wakes up and believes that it still has them.
      const sleeper = team[0]!
      sleeper.child.kill('SIGSTOP')
      await sleep(SESSION_MS + 2_000)
      sleeper.child.kill('SIGCONT')
      await producing

      await pipeline.settles(stream, expected, `${KILLS} kills`)
      process.stderr.write(`pipeline: killed in bursts of ${BURST}: ${await recovery.report()}\n`)
      await pipeline.finish(...team)
      // Still the same behind the last flush; and what a server reads is what the events say.
      await pipeline.expectSame(stream, expected)

      const { store } = pipeline
      const { plan, namespace } = stream
      const reader = createFeatureReader({ store, namespace, plans: [plan], core: loadCore(), clock: Date.now })
      const asOf = START_MS + 9 * 3_600_000
      const cards = [...new Set(payments.map(({ card }) => card))].slice(0, 100)
      const answer = await reader.getFeatures({ view: plan.view, entities: cards.map((card) => ({ card })), asOf })
      const count24h = answer.metadata.features.findIndex(({ name }) => name === 'count_24h')
      const counted = answer.rows.map(({ values }) => values[count24h])
      expect(counted).toEqual(
        cards.map((card) => payments.filter((each) => each.card === card && each.at < asOf).length),
      )
    })

    it('tells its numbers, puts away what it cannot read, and is seen by lag and doctor', async () => {
      const stream = await pipeline.stream('poisoned', PARTITIONS)
      const { topic, namespace, plan } = stream
      const payments = drawPayments(seededRandom(SEED), 1_000, 50)
      const letters = join(pipeline.folder, 'letters.ndjson')
      await pipeline.produce(stream, payments)
      const producer = kafka.client.producer()
      await producer.connect()
      const poison = ['not json', '{"card":7}', '', '{"card":"x","at":', '[]']
      await producer.send({ topic, messages: poison.map((value) => ({ key: 'poison', value, partition: 0 })) })
      await producer.disconnect()

      const worker = pipeline.start(stream, '--metrics-port', '0', '--dead-letter-file', letters)
      await pipeline.settles(stream, await expectedRows(plan, payments), 'poison')

      const lines = () => (existsSync(letters) ? readFileSync(letters, 'utf8').split('\n').slice(0, -1) : [])
      for (let i = 0; i < 100 && lines().length < poison.length; i++) await sleep(100)
      expect(lines().length, worker.log()).toBe(poison.length)
      const found = lines().map((line) => JSON.parse(line) as { value: string; topic: string; reason: string })
      expect(found.map(({ value }) => Buffer.from(value, 'base64').toString()).sort()).toEqual([...poison].sort())
      expect(new Set(found.map((each) => each.topic))).toEqual(new Set([topic]))

      const url = /metrics on (http:\S+?)\/metrics/.exec(worker.log())![1]!
      const metrics = await (await fetch(`${url}/metrics`)).text()
      const sumOf = (name: string) =>
        [...metrics.matchAll(new RegExp(`^tilefold_${name}\\{[^}]*\\} (\\S+)$`, 'gm'))].reduce(
          (sum, [, value]) => sum + Number(value),
          0,
        )
      expect(sumOf('consumed_events_total')).toBe(payments.length)
      expect(sumOf('applied_events_total')).toBe(payments.length)
      expect(sumOf('dead_letter_events_total')).toBe(poison.length)
      expect(sumOf('lanes_owned')).toBe(PARTITIONS)
      expect((await fetch(`${url}/readyz`)).status).toBe(200)

      const env = { ...process.env, TILEFOLD_KAFKA_BROKERS: kafka.brokers.join(','), TILEFOLD_REDIS_URL: redis.url }
      const tool = (command: string) =>
        spawnSync(
          process.execPath,
          [BIN, command, '--file', pipeline.definitionOf(topic), '--namespace', namespace, '-o', 'json'],
          { env },
        )
      const lag = JSON.parse(tool('lag').stdout.toString()) as {
        partitions: { lag: number; applied: number; next: number }[]
      }
      expect(lag.partitions).toHaveLength(PARTITIONS)
      // The poison is behind the last record that could be folded: read, and not in any row.
      expect(lag.partitions.reduce((sum, each) => sum + each.lag, 0)).toBe(poison.length)
      const doctor = tool('doctor')
      const { findings } = JSON.parse(doctor.stdout.toString()) as { findings: { part: string; verdict: string }[] }
      expect(findings.filter(({ verdict }) => verdict === 'failure')).toEqual([])
      expect(findings.map(({ part }) => part)).toEqual(expect.arrayContaining(['redis', 'kafka', `topic ${topic}`]))
      await pipeline.finish(worker)
    })
  },
)
