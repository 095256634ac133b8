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

describe('an answer over HTTP', () => {
  it('has values and statuses per row, and each column described once', async () => {
    const { url, shop } = await serve()
    const reply = await post(`${url}/v1/features`, {
      features: [
        'spend:count_1h',
        'spend:points_sum_1d',
        'spend:price_sum_1d',
        'spend:note_last_1d',
        'visits:points_last_1d',
      ],
      entities: [
        { user: 'ann', shop: 1 },
        { user: 'nobody', shop: '9' },
      ],
      as_of: '2026-03-01T12:00:00Z',
    })
    expect(reply.status).toBe(200)
    expect(reply.headers.get('content-type')).toBe('application/json; charset=utf-8')
    // 2^53 + 1 has every digit, the decimal its scale; so only the text shows it.
    const ann = '{"values":[2,9007199254740993,"10.20","é \\"quoted\\"\\n",1],"statuses":["ok","ok","ok","ok","ok"]}'
    const unknown = Array.from({ length: 5 }, () => '"unknown_entity"').join(',')
    expect(reply.text).toContain(`"rows":[${ann},{"values":[0,null,null,null,7],"statuses":[${unknown}]}]`)
    expect(reply.json.metadata).toEqual({
      features: [
        { name: 'count_1h', view: 'spend', op: 'count', type: 'int64', window: '1h' },
        { name: 'points_sum_1d', view: 'spend', op: 'sum', type: 'int64', window: '1d' },
        { name: 'price_sum_1d', view: 'spend', op: 'sum', type: 'decimal', scale: 2, window: '1d' },
        { name: 'note_last_1d', view: 'spend', op: 'last', type: 'utf8', window: '1d' },
        { name: 'points_last_1d', view: 'visits', op: 'last', type: 'int64', window: '1d' },
      ],
      as_of: '2026-03-01T12:00:00.000Z',
      definition_versions: { spend: shop.spend.definitionHash, visits: shop.visits.definitionHash },
      views: [shop.spend, shop.visits].map((plan) => ({
        view: plan.view,
        definition_hash: plan.definitionHash,
        state_hash: plan.stateHash,
        generation: 1,
        layout_version: 1,
      })),
    })
  })

  it('takes join keys that a double cannot hold, as digits and as text', async () => {
    const { url } = await serve()
    const body = `{"features":["visits:count_1d"],"as_of":${NOON},"entities":[{"user":"bob","shop":1152921504606846976},{"user":"bob","shop":"1152921504606846976"},{"user":"bob","shop":1152921504606846977}]}`
    const reply = await post(`${url}/v1/features`, body)
    expect(reply.json.rows.map((row: { values: number[] }) => row.values[0])).toEqual([1, 1, 0])
  })

  it('has an instant per row where each was asked as of its own', async () => {
    const { url } = await serve()
    const reply = await post(`${url}/v1/features`, {
      features: ['spend:count_1h'],
      entities: [{ user: 'ann' }, { user: 'ann' }],
      as_ofs: [NOON, '2026-03-01T12:00:00.001Z'],
    })
    expect(reply.json.metadata.as_of).toBeUndefined()
    expect(reply.json.rows).toEqual([
      { values: [2], statuses: ['ok'], as_of: '2026-03-01T12:00:00.000Z' },
      { values: [3], statuses: ['ok'], as_of: '2026-03-01T12:00:00.001Z' },
    ])
  })

  it('says what is wrong with a row in the row', async () => {
    const { url } = await serve()
    const reply = await post(`${url}/v1/features`, { ...ask, features: ['count_1h'], as_of: NOON - 10 * 3_600_000 + 1 })
    expect(reply.status).toBe(200)
    expect(reply.json.rows).toEqual([
      {
        values: [null],
        statuses: ['too_old'],
        errors: [{ view: 'spend', code: 'AS_OF_TOO_OLD', message: expect.any(String) }],
      },
    ])
  })

  it('explains itself', async () => {
    const { url } = await serve()
    const reply = await post(`${url}/v1/features`, { ...ask, features: ['count_1h'], as_of: NOON, explain: true })
    expect(reply.json.rows[0].explain).toEqual([
      {
        view: 'spend',
        rows: [{ lane: 'web.0', applied: 4, bytes: expect.any(Number) }],
        lanes_without: [],
        complete_through: expect.stringMatching(/^2026-03-01T11:\d\d:\d\d\.\d{3}Z$/),
        freshness_ms: expect.any(Number),
        oldest_as_of: expect.any(String),
        layout_version: 1,
        windows: [{ window: '1h', start: '2026-03-01T11:00:00.000Z', end: '2026-03-01T12:00:00.000Z' }],
        tiles_read: expect.any(Number),
        raw_events_read: expect.any(Number),
      },
    ])
    expect(reply.json.explain).toMatchObject({
      timings_ms: { parse: expect.any(Number), plan: expect.any(Number), read: expect.any(Number) },
      rows_read: 1,
      trips: 1,
    })
  })

  it('lists the views', async () => {
    const { url, shop } = await serve()
    const { json } = await get(`${url}/v1/views`)
    expect(json.views.map((each: { view: string }) => each.view)).toEqual(['spend', 'visits'])
    expect(json.views[1]).toEqual({
      view: 'visits',
      source: 'payments',
      entity: [
        { name: 'shop', type: 'int64' },
        { name: 'user', type: 'utf8' },
      ],
      tiles: ['5m', '1h', '1d'],
      definition_hash: shop.visits.definitionHash,
      state_hash: shop.visits.stateHash,
      features: [
        { name: 'count_1d', op: 'count', type: 'int64', window: '1d' },
        { name: 'points_last_1d', op: 'last', type: 'int64', window: '1d', default: '7' },
      ],
    })
  })
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
    const wrong: Record<string, string>[] = [
      {},
      { authorization: 'Bearer wrong-token-wrong-token' },
      { authorization: TOKEN },
    ]
    for (const headers of wrong) {
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
  it('that nobody foresaw are told to the log and not to the caller', async () => {
    const shop = await openShop()
    const faults: unknown[] = []
    const reader = { ...shop.reader, getFeatures: () => Promise.reject(new Error('secret of /etc/passwd')) }
    const server = await startServer({ reader, port: 0, onFault: (cause) => faults.push(cause) })
    opened.push({ server, shop })
    const reply = await post(`${server.url}/v1/features`, ask)
    expect(reply).toMatchObject({ status: 500, json: { error: { code: 'INTERNAL', details: {} } } })
    expect(reply.text).not.toMatch(/secret|passwd|stack| at /)
    expect(faults).toEqual([new Error('secret of /etc/passwd')])
  })

  it('of a view without anything to answer from fail readiness', async () => {
    const shop = await openShop()
    const server = await startServer({ reader: shop.newReader({ namespace: 'other' }), port: 0 })
    opened.push({ server, shop })
    expect(await get(`${server.url}/readyz`)).toMatchObject({
      status: 503,
      json: { status: 'not_ready', reason: 'LAYOUT_MISSING' },
    })
    expect((await get(`${server.url}/livez`)).status).toBe(200)
  })

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

  it('answers a request whose header was half sent', async () => {
    const { url, server, shop } = await serve()
    shop.store.hold()
    const held = post(`${url}/v1/features`, ask)
    const { socket, closed } = await rawConnection(url)
    socket.write('GET /livez HTTP/1.1\r\nhost: loc')
    await new Promise((resolve) => setTimeout(resolve, 100))
    const closing = server.close()
    await new Promise((resolve) => setTimeout(resolve, 100))
    socket.write('alhost\r\n\r\n')
    expect(await closed).toMatch(/^HTTP\/1.1 200 /)
    shop.store.letGo()
    expect((await held).status).toBe(200)
    await closing
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
