/**
 * What Redis may do to the real pipeline: go and come back with its rows or without them, cut connections, swallow replies,
 * and fail over to a replica that had not heard the last of it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { whyNoKafka } from '../support/kafka.ts'
import { TcpProxy } from '../support/proxy.ts'
import { seededRandom } from '../support/random.ts'
import { isForeignRedis, until, whyNoRedis } from '../support/redis.ts'
import { drawPayments, expectedRows } from './payments.ts'
import { SEED } from './pipeline.ts'
import { pipelineScene } from './pipeline-scene.ts'
import { Recovery } from './recovery.ts'

const missing = whyNoKafka() ?? whyNoRedis() ?? (isForeignRedis ? 'a Redis of our own' : undefined)

describe.skipIf(missing !== undefined)('the pipeline and its Redis', { timeout: 240_000 }, () => {
  const { pipelineOf, redisOf, redisCluster, onEnd } = pipelineScene()

  it('goes on where Redis is killed and comes back with its rows', async () => {
    const redis = await redisOf({ appendonly: 'yes', appendfsync: 'always' })
    const pipeline = pipelineOf(redis.url)
    const stream = await pipeline.stream('back', 4)
    const payments = drawPayments(seededRandom(SEED), 4_000, 100)
    const recovery = new Recovery(pipeline.kafka, stream)
    const team = [pipeline.start(stream), pipeline.start(stream)]
    for (const worker of team) await pipeline.logged(worker, '"reading ')
    const producing = pipeline.produceSlowly(stream, payments, 20, 5_000)
    await sleep(1_500)
    await redis.kill9()
    await sleep(1_000)
    await redis.restart()
    void recovery.disturbed()
    await producing
    await pipeline.settles(stream, await expectedRows(stream.plan, payments), 'Redis restarted')
    process.stderr.write(`pipeline: Redis restarted: ${await recovery.report()}\n`)
    await pipeline.finish(...team)
  })

  it('stops its lanes where Redis comes back empty, and is rebuilt from the log when told', async () => {
    const redis = await redisOf()
    const pipeline = pipelineOf(redis.url)
    const stream = await pipeline.stream('empty', 2)
    const payments = drawPayments(seededRandom(SEED), 2_000, 60)
    const worker = pipeline.start(stream)
    await pipeline.produce(stream, payments.slice(0, 1_000))
    const half = await expectedRows(stream.plan, payments.slice(0, 1_000))
    const recovery = new Recovery(pipeline.kafka, stream)
    await pipeline.settles(stream, half, 'half of it')
    // What the group has committed is the witness that there were rows once.
    await recovery.disturbed()
    await redis.kill9()
    await redis.restart()
    await pipeline.produce(stream, payments.slice(1_000))
    const ofEither = /"(LAYOUT_MISSING|STORE_LOST)"/
    await until(() => ofEither.test(worker.log()))
    await pipeline.finish(worker)
    // A process that starts now says so for each of its partitions, and touches nothing.
    const fresh = pipeline.start(stream)
    await until(() => fresh.log().split('"STORE_LOST"').length === 3)
    expect(fresh.child.exitCode).toBeNull()
    await pipeline.expectSame(stream, new Map())
    await pipeline.finish(fresh)
    await pipeline.kafka.admin.deleteGroups([stream.namespace])
    const rebuilt = pipeline.start(stream)
    await pipeline.settles(stream, await expectedRows(stream.plan, payments), 'Redis was emptied')
    await pipeline.finish(rebuilt)
  })

  it('comes out the same over connections that are cut and replies that are lost', async () => {
    const redis = await redisOf()
    const proxy = await TcpProxy.start(redis.port)
    onEnd(() => proxy.stop())
    const pipeline = pipelineOf(redis.url)
    const stream = await pipeline.stream('cut', 4)
    const random = seededRandom(SEED)
    const payments = drawPayments(random, 4_000, 100)
    const recovery = new Recovery(pipeline.kafka, stream)
    const team = [0, 1].map(() => pipeline.start(stream, '--redis-url', `redis://127.0.0.1:${proxy.port}`))
    for (const worker of team) await pipeline.logged(worker, '"reading ')
    let [cuts, lost] = [0, 0]
    proxy.onReply = () => {
      if (!random.chance(0.01)) return 'pass'
      lost++
      return 'cut'
    }
    const producing = pipeline.produceSlowly(stream, payments, 20, 6_000)
    for (const untilMs = Date.now() + 6_000; Date.now() < untilMs; cuts++) {
      await sleep(100 + 600 * random.fraction())
      proxy.cutAll()
    }
    proxy.onReply = undefined
    void recovery.disturbed()
    await producing
    await pipeline.settles(stream, await expectedRows(stream.plan, payments), `${cuts} cuts, ${lost} lost replies`)
    process.stderr.write(`pipeline: connections cut: ${await recovery.report()}\n`)
    await pipeline.finish(...team)
  })

  it('folds again what a failover to a lagging replica has lost', async () => {
    const cluster = await redisCluster()
    const pipeline = pipelineOf(...cluster.urls)
    const stream = await pipeline.stream('failover', 6)
    const payments = drawPayments(seededRandom(SEED), 6_000, 200)
    const worker = pipeline.start(stream, '--session-timeout', '30s')
    await pipeline.produce(stream, payments.slice(0, 3_000))
    await pipeline.settles(stream, await expectedRows(stream.plan, payments.slice(0, 3_000)), 'half of it')
    // The master with most of the rows; its replica hears nothing from now on.
    const sizes = await Promise.all(cluster.nodes.slice(0, 3).map(({ client }) => client.dbsize()))
    const at = sizes.indexOf(Math.max(...sizes))
    const [master, replica] = [cluster.nodes[at]!, cluster.nodes[at + 3]!]
    replica.pause()
    await master.client.client('KILL', 'TYPE', 'REPLICA')
    await pipeline.produce(stream, payments.slice(3_000))
    const expected = await expectedRows(stream.plan, payments)
    await pipeline.settles(stream, expected, 'all of it, on the master alone')
    // Asleep over the failover, it wakes up with all it knew of the lanes.
    worker.child.kill('SIGSTOP')
    await master.kill9()
    const killedMs = Date.now()
    replica.resume()
    await until(async () => (await replica.client.info('replication')).includes('role:master'))
    const movedMs = Date.now() - killedMs
    // The other masters' rows are as they were; while the store cannot be read, every row is wrong.
    let lost: string[] = []
    await until(async () => {
      lost = await pipeline.wrong(stream, expected)
      return lost.length < expected.size
    })
    expect(lost.length).toBeGreaterThan(0)
    worker.child.kill('SIGCONT')
    await pipeline.settles(stream, expected, `failover after ${movedMs} ms, ${lost.length} rows had regressed`)
    process.stderr.write(`pipeline: REGRESSED was met ${worker.log().split('"REGRESSED"').length - 1} times\n`)
    await pipeline.finish(worker)
    await pipeline.expectSame(stream, expected)
  })
})
