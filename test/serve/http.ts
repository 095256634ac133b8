/** Plain HTTP for tests, down to the bytes on the socket where a client library would be too polite. */
import { connect, type Socket } from 'node:net'

export interface Reply {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the server wrote
  readonly json: any
}

export async function get(url: string, headers: Record<string, string> = {}): Promise<Reply> {
  return replyOf(await fetch(url, { headers }))
}

export async function post(url: string, body: unknown, headers: Record<string, string> = {}): Promise<Reply> {
  const bytes = typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body)
  return replyOf(
    await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: bytes as string,
    }),
  )
}

async function replyOf(response: Response): Promise<Reply> {
  const text = await response.text()
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    // Not JSON: the test will say so.
  }
  return { status: response.status, headers: response.headers, text, json }
}

export interface RawConnection {
  readonly socket: Socket
  /** Everything received so far. */
  received(): string
  /** Resolves with everything received once the server has closed the connection. */
  readonly closed: Promise<string>
}

/** A socket to the server at `url`; what it sends is up to the test. */
export async function rawConnection(url: string): Promise<RawConnection> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => chunks.push(chunk))
  const received = (): string => Buffer.concat(chunks).toString()
  const closed = new Promise<string>((resolve) => {
    socket.on('error', () => {})
    socket.on('close', () => resolve(received()))
  })
  await new Promise<void>((resolve) => socket.once('connect', resolve))
  return { socket, received, closed }
}
