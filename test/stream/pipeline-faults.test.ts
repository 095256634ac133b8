/**
 * What is tried elsewhere one layer at a time, here through the whole pipeline: a Redis that refuses in every way it knows, slots that
 * move, a lane that goes to a process which has no file of it, and an entity that is forgotten while its worker is killed.
 */
import { readdirSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { loadCore } from '../../src/engine/module.ts'
import { createFeatureReader } from '../../src/serve/reader.ts'
import { redisLaneKeys } from '../../src/store/redis-key.ts'
import { whyNoKafka } from '../support/kafka.ts'
import { seededRandom } from '../support/random.ts'
import { isForeignRedis, moveSlot, type RedisServer, until, whyNoRedis } from '../support/redis.ts'
import { drawPayments, expectedRows, type Payment, START_MS, storedRows } from './payments.ts'
import { SEED, type Stream, type Worker } from './pipeline.ts'
import { pipelineScene } from './pipeline-scene.ts'
import { Recovery } from './recovery.ts'

const missing = whyNoKafka() ?? whyNoRedis() ?? (isForeignRedis ? 'a Redis of our own' : undefined)

describe.skipIf(missing !== undefined)('the pipeline', { timeout: 240_000 }, () => {
  const { pipelineOf, redisOf, redisCluster } = pipelineScene()

  it('waits out a Redis that has no memory left, is a replica, is held by a script, or loads its rows', async () => {
    const redis = await redisOf({
      appendonly: 'yes',
      appendfsync: 'always',
      'busy-reply-threshold': '50',
      'loading-process-events-interval-bytes': '1024',
    })
    const pipeline = pipelineOf(redis.url)
    const stream = await pipeline.stream('refused', 4)
    const payments = drawPayments(seededRandom(SEED), 4_000, 100)
    const part = (at: number) => payments.slice(at * 800, (at + 1) * 800)
    const recovery = new Recovery(pipeline.kafka, stream)
    const team = [0, 1].map(() => pipeline.start(stream, '--metrics-port', '0'))
    await pipeline.produce(stream, part(0))
    await pipeline.settles(stream, await expectedRows(stream.plan, part(0)), 'before it refuses')
    const refusals: Record<string, [refuse: () => Promise<unknown>, relent: () => Promise<unknown>]> = {
      OOM: [() => redis.client.config('SET', 'maxmemory', '1mb'), () => redis.client.config('SET', 'maxmemory', '0')],
      // Of a master that isn't there: it keeps what it has.
      READONLY: [() => redis.client.replicaof('127.0.0.1', '1'), () => redis.client.replicaof('NO', 'ONE')],
      BUSY: [
        async () => {
          const other = redis.client.duplicate()
          other.on('error', () => {})
          void other.eval('while true do end', 0).then(
            () => other.disconnect(),
            () => other.disconnect(),
          )
          await sleep(200)
        },
        () => redis.client.script('KILL'),
      ],
      LOADING: [
        async () => {
          await redis.client.bgrewriteaof()
          await until(async () => (await redis.client.info('persistence')).includes('aof_rewrite_in_progress:0'))
          await redis.kill9()
          await redis.restart({ 'key-load-delay': '10000' })
        },
        async () => {},
      ],
    }
    for (const [i, [name, [refuse, relent]]] of Object.entries(refusals).entries()) {
      await refuse()
      expect(await refusalOf(redis)).toContain(name)
      await pipeline.produce(stream, part(i + 1))
      await sleep(name === 'LOADING' ? 0 : 1_200)
      await relent()
      void recovery.disturbed()
      const soFar = payments.slice(0, (i + 2) * 800)
      await pipeline.settles(stream, await expectedRows(stream.plan, soFar), name)
    }
    process.stderr.write(`pipeline: refused by Redis: ${await recovery.report()}\n`)
    for (const worker of team) await expectConserved(worker)
    await pipeline.finish(...team)
    await pipeline.expectSame(stream, await expectedRows(stream.plan, payments))
  })

  it('goes on while the slots of its lanes move to other masters', async () => {
    const cluster = await redisCluster()
    const pipeline = pipelineOf(...cluster.urls)
    const stream = await pipeline.stream('slots', 3)
    const { topic, namespace, plan } = stream
    const payments = drawPayments(seededRandom(SEED), 4_000, 120)
    const recovery = new Recovery(pipeline.kafka, stream)
    const team = [pipeline.start(stream), pipeline.start(stream)]
    const first = payments.slice(0, 1_000)
    await pipeline.produce(stream, first)
    await pipeline.settles(stream, await expectedRows(plan, first), 'before slots move')
    const producing = pipeline.produceSlowly(stream, payments.slice(1_000), 15, 5_000)
    let moved = 0
    for (let partition = 0; partition < 3; partition++) {
      const lane = { namespace, stateHash: plan.stateHash, generation: 1, lane: `${topic}.${partition}.0` }
      const { client } = cluster.nodes[0]!
      const slot = await client.cluster('KEYSLOT', redisLaneKeys(lane).record.toString())
      const at = cluster.nodes.slice(0, 3).findIndex((_, i) => slot < Math.ceil((16384 * (i + 1)) / 3))
      moved += await moveSlot(cluster, slot, cluster.nodes[at]!, cluster.nodes[(at + 1) % 3]!, 8)
    }
    void recovery.disturbed()
    await producing
    expect(moved).toBeGreaterThan(100)
    await pipeline.settles(stream, await expectedRows(plan, payments), `${moved} keys in three slots moved`)
    process.stderr.write(`pipeline: slots moved: ${await recovery.report()}\n`)
    await pipeline.finish(...team)
    for (const { log } of team) expect(log()).not.toMatch(/"(FENCED|REGRESSED)"/)
    await pipeline.expectSame(stream, await expectedRows(plan, payments))
  })

  it('hands a lane to a process that has no file of it, with clocks and ids out of the store', async () => {
    const redis = await redisOf()
    const pipeline = pipelineOf(redis.url)
    const plain = await pipeline.stream('ids', 2)
    const yaml = `views:
  - name: spend
    source: { name: ${plain.topic}, columns: { card: utf8, at: 'timestamp[ms]', amount: float64, id: utf8 } }
    entity: card
    time: at
    lateness: { policy: drop, allowed: 10m }
    dedupe: { id: id, within: 24h }
    aggregations:
      - { op: count, windows: [1h, 24h] }
      - { op: sum, column: amount, windows: [24h] }
`
    const plan = await compileView(parseDefinitions(yaml, 'tilefold.yaml').views[0]!)
    const stream: Stream = { ...plain, plan, yaml }
    const random = seededRandom(SEED)
    const payments = drawPayments(random, 2_000, 40).map((payment, i) => ({ ...payment, id: `e${i}` }))
    const [before, after] = [payments.slice(0, 1_000), payments.slice(1_000)]
    const first = pipeline.start(stream)
    await pipeline.produce(stream, before)
    const half = await expectedRows(plan, before)
    await pipeline.settles(stream, half, 'ids')
    first.child.kill('SIGKILL')
    expect(readdirSync(first.folder)).toEqual([])
    rmSync(first.folder, { recursive: true })
    // What it had counted comes again, with other amounts; and what is late by the clock that it had reached.
    const again = before.map((payment) => ({ ...payment, amount: payment.amount + 1 }))
    const late = before.slice(0, 200).map((payment, i) => ({ ...payment, id: `late${i}` }))
    const next = pipeline.start(stream)
    await pipeline.produce(stream, [...again, ...late])
    await pipeline.produce(stream, after)
    await pipeline.settles(stream, await expectedRows(plan, payments), 'handed over')
    // Not by reading all of it again.
    expect(next.log()).toMatch(/reading from offset [1-9]/)
    await pipeline.finish(next)
    await pipeline.expectSame(stream, await expectedRows(plan, payments))
  })

  it('forgets an entity that is resident, though its worker is killed on the way', async () => {
    const redis = await redisOf()
    const pipeline = pipelineOf(redis.url)
    const stream = await pipeline.stream('forget', 2)
    const { plan, namespace } = stream
    const random = seededRandom(SEED)
    const payments = drawPayments(random, 2_000, 40)
    const gone = payments[0]!.card
    const isGone = ({ card }: Payment) => card === gone
    const others = async (counted: readonly Payment[]) => {
      const rows = await expectedRows(
        plan,
        counted.filter((each) => !isGone(each)),
      )
      for (const untilMs = Date.now() + 60_000; ; await sleep(200)) {
        const found = await storedRows(pipeline.store, plan, namespace)
        found.delete(gone)
        if ([...rows].every(([card, row]) => found.get(card) === row) || Date.now() > untilMs) {
          return expect([...found.keys()].filter((card) => found.get(card) !== rows.get(card))).toEqual([])
        }
      }
    }
    const reader = createFeatureReader({
      store: pipeline.store,
      namespace,
      plans: [plan],
      core: loadCore(),
      clock: Date.now,
    })
    const countOf = async (card: string) => {
      const answer = await reader.getFeatures({ view: 'spend', entities: [{ card }], asOf: START_MS + 9 * 3_600_000 })
      return answer.rows[0]!.values[answer.metadata.features.findIndex(({ name }) => name === 'count_24h')]
    }
    let worker = pipeline.start(stream)
    const half = payments.slice(0, 1_000)
    await pipeline.produce(stream, half)
    await pipeline.settles(stream, await expectedRows(plan, half), 'resident')
    expect(await countOf(gone)).toBeGreaterThan(5)

    const forget = pipeline.spawn(stream, 'forget', 'spend', '--entity', `card=${gone}`, '--wait', '60s', '-o', 'json')
    const producing = pipeline.produceSlowly(stream, payments.slice(1_000), 10, 3_000)
    for (let kill = 0; kill < 2; kill++) {
      await sleep(400 + random.below(1_200))
      worker.child.kill('SIGKILL')
      worker = pipeline.start(stream)
    }
    await producing
    expect(await pipeline.exitOf(forget, 90), forget.log()).toBe(0)
    await others(payments)
    expect(await countOf(gone)).toBe(0)
    // Late ones of it, and a process that replays: gone is gone.
    await pipeline.produce(stream, payments.filter(isGone))
    await pipeline.finish(worker)
    const last = pipeline.start(stream)
    await pipeline.produce(stream, [{ card: 'one-more', at: payments[0]!.at, amount: 1 }])
    await others([...payments, { card: 'one-more', at: payments[0]!.at, amount: 1 }])
    await pipeline.finish(last)
    expect(await countOf(gone)).toBe(0)
  })
})

/** Every record that a view took has one end. */
async function expectConserved({ log }: Worker): Promise<void> {
  const url = /metrics on (http:\S+?)\/metrics/.exec(log())![1]!
  const text = await (await fetch(`${url}/metrics`)).text()
  const sumOf = (name: string) =>
    [...text.matchAll(new RegExp(`^tilefold_${name}_events_total\\{[^}]*\\} (\\S+)$`, 'gm'))].reduce(
      (sum, [, value]) => sum + Number(value),
      0,
    )
  expect(sumOf('consumed')).toBeGreaterThan(0)
  const ends = ['applied', 'duplicate', 'late', 'filtered', 'rejected'].map(sumOf)
  expect(ends.reduce((sum, each) => sum + each, 0)).toBe(sumOf('consumed'))
}

/** What the server says to a write now. */
async function refusalOf({ client }: RedisServer): Promise<string> {
  const raw = client.duplicate({ enableReadyCheck: false, maxRetriesPerRequest: null })
  raw.on('error', () => {})
  const answer = await raw.set('written', 'x').catch((error: Error) => error.message)
  raw.disconnect()
  return `${answer}`
}
