/** What is on its way to a broker, for tests: a client's requests of one kind are held where a slow network would hold them. */
import { Socket } from 'node:net'

/** Kafka's numbers of requests. */
export const REQUESTS = {
  Produce: 0,
  InitProducerId: 22,
  AddPartitionsToTxn: 24,
  AddOffsetsToTxn: 25,
  EndTxn: 26,
  TxnOffsetCommit: 28,
} as const

export type RequestKind = keyof typeof REQUESTS

export interface Hold {
  /** A request is being held. */
  readonly arrived: Promise<void>
  /** Sends what was held, and holds no more. */
  release(): void
  /** Sends what was held, and cuts its connections before an answer can come; holds no more. */
  releaseAndCut(): void
}

type Write = (this: Socket, ...args: unknown[]) => boolean

/** kafkajs writes one request at a time: 4 bytes of size, 2 of kind, 2 of version, 4 of correlation, the client's id. */
function isRequest(bytes: unknown, kind: number, clientId: string): boolean {
  return (
    Buffer.isBuffer(bytes) &&
    bytes.length > 14 &&
    bytes.readInt16BE(4) === kind &&
    bytes.toString('utf8', 14, 14 + bytes.readInt16BE(12)) === clientId
  )
}

interface Held {
  readonly socket: Socket
  readonly args: unknown[]
}

/** Holds that are not released; each takes a request it is about out of the stream, or not. */
const holds = new Set<(request: Held) => boolean>()
const prototype = Socket.prototype as unknown as { write: Write }
const { write } = prototype

/** Several may hold at a time. */
export function holdRequests(clientId: string, kind: RequestKind): Hold {
  const held: Held[] = []
  let arrive = () => {}
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve
  })
  const take = (request: Held) => {
    if (!isRequest(request.args[0], REQUESTS[kind], clientId)) return false
    held.push(request)
    arrive()
    return true
  }
  holds.add(take)
  prototype.write = function (this: Socket, ...args) {
    const request = { socket: this, args }
    return [...holds].some((take) => take(request)) || write.apply(this, args)
  }
  const release = () => {
    holds.delete(take)
    if (holds.size === 0) prototype.write = write
    for (const { socket, args } of held.splice(0)) write.apply(socket, args)
  }
  return {
    arrived,
    release,
    releaseAndCut() {
      const sockets = held.map(({ socket }) => socket)
      for (const socket of sockets) socket.removeAllListeners('data')
      release()
      for (const socket of sockets) socket.end()
    },
  }
}
