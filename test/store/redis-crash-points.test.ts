/**
 * The crash points of a flush over Redis: the process killed at every call to the store and again in the replay, as over the store in
 * memory; and, what only a network does, every request and every reply cut in turn, and another one soon after.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Store } from '../../src/store/port.ts'
import { createRedisStore, type RedisStore } from '../../src/store/redis.ts'
import { patience } from '../fuzz/effort.ts'
import { drawStream, type Outcome, type Planned, run, show } from '../ingest/crash-walk.ts'
import { TcpProxy } from '../support/proxy.ts'
import { freshNamespace, type RedisServer, startRedis, whyNoRedis } from '../support/redis.ts'
import { inNamespace } from '../support/redis-namespace.ts'

const stream = drawStream(2, 1, 1, { count: 6, head: 'step', ladderMs: [1_000, 60_000, 3_600_000] })

describe.skipIf(whyNoRedis() !== undefined)('a flush to Redis', () => {
  let server: RedisServer
  let proxy: TcpProxy
  let store: RedisStore
  beforeAll(async () => {
    server = await startRedis()
    proxy = await TcpProxy.start(server.port)
    store = createRedisStore({ urls: `redis://127.0.0.1:${proxy.port}`, deadlineMs: 60_000 })
  })
  afterAll(async () => {
    await store?.close()
    await proxy?.stop()
    await server?.stop()
  })

  /** Writes of a row or two, so that a flush has several. */
  const newStore = (): Store => ({ ...inNamespace(store, freshNamespace()), writeBytesMax: 300, close: async () => {} })
  const expectSame = async (undisturbed: Outcome, where: string, faults: readonly Planned[] = []): Promise<Outcome> => {
    const outcome = await run(stream, newStore(), faults)
    expect(show(outcome.rows), where).toEqual(show(undisturbed.rows))
    expect(outcome.outcomes, where).toEqual(undisturbed.outcomes)
    return outcome
  }

  it(
    'comes out the same from a death at every call, and one more in the replay',
    async () => {
      const undisturbed = await run(stream, newStore(), [])
      expect(undisturbed.rows.size).toBeGreaterThan(0)
      let deaths = 0
      for (let first = 0; first < undisturbed.calls[0]!; first++) {
        await expectSame(undisturbed, `dead after call ${first}`, [{ call: first, fault: 'after' }])
        const once = await expectSame(undisturbed, `dead before call ${first}`, [{ call: first, fault: 'before' }])
        // A third of the second deaths, others each time: the store in memory dies them all.
        for (let second = first % 3; second < once.calls[1]!; second += 3) {
          const faults = [first, second].map((call): Planned => ({ call, fault: 'before' }))
          await expectSame(undisturbed, `dead before calls ${first} and ${second}`, faults)
          deaths++
        }
      }
      expect(deaths).toBeGreaterThan(undisturbed.calls[0]! * 2)
    },
    patience(20_000),
  )

  it.each(['onRequest', 'onReply'] as const)(
    'comes out the same with every chunk of %s cut, and one soon after it',
    async (side) => {
      const undisturbed = await run(stream, newStore(), [])
      let walked = 0
      for (let first = 1; ; first++) {
        const second = first + 1 + (first % 4)
        let chunks = 0
        proxy[side] = () => (++chunks === first || chunks === second ? 'cut' : 'pass')
        await expectSame(undisturbed, `${side} ${first} and ${second} cut`)
        proxy[side] = undefined
        if (chunks < first) break
        walked++
      }
      expect(walked).toBeGreaterThan(10)
    },
    patience(20_000),
  )
})
