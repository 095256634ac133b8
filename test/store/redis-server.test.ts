/** Is a server fit for rows, and may we in: what it tells, who may run what, passwords, certificates. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { reportOf } from '../../src/store/redis-server.ts'
import { freePort } from '../support/ports.ts'
import { makeCertificates, whyNoRedis } from '../support/redis.ts'
import { openStore, startOwn } from './redis-scene.ts'
import { LANE, rowOf } from './suite.ts'

describe.skipIf(whyNoRedis() !== undefined)('a server of our own', () => {
  it('is reported: version, role, eviction, persistence', async () => {
    const server = await startOwn()
    const store = openStore({ urls: server.url })
    const report = await store.checkServer()
    expect(report).toMatchObject({ role: 'master', evictionPolicy: 'noeviction', cluster: false })
    expect(report.version).toMatch(/^\d+\.\d+/)
    expect(report.persistence).toMatchObject({ aof: false, rdb: false })
    expect(report.persistence.lossWindow).toContain('loses everything')
    await server.client.config('SET', 'appendonly', 'yes')
    await server.client.config('SET', 'appendfsync', 'always')
    expect((await store.checkServer()).persistence).toMatchObject({
      aof: true,
      lossWindow: expect.stringContaining('loses nothing that was answered'),
    })
    await server.client.config('SET', 'appendonly', 'no')
    await server.client.config('SET', 'save', '60 1000')
    expect((await store.checkServer()).persistence).toMatchObject({
      rdb: true,
      lossWindow: expect.stringContaining('since the last snapshot (save 60 1000)'),
    })
  })

  it('with very much else on it is asked for few pages of keys to find some rows', async () => {
    const server = await startOwn({ 'enable-debug-command': 'yes' })
    const store = openStore({ urls: server.url })
    const { token } = await store.takeLane(LANE, 'a')
    const rows = Array.from({ length: 2_000 }, (_, i) => rowOf(`k${i}`, 1, 7))
    expect(await store.write(LANE, token, 0, { rows, flushingTo: 1 })).toBe('ok')
    const pagesFor = async (ask: () => Promise<unknown>): Promise<number> => {
      await server.client.config('RESETSTAT')
      await ask()
      return Number(/cmdstat_scan:calls=(\d+)/.exec(await server.client.info('commandstats'))?.[1])
    }
    expect(await pagesFor(async () => expect((await store.sampleRows([LANE], 64)).length).toBe(64))).toBe(1)
    await server.client.call('DEBUG', 'POPULATE', '200000', 'filler', '10')
    // One key in a hundred is a row: enough of them stand among the first.
    expect(await pagesFor(async () => expect((await store.sampleRows([LANE], 64)).length).toBe(64))).toBeLessThan(16)
    const nobody = { ...LANE, namespace: 'nobody' }
    expect(await pagesFor(async () => expect(await store.sampleRows([nobody], 64)).toEqual([]))).toBe(16)
  })

  it('that may evict is refused, unless that is allowed', async () => {
    const server = await startOwn({ 'maxmemory-policy': 'volatile-lru' })
    await expect(openStore({ urls: server.url }).checkServer()).rejects.toMatchObject({
      code: 'STORE_UNSAFE',
      message: expect.stringContaining('"volatile-lru"'),
    })
    const report = await openStore({ urls: server.url, allowEviction: true }).checkServer()
    expect(report.evictionPolicy).toBe('volatile-lru')
  })

  it('is checked where CONFIG is forbidden, and refused where INFO is too', async () => {
    const server = await startOwn()
    const client = server.client
    await client.call('ACL', 'SETUSER', 'app', 'on', '>secret', '~tf:*', '+@all', '-config')
    await client.call('ACL', 'SETUSER', 'blind', 'on', '>secret', '~tf:*', '+@all', '-config', '-info')
    const report = await openStore({ urls: server.url, username: 'app', password: 'secret' }).checkServer()
    expect(report).toMatchObject({ evictionPolicy: 'noeviction', persistence: { aof: false, rdb: false } })
    const blind = openStore({ urls: server.url.replace('//', '//blind:secret@') })
    await expect(blind.checkServer()).rejects.toMatchObject({
      code: 'STORE_UNSAFE',
      message: expect.stringContaining('does not tell'),
    })
  })

  it('whose user may run no scripts, or not all of it, is refused in one line', async () => {
    const server = await startOwn()
    const client = server.client
    await client.call('ACL', 'SETUSER', 'reader', 'on', '>secret', '~tf:*', '+@all', '-eval', '-evalsha')
    await client.call('ACL', 'SETUSER', 'half', 'on', '>secret', '~tf:*', '+@all', '-unlink')
    await client.call('ACL', 'SETUSER', 'elsewhere', 'on', '>secret', '~other:*', '+@all')
    for (const username of ['reader', 'half', 'elsewhere']) {
      const store = openStore({ urls: server.url, username, password: 'secret' })
      const error = await store.checkServer().catch((caught) => caught)
      expect(error, username).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringContaining('the user needs EVAL'),
      })
      expect(error.message.split('\n').length).toBe(1)
      // Nor does it wait for the deadline.
      const call = openStore({ urls: server.url, username, password: 'secret', deadlineMs: 100_000 }).takeLane(
        LANE,
        'a',
      )
      if (username !== 'half') await expect(call).rejects.toMatchObject({ message: expect.stringContaining('NOPERM') })
    }
  })

  it('is not used with a wrong password; the password is not told', async () => {
    const server = await startOwn({ requirepass: 'right' })
    // An answer that will not change: nobody waits for the deadline.
    for (const password of ['wrong-secret', undefined]) {
      const error = await openStore({ urls: server.url, password, deadlineMs: 100_000 })
        .readLane(LANE)
        .catch((caught) => caught)
      expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringMatching(/WRONGPASS|NOAUTH/) })
      expect(error.message).not.toContain('wrong-secret')
    }
  })

  it('is reached by TLS, and refused where its certificate is not right', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tilefold-tls-'))
    try {
      makeCertificates(directory)
      const ca = readFileSync(join(directory, 'ca.crt'))
      const settings = async (name: string) => ({
        'tls-port': `${await freePort()}`,
        'tls-cert-file': join(directory, `${name}.crt`),
        'tls-key-file': join(directory, `${name}.key`),
        'tls-ca-cert-file': join(directory, 'ca.crt'),
        'tls-auth-clients': 'no',
      })
      const server = await startOwn(await settings('server'))
      const store = openStore({ urls: server.url, tls: { ca } })
      expect((await store.takeLane(LANE, 'a')).token.counter).toBe(1)
      const other = await startOwn(await settings('other'))
      const refused = { code: 'STORE_UNAVAILABLE', message: expect.stringContaining('check the server') }
      await expect(openStore({ urls: server.url, deadlineMs: 100_000 }).readLane(LANE)).rejects.toMatchObject(refused)
      await expect(
        openStore({ urls: other.url, tls: { ca }, deadlineMs: 100_000 }).readLane(LANE),
      ).rejects.toMatchObject(refused)
      // Plain text to the port of TLS, and the other way round.
      const plain = openStore({ urls: server.url.replace('rediss', 'redis'), deadlineMs: 400 })
      await expect(plain.readLane(LANE)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
      const wrong = openStore({
        urls: `rediss://127.0.0.1:${server.port}`,
        tls: { ca },
        deadlineMs: 400,
        silenceMs: 200,
      })
      await expect(wrong.readLane(LANE)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' })
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })

  it.each(['plain', 'TLS'])(
    'gives rows over a connection of their own (%s), and without it over the other',
    async (kind) => {
      const directory = mkdtempSync(join(tmpdir(), 'tilefold-tls-'))
      try {
        makeCertificates(directory)
        const tls = {
          'tls-port': `${await freePort()}`,
          'tls-cert-file': join(directory, 'server.crt'),
          'tls-key-file': join(directory, 'server.key'),
          'tls-ca-cert-file': join(directory, 'ca.crt'),
          'tls-auth-clients': 'no',
        }
        const server = await startOwn({ ...(kind === 'TLS' ? tls : {}) })
        await server.client.call('ACL', 'SETUSER', 'app', 'on', '>secret', '~tf:*', '+@all')
        const ca = readFileSync(join(directory, 'ca.crt'))
        const store = openStore({
          urls: `${server.url}/3`,
          username: 'app',
          password: 'secret',
          ...(kind === 'TLS' && { tls: { ca } }),
        })
        const { token } = await store.takeLane(LANE, 'a')
        const sizes = [40, 100_000, 41, 300_000, 64, 5_000]
        const rows = sizes.map((bytes, i) => rowOf(`k${i}`, 1, i + 1, bytes))
        expect(await store.write(LANE, token, 0, { rows, flushingTo: 1 })).toBe('ok')
        const reads = [...rows.map(({ key }) => key), new TextEncoder().encode('nobody')].map((key) => ({
          lane: LANE,
          key,
        }))
        const readAll = async () => {
          const seen: (boolean | undefined)[] = []
          await store.readRows(reads, (i, bytes) => {
            seen[i] = bytes && Buffer.compare(bytes, rows[i]!.bytes) === 0
          })
          expect(seen).toEqual([...rows.map(() => true), undefined])
        }
        /** Of the store's connections, the oldest first: its id and its last command. */
        const connections = async () =>
          [...`${await server.client.client('LIST')}`.matchAll(/id=(\d+) .*cmd=(\S+) user=app/g)]
            .map(([, id, command]) => ({ id: Number(id), command }))
            .sort((a, b) => a.id - b.id)
        for (let kills = 0; kills < 3; kills++) {
          await expect
            .poll(
              async () => {
                await readAll()
                return (await connections()).map(({ command }) => command)
              },
              { timeout: 20_000 },
            )
            .toEqual([expect.any(String), 'mget'])
          const [, ofRows] = await connections()
          await server.client.client('KILL', 'ID', ofRows!.id)
          await readAll()
        }
      } finally {
        rmSync(directory, { recursive: true, force: true })
      }
    },
  )
})

describe('what a server tells', () => {
  it('may be little', () => {
    expect(reportOf('', {})).toMatchObject({ version: 'unknown', role: 'unknown', evictionPolicy: undefined })
  })

  it('of an append-only file without its policy is taken with care', () => {
    const { persistence } = reportOf('# x\r\naof_enabled:1\r\n', {})
    expect(persistence.lossWindow).toContain('unknown')
  })
})
