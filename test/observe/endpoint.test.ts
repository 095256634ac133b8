import { afterAll, describe, expect, it } from 'vitest'
import { TilefoldError } from '../../src/model/errors.ts'
import { type Endpoint, type EndpointOptions, startEndpoint } from '../../src/observe/endpoint.ts'
import { createWorkerMetrics } from '../../src/observe/metrics.ts'
import { Access } from '../../src/serve/access.ts'
import { get, post, rawConnection } from '../serve/http.ts'
import { numberOf, parseExposition } from './exposition.ts'

const TOKEN = 'a-token-of-some-length'
const metrics = createWorkerMetrics({ version: '1', clock: Date.now })
metrics.fenced('orders')

const opened: Endpoint[] = []
afterAll(async () => {
  for (const endpoint of opened) await endpoint.close()
})

async function open(options: Partial<EndpointOptions> = {}): Promise<string> {
  const endpoint = await startEndpoint({
    host: '127.0.0.1',
    port: 0,
    exposition: metrics,
    access: new Access('127.0.0.1', undefined),
    unready: () => undefined,
    ...options,
  })
  opened.push(endpoint)
  return endpoint.url
}

describe('the endpoint', () => {
  it('gives the metrics as Prometheus reads them', async () => {
    const reply = await get(`${await open()}/metrics`)
    expect(reply.status).toBe(200)
    expect(reply.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(numberOf(parseExposition(reply.text), 'tilefold_fenced_writes_total', { view: 'orders' })).toBe(1)
  })

  it('asks for the token before metrics alone', async () => {
    const url = await open({ access: new Access('127.0.0.1', TOKEN) })
    const refused = await get(`${url}/metrics`)
    expect(refused).toMatchObject({ status: 401, json: { error: { code: 'UNAUTHORIZED' } } })
    expect(refused.headers.get('www-authenticate')).toBe('Bearer')
    expect(refused.text).not.toContain('tilefold_')
    expect((await get(`${url}/metrics`, { authorization: `Bearer ${TOKEN}` })).status).toBe(200)
    expect((await get(`${url}/livez`)).status).toBe(200)
    expect((await get(`${url}/readyz`)).status).toBe(200)
  })

  it("is no other machine's, whatever name a browser was told", async () => {
    const connection = await rawConnection(await open())
    connection.socket.write('GET /metrics HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n')
    expect(await connection.closed).toMatch(/^HTTP\/1.1 403 [\s\S]*HOST_REFUSED/)
  })

  it('is ready while the process says so', async () => {
    let answer: () => string | undefined = () => undefined
    const url = await open({ unready: () => answer() })
    expect(await get(`${url}/readyz`)).toMatchObject({ status: 200, json: { status: 'ready' } })
    answer = () => 'draining'
    expect(await get(`${url}/readyz`)).toMatchObject({ status: 503, json: { status: 'not_ready', reason: 'draining' } })
    answer = () => {
      throw new TilefoldError('STORE_UNAVAILABLE', 'cannot reach redis://secret')
    }
    const failed = await get(`${url}/readyz`)
    expect(failed).toMatchObject({ status: 503, json: { reason: 'STORE_UNAVAILABLE' } })
    expect(failed.text).not.toContain('secret')
    expect((await get(`${url}/livez`)).status).toBe(200)
  })

  it('names what has stopped only to who may know', async () => {
    const options = { unready: () => 'LOG_GAP', unreadyDetails: () => ['log orders-0 is stopped: LOG_GAP'] }
    const url = await open({ ...options, access: new Access('127.0.0.1', TOKEN) })
    const plain = await get(`${url}/readyz`)
    expect(plain).toMatchObject({ status: 503, json: { status: 'not_ready', reason: 'LOG_GAP' } })
    expect(plain.text).not.toContain('orders')
    const refused = await get(`${url}/readyz?verbose`)
    expect(refused).toMatchObject({ status: 401, json: { error: { code: 'UNAUTHORIZED' } } })
    expect(refused.text).not.toContain('orders')
    expect(await get(`${url}/readyz?verbose`, { authorization: `Bearer ${TOKEN}` })).toMatchObject({
      status: 503,
      json: { reason: 'LOG_GAP', details: ['log orders-0 is stopped: LOG_GAP'] },
    })
    const alone = await open(options)
    expect((await get(`${alone}/readyz?verbose`)).json.details).toEqual(['log orders-0 is stopped: LOG_GAP'])
  })

  it('has nothing else, and takes nothing', async () => {
    const url = await open()
    expect(await get(`${url}/`)).toMatchObject({ status: 404, json: { error: { code: 'ROUTE_UNKNOWN' } } })
    expect(await post(`${url}/metrics`, {})).toMatchObject({ status: 404, json: { error: { code: 'ROUTE_UNKNOWN' } } })
    expect((await get(`${url}/metrics?x=1`)).status).toBe(200)
  })

  it('fails with one line where the port is taken', async () => {
    const { port } = new URL(await open())
    await expect(open({ port: Number(port) })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(`cannot listen on 127.0.0.1:${port}: listen EADDRINUSE`),
    })
  })

  it('tells nobody why the numbers cannot be had', async () => {
    const exposition = { contentType: 'text/plain', text: () => Promise.reject(new Error('secret')) }
    const reply = await get(`${await open({ exposition })}/metrics`)
    expect(reply).toMatchObject({ status: 500, json: { error: { code: 'INTERNAL' } } })
    expect(reply.text).not.toContain('secret')
  })
})
