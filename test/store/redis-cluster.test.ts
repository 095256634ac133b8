/** The Redis store on a Cluster of three masters and three replicas: the suite, a slot that moves, a failover that loses writes. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LaneName, Store } from '../../src/store/port.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import { redisLaneKeys, segmentKey } from '../../src/store/redis-key.ts'
import { appliedOf, segmentHash } from '../../src/store/rules.ts'
import {
  freshNamespace,
  moveSlot,
  type RedisCluster,
  type RedisServer,
  startCluster,
  until,
  whyNoRedis,
} from '../support/redis.ts'
import { inNamespace } from '../support/redis-namespace.ts'
import { openStore } from './redis-scene.ts'
import { LANE, readOne, rowOf, rowsOf, testStore } from './suite.ts'

describe.skipIf(whyNoRedis() !== undefined)('on a Cluster', () => {
  let cluster: RedisCluster
  beforeAll(async () => {
    cluster = await startCluster()
  })
  afterAll(() => cluster?.stop())

  const openCluster = () => openStore({ urls: cluster.urls, mode: 'cluster', deadlineMs: 20_000 })
  const freshLane = (): LaneName => ({ ...LANE, namespace: freshNamespace() })
  const slotOf = async (lane: LaneName): Promise<number> =>
    cluster.nodes[0].client.cluster('KEYSLOT', redisLaneKeys(lane).record.toString())
  /** The node that serves a lane now, once all nodes say the same: they hear of a failover one after the other. */
  const masterOf = async (lane: LaneName): Promise<RedisServer> => {
    const slot = await slotOf(lane)
    let ports: number[] = []
    await until(async () => {
      ports = []
      for (const node of cluster.nodes) {
        const slots = await node.client.cluster('SLOTS')
        for (const [from, to, [, port]] of slots as unknown as [number, number, [string, number]][]) {
          if (from <= slot && slot <= to) ports.push(port)
        }
      }
      return ports.length === cluster.nodes.length && new Set(ports).size === 1
    })
    return cluster.nodes.find(({ port }) => port === ports[0])!
  }

  testStore('Redis Cluster', async () => {
    const namespace = freshNamespace()
    const store = createRedisStore({ urls: cluster.urls, mode: 'cluster' })
    let last: Store = store
    return {
      store: inNamespace(store, namespace),
      damageCheckpoint: async (lane, damage) => {
        const own = { ...lane, namespace: `${namespace}-${lane.namespace}` }
        const newest = (await store.readCheckpoint(own, Number.MAX_SAFE_INTEGER))!
        const key = segmentKey(redisLaneKeys(own), segmentHash(newest.segments[0]))
        const { client } = await masterOf(own)
        if (damage === 'lose') await client.del(key)
        else await client.setrange(key, 9, 'garbled')
      },
      reopen: async () => {
        await store.close()
        last = createRedisStore({ urls: cluster.urls, mode: 'cluster' })
        return inNamespace(last, namespace)
      },
      cleanUp: () => last.close(),
    }
  })

  it('reads and writes lanes on every node, and tells of the servers', async () => {
    const store = openCluster()
    // Four lanes on each of the three masters.
    const lanes: LaneName[] = []
    const lanesOn = new Map<number, number>()
    while (lanes.length < 12) {
      const lane = freshLane()
      const { port } = await masterOf(lane)
      if (lanesOn.get(port) === 4) continue
      lanesOn.set(port, (lanesOn.get(port) ?? 0) + 1)
      lanes.push(lane)
    }
    for (const [i, lane] of lanes.entries()) {
      const { token } = await store.takeLane(lane, 'a')
      const rows = Array.from({ length: 90 }, (_, j) => rowOf(`k${j}`, 1, i))
      expect(await store.write(lane, token, 0, { rows, flushingTo: 1 })).toBe('ok')
    }
    const reads = Array.from({ length: 900 }, (_, i) => ({ lane: lanes[i % 12], key: Buffer.from(`k${i % 95}`) }))
    const seen: [number, number | undefined][] = []
    await store.readRows(reads, (index, bytes) => seen.push([index, bytes?.[20]]))
    expect(seen.sort(([a], [b]) => a - b)).toEqual(reads.map((_, i) => [i, i % 95 < 90 ? i % 12 : undefined]))
    expect(await store.checkServer()).toMatchObject({ cluster: true, role: 'master', evictionPolicy: 'noeviction' })
    expect(await store.deleteLane(lanes[0])).toBe(91)
    await cluster.nodes[2].client.config('SET', 'maxmemory-policy', 'allkeys-lru')
    await expect(store.checkServer()).rejects.toMatchObject({ code: 'STORE_UNSAFE' })
    await cluster.nodes[2].client.config('SET', 'maxmemory-policy', 'noeviction')
  })

  it('goes on while the slot of a lane moves to another node, key by key', async () => {
    const store = openCluster()
    const lane = freshLane()
    const slot = await slotOf(lane)
    const source = await masterOf(lane)
    const target = cluster.nodes.slice(0, 3).find((node) => node !== source)!
    const { token } = await store.takeLane(lane, 'a')
    const rows = Array.from({ length: 60 }, (_, j) => rowOf(`k${j}`, 0, 0, 500))
    expect(await store.write(lane, token, 0, { rows, segments: [new Uint8Array(900)], flushingTo: 0 })).toBe('ok')

    let sequence = 1
    let reads = 0
    let isMoving = true
    const writing = (async () => {
      for (; isMoving || sequence < 10; sequence++) {
        const row = rowOf(`k${sequence % 60}`, sequence, sequence % 256, 500)
        expect(await store.write(lane, token, sequence, { rows: [row], flushingTo: sequence })).toBe('ok')
      }
    })()
    const reading = (async () => {
      for (; isMoving; reads++) {
        const found: (Uint8Array | undefined)[] = []
        const asked = Array.from({ length: 60 }, (_, j) => ({ lane, key: Buffer.from(`k${j}`) }))
        await store.readRows(asked, (_, bytes) => found.push(bytes))
        expect(found.filter((bytes) => bytes === undefined)).toEqual([])
      }
    })()
    await moveSlot(cluster, slot, source, target)
    await sleep(50)
    isMoving = false
    await Promise.all([writing, reading])
    expect(reads).toBeGreaterThan(3)
    expect(await store.readLane(lane)).toMatchObject({ sequence, flushingTo: sequence - 1 })
    expect((await rowsOf(store, lane)).length).toBe(60)
    expect((await masterOf(lane)).port).toBe(target.port)
    expect((await readOne(store, lane, `k${(sequence - 1) % 60}`))![20]).toBe((sequence - 1) % 256)
  })

  it('waits while nobody serves the slot of a lane', async () => {
    const store = openCluster()
    const lane = freshLane()
    const slot = await slotOf(lane)
    const master = await masterOf(lane)
    const { token } = await store.takeLane(lane, 'a')
    // Told to every node: who is not told sends us back to the one that gave it up.
    for (const node of cluster.nodes) await node.client.cluster('DELSLOTS', slot).catch(() => {})
    const raw = master.client.get(`{${redisLaneKeys(lane).stem.toString().split(/[{}]/)[1]}}`)
    expect(await raw.catch((error: Error) => error.message)).toContain('CLUSTERDOWN')
    const impatient = openStore({ urls: cluster.urls, mode: 'cluster', deadlineMs: 400 })
    await expect(impatient.readLane(lane)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    // Rows without those of the slot would be taken for all there are.
    await expect(rowsOf(impatient, lane)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    const write = store.write(lane, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })
    const read = readOne(store, lane, 'k')
    // Longer than the client tries by itself.
    expect(await Promise.race([write, read, sleep(1_500, 'waits')])).toBe('waits')
    await master.client.cluster('ADDSLOTS', slot)
    expect(await write).toBe('ok')
    await read
    expect((await readOne(store, lane, 'k'))![20]).toBe(1)
    // A replica that has not heard of it would take over without this slot.
    expect(await masterOf(lane)).toBe(master)
  })

  it('goes on over an orderly failover during writes, and loses none', async () => {
    const store = openCluster()
    const lane = freshLane()
    const master = await masterOf(lane)
    const infos = await Promise.all(cluster.nodes.map((node) => node.client.info('replication')))
    const replica = cluster.nodes[infos.findIndex((info) => info.includes(`master_port:${master.port}\r`))]
    const { token } = await store.takeLane(lane, 'a')
    let sequence = 0
    const writeOne = async () => {
      const rows = [rowOf('k', sequence, sequence % 256)]
      expect(await store.write(lane, token, sequence, { rows, flushingTo: sequence })).toBe('ok')
      sequence++
    }
    await writeOne()
    // A vote may be missed, and is then not held again by itself.
    let askedAt = Number.NEGATIVE_INFINITY
    for (let over = false; !over; ) {
      if (performance.now() - askedAt > 6_000) {
        await replica.client.cluster('FAILOVER')
        askedAt = performance.now()
      }
      await writeOne()
      over = (await replica.client.info('replication')).includes('role:master')
    }
    for (let i = 0; i < 50; i++) await writeOne()
    expect(await store.readLane(lane)).toMatchObject({ sequence })
    expect((await readOne(store, lane, 'k'))![20]).toBe((sequence - 1) % 256)
  })

  it('sees a failover to a lagging replica as regressed, and keeps what the replica had', async () => {
    const store = openCluster()
    const lane = freshLane()
    const master = await masterOf(lane)
    const replicas = await Promise.all(
      cluster.nodes.map(async (node) => {
        const info = await node.client.info('replication')
        return info.includes(`master_port:${master.port}\r`) ? node : undefined
      }),
    )
    const replica = replicas.find((node) => node !== undefined)!
    const { token } = await store.takeLane(lane, 'a')
    let sequence = 0
    const write = async (bytes: number) => {
      const rows = [rowOf(`k${sequence % 50}`, sequence, 1, bytes)]
      expect(await store.write(lane, token, sequence, { rows, flushingTo: sequence })).toBe('ok')
      sequence++
    }
    for (let i = 0; i < 20; i++) await write(1_000)
    expect(await master.client.wait(1, 5_000)).toBe(1)
    const safe = sequence
    // A plain kill loses nothing: what the sockets hold still arrives. So the replica stands still for longer than they hold.
    replica.pause()
    while (sequence < 400) await write(100_000)
    const lost = master.kill9()
    replica.resume()
    await lost
    await until(async () => (await replica.client.info('replication')).includes('role:master'))

    const started = performance.now()
    const outcome = await store.write(lane, token, sequence, { flushingTo: sequence })
    console.log(`regressed after ${Math.round(performance.now() - started)} ms`)
    expect(outcome).toBe('regressed')
    const record = (await store.readLane(lane))!
    expect(record.token).toEqual(token)
    expect(record.sequence).toBeGreaterThanOrEqual(safe)
    expect(record.sequence).toBeLessThan(sequence)
    // Every row is one that the record at which the replica stood still had: nothing is half there.
    const applied = (await rowsOf(store, lane)).map(({ bytes }) => appliedOf(bytes))
    expect(Math.max(...applied)).toBe(record.sequence - 1)
    const again = await store.takeLane(lane, 'b')
    expect(again.token.counter).toBe(token.counter + 1)
    expect(await store.write(lane, again.token, again.sequence, { rows: [rowOf('k', 1, 1)] })).toBe('ok')

    // The old master comes back as a replica.
    await master.restart()
    await until(async () => (await master.client.info('replication')).includes('role:slave'))
    expect(await store.readLane(lane)).toMatchObject({ sequence: again.sequence + 1 })
  })
})
