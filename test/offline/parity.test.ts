/** Parity finds what was done to a store or a mirror, names the row, and finds nothing where nothing was done. */
import { cpSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, sum, timestamp, utf8 } from '../../src/define/dsl.ts'
import { IngestPool } from '../../src/ingest/pool.ts'
import type { Plan } from '../../src/model/plan.ts'
import { backfill } from '../../src/offline/backfill.ts'
import { compareWithMirror, type ParityOptions } from '../../src/offline/parity.ts'
import { type RunOptions, runParity } from '../../src/offline/parity-run.ts'
import { requestErase } from '../../src/registry/erase.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { LaneName, LaneRecord, Store } from '../../src/store/port.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import { StreamJob } from '../../src/stream/job.ts'
import { START_MS } from '../stream/payments.ts'
import { seededRandom } from '../support/random.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import {
  createMirrorSource,
  drawStrictLog,
  makeFolder,
  mirrorLogs,
  ScriptedConsumer,
  ScriptedGroup,
  strictView,
} from './mirror-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const NAMESPACE = 'parity'
const clock = () => START_MS * 2
const AS_OF = START_MS + 3 * 3_600_000

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis?.stop())

const STORES: Record<string, () => Store> = {
  memory: () => createMemoryStore(),
  LMDB: () => createLmdbStore({ path: join(makeFolder(), 'store') }),
  Redis: () => createRedisStore({ urls: `redis://127.0.0.1:${redis.port}` }),
}

let names = 0

describe.each(Object.keys(STORES))('parity of rows in %s', (kind) => {
  let plan: Plan

  beforeAll(async () => {
    plan = await strictView('strict')
    console.log(`parity of ${kind}: TILEFOLD_SEED=${SEED}`)
  })

  async function openJob(store: Store, group: ScriptedGroup, namespace: string, flushMaxMs = 3_600_000) {
    const consumer = new ScriptedConsumer(group)
    const job = await StreamJob.create({
      plans: [plan],
      consumer,
      store,
      namespace,
      decoder: createJsonDecoder,
      maxDeadRatio: 1,
      flushMaxMs,
      clock,
      report: () => {},
    })
    await job.start()
    for (const partition of group.logs.keys()) await group.assign(partition, consumer)
    return { job, consumer }
  }

  async function drain(group: ScriptedGroup, consumer: ScriptedConsumer): Promise<void> {
    for (const partition of group.logs.keys()) while (await consumer.deliver(partition, group.random.between(1, 90))) {}
  }

  const mirrored = (logs: readonly StreamMessage[][]) => mirrorLogs(makeFolder(), [plan], 'payments', logs)

  /** A store that a stream has written and the mirror of its topic. */
  async function scene(seed: number) {
    const random = seededRandom(SEED * 100 + seed)
    const logs = Array.from({ length: 2 }, () => drawStrictLog(random, 300, random.below(50)))
    const store = STORES[kind]!()
    const namespace = `${NAMESPACE}${names++}`
    const group = new ScriptedGroup('payments', logs, random)
    const { job, consumer } = await openJob(store, group, namespace)
    await drain(group, consumer)
    await job.stop()
    const dir = await mirrored(logs)
    const check = (more: Partial<ParityOptions> = {}) =>
      compareWithMirror({ seat: { store, namespace }, plan, dir, clock, asOfMs: AS_OF, ...more })
    const lane = (partition: number): LaneName => ({
      namespace,
      stateHash: plan.stateHash,
      generation: 1,
      lane: `payments.${partition}.0`,
    })
    const rowsOf = async (partition: number) => {
      const rows: { key: Uint8Array; bytes: Uint8Array }[] = []
      for await (const { key, bytes } of store.scanRows(lane(partition))) {
        rows.push({ key: key.slice(), bytes: bytes.slice() })
      }
      return rows
    }
    /** As somebody would who has the lane. */
    const put = async (partition: number, key: Uint8Array, bytes: Uint8Array) => {
      const { token, sequence } = await store.takeLane(lane(partition), 'damage')
      expect(await store.write(lane(partition), token, sequence, { rows: [{ key, bytes }] })).toBe('ok')
    }
    return { random, logs, store, namespace, dir, check, rowsOf, put, group }
  }

  it('finds every row equal, duplicates, late and unreadable records or not, at any share and in any memory', async () => {
    const { check, store, rowsOf } = await scene(1)
    const rows = (await rowsOf(0)).length + (await rowsOf(1)).length
    const whole = await check()
    expect(whole).toMatchObject({ compared: rows, equal: rows, mismatched: 0, missing: 0, extra: 0, unverified: 0 })
    expect(whole.entities).toBeGreaterThan(5)
    expect(whole.differences).toEqual([])
    let shares = 0
    for (let share = 0; share < 5; share++) shares += (await check({ sample: 0.2, share })).compared
    expect(shares).toBe(rows)
    // Rows of two entities and hardly more: the sample is halved until they fit, and all are compared all the same.
    const halved = await check({ memoryBytes: 9_000 })
    expect(halved).toMatchObject({ compared: rows, equal: rows })
    expect(halved.records).toBeGreaterThan(2 * whole.records)
    await store.close()
  })

  it('tells a row that was exchanged, lost and made up, and each again alone', async () => {
    const { check, store, rowsOf, put, namespace, dir } = await scene(2)
    const [first, second] = await rowsOf(0)
    await put(0, first!.key, second!.bytes)
    await put(0, Buffer.from('card-nobody'), second!.bytes)
    const report = await check()
    expect(report).toMatchObject({ mismatched: 1, missing: 0, extra: 1 })
    const byKey = new Map(report.differences.map((each) => [Buffer.from(each.key).toString(), each]))
    expect(byKey.get(Buffer.from(first!.key).toString())).toMatchObject({ lane: 'payments.0.0' })
    expect(byKey.get('card-nobody')).not.toHaveProperty('expected')
    const features = new Map<string, string[]>()
    const onFinding: RunOptions['onFinding'] = ({ key, values }) =>
      features.set(
        Buffer.from(key).toString(),
        values.map(({ feature }) => feature),
      )
    await runParity({ seat: { store, namespace }, plan, mirror: dir, asOfMs: AS_OF, onFinding })
    expect(features.get('card-nobody')).toContain('count_24h')
    for (const { key } of report.differences) {
      const again = await check({ key })
      expect(again.mismatched + again.extra).toBe(1)
      expect(again.differences[0]!.key).toEqual(key)
    }
    await store.close()
  })

  it('tells a row that is missing', async () => {
    const { check, store, rowsOf, namespace, dir } = await scene(3)
    const [first] = await rowsOf(1)
    const hidden = hiding(store, Buffer.from(first!.key))
    expect(await check()).toMatchObject({ mismatched: 0, missing: 0, extra: 0 })
    const seat = { store: hidden, namespace }
    const report = await compareWithMirror({ seat, plan, dir, clock })
    expect(report).toMatchObject({ mismatched: 0, extra: 0 })
    expect(report.missing).toBeGreaterThan(0)
    expect(report.differences.every(({ stored }) => stored === undefined)).toBe(true)
    await store.close()
  })

  it('tells an event that lies on the other side of a tile edge in the mirror', async () => {
    const { store, logs, namespace } = await scene(4)
    const moved = logs.map((log) => [...log])
    const at = moved[0]!.findLastIndex(({ value }) => value?.toString().startsWith('{"card":"card-1"') ?? false)
    const event = JSON.parse(moved[0]![at]!.value!.toString()) as { at: number; id?: string }
    // The last of its card, with an id of its own: it counts in both logs.
    const unlike = { ...event, at: event.at - 300_000, id: 'moved' }
    const like = { ...event, id: 'moved' }
    const write = (each: object) => ({ ...moved[0]![at]!, value: Buffer.from(JSON.stringify(each)) })
    const accepts = await compileView(
      defineView({
        name: 'open',
        source: { name: 'payments', columns: { card: utf8(), at: timestamp('ms'), amount: float64() } },
        entity: 'card',
        time: 'at',
        aggregations: [count({ windows: ['1h', '24h'] }), sum('amount', { windows: ['24h'] })],
      }),
    )
    const strict = plan
    plan = accepts
    try {
      const own = `${namespace}open`
      moved[0]![at] = write(like)
      const { job, consumer } = await openJob(store, new ScriptedGroup('payments', moved, seededRandom(1)), own)
      for (const partition of moved.keys()) while (await consumer.deliver(partition, 80)) {}
      await job.stop()
      const seat = { store, namespace: own }
      const same = await compareWithMirror({ seat, plan, dir: await mirrored(moved), clock })
      expect(same).toMatchObject({ mismatched: 0, missing: 0, extra: 0 })
      moved[0]![at] = write(unlike)
      const fields: string[] = []
      const report = await runParity({
        seat,
        plan,
        mirror: await mirrored(moved),
        asOfMs: AS_OF,
        onFinding: (finding) => {
          expect(Buffer.from(finding.key).toString()).toBe('card-1')
          fields.push(...finding.fields.map(({ field }) => field))
        },
      })
      expect(report).toMatchObject({ mismatched: 1, missing: 0, extra: 0 })
      expect(fields.length).toBeGreaterThan(0)
    } finally {
      plan = strict
    }
    await store.close()
  })

  it('finds nothing while a stream is running', async () => {
    const random = seededRandom(SEED * 100 + 5)
    const logs = Array.from({ length: 2 }, () => drawStrictLog(random, 400, random.below(50)))
    const dir = await mirrored(logs)
    const store = STORES[kind]!()
    const namespace = `${NAMESPACE}${names++}`
    const { job, consumer } = await openJob(store, new ScriptedGroup('payments', logs, random), namespace, 1)
    let compared = 0
    let isDone = false
    const streaming = (async () => {
      for (let more = true; more; ) {
        more = false
        for (const partition of logs.keys()) more = (await consumer.deliver(partition, 5)) || more
        await new Promise((resolve) => setTimeout(resolve, 2))
      }
      isDone = true
    })()
    while (!isDone) {
      const report = await compareWithMirror({ seat: { store, namespace }, plan, dir, clock })
      expect(report).toMatchObject({ mismatched: 0, missing: 0, extra: 0, unverified: 0 })
      compared += report.compared
    }
    await streaming
    await job.stop()
    const report = await compareWithMirror({ seat: { store, namespace }, plan, dir, clock })
    expect(report).toMatchObject({ mismatched: 0, missing: 0, extra: 0 })
    expect(compared + report.compared).toBeGreaterThan(10)
    await store.close()
  })

  it('holds a row that is ahead of its marker against the log up to where the row is, or says that the mirror is behind', async () => {
    const random = seededRandom(SEED * 100 + 8)
    const logs = [drawStrictLog(random, 300, random.below(50))]
    const half = [logs[0]!.slice(0, 150)]
    const store = STORES[kind]!()
    const namespace = `${NAMESPACE}${names++}`
    const name = { namespace, stateHash: plan.stateHash, generation: 1, lane: 'payments.0.0' }
    const first = await openJob(store, new ScriptedGroup('payments', half, random), namespace)
    await drain(new ScriptedGroup('payments', half, random), first.consumer)
    await first.job.stop()
    const record = (await store.readLane(name))!
    const rest = await openJob(store, new ScriptedGroup('payments', logs, random), namespace)
    await drain(new ScriptedGroup('payments', logs, random), rest.consumer)
    await rest.job.stop()
    expect((await store.readLane(name))!.marker).toBeGreaterThan(record.marker)
    // As between the rows of a flush and its marker.
    const seat = { store: before(store, record), namespace }
    const [whole, behind] = [await mirrored(logs), await mirrored(half)]
    const report = await compareWithMirror({ seat, plan, dir: whole, clock, asOfMs: AS_OF })
    expect(report).toMatchObject({ mismatched: 0, missing: 0, extra: 0, unverified: 0 })
    expect(report.compared).toBeGreaterThan(5)
    const early = await compareWithMirror({ seat, plan, dir: behind, clock, asOfMs: AS_OF })
    expect(early).toMatchObject({ mismatched: 0, missing: 0, extra: 0 })
    expect(early.unverified).toBeGreaterThan(0)
    expect(early.compared + early.unverified).toBe(report.compared)
    await store.close()
  })

  it('takes who was forgotten for no difference, and the others as before', async () => {
    const { check, store, rowsOf, namespace, group } = await scene(7)
    const [first] = await rowsOf(0)
    const hex = Buffer.from(first!.key).toString('hex')
    const holders = [...(await rowsOf(0)), ...(await rowsOf(1))].filter(
      ({ key }) => Buffer.compare(key, first!.key) === 0,
    )
    const before = await check()
    const request = { views: ['strict'], states: [plan.stateHash], key: hex, atMs: START_MS * 2 }
    await requestErase({ store, namespace }, request)
    // Its owner erases when it has the lane.
    const { job } = await openJob(store, group, namespace)
    await job.stop()
    const erased = (await rowsOf(0)).find(({ key }) => Buffer.compare(key, first!.key) === 0)!
    expect(erased.bytes.length).toBeLessThan(first!.bytes.length)
    const after = await check()
    expect(after).toMatchObject({ mismatched: 0, missing: 0, extra: 0, forgotten: holders.length })
    expect(after.compared).toBe(before.compared - holders.length)
    await store.close()
  })

  it('compares what was backfilled from files with the same files', async () => {
    const { logs, dir } = await scene(9)
    const store = STORES[kind]!()
    const namespace = `${NAMESPACE}${names++}`
    const seat = { store, namespace }
    const source = createMirrorSource({ dir, topic: 'payments', partition: 0, inputs: plan.state.inputs })
    const pool = new IngestPool({ threads: 0, store, clock, onSide: () => {} })
    await backfill({ seat, plans: [plan], source, pool, clock, historyLanes: 4 })
    await pool.close()
    const history = { source, notAfterMs: clock() }
    const same = await runParity({ seat, plan, history, asOfMs: AS_OF })
    expect(same).toMatchObject({ mismatched: 0, missing: 0, extra: 0, ahead: 0, unchecked: [] })
    expect(same.compared).toBeGreaterThan(5)
    const shares = [0, 1].map((index) => runParity({ seat, plan, history, asOfMs: AS_OF, sample: { of: 2, index } }))
    // Three shares and not two: four lanes and two shares of one hash would leave half of the lanes out.
    const [first, second] = await Promise.all(shares)
    expect(first!.compared + second!.compared).toBeLessThan(same.compared)

    const without = logs.map((log) => log.filter(({ value }) => !value?.toString().startsWith('{"card":"card-1"')))
    const other = await mirrored(without)
    const changed = createMirrorSource({ dir: other, topic: 'payments', partition: 0, inputs: plan.state.inputs })
    const findings: string[] = []
    const report = await runParity({
      seat,
      plan,
      history: { ...history, source: changed },
      asOfMs: AS_OF,
      onFinding: ({ verdict, key }) => findings.push(`${verdict} ${Buffer.from(key)}`),
    })
    // Others may differ as well: an id that was a duplicate of one of theirs counts now.
    expect(report.mismatched + report.missing + report.extra).toBe(findings.length)
    expect(findings.filter((each) => each.startsWith('extra'))).toEqual(['extra card-1'])
    const renamed = { ...source, log: 'others' }
    await expect(
      runParity({ seat, plan, history: { ...history, source: renamed }, asOfMs: AS_OF }),
    ).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    await expect(runParity({ seat, plan, asOfMs: AS_OF })).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' })
    await store.close()
  })

  it('says of a missing and of a damaged file that it is', async () => {
    const { check, dir, store } = await scene(6)
    const events = readdirSync(join(dir, 'events'), { recursive: true }) as string[]
    const file = events.find((name) => name.endsWith('.parquet'))!
    const lost = makeFolder()
    cpSync(dir, lost, { recursive: true })
    rmSync(join(lost, 'events', file))
    await expect(check({ dir: lost })).rejects.toMatchObject({ code: 'MIRROR_INVALID' })
    const short = makeFolder()
    cpSync(dir, short, { recursive: true })
    truncateSync(join(short, 'events', file), 100)
    await expect(check({ dir: short })).rejects.toMatchObject({ code: 'MIRROR_INVALID' })
    await expect(check({ dir: makeFolder() })).rejects.toMatchObject({ code: 'SOURCE_NOT_FOUND' })
    await store.close()
  })
})

/** The store as it is, under an older record. */
function before(store: Store, record: LaneRecord): Store {
  const own = hiding(store, new Uint8Array())
  own.readLane = async () => record
  return own
}

/** The store without the rows of one entity. */
function hiding(store: Store, hidden: Uint8Array): Store {
  const own = Object.create(store) as Store
  own.readLane = (lane) => store.readLane(lane)
  own.readRows = (...args) => store.readRows(...args)
  own.readLayout = (...args) => store.readLayout(...args)
  own.scanRows = async function* (lane) {
    for await (const row of store.scanRows(lane)) if (Buffer.compare(row.key, hidden) !== 0) yield row
  }
  return own
}
