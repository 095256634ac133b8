/**
 * Workers as processes between a real Kafka and a real Redis, and what the rows must be in the end whatever was done to
 * any of them. No worker finds a local file: each starts in an empty folder that is its home as well.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Producer } from 'kafkajs'
import { expect } from 'vitest'
import { partitionHash } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import type { Store } from '../../src/store/port.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import type { KafkaCluster } from '../support/kafka.ts'
import { freshNamespace } from '../support/redis.ts'
import { type Payment, paymentsView, paymentsYaml, storedRows } from './payments.ts'

export const BIN = resolve(import.meta.dirname, '../../dist/src/cli/main.js')
export const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
/** Whatever waits for a dead member's partitions waits so long; a worker on a busy machine still keeps it. */
export const SESSION_MS = 3_000
export const SESSION_TIMEOUT = ['--session-timeout', `${SESSION_MS}ms`]

export interface Worker {
  readonly child: ChildProcess
  /** Its home and where it runs. */
  readonly folder: string
  readonly log: () => string
}

/** One view's topic, with everything that has to be named alike. */
export interface Stream {
  readonly topic: string
  readonly namespace: string
  readonly plan: Plan
  readonly partitions: number
  /** Of the view; the payments' own unless told. */
  readonly yaml?: string
}

export class Pipeline {
  readonly folder = mkdtempSync(join(tmpdir(), 'tilefold-pipeline-'))
  readonly kafka: KafkaCluster
  readonly redisUrls: readonly string[]
  /** Of an embedded store, in the place of Redis. */
  readonly directory: string | undefined
  readonly #store: Store | undefined
  readonly #workers = new Set<Worker>()
  #started = 0

  /** Into Redis, or with no address into a directory. */
  constructor(kafka: KafkaCluster, redisUrls: readonly string[]) {
    this.kafka = kafka
    this.redisUrls = redisUrls
    if (redisUrls.length === 0) this.directory = join(this.folder, 'store')
    else this.#store = createRedisStore({ urls: redisUrls, ...(redisUrls.length > 1 ? { mode: 'cluster' } : {}) })
  }

  /** Where the rows are, of Redis. */
  get store(): Store {
    return this.#store!
  }

  async close(): Promise<void> {
    for (const { child } of this.#workers) child.kill('SIGKILL')
    await this.#store?.close()
    rmSync(this.folder, { recursive: true, force: true })
  }

  async stream(name: string, partitions: number): Promise<Stream> {
    const topic = await this.kafka.createTopic(name, partitions)
    return { topic, namespace: freshNamespace(), plan: await paymentsView(topic), partitions }
  }

  start(stream: Stream, ...flags: string[]): Worker {
    const brokers = ['--kafka-brokers', this.kafka.brokers.join(','), '--kafka-group', stream.namespace]
    return this.spawn(stream, 'run', ...SESSION_TIMEOUT, ...brokers, ...flags)
  }

  /** Any command about the stream, against its store. */
  spawn({ topic, namespace, yaml }: Stream, command: string, ...flags: string[]): Worker {
    const home = join(this.folder, `home-${this.#started++}`)
    mkdirSync(home)
    const args = [command, '--file', this.definitionOf(topic, yaml), '--namespace', namespace]
    const where = this.directory ? ['--store', this.directory] : ['--redis-url', this.redisUrls.join(',')]
    // A flag of the caller's comes last and wins.
    const child = spawn(process.execPath, [BIN, ...args, ...where, ...flags], {
      cwd: home,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env.PATH,
        HOME: home,
        TILEFOLD_LOG_FORMAT: 'json',
        TILEFOLD_REDIS_CLUSTER: `${this.redisUrls.length > 1}`,
      },
    })
    let text = ''
    for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (data: Buffer) => (text += data.toString()))
    const worker = { child, folder: home, log: () => text }
    this.#workers.add(worker)
    child.on('exit', () => this.#workers.delete(worker))
    return worker
  }

  /** Sends SIGTERM to workers that have joined; each must end with 0 and must not have met an unhandled rejection. */
  async finish(...team: readonly Worker[]): Promise<void> {
    const codes = team.map(async (worker) => {
      await this.logged(worker, '"reading ')
      worker.child.kill('SIGTERM')
      return this.exitOf(worker)
    })
    expect(await Promise.all(codes)).toEqual(team.map(() => 0))
    for (const { log, folder } of team) {
      expect(log()).not.toMatch(/unhandled|UnhandledPromise/i)
      expect(readdirSync(folder)).toEqual([])
    }
  }

  async exitOf({ child, log }: Worker, seconds = 60): Promise<number | string | null> {
    for (const until = Date.now() + seconds * 1000; Date.now() < until; await sleep(50)) {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? child.signalCode
    }
    throw new Error(`the worker did not end within ${seconds} s; it said:\n${log().slice(-6_000)}`)
  }

  async logged(worker: Worker, text: string, seconds = 60): Promise<void> {
    for (const until = Date.now() + seconds * 1000; !worker.log().includes(text); await sleep(50)) {
      const { exitCode, signalCode } = worker.child
      if (Date.now() > until || exitCode !== null || signalCode !== null)
        throw new Error(`the worker did not say ${text}; it said:\n${worker.log()}`)
    }
  }

  definitionOf(topic: string, yaml = paymentsYaml(topic)): string {
    const path = join(this.folder, `${topic}.yaml`)
    writeFileSync(path, yaml)
    return path
  }

  /** Each payment in its card's partition of `count`; one partition per call. */
  async produce({ topic, partitions }: Stream, payments: readonly Payment[], count = partitions): Promise<void> {
    const producer = await this.#producer()
    for (let partition = 0; partition < count; partition++) {
      const own = payments.filter(({ card }) => partitionHash(Buffer.from(card)) % count === partition)
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

  /** More patient than brokers of which one is dead: what `send` repeats, `connect` gives up at the first reset. */
  async #producer(): Promise<Producer> {
    for (let attempt = 1; ; attempt++) {
      const producer = this.kafka.client.producer({ idempotent: true, retry: { maxRetryTime: 500, retries: 400 } })
      try {
        await producer.connect()
        return producer
      } catch (error) {
        if (attempt === 100) throw error
        await sleep(100)
      }
    }
  }

  /** `parts` of the payments, one after the other, some time apart. */
  async produceSlowly(stream: Stream, payments: readonly Payment[], parts: number, overMs: number): Promise<void> {
    const size = Math.ceil(payments.length / parts)
    const startMs = Date.now()
    for (let part = 0; part * size < payments.length; part++) {
      await this.produce(stream, payments.slice(part * size, (part + 1) * size))
      await sleep(Math.max(0, startMs + (overMs * (part + 1)) / parts - Date.now()))
    }
  }

  /** Waits until the rows are those of the events, and says how long that took. */
  async settles(stream: Stream, expected: ReadonlyMap<string, string>, what: string, seconds = 90): Promise<void> {
    const startMs = Date.now()
    for (;;) {
      const wrong = await this.wrong(stream, expected)
      if (wrong.length === 0) break
      if (Date.now() > startMs + seconds * 1000) {
        const said = [...this.#workers].map((worker) => worker.log().slice(-3_000)).join('\n---\n')
        expect(wrong, `${wrong.length} of ${expected.size} rows differ; the workers said:\n${said}`).toEqual([])
      }
      await sleep(200)
    }
    process.stderr.write(`pipeline: seed ${SEED}, ${what}: settled after ${Date.now() - startMs} ms\n`)
  }

  /** The rows as they are now, without waiting; names the cards that differ in the place of pages of hex. */
  async expectSame(stream: Stream, expected: ReadonlyMap<string, string>): Promise<void> {
    expect(await this.wrong(stream, expected)).toEqual([])
  }

  /** Cards whose rows differ now; all of them where the store cannot be read. */
  async wrong({ plan, namespace }: Stream, expected: ReadonlyMap<string, string>): Promise<string[]> {
    let store = this.#store
    try {
      // Its worker may not have made it yet.
      store ??= createLmdbStore({ path: this.directory!, readOnly: true })
      return differences(await storedRows(store, plan, namespace), expected)
    } catch {
      return [...expected.keys()]
    } finally {
      if (store !== this.#store) await store?.close()
    }
  }
}

function differences(rows: ReadonlyMap<string, string>, expected: ReadonlyMap<string, string>): string[] {
  const cards = new Set([...rows.keys(), ...expected.keys()])
  return [...cards].filter((card) => rows.get(card) !== expected.get(card))
}
