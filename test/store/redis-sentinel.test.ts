/**
 * The Redis store behind Sentinels: found through any of them, and followed from master to master while an owner writes. Verdict:
 * the owner hears `ok` or `regressed`, and what stands is always all that one position of its log makes of the lane.
 */
import { afterEach, describe, expect, it } from 'vitest'
import type { LaneName, LaneRecord } from '../../src/store/port.ts'
import type { RedisStore } from '../../src/store/redis.ts'
import { appliedOf } from '../../src/store/rules.ts'
import { cli, makeFolder, writeIn } from '../cli/harness.ts'
import { freshNamespace, until, whyNoRedis } from '../support/redis.ts'
import { type SentinelSet, type SentinelSettings, startSentinels } from '../support/redis-sentinel.ts'
import { openStore } from './redis-scene.ts'
import { LANE, rowOf, rowsOf } from './suite.ts'

const KEYS = 7

/**
 * An owner over a log whose record `p` sets row `k<p % 7>`. It repeats what it does not know of, takes the lane again when it
 * hears `regressed`, and goes on behind the marker, as every owner does.
 */
class Owner {
  readonly heard = { ok: 0, regressed: 0, unavailable: 0 }
  readonly #store: RedisStore
  readonly #lane: LaneName
  readonly #rowBytes: number
  #record: LaneRecord | undefined

  constructor(store: RedisStore, lane: LaneName, rowBytes = 200) {
    this.#store = store
    this.#lane = lane
    this.#rowBytes = rowBytes
  }

  get position(): number {
    return this.#record?.marker ?? -1
  }

  /** The next record of the log. */
  async step(): Promise<void> {
    this.#record ??= await this.#take()
    if (this.#record === undefined) return
    const { token, sequence, marker } = this.#record
    const position = marker + 1
    const rows = [rowOf(`k${position % KEYS}`, position, position % 251, this.#rowBytes)]
    const change = { rows, flushingTo: position, marker: { position, hash: `h${position}` } }
    const outcome = await this.#store.write(this.#lane, token, sequence, change).catch(unavailable)
    expect(['ok', 'regressed', undefined]).toContain(outcome)
    this.heard[(outcome as 'ok' | 'regressed') ?? 'unavailable']++
    expect(this.heard.unavailable).toBeLessThan(100)
    if (outcome === 'ok') this.#record = { ...this.#record, ...writtenAt(position), sequence: sequence + 1 }
    if (outcome === 'regressed') {
      this.#record = undefined
      await this.checkLane()
    }
  }

  /** Everything that is stored is of one position. */
  async checkLane(): Promise<void> {
    const record = await this.#store.readLane(this.#lane)
    const marker = record?.marker ?? -1
    const rows = await rowsOf(this.#store, this.#lane)
    const expected = Array.from({ length: Math.min(KEYS, marker + 1) }, (_, i) => marker - i)
    const found = rows.map(({ key, bytes }) => [Buffer.from(key).toString(), appliedOf(bytes), bytes[20], bytes.length])
    const size = rowOf('k', 1, 1, this.#rowBytes).bytes.length
    expect(found).toEqual(expected.map((p) => [`k${p % KEYS}`, p, p % 251, size]).sort())
  }

  async #take(): Promise<LaneRecord | undefined> {
    return this.#store.takeLane(this.#lane, `${Math.random()}`).catch(unavailable)
  }
}

const writtenAt = (position: number) => ({ marker: position, markerHash: `h${position}`, flushingTo: position })

function unavailable(error: { code?: string }): undefined {
  expect(error.code).toBe('STORE_UNAVAILABLE')
}

describe.skipIf(whyNoRedis() !== undefined)('behind Sentinels', () => {
  const folder = makeFolder()
  const sets: SentinelSet[] = []
  const startSet = async (settings?: SentinelSettings): Promise<SentinelSet> => {
    const set = await startSentinels(settings)
    sets.push(set)
    return set
  }
  afterEach(async () => {
    for (const set of sets.splice(0)) await set.stop()
  })

  const freshLane = (): LaneName => ({ ...LANE, namespace: freshNamespace() })

  it('the master is found by address and by options, past a Sentinel that is dead and one that is silent', async () => {
    const { urls, sentinels, name, servers } = await startSet()
    await sentinels[0]!.child.kill()
    process.kill(sentinels[1]!.child.pid, 'SIGSTOP')
    const lane = freshLane()
    const byAddress = openStore({ urls, silenceMs: 300, deadlineMs: 20_000 })
    expect((await byAddress.takeLane(lane, 'a')).token.counter).toBe(1)
    const options = { urls: sentinels.map(({ port }) => `redis://127.0.0.1:${port}`), sentinelName: name }
    const byOptions = openStore({ ...options, mode: 'sentinel', silenceMs: 300, deadlineMs: 20_000 })
    expect((await byOptions.takeLane(lane, 'b')).token.counter).toBe(2)
    expect((await byOptions.checkServer()).role).toBe('master')

    // None is left: what stands goes on, and nothing new comes to be; then it does.
    await sentinels[2]!.child.kill()
    expect((await byAddress.takeLane(lane, 'c')).token.counter).toBe(3)
    const late = openStore({ urls: urls[2]!, silenceMs: 100, deadlineMs: 400 })
    await expect(late.readLane(lane)).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringMatching(/in Redis features behind 127\.0\.0\.1:\d+: .*Sentinels: none can be reached/),
    })
    process.kill(sentinels[1]!.child.pid, 'SIGCONT')
    const last = openStore({ urls, silenceMs: 300, deadlineMs: 20_000 })
    expect((await last.readLane(lane))?.token.counter).toBe(3)
    expect(servers[1].port).not.toBe(servers[0].port)
  })

  it('a name that no Sentinel knows is told', async () => {
    const { urls } = await startSet()
    const store = openStore({ urls: urls.map((url) => url.replace('/features', '/others')), deadlineMs: 400 })
    await expect(store.readLane(LANE)).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: expect.stringContaining('Sentinels: ERR No such master with that name'),
    })
  })

  it('each with a password of its own, from the settings; a wrong one is told at once', async () => {
    const set = await startSet({ user: 'app', password: 'inner-secret', sentinelPassword: 'outer-secret' })
    const [outer, inner] = [writeIn(folder, 'outer', 'outer-secret\n'), writeIn(folder, 'inner', 'inner-secret\n')]
    const env = {
      TILEFOLD_REDIS_URL: set.urls.join(','),
      TILEFOLD_REDIS_USERNAME: 'app',
      TILEFOLD_REDIS_PASSWORD_FILE: inner,
      TILEFOLD_REDIS_SENTINEL_PASSWORD_FILE: outer,
    }
    const good = await cli(['doctor', '-o', 'json'], { env })
    expect(good.stdout).toContain('master; scripts are allowed')
    const wrong = [{ TILEFOLD_REDIS_SENTINEL_PASSWORD_FILE: inner }, { TILEFOLD_REDIS_PASSWORD_FILE: outer }]
    for (const change of wrong) {
      const bad = await cli(['doctor', '-o', 'json'], { env: { ...env, ...change } })
      expect(bad.code).not.toBe(0)
      expect(bad.stdout).toMatch(/WRONGPASS.*check the user and the password/)
      expect(bad.stdout + bad.stderr).not.toMatch(/inner-secret|outer-secret/)
    }
    const patient = { urls: set.urls, username: 'app', password: 'inner-secret', deadlineMs: 1_000_000 }
    await expect(openStore({ ...patient, sentinelPassword: 'wrong' }).readLane(LANE)).rejects.toMatchObject({
      message: expect.stringContaining('WRONGPASS'),
    })
  })

  it('an owner follows from master to master, killed one after the other', async () => {
    const set = await startSet()
    const lane = freshLane()
    const store = openStore({ urls: set.urls, deadlineMs: 30_000 })
    const owner = new Owner(store, lane)
    let [master, replica] = set.servers as [SentinelSet['servers'][0], SentinelSet['servers'][0]]
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 40; i++) await owner.step()
      const killed = master.kill9()
      const started = performance.now()
      for (const before = owner.heard.ok; owner.heard.ok === before; ) await owner.step()
      console.log(`round ${round}: written again after ${Math.round(performance.now() - started)} ms`)
      await killed
      expect(await set.masterAfter(master)).toBe(replica)
      for (let i = 0; i < 40; i++) await owner.step()
      await owner.checkLane()
      if (round === 1) break
      // The one that was killed comes back as it was, a master, and is told that it is a replica.
      await master.restart()
      const back = master
      await until(async () => (await back.client.info('replication')).includes('role:slave'))
      await until(async () => (await back.client.info('replication')).includes('master_link_status:up'))
      ;[master, replica] = [replica, master]
    }
    expect(owner.position).toBeGreaterThan(100)
    // The deadline was longer than any failover.
    expect(owner.heard.unavailable).toBe(0)
  })

  it('an owner whose master goes and leaves a lagging replica hears that the lane regressed', async () => {
    const set = await startSet()
    const [master, replica] = set.servers
    const owner = new Owner(openStore({ urls: set.urls, deadlineMs: 30_000 }), freshLane(), 100_000)
    for (let i = 0; i < 20; i++) await owner.step()
    expect(await master.client.wait(1, 5_000)).toBe(1)
    // More than the sockets hold, or what was answered still arrives.
    replica.pause()
    while (owner.position < 400) await owner.step()
    const killed = master.kill9()
    replica.resume()
    await killed
    while (owner.heard.regressed === 0) await owner.step()
    const regressedTo = owner.position
    expect(regressedTo).toBeLessThan(400)
    for (let i = 0; i < 30; i++) await owner.step()
    await owner.checkLane()
  })

  it('an owner that still talks to the old master is told once that is no master any more', async () => {
    const set = await startSet()
    const [master, replica] = set.servers
    const lane = freshLane()
    // It does not mind that nobody answers: its write waits in the old master's socket over the failover.
    const owner = new Owner(openStore({ urls: set.urls, deadlineMs: 60_000, silenceMs: 60_000 }), lane)
    for (let i = 0; i < 30; i++) await owner.step()
    expect(await master.client.wait(1, 5_000)).toBe(1)
    master.pause()
    const waiting = owner.step()
    expect(await set.masterAfter(master)).toBe(replica)
    master.resume()
    await waiting
    for (let i = 0; i < 30; i++) await owner.step()
    await until(async () => (await master.client.info('replication')).includes('role:slave'))
    for (let i = 0; i < 30; i++) await owner.step()
    await owner.checkLane()
    expect(owner.heard.unavailable).toBe(0)
  })

  it('readers see rows that were written and nothing else, whatever happens meanwhile', async () => {
    const set = await startSet()
    const lane = freshLane()
    const owner = new Owner(openStore({ urls: set.urls, deadlineMs: 30_000 }), lane)
    const reader = openStore({ urls: set.urls, deadlineMs: 500 })
    for (let i = 0; i < 20; i++) await owner.step()
    let isOver = false
    const seen = { rows: 0, unavailable: 0 }
    const reading = (async () => {
      while (!isOver) {
        const reads = Array.from({ length: KEYS }, (_, i) => ({ lane, key: Buffer.from(`k${i}`) }))
        const rows: [number, Uint8Array | undefined][] = []
        try {
          await reader.readRows(reads, (index, bytes) => rows.push([index, bytes && new Uint8Array(bytes)]))
        } catch (error) {
          unavailable(error as { code?: string })
          seen.unavailable++
          continue
        }
        for (const [index, bytes] of rows) {
          const position = appliedOf(bytes!)
          expect([position % KEYS, bytes![20]]).toEqual([index, position % 251])
          seen.rows++
        }
      }
    })()
    const killed = set.servers[0].kill9()
    for (const before = owner.heard.ok; owner.heard.ok < before + 40; ) await owner.step()
    await killed
    const before = seen.rows
    await until(() => seen.rows > before + 20 * KEYS)
    isOver = true
    await reading
    expect(seen.unavailable).toBeGreaterThan(0)
  })
})
