/**
 * The HTTP server around a feature reader. Everything about HTTP is here and nothing about features: bodies become
 * queries, answers become JSON, failures become `{"error": {code, message, details}}`.
 *
 * ```
 *   POST /v1/features   the request's walk (serve.ts)
 *   GET  /v1/views      what can be asked
 *   GET  /metrics       what was asked and answered so far, for Prometheus, where the process counts it
 *   GET  /livez         the process runs
 *   GET  /readyz        the store answers, every view has something to answer from, the core is warm; fails once it drains
 * ```
 */
import { STATUS_CODES } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { TilefoldError } from '../model/errors.ts'
import { type Exposition, NO_SERVER_METRICS, type ServerMetrics } from '../observe/port.ts'
import { Access } from './access.ts'
import { answerJson } from './answer-json.ts'
import { queryFromBody } from './api.ts'
import { parseBody } from './body.ts'
import { faultOf } from './fault.ts'
import type { FeatureReader } from './reader.ts'
import { tellStatuses } from './statuses.ts'
import { viewsJson } from './views-json.ts'

export interface ServerOptions {
  readonly reader: FeatureReader
  /** 127.0.0.1 unless told. Any address that other machines can reach needs a token. */
  readonly host?: string
  /** 0 takes a free one. */
  readonly port: number
  /** Asked for as `Authorization: Bearer <token>`; at least 16 characters. */
  readonly token?: string
  readonly limits?: Partial<ServerLimits>
  /** Told of every request, and shown at `/metrics`. */
  readonly metrics?: ServerMetrics & Exposition
  /** Told of faults that callers learn nothing about. */
  readonly onFault?: (cause: unknown) => void
}

export interface ServerLimits {
  readonly bodyBytesMax: number
  /** From the whole body to the answer. */
  readonly deadlineMs: number
  /** For the header of a request, and for all of it: slow senders hold a socket no longer. */
  readonly headerMs: number
  readonly requestMs: number
  readonly connectionsMax: number
  /** Feature requests under way; more are answered OVERLOADED at once. */
  readonly inFlightMax: number
  /** On close: `/readyz` fails this long before the port closes, so that a balancer has seen it. */
  readonly drainDelayMs: number
  /** On close: requests that are not done by then are cut off. */
  readonly drainMs: number
}

/** A row of join keys takes some 30 bytes, so the body limit is well above 1,000 entities. */
export const SERVER_LIMITS: ServerLimits = {
  bodyBytesMax: 1 << 20,
  deadlineMs: 2_000,
  headerMs: 10_000,
  requestMs: 15_000,
  connectionsMax: 1024,
  inFlightMax: 256,
  drainDelayMs: 0,
  drainMs: 20_000,
}

export interface FeatureServer {
  /** `http://127.0.0.1:6567` */
  readonly url: string
  /** Fails `/readyz` at once, answers what is under way, then closes the port. Calling it again waits for the same end. */
  close(): Promise<void>
}

/** Listens when it resolves. Throws CONFIG_INVALID: no token where one is needed, an address that can't be listened on. */
export async function startServer(options: ServerOptions): Promise<FeatureServer> {
  const host = options.host === undefined || options.host === 'localhost' ? '127.0.0.1' : options.host
  const limits = { ...SERVER_LIMITS, ...options.limits }
  const access = new Access(host, options.token)
  const state = { draining: false, inFlight: 0 }
  const app = createApp(limits, options.onFault ?? (() => {}))
  const metrics: ServerMetrics = options.metrics ?? NO_SERVER_METRICS

  app.addHook('onRequest', async (request) => {
    if (request.routeOptions.config.open === true) return
    access.check(request.headers.authorization, request.headers.host)
  })
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff')
    // Also for a request from before the end: nothing else would close its connection until it times out.
    if (state.draining) reply.header('connection', 'close')
  })
  if (options.metrics !== undefined) addMetrics(app, options.metrics)
  addHealth(app, options.reader, state)
  addFeatures(app, options.reader, { limits, state, metrics })

  let url: string
  try {
    url = await app.listen({ host, port: options.port })
  } catch (cause) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot listen on ${host}:${options.port}: ${(cause as Error).message}`,
      {},
      { cause },
    )
  }
  let closing: Promise<void> | undefined
  return {
    url,
    close: () => {
      closing ??= drain(app, limits, state)
      return closing
    },
  }
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Answered without a token: says nothing but whether the server is well. */
    open?: boolean
  }
}

interface ServerState {
  draining: boolean
  inFlight: number
}

function createApp(limits: ServerLimits, onFault: (cause: unknown) => void): FastifyInstance {
  const fail = (cause: unknown, reply: FastifyReply): void => {
    const fault = faultOf(cause)
    if (fault.unexpected) onFault(cause)
    if (fault.status === 401) reply.header('www-authenticate', 'Bearer')
    if (fault.status === 429 || fault.status === 503) reply.header('retry-after', '1')
    reply.code(fault.status).type('application/json; charset=utf-8').send(fault.body)
  }
  const app = Fastify({
    bodyLimit: limits.bodyBytesMax,
    requestTimeout: limits.requestMs,
    // Sockets that are too slow are looked for this often; by default only every 30 s.
    http: { headersTimeout: limits.headerMs, connectionsCheckingInterval: Math.min(1000, limits.headerMs) },
    // While it drains, requests on open connections are still answered.
    return503OnClosing: false,
    frameworkErrors: (cause, _request, reply) => fail(cause, reply as FastifyReply),
    clientErrorHandler: (cause, socket) => {
      if (cause.code === 'ECONNRESET' || !socket.writable) return
      const { status, body } = faultOf(cause)
      socket.end(
        `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: application/json; charset=utf-8\r\n` +
          `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
      )
    },
  })
  app.server.maxConnections = limits.connectionsMax
  // Bytes are handed on as they are: body.ts reads them.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.setErrorHandler((cause, _request, reply) => fail(cause, reply))
  app.setNotFoundHandler((request, reply) =>
    fail(new TilefoldError('ROUTE_UNKNOWN', `cannot find ${request.method} ${request.url.slice(0, 200)}`), reply),
  )
  return app
}

function addHealth(app: FastifyInstance, reader: FeatureReader, state: ServerState): void {
  app.get('/livez', { config: { open: true } }, async (_request, reply) => json(reply, '{"status":"ok"}'))
  app.get('/readyz', { config: { open: true } }, async (_request, reply) => {
    let reason: string | undefined
    if (state.draining) reason = 'draining'
    else {
      try {
        await reader.checkReady({ deadlineMs: 1000 })
      } catch (cause) {
        // The code alone: whoever asks here has shown no token.
        reason = cause instanceof TilefoldError ? cause.code : 'INTERNAL'
      }
    }
    if (reason === undefined) return json(reply, '{"status":"ready"}')
    return json(reply.code(503), JSON.stringify({ status: 'not_ready', reason }))
  })
}

function addMetrics(app: FastifyInstance, metrics: ServerMetrics & Exposition): void {
  app.addHook('onResponse', (request, reply, done) => {
    metrics.requestDone(request.routeOptions.url ?? 'unknown', reply.statusCode, reply.elapsedTime / 1000)
    done()
  })
  app.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()))
}

interface FeatureRoute {
  readonly limits: ServerLimits
  readonly state: ServerState
  readonly metrics: ServerMetrics
}

function addFeatures(app: FastifyInstance, reader: FeatureReader, { limits, state, metrics }: FeatureRoute): void {
  app.get('/v1/views', async (_request, reply) => json(reply, viewsJson(reader.catalog)))
  app.post('/v1/features', async (request, reply) => {
    if (state.inFlight >= limits.inFlightMax) {
      metrics.requestShed()
      throw new TilefoldError(
        'OVERLOADED',
        `cannot answer now: ${state.inFlight} requests are under way, expected less`,
      )
    }
    metrics.requestsInFlight(++state.inFlight)
    try {
      const query = queryFromBody(parseBody(bodyOf(request)))
      const answer = await reader.getFeatures(query, { deadlineMs: limits.deadlineMs, requestId: requestIdOf(request) })
      metrics.answered(answer.rows.length, answer.metadata.partial)
      tellStatuses(answer.rows, metrics)
      return json(reply, answerJson(answer))
    } finally {
      metrics.requestsInFlight(--state.inFlight)
    }
  })
}

/** The caller's own name for the request, which a log of answers keeps; ignored where it is none that can be kept. */
function requestIdOf(request: FastifyRequest): string | undefined {
  const id = request.headers['x-request-id']
  return typeof id === 'string' && /^[\x21-\x7e]{1,128}$/.test(id) ? id : undefined
}

function bodyOf(request: FastifyRequest): Uint8Array {
  const encoding = request.headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity') {
    throw new TilefoldError('MEDIA_TYPE', 'cannot read the request: its body is compressed, expected plain JSON')
  }
  return request.body instanceof Uint8Array ? request.body : new Uint8Array(0)
}

function json(reply: FastifyReply, text: string): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(text)
}

async function drain(app: FastifyInstance, limits: ServerLimits, state: ServerState): Promise<void> {
  state.draining = true
  if (limits.drainDelayMs > 0) await delay(limits.drainDelayMs)
  const cutOff = setTimeout(() => app.server.closeAllConnections(), limits.drainMs)
  try {
    await app.close()
  } finally {
    clearTimeout(cutOff)
  }
}
