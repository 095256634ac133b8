/** What was written is on the replicas before anybody is told that it is safe. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RedisCalls } from '../../src/store/redis-call.ts'
import { RedisConnection } from '../../src/store/redis-connection.ts'
import { readReplication, settle } from '../../src/store/redis-settle.ts'
import { isForeignRedis, type RedisServer, startRedis, until, whyNoRedis } from '../support/redis.ts'

const missing = whyNoRedis() ?? (isForeignRedis ? 'a Redis of our own' : undefined)

describe.skipIf(missing !== undefined)('a Redis with a replica', { timeout: 60_000 }, () => {
  let master: RedisServer
  let replica: RedisServer
  let connection: RedisConnection
  let calls: RedisCalls

  beforeAll(async () => {
    master = await startRedis({ 'repl-diskless-sync-delay': '0' })
    replica = await startRedis({ replicaof: `127.0.0.1 ${master.port}` })
    // The master's word is what counts, and it says so a second after the replica does.
    await until(async () => (await master.client.info('replication')).includes('state=online'))
    connection = new RedisConnection({ urls: master.url })
    calls = new RedisCalls(connection)
  }, 60_000)

  afterAll(async () => {
    await connection?.close()
    replica?.resume()
    await replica?.stop()
    await master?.stop()
  })

  it('settles when the replica has it', async () => {
    await master.client.set('a', 'x'.repeat(100_000))
    await settle(calls)
    expect(await replica.client.strlen('a')).toBe(100_000)
  })

  it('does not while the replica has not heard of it', async () => {
    await settle(calls)
    replica.pause()
    try {
      // By another connection than the one that asks.
      await master.client.set('b', 'x'.repeat(100_000))
      await expect(settle(calls, 300)).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringMatching(/1 of 1 replicas are behind/),
      })
    } finally {
      replica.resume()
    }
    await settle(calls)
    expect(await replica.client.exists('b')).toBe(1)
  })

  it('has nothing to wait for without replicas, and reads what INFO says', async () => {
    const alone = new RedisConnection({ urls: replica.url })
    await settle(new RedisCalls(alone), 0)
    await alone.close()
    const info =
      'role:master\r\nconnected_slaves:2\r\nslave0:ip=10.0.0.1,port=6379,state=online,offset=90,lag=0\r\n' +
      'slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\nmaster_repl_offset:100\r\n'
    expect(readReplication(info)).toEqual({ offset: 100, replicas: [90] })
  })
})
