/**
 * The connections of one client, so that its end is theirs too. kafkajs loses sight of some: a broker that dies and comes back
 * while the client stops is connected to once more, and that connection would keep the process alive.
 */
import { connect, isIP, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'

const KEEP_ALIVE_MS = 60_000

interface Target {
  readonly host: string
  readonly port: number
  /** False or absent, whatever kafkajs declares: no TLS. */
  readonly ssl: ConnectionOptions
  readonly onConnect: () => void
}

export class KafkaSockets {
  readonly #open = new Set<Socket>()
  hasEnded = false

  /** As kafkajs does it by itself. */
  readonly create = ({ host, port, ssl, onConnect }: Target): Socket => {
    if (this.hasEnded) throw new Error('the client has ended')
    const servername = isIP(host) === 0 ? { servername: host } : {}
    const socket = ssl
      ? connectTls({ host, port, ...servername, ...ssl }, onConnect)
      : connect({ host, port }, onConnect)
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
    this.#open.add(socket)
    socket.once('close', () => this.#open.delete(socket))
    return socket
  }

  /** What is still open goes the way of a lost connection, with its timers; there will be no other. */
  end(): void {
    this.hasEnded = true
    for (const socket of this.#open) socket.destroy(new Error('the client has ended'))
  }
}
