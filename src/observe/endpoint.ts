/**
 * The small server of a process that answers no features: `/metrics`, `/livez`, `/readyz`.
 *
 *   GET /metrics   numbers for Prometheus; behind the token, where there is one
 *   GET /livez     the process runs
 *   GET /readyz    it does its work; 503 and why not otherwise, in a word
 *   GET /readyz?verbose   with names and places; behind the token as well
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { TilefoldError } from '../model/errors.ts'
import type { Exposition } from './port.ts'

export interface EndpointOptions {
  readonly host: string
  /** 0 takes a free one. */
  readonly port: number
  readonly exposition: Exposition
  /** Throws UNAUTHORIZED or HOST_REFUSED for who may not read the metrics. */
  readonly access: { check(authorization: string | undefined, hostHeader: string | undefined): void }
  /** Why the process is not ready, in a word; undefined where it is. Failing is not ready either. */
  readonly unready: () => string | undefined | Promise<string | undefined>
  /** The same for who may know it: which logs, which errors. */
  readonly unreadyDetails?: () => readonly string[]
}

export interface Endpoint {
  /** `http://127.0.0.1:9464` */
  readonly url: string
  close(): Promise<void>
}

/** Listens when it resolves. Throws CONFIG_INVALID for an address that can't be listened on. */
export async function startEndpoint(options: EndpointOptions): Promise<Endpoint> {
  const { host, port } = options
  const server = createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, (request, response) => {
    void answer(options, request, response)
  })
  server.maxConnections = 64
  await listen(server, host, port)
  // It keeps no process running that has nothing else to do.
  server.unref()
  const address = server.address() as { port: number }
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on('error', (cause) => {
      reject(new TilefoldError('CONFIG_INVALID', `cannot listen on ${host}:${port}: ${cause.message}`, {}, { cause }))
    })
    server.listen(port, host, resolve)
  })
}

/** Never rejects. */
async function answer(options: EndpointOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const [, path, query] = /^([^?]*)\??(.*)$/.exec(request.url ?? '') ?? []
    if (request.method !== 'GET' && request.method !== 'HEAD') throw unknownRoute(request)
    if (path === '/livez') return send(response, 200, JSON_TYPE, '{"status":"ok"}')
    const isVerbose = new URLSearchParams(query).has('verbose')
    if (path === '/readyz' && !isVerbose) return await answerReady(options, response)
    options.access.check(request.headers.authorization, request.headers.host)
    if (path === '/readyz') return await answerReady(options, response, options.unreadyDetails?.())
    if (path !== '/metrics') throw unknownRoute(request)
    send(response, 200, options.exposition.contentType, await options.exposition.text())
  } catch (cause) {
    const { status, code, message } =
      cause instanceof TilefoldError ? cause : new TilefoldError('INTERNAL', 'cannot answer: an unexpected fault')
    if (status === 401) response.setHeader('www-authenticate', 'Bearer')
    send(response, status, JSON_TYPE, JSON.stringify({ error: { code, message, details: {} } }))
  }
}

async function answerReady(
  { unready }: EndpointOptions,
  response: ServerResponse,
  details?: readonly string[],
): Promise<void> {
  let reason: string | undefined
  try {
    reason = await unready()
  } catch (cause) {
    // The code alone: whoever asks here has shown no token.
    reason = cause instanceof TilefoldError ? cause.code : 'INTERNAL'
  }
  if (reason === undefined) send(response, 200, JSON_TYPE, '{"status":"ready"}')
  else send(response, 503, JSON_TYPE, JSON.stringify({ status: 'not_ready', reason, details }))
}

const JSON_TYPE = 'application/json; charset=utf-8'

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
  response.end(body)
}

function unknownRoute({ method, url }: IncomingMessage): TilefoldError {
  return new TilefoldError('ROUTE_UNKNOWN', `cannot find ${method} ${(url ?? '').slice(0, 200)}`)
}
