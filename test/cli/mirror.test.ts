/**
 * `tilefold mirror` against a real broker: killed at every kind of moment, every committed record is in one file once, and
 * a replay of the files is a replay of the topic.
 *
 * TILEFOLD_KILLS draws more kills (3 unless told), TILEFOLD_SEED other ones.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, symlinkSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '../../src/model/plan.ts'
import { readMirrorFiles } from '../../src/source/mirror-manifest.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { expectWhole, replayMirror, replayTopic } from '../offline/mirror-scene.ts'
import { compileForNode } from '../store/compile.ts'
import { drawPayments, paymentsView, paymentsYaml } from '../stream/payments.ts'
import { type KafkaCluster, startKafka, whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { cli, ended, makeFolder, root, spawnCli, writeIn } from './harness.ts'

const KILLS = Number(process.env.TILEFOLD_KILLS ?? 3)
const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const PARTITIONS = 2

describe('tilefold mirror', () => {
  const folder = makeFolder()
  writeIn(folder, 'tilefold.yaml', paymentsYaml())

  it.each([
    [['--compression', 'lzma'], '--compression'],
    [['--profile', 'old'], '--profile'],
    [['--file-rows', '0'], '--file-rows'],
    [['--file-age', 'soon'], '--file-age'],
  ])('refuses %s', async (flags, named) => {
    const { code, stderr } = await cli(['mirror', '--file', join(folder, 'tilefold.yaml'), ...flags])
    expect(code).toBe(2)
    expect(stderr).toContain(named)
  })

  it('says that it needs brokers', async () => {
    const { code, stderr } = await cli(['mirror', '--file', join(folder, 'tilefold.yaml')])
    expect(code).not.toBe(0)
    expect(stderr).toContain('kafka_brokers')
  })
})

describe.skipIf(whyNoKafka() !== undefined)('tilefold mirror of a real topic', { timeout: 600_000 }, () => {
  const folder = makeFolder()
  const child = compileForNode('test/offline/mirror-child.ts')
  const random = seededRandom(SEED)
  const running = new Set<ChildProcess>()
  let kafka: KafkaCluster
  let plan: Plan

  beforeAll(async () => {
    writeIn(folder, 'tilefold.yaml', paymentsYaml())
    // Where the compiled sources look for the core.
    symlinkSync(join(root, 'dist'), resolve(child.script, '../../../dist'))
    kafka = await startKafka()
    plan = await paymentsView()
  }, 120_000)

  afterAll(async () => {
    for (const each of running) each.kill('SIGKILL')
    child.remove()
    await kafka?.stop()
  }, 60_000)

  /** Transactions, some of which are taken back: their records and the marks of all take offsets that nobody reads. */
  async function produce(topic: string, events: number): Promise<void> {
    const producer = kafka.client.producer({
      transactionalId: `payments-${random.below(1e9)}`,
      maxInFlightRequests: 1,
      idempotent: true,
      retry: { initialRetryTime: 10, maxRetryTime: 1000, retries: 30 },
    })
    await producer.connect()
    const payments = drawPayments(random, events, 15)
    for (let from = 0; from < events; from += 40) {
      const transaction = await producer.transaction()
      const messages = payments.slice(from, from + 40).map((payment) => ({
        key: payment.card,
        value: random.below(20) === 0 ? (random.below(2) === 0 ? null : '{"card":') : JSON.stringify(payment),
        timestamp: String(payment.at + random.below(60_000)),
        partition: random.below(PARTITIONS),
      }))
      for (let partition = 0; partition < PARTITIONS; partition++) {
        const own = messages.filter((message) => message.partition === partition)
        if (own.length > 0) await transaction.send({ topic, messages: own, acks: -1 })
      }
      await (from % 120 === 40 ? transaction.abort() : transaction.commit())
    }
    await producer.disconnect()
  }

  /** What another consumer reads of the topic. */
  async function readTopic(topic: string): Promise<StreamMessage[][]> {
    const logs: StreamMessage[][] = Array.from({ length: PARTITIONS }, () => [])
    const consumer = kafka.client.consumer({ groupId: `reader-${random.below(1e9)}`, maxWaitTimeInMs: 100 })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    let lastMs = Date.now()
    await consumer.run({
      eachMessage: async ({ partition, message }) => {
        lastMs = Date.now()
        logs[partition]!.push(message)
      },
    })
    // Silence, and something was said: the topic is written and no longer changes.
    while (logs.some((log) => log.length === 0) || Date.now() - lastMs < 3_000) await sleep(100)
    await consumer.disconnect()
    return logs
  }

  async function mirroredTo(dir: string, topic: string, logs: readonly StreamMessage[][]): Promise<boolean> {
    for (const [partition, log] of logs.entries()) {
      const files = await readMirrorFiles(dir, topic, partition)
      if (files.at(-1)?.facts.end !== Number(log.at(-1)!.offset)) return false
    }
    return true
  }

  function start(command: ChildProcess): ChildProcess {
    running.add(command)
    command.on('exit', () => running.delete(command))
    return command
  }

  function startCommand(topic: string, dir: string, life: number): ChildProcess {
    return start(
      spawnCli(
        [
          'mirror',
          ...['--file', join(folder, 'tilefold.yaml'), '--kafka-brokers', kafka.brokers.join(','), '--dir', dir],
          ...['--topic', `payments=${topic}`, '--kafka-group', `${topic}-${life}`, '--file-age', '500ms'],
          ...['--row-group-rows', '60', '--file-rows', '150'],
        ],
        folder,
        { TILEFOLD_LOG_FORMAT: 'json' },
      ),
    )
  }

  /** Waits until the mirror has everything, then lets it end by itself. */
  async function finish(command: ChildProcess, dir: string, topic: string, logs: readonly StreamMessage[][]) {
    const done = ended(command)
    // The last life may have written everything: this one has not even begun by then.
    let hasBegun = false
    command.stderr!.on('data', (data: Buffer) => {
      hasBegun ||= data.includes('"event":"assigned"')
    })
    const until = Date.now() + 120_000
    const isDone = async () => hasBegun && (await mirroredTo(dir, topic, logs))
    while (!(await isDone()) && Date.now() < until && command.exitCode === null) await sleep(200)
    command.kill('SIGTERM')
    const { code, stderr } = await done
    expect(code, stderr).toBe(0)
    return stderr
  }

  async function expectSame(dir: string, topic: string, logs: readonly StreamMessage[][]): Promise<void> {
    await expectWhole(dir, topic, logs)
    let holes = 0
    for (const [partition, log] of logs.entries()) {
      const fromTopic = await replayTopic(plan, log)
      const fromMirror = await replayMirror(plan, dir, topic, partition)
      expect(fromMirror).toEqual(fromTopic)
      for (const { facts } of await readMirrorFiles(dir, topic, partition)) holes += facts.holes
    }
    expect(holes).toBeGreaterThan(20)
  }

  it('has every committed record once, in a process that is killed at any moment', async () => {
    const topic = await kafka.createTopic('mirrored', PARTITIONS)
    const dir = join(folder, 'killed')
    mkdirSync(dir)
    await produce(topic, 900)
    const logs = await readTopic(topic)
    for (let life = 0; life < KILLS; life++) {
      if (life % 3 < 2) {
        // By itself, in a step on the disk.
        const args = [kafka.brokers.join(','), topic, dir, `${topic}-child-${life}`, String(1 + random.below(90))]
        const mirror = start(spawn(process.execPath, [child.script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] }))
        const done = ended(mirror)
        const timer = setTimeout(() => mirror.kill('SIGKILL'), 20_000)
        const { signal, stderr } = await done
        expect(signal, stderr).toBe('SIGKILL')
        clearTimeout(timer)
      } else {
        // From outside, wherever it is.
        const command = startCommand(topic, dir, life)
        const done = ended(command)
        await sleep(2_000 + random.below(3_000))
        command.kill('SIGKILL')
        await done
      }
    }
    const said = await finish(startCommand(topic, dir, KILLS), dir, topic, logs)
    expect(said).toContain('"event":"assigned"')
    await expectSame(dir, topic, logs)
  })

  it('writes what it has when it is told to stop, and two of them share the partitions', async () => {
    const topic = await kafka.createTopic('shared', PARTITIONS)
    const dir = join(folder, 'shared')
    const first = startCommand(topic, dir, 0)
    const second = startCommand(topic, dir, 0)
    const other = ended(second)
    await produce(topic, 400)
    const logs = await readTopic(topic)
    await sleep(1_000)
    second.kill('SIGTERM')
    expect((await other).code).toBe(0)
    await produce(topic, 200)
    const all = await readTopic(topic)
    expect(all.flat().length).toBeGreaterThan(logs.flat().length)
    await finish(first, dir, topic, all)
    await expectSame(dir, topic, all)
  })
})
