/**
 * One plain Kafka for a whole run of tests, as a broker takes some 8 s of CPU to come up: the first file that asks has it started, the
 * end of the run stops it. Files name their topics and groups apart.
 *
 * It belongs to vitest's own process, which outlives the workers; they ask for it over a socket.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { KafkaCluster } from './kafka.ts'

/** Where the workers find who lends it. */
const SOCKET = 'TILEFOLD_SHARED_KAFKA'

type Answer = { readonly brokers: readonly string[] } | { readonly error: string }

/** Lends what `start` starts to whoever asks until the returned function is called. */
export async function lendKafka(start: () => Promise<KafkaCluster>): Promise<() => Promise<void>> {
  const folder = mkdtempSync(join(tmpdir(), 'tilefold-lend-'))
  let started: Promise<KafkaCluster> | undefined
  const server = createServer((socket) => {
    socket.on('error', () => {})
    const answer = (of: Answer) => socket.end(JSON.stringify(of))
    started ??= start()
    started.then(
      ({ brokers }) => answer({ brokers }),
      (error: Error) => answer({ error: error.message }),
    )
  })
  server.listen(join(folder, 'socket'))
  await once(server, 'listening')
  process.env[SOCKET] = join(folder, 'socket')
  return async () => {
    server.close()
    const kafka = await started?.catch(() => undefined)
    await kafka?.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Its brokers; undefined where nobody lends one. */
export async function borrowKafka(): Promise<readonly string[] | undefined> {
  const path = process.env[SOCKET]
  if (path === undefined) return undefined
  const answer = JSON.parse(await text(createConnection(path))) as Answer
  if ('error' in answer) throw new Error(`cannot borrow a Kafka: ${answer.error}`)
  return answer.brokers
}
