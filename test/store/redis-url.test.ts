/** Addresses of Redis, in the forms that people write. */
import { describe, expect, it } from 'vitest'
import { createRedisStore } from '../../src/store/redis.ts'
import { parseRedisUrl } from '../../src/store/redis-url.ts'

describe('an address', () => {
  it('is read in the forms that people write', () => {
    expect(parseRedisUrl('redis://cache')).toEqual({
      host: 'cache',
      port: 6379,
      username: undefined,
      password: undefined,
      database: 0,
      tls: false,
    })
    expect(parseRedisUrl('rediss://me:p%40ss@[::1]:7000/3')).toEqual({
      host: '::1',
      port: 7000,
      username: 'me',
      password: 'p@ss',
      database: 3,
      tls: true,
    })
  })

  it('of a Sentinel has the name of the server, and may have its database', () => {
    expect(parseRedisUrl('redis+sentinel://me:secret@watch/orders%20eu/2')).toEqual({
      host: 'watch',
      port: 26379,
      username: 'me',
      password: 'secret',
      database: 2,
      tls: false,
      sentinelName: 'orders eu',
    })
    expect(parseRedisUrl('rediss+sentinel://[::1]:5000/orders')).toMatchObject({ host: '::1', port: 5000, tls: true })
  })

  it.each(['redis+sentinel://watch', 'redis+sentinel://watch/', 'redis+sentinel://watch/a/b', 'redis+x://watch/a'])(
    '%j is refused',
    (text) => {
      expect(() => parseRedisUrl(text)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
    },
  )

  it.each(['', 'cache:6379', 'http://cache', 'redis://cache/x', 'redis://'])('%j is refused', (text) => {
    expect(() => parseRedisUrl(text)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
  })

  it('that is refused shows no password', () => {
    expect(() => parseRedisUrl('redi://me:secret@cache')).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('secret') }),
    )
  })

  it('is needed, and more than one only for Clusters and Sentinels', () => {
    expect(() => createRedisStore({ urls: [] })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }))
    expect(() => createRedisStore({ urls: ['redis://a', 'redis://b'] })).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID' }),
    )
    expect(() => createRedisStore({ urls: 'redis://a', mode: 'sentinel' })).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining('need the name') }),
    )
    const ofSentinel = 'redis+sentinel://a/orders'
    expect(() => createRedisStore({ urls: ofSentinel, mode: 'cluster' })).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining('"cluster"') }),
    )
    for (const other of ['redis://b', 'redis+sentinel://b/clicks']) {
      expect(() => createRedisStore({ urls: [ofSentinel, other] })).toThrow(
        expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining('expected one name') }),
      )
    }
  })
})
