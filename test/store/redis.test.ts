/** The Redis store against a real server: the suite of every store, the scripts against the rules, and what Redis adds. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LaneName, LaneRecord, LaneWrite, Store } from '../../src/store/port.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import { redisLaneKeys, rowKey, segmentKey } from '../../src/store/redis-key.ts'
import { judgeRead, judgeWrite, segmentHash, takenRecord, writtenRecord } from '../../src/store/rules.ts'
import { seededRandom } from '../support/random.ts'
import { anyRedis, freshNamespace, isForeignRedis, whyNoRedis } from '../support/redis.ts'
import { inNamespace } from '../support/redis-namespace.ts'
import { openStore } from './redis-scene.ts'
import { LANE, readOne, rowOf, rowsOf, testStore } from './suite.ts'

const hasRedis = whyNoRedis() === undefined || isForeignRedis

describe.skipIf(!hasRedis)('on one server', () => {
  let redis: Awaited<ReturnType<typeof anyRedis>>
  beforeAll(async () => {
    redis = await anyRedis()
  })
  afterAll(() => redis?.stop())

  const freshLane = (): LaneName => ({ ...LANE, namespace: freshNamespace() })

  testStore('Redis', async () => {
    const namespace = freshNamespace()
    const store = createRedisStore({ urls: redis.url })
    let last: Store = store
    return {
      store: inNamespace(store, namespace),
      damageCheckpoint: async (lane, damage) => {
        const own = { ...lane, namespace: `${namespace}-${lane.namespace}` }
        const newest = (await store.readCheckpoint(own, Number.MAX_SAFE_INTEGER))!
        const key = segmentKey(redisLaneKeys(own), segmentHash(newest.segments[0]))
        if (damage === 'lose') await redis.client.del(key)
        else await redis.client.setrange(key, 9, 'garbled')
      },
      reopen: async () => {
        await store.close()
        last = createRedisStore({ urls: redis.url })
        return inNamespace(last, namespace)
      },
      cleanUp: () => last.close(),
    }
  })

  describe('the scripts', () => {
    it('judge as the rules do, over thousands of random cases', async () => {
      const store = openStore({ urls: redis.url })
      const verdicts: Record<string, number> = {}
      for (let seed = 1; seed <= 40; seed++) {
        const random = seededRandom(seed)
        const lane = freshLane()
        let record: LaneRecord | undefined
        let taken = 0
        for (let step = 0; step < 60; step++) {
          const where = `seed ${seed}, step ${step}`
          if (random.chance(0.1)) {
            const nonce = random.pick(['a', 'b', `${taken++}`])
            record = takenRecord(record, nonce)
            expect(await store.takeLane(lane, nonce), where).toEqual(record)
          }
          const token = {
            counter: Math.max(1, (record?.token.counter ?? 1) + random.pick([0, 0, 0, 0, 0, 0, -1, 1])),
            nonce: random.chance(0.9) ? (record?.token.nonce ?? 'a') : 'other',
          }
          const sequence = (record?.sequence ?? 0) + random.pick([0, 0, 0, 0, 0, -1, -2, 1])
          const position = () =>
            random.pick([-1, random.below(9), random.below(2 ** 31), 2 ** 53 - 1 - random.below(3)])
          const change: LaneWrite = {
            ...(random.chance(0.6) && { flushingTo: position() }),
            ...(random.chance(0.6) && {
              marker: { position: position(), hash: random.pick(['', 'h', '{"a":"\u00e9"}']) },
            }),
            ...(random.chance(0.4) && { layoutVersion: random.below(20) }),
          }
          const asked = judgeRead(record, token, sequence)
          expect(await store.readOwnRows(lane, token, sequence, [], () => {}), where).toBe(asked)
          const verdict = judgeWrite(record, token, sequence)
          verdicts[verdict] = (verdicts[verdict] ?? 0) + 1
          const expected = verdict === 'write' || verdict === 'landed' ? 'ok' : verdict
          expect(await store.write(lane, token, sequence, change), where).toBe(expected)
          if (verdict === 'write') record = writtenRecord(record!, change)
          expect(await store.readLane(lane), where).toEqual(record)
        }
      }
      for (const verdict of ['write', 'landed', 'fenced', 'regressed']) {
        expect(verdicts[verdict], verdict).toBeGreaterThan(100)
      }
    })

    it('keep applied positions as exact as they came, of rows at any position', async () => {
      const store = openStore({ urls: redis.url })
      const lane = freshLane()
      const { token } = await store.takeLane(lane, 'a')
      const far = 2 ** 53 - 1
      await store.write(lane, token, 0, { rows: [rowOf('k', far, 1), rowOf('new', -1, 1)], flushingTo: far })
      await store.write(lane, token, 1, { rows: [rowOf('k', far - 1, 2), rowOf('new', -1, 2)] })
      expect(await readOne(store, lane, 'k')).toEqual(rowOf('k', far, 2).bytes)
      expect(await readOne(store, lane, 'new')).toEqual(rowOf('new', -1, 2).bytes)
    })

    it('are sent whole where the server does not know them', async () => {
      const store = openStore({ urls: redis.url })
      const lane = freshLane()
      const { token } = await store.takeLane(lane, 'a')
      await redis.client.script('FLUSH')
      expect(await store.write(lane, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })).toBe('ok')
      await redis.client.script('FLUSH')
      expect(await store.readLane(lane)).toMatchObject({ sequence: 1 })
    })

    it('refuse a record of another version, and say which', async () => {
      const store = openStore({ urls: redis.url })
      const lane = freshLane()
      const { token } = await store.takeLane(lane, 'a')
      await redis.client.hset(redisLaneKeys(lane).record, 'v', '7')
      const refusal = { code: 'STORE_FORMAT', message: expect.stringContaining('got 7, expected 1') }
      await expect(store.readLane(lane)).rejects.toMatchObject(refusal)
      await expect(store.takeLane(lane, 'b')).rejects.toMatchObject(refusal)
      await expect(store.write(lane, token, 0, {})).rejects.toMatchObject(refusal)
      await expect(store.readOwnRows(lane, token, 0, [], () => {})).rejects.toMatchObject(refusal)
    })

    it('refuse a key of another type', async () => {
      const store = openStore({ urls: redis.url })
      const lane = freshLane()
      await redis.client.set(redisLaneKeys(lane).record, 'something else')
      await expect(store.takeLane(lane, 'a')).rejects.toMatchObject({ code: 'STORE_FORMAT' })
    })
  })

  it('keeps all of a lane in one slot, whatever its name', () => {
    for (const namespace of ['plain', '}', '{', '{}', 'a}b', '%7d', '%']) {
      const keys = redisLaneKeys({ ...LANE, namespace })
      const tags = [keys.record, keys.catalogue, rowKey(keys, Buffer.from('}{')), segmentKey(keys, 'ab')].map(
        (key) => /\{([^}]+)\}/.exec(key.toString())?.[1],
      )
      expect(new Set(tags).size).toBe(1)
      expect(tags[0]).toContain('/clicks.0')
    }
    expect(redisLaneKeys({ ...LANE, namespace: '}' }).stem).not.toEqual(
      redisLaneKeys({ ...LANE, namespace: '%7d' }).stem,
    )
    expect(() => redisLaneKeys({ ...LANE, lane: 'a/b' })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  })

  it('learns of a checkpoint that another owner wrote in between', async () => {
    const [first, second] = [openStore({ urls: redis.url }), openStore({ urls: redis.url })]
    const lane = freshLane()
    const segment = (fill: number) => new Uint8Array(2000).fill(fill)
    const whole = (position: number, ...fills: number[]): LaneWrite => ({
      segments: fills.map(segment),
      checkpoint: { position, segments: fills.map((fill) => segmentHash(segment(fill))) },
    })
    const a = await first.takeLane(lane, 'a')
    await first.write(lane, a.token, 0, whole(1, 1))
    const b = await second.takeLane(lane, 'b')
    await second.write(lane, b.token, 1, whole(2, 2))
    await second.write(lane, b.token, 2, whole(3, 3))
    // The first remembers segment 1, which is gone; whoever lost the lane hears that and nothing else.
    const named = { checkpoint: { position: 4, segments: [segmentHash(segment(3))] } }
    expect(await first.write(lane, a.token, 1, named)).toBe('fenced')
    const c = await first.takeLane(lane, 'c')
    expect(await first.write(lane, c.token, 3, named)).toBe('ok')
    expect(await second.readCheckpoint(lane, 9)).toEqual({ position: 4, segments: [segment(3)] })
    expect((await redis.client.keys(`${redisLaneKeys(lane).segments.toString()}*`)).length).toBe(1)
  })

  it('lets rows expire by the server’s clock, and nothing else', async () => {
    const lane = freshLane()
    const kept = { ...lane, lane: 'h0' }
    const store = openStore({ urls: redis.url, expiryMs: ({ lane }) => (lane === 'h0' ? undefined : 60_000.5) })
    for (const each of [lane, kept]) {
      const { token } = await store.takeLane(each, 'a')
      const segments = [new Uint8Array(10)]
      await store.write(each, token, 0, { rows: [rowOf('k', 1)], segments, flushingTo: 1 })
    }
    const ttls = async (name: LaneName) => {
      const keys = redisLaneKeys(name)
      const names = [rowKey(keys, Buffer.from('k')), keys.record, keys.catalogue]
      return Promise.all(names.map((key) => redis.client.pttl(key)))
    }
    const [row, ...others] = await ttls(lane)
    expect(row).toBeGreaterThan(30_000)
    expect(row).toBeLessThanOrEqual(60_001)
    expect(others).toEqual([-1, -1])
    expect(await ttls(kept)).toEqual([-1, -1, -1])
  })

  it('deletes a lane, and that lane alone', async () => {
    const store = openStore({ urls: redis.url })
    const [lane, other] = [freshLane(), freshLane()]
    const longer = { ...lane, lane: `${lane.lane}0` }
    for (const each of [lane, other, longer]) {
      const { token } = await store.takeLane(each, 'a')
      const rows = Array.from({ length: 150 }, (_, i) => rowOf(`k${i}`, 1))
      await store.write(each, token, 0, { rows, segments: [new Uint8Array(9)], flushingTo: 1 })
    }
    expect(await store.deleteLane(lane)).toBe(153)
    expect(await store.readLane(lane)).toBeUndefined()
    expect(await rowsOf(store, lane)).toEqual([])
    expect((await rowsOf(store, other)).length).toBe(150)
    expect((await rowsOf(store, longer)).length).toBe(150)
  })

  it('gives coded errors once it is closed, also to calls under way', async () => {
    const store = openStore({ urls: redis.url })
    const lane = freshLane()
    await store.takeLane(lane, 'a')
    const underWay = Array.from({ length: 20 }, () => store.readLane(lane).catch((error) => error))
    await store.close()
    await store.close()
    const codes = (await Promise.all(underWay)).map((each) => each?.code ?? 'answered')
    expect(codes.every((code) => code === 'answered' || code === 'STORE_UNAVAILABLE')).toBe(true)
    await expect(store.readLane(lane)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
  })

  it('passes on what a sink throws, as it is', async () => {
    const store = openStore({ urls: redis.url })
    const failure = new Error('LOADING something of the sink’s own')
    const read = store.readRows([{ lane: freshLane(), key: Uint8Array.of(1) }], () => {
      throw failure
    })
    await expect(read).rejects.toBe(failure)
  })
})
