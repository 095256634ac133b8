/**
 * What happens to a Redis server and to the way there: kills, restarts with and without data, cut connections, lost replies,
 * no memory, loading, replicas, stalls. Verdict each time: what was answered is true, nothing counts twice, and no error
 * leaves the store uncoded or unhandled (vitest fails a run with an unhandled rejection).
 */
import { mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { appliedOf } from '../../src/store/rules.ts'
import { seededRandom } from '../support/random.ts'
import { until, whyNoRedis } from '../support/redis.ts'
import { openBehindProxy, openStore, startOwn } from './redis-scene.ts'
import { LANE, readOne, rowOf } from './suite.ts'

/** What a server says to a command, good or bad. */
const answerOf = (command: Promise<unknown>): Promise<string> =>
  command.then(String).catch((error: Error) => error.message)
const isUnavailable = { code: 'STORE_UNAVAILABLE' }

describe.skipIf(whyNoRedis() !== undefined)('a Redis store', () => {
  it('says where it is not reachable, within its deadline, and works once it is', async () => {
    const server = await startOwn()
    await server.kill9()
    const store = openStore({ urls: server.url, deadlineMs: 300 })
    await expect(store.takeLane(LANE, 'a')).rejects.toMatchObject({
      ...isUnavailable,
      message: expect.stringMatching(/127\.0\.0\.1:\d+.*ECONNREFUSED/),
    })
    await server.restart()
    await until(async () => (await store.takeLane(LANE, 'a').catch(() => undefined)) !== undefined)
  })

  it('goes on over a kill and a restart with the data', async () => {
    const server = await startOwn({ appendonly: 'yes', appendfsync: 'always' })
    const store = openStore({ urls: server.url, deadlineMs: 20_000 })
    const { token } = await store.takeLane(LANE, 'a')
    expect(await store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })).toBe('ok')
    await server.kill9()
    // Begun while there is no server, done when there is.
    const waiting = store.write(LANE, token, 1, { rows: [rowOf('k', 2, 2)], flushingTo: 2 })
    await server.restart()
    expect(await waiting).toBe('ok')
    expect(appliedOf((await readOne(store, LANE, 'k'))!)).toBe(2)
  })

  it('sees a server that came back empty, and one that came back earlier', async () => {
    const server = await startOwn({ save: '' })
    const store = openStore({ urls: server.url, deadlineMs: 20_000 })
    const { token } = await store.takeLane(LANE, 'a')
    await store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })
    await server.client.save()
    await store.write(LANE, token, 1, { rows: [rowOf('k', 2, 2)], flushingTo: 2 })
    await server.kill9()
    await server.restart()
    expect(await store.readLane(LANE)).toMatchObject({ sequence: 1, flushingTo: 1 })
    expect(await store.write(LANE, token, 2, { flushingTo: 3 })).toBe('regressed')
    expect(await store.readOwnRows(LANE, token, 2, [], () => {})).toBe('regressed')
    await server.client.flushall()
    expect(await store.readLane(LANE)).toBeUndefined()
    expect(await store.write(LANE, token, 1, { flushingTo: 3 })).toBe('regressed')
    expect(await store.takeLane(LANE, 'b')).toMatchObject({ token: { counter: 1, nonce: 'b' }, flushingTo: -1 })
  })

  it('counts a write once when its reply is lost, at every call', async () => {
    const server = await startOwn()
    const { proxy, store } = await openBehindProxy(server)
    const { token } = await store.takeLane(LANE, 'a')
    const loseNextReply = () => {
      proxy.onReply = () => {
        proxy.onReply = undefined
        return 'cut'
      }
    }
    for (let i = 0; i < 20; i++) {
      loseNextReply()
      expect(await store.write(LANE, token, i, { rows: [rowOf('k', i, i)], flushingTo: i })).toBe('ok')
      expect(proxy.onReply).toBeUndefined()
      expect(await store.readLane(LANE)).toMatchObject({ sequence: i + 1, flushingTo: i })
    }
    loseNextReply()
    expect(await store.writeLayout('test', 'v', undefined, 'one')).toBe(true)
    loseNextReply()
    expect(await store.writeLayout('test', 'v', 'other', 'two')).toBe(false)
    loseNextReply()
    expect((await readOne(store, LANE, 'k'))![20]).toBe(19)
    // Done twice: the counter is one higher than it need be, and the record is the one that stands.
    loseNextReply()
    expect((await store.takeLane(LANE, 'b')).token).toEqual((await store.readLane(LANE))!.token)
  })

  it('has a write whole or not at all when the connection is cut anywhere in it', async () => {
    const server = await startOwn()
    const { proxy, store } = await openBehindProxy(server)
    const random = seededRandom(3)
    const { token } = await store.takeLane(LANE, 'a')
    for (let i = 0; i < 25; i++) {
      let cutAfter = random.below(60_000)
      proxy.onRequest = (chunk) => {
        cutAfter -= chunk.length
        if (cutAfter > 0) return 'pass'
        proxy.onRequest = undefined
        return 'cut'
      }
      const rows = Array.from({ length: 30 }, (_, j) => rowOf(`k${j}`, i, i, 2_000))
      expect(await store.write(LANE, token, i, { rows, flushingTo: i }), `seed 3, write ${i}`).toBe('ok')
      proxy.onRequest = undefined
      const seen: number[] = []
      const keys = rows.map(({ key }) => key)
      expect(await store.readOwnRows(LANE, token, i + 1, keys, (_, bytes) => seen.push(bytes![20]))).toBe('ok')
      expect(seen).toEqual(rows.map(() => i))
    }
    expect(proxy.connections).toBeGreaterThan(10)
  })

  it('gives up a connection that has gone silent, and makes another', async () => {
    const server = await startOwn()
    const { proxy, store } = await openBehindProxy(server, { silenceMs: 150 })
    const { token } = await store.takeLane(LANE, 'a')
    const silent = proxy.connections
    proxy.onReply = () => (proxy.connections === silent ? 'drop' : 'pass')
    expect(await store.write(LANE, token, 0, { flushingTo: 1 })).toBe('ok')
    expect(await store.readLane(LANE)).toMatchObject({ sequence: 1 })
  })

  it('takes its connection being killed by an operator for nothing', async () => {
    const server = await startOwn()
    const store = openStore({ urls: server.url })
    const { token } = await store.takeLane(LANE, 'a')
    for (let i = 0; i < 10; i++) {
      const write = store.write(LANE, token, i, { rows: [rowOf('k', i, i)], flushingTo: i })
      await server.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      expect(await write).toBe('ok')
    }
    expect(await store.readLane(LANE)).toMatchObject({ sequence: 10 })
  })

  it('writes nothing at all when the server has no memory left, still reads, and says so', async () => {
    const server = await startOwn()
    const store = openStore({ urls: server.url, deadlineMs: 100_000 })
    const { token } = await store.takeLane(LANE, 'a')
    await store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })
    await server.client.config('SET', 'maxmemory', '1mb')
    await expect(
      store.write(LANE, token, 1, { rows: [rowOf('k', 2, 2)], flushingTo: 2, segments: [new Uint8Array(5)] }),
    ).rejects.toMatchObject({ ...isUnavailable, message: expect.stringContaining('nothing was written') })
    expect((await readOne(store, LANE, 'k'))![20]).toBe(1)
    expect(await store.readLane(LANE)).toMatchObject({ sequence: 1, flushingTo: 1 })
    await server.client.config('SET', 'maxmemory', '0')
    expect(await store.write(LANE, token, 1, { rows: [rowOf('k', 2, 2)], flushingTo: 2 })).toBe('ok')
  })

  it('waits while the server loads its data', async () => {
    const server = await startOwn({ 'enable-debug-command': 'yes' })
    const store = openStore({ urls: server.url, deadlineMs: 60_000 })
    const { token } = await store.takeLane(LANE, 'a')
    await server.client.call('DEBUG', 'POPULATE', '2000', 'filler', '100')
    await server.client.save()
    await server.kill9()
    // 1 ms per key.
    await server.restart({ 'key-load-delay': '1000', 'loading-process-events-interval-bytes': '1024' })
    const raw = server.client.duplicate({
      enableReadyCheck: false,
      enableOfflineQueue: true,
      maxRetriesPerRequest: null,
    })
    raw.on('error', () => {})
    const answer = await raw.get('x').catch((error: Error) => error.message)
    raw.disconnect()
    expect(answer).toContain('LOADING')
    expect(await store.write(LANE, token, 0, { flushingTo: 1 })).toBe('ok')
  })

  it('waits while somebody’s script holds the server', async () => {
    const server = await startOwn({ 'lua-time-limit': '20' })
    const store = openStore({ urls: server.url, deadlineMs: 60_000 })
    const { token } = await store.takeLane(LANE, 'a')
    const other = server.client.duplicate()
    const endless = other.eval('while true do end', 0).catch((error: Error) => error.message)
    await until(async () => (await answerOf(server.client.get('x'))).startsWith('BUSY'))
    const [write, read] = [store.write(LANE, token, 0, { flushingTo: 1 }), readOne(store, LANE, 'k')]
    const isHeld = await Promise.race([write.then(() => false), read.then(() => false), sleep(150, true)])
    expect(isHeld).toBe(true)
    await server.client.script('KILL')
    expect(await endless).toContain('killed by user')
    other.disconnect()
    expect(await write).toBe('ok')
    expect(await read).toBeUndefined()
  })

  it('waits while too few replicas are there, and writes nothing meanwhile', async () => {
    const server = await startOwn({ 'min-replicas-to-write': '1' })
    const impatient = openStore({ urls: server.url, deadlineMs: 300 })
    await expect(impatient.takeLane(LANE, 'a')).rejects.toMatchObject({
      ...isUnavailable,
      message: expect.stringContaining('NOREPLICAS'),
    })
    const taking = openStore({ urls: server.url, deadlineMs: 60_000 }).takeLane(LANE, 'b')
    const replica = await startOwn({ 'repl-diskless-sync-delay': '0' })
    await replica.client.replicaof('127.0.0.1', `${server.port}`)
    expect((await taking).token).toEqual({ counter: 1, nonce: 'b' })
  })

  it('is told at once that the server takes no writes since it cannot save', async () => {
    const server = await startOwn()
    const store = openStore({ urls: server.url, deadlineMs: 100_000 })
    const { token } = await store.takeLane(LANE, 'a')
    const [, directory] = (await server.client.config('GET', 'dir')) as [string, string]
    await server.client.config('SET', 'save', '3600 1000')
    // Where the snapshot belongs stands a directory.
    mkdirSync(`${directory}/dump.rdb`)
    await server.client.bgsave()
    await until(async () => (await server.client.info('persistence')).includes('rdb_last_bgsave_status:err'))
    await expect(store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })).rejects.toMatchObject({
      ...isUnavailable,
      message: expect.stringContaining('MISCONF'),
    })
    expect(await readOne(store, LANE, 'k')).toBeUndefined()
    await server.client.config('SET', 'stop-writes-on-bgsave-error', 'no')
    expect(await store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })).toBe('ok')
  })

  it('does not take a replica for a master, and finds it when it becomes one', async () => {
    const master = await startOwn()
    const replica = await startOwn()
    await replica.client.replicaof('127.0.0.1', `${master.port}`)
    await until(async () => (await replica.client.info('replication')).includes('master_link_status:up'))
    // Long enough for an answer on a busy machine: who hears nothing cannot say why.
    const store = openStore({ urls: replica.url, deadlineMs: 6_000 })
    await expect(store.takeLane(LANE, 'a')).rejects.toMatchObject({
      ...isUnavailable,
      message: expect.stringContaining('READONLY'),
    })
    const patient = openStore({ urls: replica.url, deadlineMs: 20_000 })
    const taking = patient.takeLane(LANE, 'a')
    await sleep(50)
    await replica.client.replicaof('NO', 'ONE')
    expect((await taking).token).toEqual({ counter: 1, nonce: 'a' })
  })

  it('keeps its deadline when the server stalls, and goes on afterwards', async () => {
    const server = await startOwn()
    const store = openStore({ urls: server.url, deadlineMs: 1_000, silenceMs: 100 })
    const { token } = await store.takeLane(LANE, 'a')
    server.pause()
    await expect(store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })).rejects.toMatchObject(
      isUnavailable,
    )
    await expect(readOne(store, LANE, 'k')).rejects.toMatchObject(isUnavailable)
    server.resume()
    // It may have landed or not: the same change is ok either way, and counts once.
    await until(async () => (await store.readLane(LANE).catch(() => undefined)) !== undefined)
    expect(await store.write(LANE, token, 0, { rows: [rowOf('k', 1, 1)], flushingTo: 1 })).toBe('ok')
    expect(await store.readLane(LANE)).toMatchObject({ sequence: 1 })
  })

  it('sends what it was given, whatever becomes of the caller’s memory after it was told of a failure', async () => {
    const server = await startOwn()
    const store = openStore({ urls: server.url, deadlineMs: 200, silenceMs: 10_000 })
    const { token } = await store.takeLane(LANE, 'a')
    const row = rowOf('k', 1, 7, 100_000)
    server.pause()
    await expect(store.write(LANE, token, 0, { rows: [row], flushingTo: 1 })).rejects.toMatchObject(isUnavailable)
    row.bytes.fill(0xdb)
    server.resume()
    await until(async () => (await store.readLane(LANE).catch(() => undefined))?.sequence === 1)
    expect((await readOne(store, LANE, 'k'))![50_000]).toBe(7)
  })

  it('answers what it can, coded, in a storm of faults, and ends with every write counted once', async () => {
    const server = await startOwn()
    const { proxy, store } = await openBehindProxy(server, { deadlineMs: 30_000 })
    const seed = 11
    const random = seededRandom(seed)
    const { token } = await store.takeLane(LANE, 'a')
    const weather = setInterval(() => {
      if (random.chance(0.3)) proxy.cutAll()
      proxy.onReply = random.chance(0.3) ? () => (random.chance(0.5) ? 'cut' : 'pass') : undefined
      if (random.chance(0.2)) void server.client.script('FLUSH')
    }, 15)
    let writes = 0
    try {
      // A fast machine is done before the weather has changed.
      for (; writes < 150 || proxy.connections <= 5; writes++) {
        const i = writes
        const rows = [rowOf('k', i, i % 256), rowOf(`k${i}`, i, 1)]
        const [written, read] = await Promise.all([
          store.write(LANE, token, i, { rows, flushingTo: i }),
          readOne(store, LANE, 'k'),
        ])
        expect(written, `seed ${seed}, write ${i}`).toBe('ok')
        expect(read === undefined || appliedOf(read) >= i - 1, `seed ${seed}, read ${i}`).toBe(true)
      }
    } finally {
      clearInterval(weather)
      proxy.onReply = undefined
    }
    expect(await store.readLane(LANE)).toMatchObject({ sequence: writes, flushingTo: writes - 1 })
  })
})
