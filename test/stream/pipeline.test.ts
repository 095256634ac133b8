/**
 * The real pipeline: Apache Kafka, Redis, workers as processes. Whatever is killed, the rows come out as those of a run
 * that nobody disturbed.
 *
 * TILEFOLD_KILLS=200 kills workers so often (5 unless told); TILEFOLD_SEED draws other events and other moments.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadCore } from '../../src/engine/module.ts'
import { partitionHash } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { createFeatureReader } from '../../src/serve/reader.ts'
import type { Store } from '../../src/store/port.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { anyRedis, freshNamespace, whyNoRedis } from '../support/redis.ts'
import { drawPayments, expectedRows, type Payment, paymentsView, START_MS, storedRows } from './payments.ts'

const KILLS = Number(process.env.TILEFOLD_KILLS ?? 5)
const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const PARTITIONS = 4
const BIN = resolve(import.meta.dirname, '../../dist/src/cli/main.js')
const missing = whyNoKafka() ?? whyNoRedis()

describe.skipIf(missing !== undefined)(
  'the pipeline from Kafka to Redis',
  { timeout: 300_000 + KILLS * 10_000 },
  () => {
    let kafka: KafkaCluster
    let redis: Awaited<ReturnType<typeof anyRedis>>
    let store: Store
    const folder = mkdtempSync(join(tmpdir(), 'tilefold-pipeline-'))
    const workers = new Set<Worker>()

    beforeAll(async () => {
      ;[kafka, redis] = await Promise.all([startKafka(), anyRedis()])
      store = createRedisStore({ urls: redis.url })
    }, 120_000)

    afterAll(async () => {
      for (const worker of workers) worker.child.kill('SIGKILL')
      await store?.close()
      await Promise.all([kafka?.stop(), redis?.stop()])
      rmSync(folder, { recursive: true, force: true })
    }, 60_000)

    interface Worker {
      readonly child: ChildProcess
      readonly log: () => string
    }

    function startWorker(topic: string, namespace: string, ...more: string[]): Worker {
      const flags = ['--kafka-brokers', kafka.brokers.join(','), '--redis-url', redis.url, '--kafka-group', namespace]
      const child = spawn(
        process.execPath,
        [
          BIN,
          'run',
          '--file',
          definitionOf(topic),
          '--namespace',
          namespace,
          ...flags,
          '--session-timeout',
          '6s',
          ...more,
        ],
        { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TILEFOLD_LOG_FORMAT: 'json' } },
      )
      let text = ''
      for (const stream of [child.stdout!, child.stderr!])
        stream.on('data', (data: Buffer) => (text += data.toString()))
      const worker = { child, log: () => text }
      workers.add(worker)
      child.on('exit', () => workers.delete(worker))
      return worker
    }

    function definitionOf(topic: string): string {
      const path = join(folder, `${topic}.yaml`)
      writeFileSync(
        path,
        `views:
  - name: spend
    source: { name: ${topic}, columns: { card: utf8, at: 'timestamp[ms]', amount: float64 } }
    entity: card
    time: at
    aggregations:
      - { op: count, windows: [1h, 24h] }
      - { op: sum, column: amount, windows: [1h, 24h] }
      - { op: max, column: amount, windows: [24h] }
      - { op: last, column: amount, windows: [24h] }
`,
      )
      return path
    }

    async function produce(topic: string, payments: readonly Payment[]): Promise<void> {
      const producer = kafka.client.producer({ idempotent: true })
      await producer.connect()
      for (let partition = 0; partition < PARTITIONS; partition++) {
        const own = payments.filter(({ card }) => partitionHash(Buffer.from(card)) % PARTITIONS === partition)
        const messages = own.map((payment) => ({
          key: payment.card,
          value: JSON.stringify(payment),
          timestamp: `${payment.at}`,
          partition,
        }))
        if (messages.length > 0) await producer.send({ topic, messages, acks: -1 })
      }
      await producer.disconnect()
    }

    /** Waits until the rows are those of the events; what they are in the end is for the caller to compare. */
    async function settle(plan: Plan, namespace: string, expected: ReadonlyMap<string, string>, seconds: number) {
      const until = Date.now() + seconds * 1000
      for (;;) {
        const rows = await storedRows(store, plan, namespace)
        const same = rows.size === expected.size && [...expected].every(([key, row]) => rows.get(key) === row)
        if (same || Date.now() > until) return rows
        await sleep(500)
      }
    }

    /** Names the cards that differ, and what the workers said, in the place of pages of hex. */
    function expectSame(rows: ReadonlyMap<string, string>, expected: ReadonlyMap<string, string>): void {
      const cards = [...new Set([...rows.keys(), ...expected.keys()])]
      const wrong = cards.filter((card) => rows.get(card) !== expected.get(card))
      const said = [...workers].map((worker) => worker.log().slice(-2_000)).join('\n---\n')
      expect(wrong, `${wrong.length} of ${cards.length} rows differ; the workers said:\n${said}`).toEqual([])
    }

    async function exitOf({ child }: Worker): Promise<number | string | null> {
      if (child.exitCode !== null) return child.exitCode
      return new Promise((resolved) => child.once('exit', (code, signal) => resolved(code ?? signal)))
    }

    it(`gives the rows of an undisturbed run after ${KILLS} times kill -9 and a stopped process that wakes up`, async () => {
      const random = seededRandom(SEED)
      const topic = await kafka.createTopic('payments', PARTITIONS)
      const namespace = freshNamespace()
      const plan = await paymentsView(topic)
      const payments = drawPayments(random, 20_000, 500)
      const expected = await expectedRows(plan, payments)
      const parts = Array.from({ length: 20 }, (_, i) => payments.slice(i * 1000, (i + 1) * 1000))

      const team = [startWorker(topic, namespace, '--keyed', topic), startWorker(topic, namespace, '--keyed', topic)]
      const producing = (async () => {
        for (const part of parts) {
          await produce(topic, part)
          await sleep(100 + 200 * random.fraction())
        }
      })()
      for (let kill = 0; kill < KILLS; kill++) {
        await sleep(500 + 1500 * random.fraction())
        const at = random.below(team.length)
        team[at]!.child.kill('SIGKILL')
        team[at] = startWorker(topic, namespace, '--keyed', topic)
      }
      // Past the session timeout its partitions are others'; then it wakes up and believes that it still has them.
      const sleeper = team[0]!
      sleeper.child.kill('SIGSTOP')
      await sleep(9_000)
      sleeper.child.kill('SIGCONT')
      await producing

      const startMs = Date.now()
      const rows = await settle(plan, namespace, expected, 90)
      process.stderr.write(
        `pipeline: seed ${SEED}, ${KILLS} kills, settled ${Date.now() - startMs} ms after the last event\n`,
      )
      expectSame(rows, expected)
      for (const worker of team) while (!worker.log().includes('reading ')) await sleep(100)
      const codes = team.map((worker) => {
        worker.child.kill('SIGTERM')
        return exitOf(worker)
      })
      expect(await Promise.all(codes)).toEqual([0, 0])
      // Still the same behind the last flush; and what a server reads is what the events say.
      expectSame(await storedRows(store, plan, namespace), expected)
      for (const worker of team) expect(worker.log()).not.toMatch(/unhandled|UnhandledPromise/i)

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
      const topic = await kafka.createTopic('poisoned', PARTITIONS)
      const namespace = freshNamespace()
      const plan = await paymentsView(topic)
      const payments = drawPayments(seededRandom(SEED), 1_000, 50)
      const letters = join(folder, 'letters.ndjson')
      await produce(topic, payments)
      const producer = kafka.client.producer()
      await producer.connect()
      const poison = ['not json', '{"card":7}', '', '{"card":"x","at":', '[]']
      await producer.send({ topic, messages: poison.map((value) => ({ key: 'poison', value, partition: 0 })) })
      await producer.disconnect()

      const worker = startWorker(topic, namespace, '--metrics-port', '0', '--dead-letter-file', letters)
      const expected = await expectedRows(plan, payments)
      expectSame(await settle(plan, namespace, expected, 60), expected)

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
          [BIN, command, '--file', definitionOf(topic), '--namespace', namespace, '-o', 'json'],
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
      worker.child.kill('SIGTERM')
      expect(await exitOf(worker)).toBe(0)
    })
  },
)
