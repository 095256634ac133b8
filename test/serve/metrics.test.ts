/** The numbers of the feature server, as whoever scrapes it sees them. */
import { afterAll, describe, expect, it } from 'vitest'
import { createServerMetrics } from '../../src/observe/metrics.ts'
import { type FeatureServer, type ServerLimits, startServer } from '../../src/serve/server.ts'
import { tellStatuses } from '../../src/serve/statuses.ts'
import { type Family, numberOf, parseExposition } from '../observe/exposition.ts'
import { get, post } from './http.ts'
import { openShop } from './shop.ts'

const TOKEN = 'a-token-of-some-length'
const ask = { view: 'spend', entities: [{ user: 'ann' }] }

const opened: FeatureServer[] = []
afterAll(async () => {
  for (const server of opened) await server.close()
})

async function serve(options: { token?: string; limits?: Partial<ServerLimits> } = {}) {
  const shop = await openShop()
  const metrics = createServerMetrics({ version: '1', clock: Date.now })
  const server = await startServer({ reader: shop.newReader({ metrics }), port: 0, metrics, ...options })
  opened.push(server)
  const numbers = async (): Promise<Map<string, Family>> => parseExposition((await get(`${server.url}/metrics`)).text)
  return { url: server.url, shop, numbers }
}

describe('GET /metrics', () => {
  it('counts requests, entities, values, rows and bytes', async () => {
    const { url, numbers } = await serve()
    const entities = [{ user: 'ann' }, { user: 'ann' }, { user: 'nobody' }]
    const reply = await post(`${url}/v1/features`, { ...ask, entities })
    expect(reply.status).toBe(200)
    expect((await post(`${url}/v1/features`, '{')).status).toBe(400)
    expect((await get(`${url}/nowhere/${'x'.repeat(50)}`)).status).toBe(404)
    const families = await numbers()
    const duration = 'tilefold_feature_request_duration_seconds'
    expect(numberOf(families, `${duration}_count`, { route: '/v1/features', status: '2xx' })).toBe(1)
    expect(numberOf(families, `${duration}_count`, { route: '/v1/features', status: '4xx' })).toBe(1)
    expect(numberOf(families, `${duration}_count`, { route: 'unknown', status: '4xx' })).toBe(1)
    expect(numberOf(families, 'tilefold_answered_entities_total')).toBe(3)
    const statuses = new Map<string, number>()
    for (const row of reply.json.rows as { statuses: string[] }[]) {
      for (const status of row.statuses) statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
    expect(statuses.size).toBeGreaterThan(1)
    for (const [status, count] of statuses) {
      expect(numberOf(families, 'tilefold_answered_values_total', { status }), status).toBe(count)
    }
    expect(numberOf(families, 'tilefold_store_read_duration_seconds_count')).toBe(1)
    const explained = await post(`${url}/v1/features`, { ...ask, entities, explain: true })
    const { rows_read: rows, bytes_read: bytes } = explained.json.explain as { rows_read: number; bytes_read: number }
    expect(rows).toBeGreaterThan(0)
    const after = await numbers()
    expect(numberOf(after, 'tilefold_store_read_rows_total')).toBe(2 * rows)
    expect(numberOf(after, 'tilefold_store_read_bytes_total')).toBe(2 * bytes)
    expect(numberOf(after, 'tilefold_requests_in_flight')).toBe(0)
  })

  it('is behind the token where there is one', async () => {
    const { url } = await serve({ token: TOKEN })
    expect(await get(`${url}/metrics`)).toMatchObject({ status: 401, json: { error: { code: 'UNAUTHORIZED' } } })
    expect((await get(`${url}/metrics`, { authorization: `Bearer ${TOKEN}` })).status).toBe(200)
  })

  it('is not there where nobody counts', async () => {
    const shop = await openShop()
    const server = await startServer({ reader: shop.reader, port: 0 })
    opened.push(server)
    expect((await get(`${server.url}/metrics`)).status).toBe(404)
  })
})

describe('a slow store', () => {
  it('holds as many requests as may be under way; the others are shed at once, counted, and health still answers', async () => {
    const { url, shop, numbers } = await serve({ limits: { inFlightMax: 4, deadlineMs: 60_000 } })
    await post(`${url}/v1/features`, ask)
    shop.store.hold()
    const replies = Array.from({ length: 40 }, () => post(`${url}/v1/features`, ask))
    const shed: Awaited<(typeof replies)[number]>[] = []
    for (const each of replies) void each.then((reply) => reply.status !== 200 && shed.push(reply))
    while (shed.length < 36) await new Promise((resolve) => setTimeout(resolve, 5))
    for (const reply of shed) {
      expect(reply).toMatchObject({ json: { error: { code: 'OVERLOADED' } } })
      expect(reply.headers.get('retry-after')).toBe('1')
    }
    expect((await get(`${url}/livez`)).status).toBe(200)
    let families = await numbers()
    expect(numberOf(families, 'tilefold_requests_in_flight')).toBe(4)
    expect(numberOf(families, 'tilefold_requests_shed_total')).toBe(36)
    shop.store.letGo()
    const statuses = (await Promise.all(replies)).map((reply) => reply.status)
    expect(statuses.filter((status) => status === 200)).toHaveLength(4)
    families = await numbers()
    expect(numberOf(families, 'tilefold_requests_in_flight')).toBe(0)
  })
})

describe('statuses of an answer', () => {
  it('are counted value by value, also where rows share their list', () => {
    const told: Record<string, number> = {}
    const ok = ['ok', 'ok'] as const
    const rows = [ok, ok, ['empty', 'ok'] as const, ok].map((statuses) => ({ values: [1, 2], statuses }))
    tellStatuses(rows, {
      values: (status, count) => {
        told[status] = count
      },
    })
    expect(told).toEqual({ ok: 7, empty: 1 })
  })
})
