/**
 * Free ports for servers of our own, below those that the system gives to outgoing connections: one of theirs would take a port
 * between the moment it was found free and the moment a server listens on it, or while a killed server is away.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'

const [FIRST, COUNT] = [12_000, 20_000]

/** Ports that were free a moment ago; all held at once, so that none comes twice. */
export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = []
  while (servers.length < count) {
    const server = createServer()
    server.listen(FIRST + Math.floor(Math.random() * COUNT), '127.0.0.1')
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    if (isFree) servers.push(server)
  }
  const ports = servers.map((server) => (server.address() as { port: number }).port)
  for (const server of servers) {
    server.close()
    await once(server, 'close')
  }
  return ports
}

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}
