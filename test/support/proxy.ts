/** A TCP proxy on loopback that does to a connection what a network does: cuts it, swallows replies, goes silent. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export class TcpProxy {
  readonly port: number
  /** What is done to bytes on their way: default is to pass them on. */
  onRequest: ((chunk: Buffer) => 'pass' | 'drop' | 'cut') | undefined
  onReply: ((chunk: Buffer) => 'pass' | 'drop' | 'cut') | undefined
  /** Connections taken so far. */
  connections = 0
  readonly #server: ReturnType<typeof createServer>
  readonly #sockets = new Set<Socket>()

  private constructor(server: ReturnType<typeof createServer>, target: number) {
    this.#server = server
    this.port = (server.address() as { port: number }).port
    server.on('connection', (socket) => this.#join(socket, connect(target, '127.0.0.1')))
  }

  static async start(target: number): Promise<TcpProxy> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new TcpProxy(server, target)
  }

  /** Cuts every connection; new ones are taken. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  async stop(): Promise<void> {
    this.cutAll()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #join(near: Socket, far: Socket): void {
    this.connections++
    const cut = () => {
      near.resetAndDestroy()
      far.resetAndDestroy()
    }
    for (const socket of [near, far]) {
      this.#sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', cut)
      socket.on('close', () => {
        this.#sockets.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.on('data', (chunk) => this.#pass(chunk, far, this.onRequest, cut))
    far.on('data', (chunk) => this.#pass(chunk, near, this.onReply, cut))
  }

  #pass(chunk: Buffer, to: Socket, decide: TcpProxy['onRequest'], cut: () => void): void {
    const what = decide?.(chunk) ?? 'pass'
    if (what === 'pass') to.write(chunk)
    if (what === 'cut') cut()
  }
}
