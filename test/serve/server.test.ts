import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { TilefoldError } from '../../src/model/errors.ts'
import { type FeatureServer, type ServerOptions, startServer } from '../../src/serve/server.ts'
import { get, post, rawConnection } from './http.ts'
import { NOON, openShop, type Shop } from './shop.ts'

const TOKEN = 'a-token-of-sufficient-length'
const ask = { view: 'spend', entities: [{ user: 'ann' }] }

const opened: { server: FeatureServer; shop: Shop }[] = []

async function serve(
  options: Partial<ServerOptions> = {},
): Promise<{ url: string; server: FeatureServer; shop: Shop }> {
  const shop = await openShop()
  const server = await startServer({ reader: shop.reader, port: 0, ...options })
  opened.push({ server, shop })
  return { url: server.url, server, shop }
}

afterEach(async () => {
  for (const { server, shop } of opened.splice(0)) {
    shop.store.letGo()
    await server.close()
  }
})

describe('bodies a server must survive', () => {
  it('a body over the limit, told by its length, is refused before it is sent', async () => {
    const { url } = await serve()
    const { socket, closed } = await rawConnection(url)
    socket.write(
      `POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${2 ** 30}\r\n\r\n{`,
    )
    const answer = await closed
    expect(answer).toMatch(/^HTTP\/1.1 413 /)
    expect(answer).toContain('"code":"REQUEST_TOO_LARGE"')
  })

  it('a body over the limit that never tells its length is cut off', async () => {
    const { url } = await serve({ limits: { bodyBytesMax: 10_000 } })
    const { socket, closed } = await rawConnection(url)
    socket.write(
      'POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n',
    )
    const chunk = `1000\r\n${' '.repeat(4096)}\r\n`
    for (let sent = 0; sent < 100 && socket.writable; sent++) {
      await new Promise<void>((resolve) => socket.write(chunk, () => resolve()))
    }
    socket.end()
    expect(await closed).toMatch(/^HTTP\/1.1 413 /)
  })

  it('a million entities, where the body limit lets them in', async () => {
    const { url } = await serve({ limits: { bodyBytesMax: 100 << 20 } })
    const entities = `[${new Array(1_000_000).fill('{"user":"ann"}').join(',')}]`
    const reply = await post(`${url}/v1/features`, `{"view":"spend","entities":${entities}}`)
    expect(reply).toMatchObject({
      status: 413,
      json: { error: { code: 'REQUEST_TOO_LARGE', details: { got: 1_000_000 } } },
    })
  })

  it.each([
    ['nothing', ''],
    ['no JSON', 'view=spend'],
    ['deep nesting', `{"view":${'['.repeat(500_000)}`],
    ['deep nesting, closed', `{"view":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
    ['bad UTF-8', Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)],
    ['a member twice', '{"view":"spend","view":"spend","entities":[{"user":"ann"}]}'],
    ['__proto__', '{"__proto__":{"view":"spend"},"entities":[{"user":"ann"}]}'],
    ['__proto__ in an entity', '{"view":"spend","entities":[{"user":"ann","__proto__":{"admin":true}}]}'],
    ['constructor', '{"view":"spend","entities":[{"user":"ann"}],"constructor":{"prototype":{"x":1}}}'],
    ['a list', '[]'],
    ['wrong types', '{"view":{"$ne":1},"entities":"all"}'],
  ])('%s', async (_case, body) => {
    const { url } = await serve()
    const reply = await post(`${url}/v1/features`, body)
    expect(reply.status).toBe(400)
    expect(reply.json).toEqual({
      error: { code: 'REQUEST_INVALID', message: expect.any(String), details: expect.any(Object) },
    })
    expect(({} as Record<string, unknown>).admin).toBeUndefined()
    // The server is as well as before.
    expect((await post(`${url}/v1/features`, ask)).status).toBe(200)
  })

  it.each([
    ['compressed', { 'content-encoding': 'gzip' }, gzipSync(JSON.stringify(ask))],
    ['as a form', { 'content-type': 'application/x-www-form-urlencoded' }, 'view=spend'],
    ['as text, which any web page may send', { 'content-type': 'text/plain' }, JSON.stringify(ask)],
  ])('%s', async (_case, headers, body) => {
    const { url } = await serve()
    const reply = await post(`${url}/v1/features`, body, headers as Record<string, string>)
    expect(reply).toMatchObject({ status: 415, json: { error: { code: 'MEDIA_TYPE' } } })
  })

  it('names what is unknown, and what was meant', async () => {
    const { url } = await serve()
    expect(await post(`${url}/v1/features`, { ...ask, view: 'spends' })).toMatchObject({
      status: 404,
      json: { error: { code: 'VIEW_UNKNOWN', message: expect.stringContaining('did you mean "spend"?') } },
    })
    expect(await post(`${url}/v1/features`, { ...ask, features: ['count_1w'] })).toMatchObject({
      status: 404,
      json: { error: { code: 'FEATURE_UNKNOWN' } },
    })
  })
})

describe('addresses and methods', () => {
  it.each(['/', '/v1', '/v2/features', '/v1/features/', '/%00', '/v1/../etc/passwd', '/__proto__'])(
    'that are not served have a coded answer: %s',
    async (path) => {
      const { url } = await serve()
      expect(await get(url + path)).toMatchObject({ status: 404, json: { error: { code: 'ROUTE_UNKNOWN' } } })
    },
  )

  it('that are broken have one, too', async () => {
    const { url } = await serve()
    expect(await get(`${url}/%zz`)).toMatchObject({ status: 400, json: { error: { code: 'REQUEST_INVALID' } } })
    expect(await get(`${url}/v1/features`)).toMatchObject({ status: 404, json: { error: { code: 'ROUTE_UNKNOWN' } } })
    const { socket, closed } = await rawConnection(url)
    socket.write('this is not HTTP\r\n\r\n')
    expect(await closed).toMatch(/^HTTP\/1.1 400 [\s\S]*"code":"REQUEST_INVALID"/)
    const huge = await rawConnection(url)
    huge.socket.write(`GET /livez HTTP/1.1\r\nhost: localhost\r\nx-big: ${'x'.repeat(100_000)}\r\n\r\n`)
    expect(await huge.closed).toMatch(/^HTTP\/1.1 413 [\s\S]*"code":"REQUEST_TOO_LARGE"/)
  })
})

describe('who may ask', () => {
  it('is nobody but this machine without a token', async () => {
    const shop = await openShop()
    for (const host of ['0.0.0.0', '::', '192.0.2.7']) {
      await expect(startServer({ reader: shop.reader, port: 0, host })).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
      })
    }
  })

  it('is who has the token, on any address; health needs none', async () => {
    const { url } = await serve({ host: '0.0.0.0', token: TOKEN })
    for (const headers of [{}, { authorization: 'Bearer wrong-token-wrong-token' }, { authorization: TOKEN }]) {
      for (const reply of [
        await post(`${url}/v1/features`, ask, headers),
        await get(`${url}/v1/views`, headers),
        await get(`${url}/nothing`, headers),
      ]) {
        expect(reply).toMatchObject({ status: 401, json: { error: { code: 'UNAUTHORIZED' } } })
        expect(reply.headers.get('www-authenticate')).toBe('Bearer')
        expect(reply.text).not.toContain(TOKEN)
      }
    }
    expect((await post(`${url}/v1/features`, ask, { authorization: `Bearer ${TOKEN}` })).status).toBe(200)
    expect((await get(`${url}/livez`)).status).toBe(200)
    expect((await get(`${url}/readyz`)).json).toEqual({ status: 'ready' })
  })

  it('is not a web page that made its own name point here', async () => {
    const { url } = await serve()
    const { socket, closed } = await rawConnection(url)
    socket.write('GET /v1/views HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n')
    expect(await closed).toMatch(/^HTTP\/1.1 403 [\s\S]*"code":"HOST_REFUSED"/)
  })
})

describe('limits of time and number', () => {
  it('a sender that is too slow with its header is let go', async () => {
    const { url } = await serve({ limits: { headerMs: 200, requestMs: 400 } })
    const { socket, closed } = await rawConnection(url)
    socket.write('POST /v1/features HTTP/1.1\r\nhost: localhost\r\n')
    const drip = setInterval(() => socket.write('x: y\r\n'), 50)
    expect(await closed).toMatch(/^HTTP\/1.1 408 [\s\S]*"code":"REQUEST_TIMEOUT"/)
    clearInterval(drip)
  })

  it('a sender that is too slow with its body is let go', async () => {
    const { url } = await serve({ limits: { headerMs: 200, requestMs: 400 } })
    const { socket, closed } = await rawConnection(url)
    socket.write(
      'POST /v1/features HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n',
    )
    const drip = setInterval(() => socket.write(' '), 50)
    expect(await closed).toMatch(/^HTTP\/1.1 408 /)
    clearInterval(drip)
  })

  it('a connection that says nothing is let go', async () => {
    const { url } = await serve({ limits: { headerMs: 200, requestMs: 400 } })
    const { closed } = await rawConnection(url)
    await closed
  })

  it('more connections than there may be are closed, and the others are served', async () => {
    const { url } = await serve({ limits: { connectionsMax: 2 } })
    const first = await rawConnection(url)
    const second = await rawConnection(url)
    expect(await (await rawConnection(url)).closed).toBe('')
    first.socket.destroy()
    await first.closed
    second.socket.write('GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n')
    expect(await second.closed).toMatch(/^HTTP\/1.1 200 /)
  })

  it('a store that does not answer ends at the deadline, and the next request is served', async () => {
    const { url, shop } = await serve({ limits: { deadlineMs: 100 } })
    shop.store.hold()
    expect(await post(`${url}/v1/features`, ask)).toMatchObject({ status: 504, json: { error: { code: 'DEADLINE' } } })
    shop.store.letGo()
    expect((await post(`${url}/v1/features`, ask)).status).toBe(200)
  })

  it('more requests than can be under way are told to come back', async () => {
    const { url, shop } = await serve({ limits: { inFlightMax: 2 } })
    shop.store.hold()
    const held = [post(`${url}/v1/features`, ask), post(`${url}/v1/features`, ask)]
    let refused = await post(`${url}/v1/features`, ask)
    // The held ones may still have been on their way.
    while (refused.status === 200) refused = await post(`${url}/v1/features`, ask)
    expect(refused).toMatchObject({ status: 429, json: { error: { code: 'OVERLOADED' } } })
    expect(refused.headers.get('retry-after')).toBe('1')
    shop.store.letGo()
    for (const reply of await Promise.all(held)) expect(reply.status).toBe(200)
    expect((await post(`${url}/v1/features`, ask)).status).toBe(200)
  })
})

describe('faults', () => {
  it('of the store are coded, and readiness shows them', async () => {
    const { url, shop } = await serve()
    expect((await get(`${url}/readyz`)).status).toBe(200)
    shop.store.fail(new TilefoldError('STORE_UNAVAILABLE', 'cannot read rows: the disk is gone'))
    expect(await post(`${url}/v1/features`, ask)).toMatchObject({
      status: 503,
      json: { error: { code: 'STORE_UNAVAILABLE' } },
    })
    expect(await get(`${url}/readyz`)).toMatchObject({
      status: 503,
      json: { status: 'not_ready', reason: 'STORE_UNAVAILABLE' },
    })
    expect((await get(`${url}/livez`)).status).toBe(200)
    shop.store.fail(undefined)
    expect((await get(`${url}/readyz`)).status).toBe(200)
  })
})

describe('the end', () => {
  it('fails readiness at once, ends what is under way, then closes the port', async () => {
    const { url, server, shop } = await serve({ limits: { drainDelayMs: 300 } })
    shop.store.hold()
    const held = post(`${url}/v1/features`, ask)
    const closing = server.close()
    const ready = await get(`${url}/readyz`)
    expect(ready).toMatchObject({ status: 503, json: { status: 'not_ready', reason: 'draining' } })
    expect(ready.headers.get('connection')).toBe('close')
    expect((await get(`${url}/livez`)).status).toBe(200)
    let closed = false
    void closing.then(() => {
      closed = true
    })
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(closed).toBe(false)
    shop.store.letGo()
    expect((await held).status).toBe(200)
    await closing
    await expect(get(`${url}/livez`)).rejects.toThrow()
    await server.close()
  })

  it('answers every request that was sent before the port closed', async () => {
    const { url, server } = await serve({ limits: { drainDelayMs: 200 } })
    let going = true
    const statuses: number[] = []
    const clients = Array.from({ length: 4 }, async () => {
      while (going) statuses.push((await post(`${url}/v1/features`, ask)).status)
    })
    const closing = server.close()
    await new Promise((resolve) => setTimeout(resolve, 100))
    going = false
    await Promise.all(clients)
    await closing
    expect(statuses.length).toBeGreaterThan(4)
    expect(new Set(statuses)).toEqual(new Set([200]))
  })

  it('cuts off what does not end', async () => {
    const { url, server, shop } = await serve({ limits: { drainMs: 200, deadlineMs: 60_000 } })
    shop.store.hold()
    const held = post(`${url}/v1/features`, ask).catch((error: Error) => error)
    await new Promise((resolve) => setTimeout(resolve, 100))
    await server.close()
    expect(await held).toBeInstanceOf(Error)
  })
})
