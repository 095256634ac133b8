/** `tilefold gc` on a directory and on a real Redis. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { collectStates, surveyStates } from '../../src/registry/gc.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { LaneName, SweptStore } from '../../src/store/port.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import { segmentHash } from '../../src/store/rules.ts'
import { rowOf } from '../store/suite.ts'
import { anyRedis, freshNamespace, whyNoRedis } from '../support/redis.ts'
import { cli, errorOf, makeFolder } from './harness.ts'

const [OLD, NEW, BUILT] = ['00000000000000aa', '00000000000000bb', '00000000000000cc']
const folder = makeFolder()

/** A lane with rows, a ledger and a checkpoint; its token. */
async function fill(store: SweptStore, lane: LaneName, rows: number) {
  const { token, sequence } = await store.takeLane(lane, 'owner')
  const segment = new TextEncoder().encode(`clocks of ${lane.lane}`)
  const all = Array.from({ length: rows }, (_, i) => rowOf(`entity-${i}`, 3, i & 255, 100))
  await store.write(lane, token, sequence, { rows: all, flushingTo: 5, segments: [segment] })
  await store.write(lane, token, sequence + 1, {
    marker: { position: 5, hash: '' },
    checkpoint: { position: 5, segments: [segmentHash(segment)] },
    ledger: { number: 1, bytes: segment, dropped: [] },
  })
  return token
}

/** Two states that layouts name, one of them current, and one that none does. */
async function setUp(store: SweptStore, namespace: string) {
  const lane = (stateHash: string, generation: number, name: string): LaneName => ({
    namespace,
    stateHash,
    generation,
    lane: name,
  })
  const lanes = {
    retired: [lane(OLD!, 1, 'clicks{x}.0'), lane(OLD!, 1, 'clicks.1'), lane(OLD!, 1, 'h0')],
    current: lane(NEW!, 2, 'clicks.0'),
    named: lane(BUILT!, 1, 'h0'),
    elsewhere: { ...lane(OLD!, 1, 'clicks.0'), namespace: `${namespace}x` },
  }
  const tokens = []
  for (const each of lanes.retired) tokens.push(await fill(store, each, 700))
  for (const each of [lanes.current, lanes.named, lanes.elsewhere]) await fill(store, each, 20)
  const generation = (stateHash: string, number: number) => ({ stateHash, generation: number, history: {}, logs: [] })
  const layout = (current: object | undefined, ...generations: object[]) =>
    JSON.stringify({ format: 1, version: 1, laneHash: 1, current, generations })
  const pointer = { stateHash: NEW, generation: 2 }
  await store.writeLayout(namespace, 'spend{a}', undefined, layout(pointer, generation(NEW!, 2), generation(BUILT!, 1)))
  await store.writeLayout(namespace, 'other', undefined, layout(undefined, generation(BUILT!, 1)))
  await store.writeLayout(`${namespace}x`, 'spend', undefined, layout(undefined, generation(OLD!, 1)))
  return { lanes, tokens }
}

async function rowsOf(store: SweptStore, lane: LaneName): Promise<number> {
  let rows = 0
  for await (const _row of store.scanRows(lane)) rows++
  return rows
}

const at = (stateHash: string, generation: number) => expect.objectContaining({ stateHash, generation })

function testGc(name: string, open: () => Promise<{ store: SweptStore; namespace: string }>): void {
  describe(`gc of a ${name} store`, () => {
    it('tells what layouts name from what none does', async () => {
      const { store, namespace } = await open()
      const { lanes } = await setUp(store, namespace)
      const states = await surveyStates(store, namespace)
      expect(states).toMatchObject([
        { stateHash: OLD, generation: 1, standing: 'retired', views: [], rows: 2100, bytes: 210_000 },
        { stateHash: NEW, generation: 2, standing: 'current', views: ['spend{a}'], rows: 20, bytes: 2000 },
        { stateHash: BUILT, generation: 1, standing: 'named', views: ['other', 'spend{a}'], rows: 20 },
      ])
      expect(states[0]!.lanes.map(({ lane }) => lane.lane).sort()).toEqual(lanes.retired.map(({ lane }) => lane).sort())
      await store.close()
    })

    it('drops a retired state whole, and nothing else; who owned it finds nothing', async () => {
      const { store, namespace } = await open()
      const { lanes, tokens } = await setUp(store, namespace)
      const [retired] = await surveyStates(store, namespace)
      const collected = await collectStates({ ...base(store, namespace), states: [retired!] })
      // Rows, record, manifest (or catalogue), segment, ledger.
      expect(collected).toMatchObject({ lanes: 3, taken: [], finished: true })
      expect(collected.keys).toBeGreaterThanOrEqual(3 * 700)
      expect((await surveyStates(store, namespace)).map(({ standing }) => standing)).toEqual(['current', 'named'])
      for (const [i, lane] of lanes.retired.entries()) {
        expect([
          await rowsOf(store, lane),
          await store.readCheckpoint(lane, 100),
          await store.readLedger(lane),
        ]).toEqual([0, undefined, []])
        expect(await store.write(lane, tokens[i]!, 2, { flushingTo: 9 })).toBe('regressed')
      }
      expect(await rowsOf(store, lanes.elsewhere)).toBe(20)
      expect(await rowsOf(store, lanes.current)).toBe(20)
      await store.close()
    })

    it('can be stopped at every step: half a lane has no checkpoint, and the next call ends it', async () => {
      const { store, namespace } = await open()
      const { lanes } = await setUp(store, namespace)
      let steps = 0
      for (let isDone = false; !isDone; steps++) {
        const [retired] = await surveyStates(store, namespace)
        if (retired?.standing !== 'retired') break
        const abort = new AbortController()
        const { finished } = await collectStates({
          ...base(store, namespace),
          states: [retired],
          signal: abort.signal,
          onProgress: () => abort.abort(),
        })
        isDone = finished
        for (const lane of lanes.retired) {
          if ((await rowsOf(store, lane)) % 700 === 0) continue
          expect((await store.readLane(lane))?.marker).toBe(5)
          expect(await store.readCheckpoint(lane, 5)).toBeUndefined()
        }
        expect(steps).toBeLessThan(200)
      }
      expect((await surveyStates(store, namespace)).map(({ stateHash }) => stateHash)).toEqual([NEW, BUILT])
      await store.close()
    })

    it('refuses what a layout names, and lanes with an owner', async () => {
      const { store, namespace } = await open()
      const { lanes, tokens } = await setUp(store, namespace)
      const [retired, current, named] = await surveyStates(store, namespace)
      for (const state of [current!, named!]) {
        await expect(collectStates({ ...base(store, namespace), states: [state] })).rejects.toMatchObject({
          code: 'STATE_IN_USE',
          message: expect.stringMatching(/spend\{a\} names it$/),
        })
      }
      const whileSleeping = async () => {
        await store.write(lanes.retired[1]!, tokens[1]!, 2, { flushingTo: 9 })
      }
      await expect(
        collectStates({ ...base(store, namespace), states: [retired!], sleep: whileSleeping }),
      ).rejects.toMatchObject({ code: 'STATE_IN_USE', details: { lane: 'clicks.1' } })
      // A view that is created while we wait.
      const created = async () => {
        const generations = [{ stateHash: OLD, generation: 1 }]
        await store.writeLayout(namespace, 'late', undefined, JSON.stringify({ format: 1, version: 1, generations }))
      }
      await expect(
        collectStates({ ...base(store, namespace), states: [retired!], sleep: created }),
      ).rejects.toMatchObject({ code: 'STATE_IN_USE', message: expect.stringMatching(/late names it$/) })
      for (const lane of lanes.retired) expect(await rowsOf(store, lane)).toBe(700)
      await store.close()
    })

    it('leaves a lane that somebody takes while it is dropped', async () => {
      const { store, namespace } = await open()
      const { lanes } = await setUp(store, namespace)
      const [retired] = await surveyStates(store, namespace)
      const taken = []
      for (const { lane } of retired!.lanes) taken.push({ lane, token: (await store.takeLane(lane, 'gc')).token })
      await store.takeLane(lanes.retired[0]!, 'another')
      const ends = new Map<string, string>()
      for await (const { lane, end } of store.dropLanes(taken)) if (end !== undefined) ends.set(lane.lane, end)
      expect(Object.fromEntries(ends)).toEqual({ 'clicks{x}.0': 'taken', 'clicks.1': 'gone', h0: 'gone' })
      expect(await rowsOf(store, lanes.retired[0]!)).toBe(700)
      await store.close()
    })
  })
}

function base(store: SweptStore, namespace: string) {
  return { store, namespace, quietMs: 10, sleep: async () => {}, nonce: 'gc' }
}

testGc('memory', async () => ({ store: createMemoryStore(), namespace: 'shop' }))

let stores = 0
testGc('directory', async () => ({
  store: createLmdbStore({ path: join(folder, `s${stores++}`) }),
  namespace: 'shop',
}))

const missing = whyNoRedis()

describe.skipIf(missing !== undefined)('with a real Redis', { timeout: 60_000 }, () => {
  let redis: Awaited<ReturnType<typeof anyRedis>>

  beforeAll(async () => {
    redis = await anyRedis()
  })

  afterAll(async () => {
    await redis?.stop()
  })

  testGc('Redis', async () => ({ store: createRedisStore({ urls: redis.url }), namespace: freshNamespace() }))

  it('tilefold gc lists, deletes what is retired, and then has nothing to do', async () => {
    const namespace = freshNamespace()
    const store = createRedisStore({ urls: redis.url })
    await setUp(store, namespace)
    const gc = (...args: string[]) =>
      cli(['gc', ...args, '--namespace', namespace, '--redis-url', redis.url, '--quiet', '1s', '-o', 'json'])
    const listed = JSON.parse((await gc()).stdout)
    expect(listed.states).toMatchObject([
      { state_hash: OLD, generation: 1, standing: 'retired', rows: 2100, bytes: 210_000 },
      { state_hash: NEW, standing: 'current' },
      { state_hash: BUILT, standing: 'named' },
    ])
    const refused = await gc('--delete', '--state', `${NEW}/2`)
    expect([refused.code, errorOf(refused).code]).toEqual([1, 'STATE_IN_USE'])
    const unknown = await gc('--delete', '--state', `${NEW}/7`)
    expect([unknown.code, errorOf(unknown).code]).toEqual([2, 'USAGE'])

    const deleted = await gc('--delete')
    expect(deleted.code, deleted.stderr).toBe(0)
    expect(JSON.parse(deleted.stdout)).toMatchObject({
      lanes: 3,
      finished: true,
      taken: [],
      deleted: [{ state_hash: OLD }],
    })
    expect(JSON.parse((await gc('--delete')).stdout)).toMatchObject({ deleted: [], keys: 0 })
    const left = await redis.client.keys(`tf:*${namespace}/${OLD}*`)
    expect(left).toEqual([])
    await store.close()
  })

  it('tilefold gc stops at a signal, and goes on at the next call', async () => {
    const namespace = freshNamespace()
    const store = createRedisStore({ urls: redis.url })
    await setUp(store, namespace)
    const args = ['gc', '--delete', '--namespace', namespace, '--redis-url', redis.url, '-o', 'json']
    const stopped = await cli([...args, '--quiet', '1m'], { onListening: (send) => send('SIGINT') })
    expect([stopped.code, JSON.parse(stopped.stdout).finished]).toEqual([130, false])
    const ended = await cli([...args, '--quiet', '1s'])
    expect(JSON.parse(ended.stdout)).toMatchObject({ finished: true, lanes: 3 })
    expect(await surveyStates(store, namespace)).toEqual([at(NEW!, 2), at(BUILT!, 1)])
    await store.close()
  })
})
