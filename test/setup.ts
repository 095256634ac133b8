/**
 * Before any test: what runs in worker threads and child processes is the compiled product, so it must be built. Behind the last one:
 * the Kafka that the files shared is stopped.
 */
import { execFileSync } from 'node:child_process'
import { startOwnKafka } from './support/kafka.ts'
import { lendKafka } from './support/kafka-shared.ts'

export default function setup(): Promise<() => Promise<void>> {
  execFileSync(process.execPath, ['.ci/prepare.mjs'], { stdio: ['ignore', 2, 2] })
  return lendKafka(startOwnKafka)
}
