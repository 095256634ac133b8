/** A process of the claims `stream` and `route`, seen from the one that measures. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import {
  nowMs,
  type ProcessReport,
  type ProcessTask,
  type ProduceCommand,
  type ReadableRows,
  type SentBatch,
} from './stream-process.ts'
import type { Servers } from './stream-servers.ts'
import { StoredPositions } from './stream-worker.ts'

/** Until something has come up or through; the machine may be busy with other things. */
const PATIENCE_MS = 120_000

export type Stored = readonly [partition: number, position: number, atMs: number]

export class StreamProcess {
  readonly startMs = nowMs()
  readonly stored: Stored[] = []
  readonly rows: ReadableRows[] = []
  readonly positions = new StoredPositions()
  readonly assigned: number[] = []
  readonly #child: ChildProcess
  #ready = false
  #sent: readonly SentBatch[] | undefined

  private constructor(private readonly task: ProcessTask) {
    const script = fileURLToPath(new URL('./stream-process.js', import.meta.url))
    this.#child = fork(script, [JSON.stringify(task)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.#child.on('message', (report: ProcessReport) => {
      if ('ready' in report) this.#ready = true
      else if ('assigned' in report) this.assigned.push(report.assigned)
      else if ('rows' in report) this.rows.push(report.rows)
      else if ('sent' in report) this.#sent = report.sent
      else {
        this.stored.push(report.stored)
        this.positions.set(report.stored[0], report.stored[1])
      }
    })
  }

  /** Resolves when it has joined its group, or can produce. */
  static async start(
    { kafka, redisUrl, settings }: Servers,
    more: Omit<ProcessTask, 'brokers' | 'redisUrl' | 'seed'>,
  ): Promise<StreamProcess> {
    const started = new StreamProcess({ brokers: kafka.brokers, redisUrl, seed: settings.seed, ...more })
    await started.until('ready', () => started.#ready)
    return started
  }

  /** The producer sends so many events; answers when each batch was sent. */
  async produce(command: ProduceCommand): Promise<readonly SentBatch[]> {
    this.#sent = undefined
    this.#child.send(command)
    await this.until('done', () => this.#sent !== undefined)
    return this.#sent!
  }

  storedUpTo(events: number): Promise<void> {
    return this.until(`at ${events} stored events`, () => this.positions.total >= events)
  }

  async until(what: string, isSo: () => boolean): Promise<void> {
    const { role } = this.task
    const endMs = nowMs() + PATIENCE_MS
    while (!isSo()) {
      const { exitCode, signalCode } = this.#child
      if (exitCode !== null || signalCode !== null) throw new Error(`the ${role} ended with ${signalCode ?? exitCode}`)
      if (nowMs() > endMs) throw new Error(`the ${role} was not ${what}; got ${this.positions.total} stored events`)
      await sleep(2)
    }
  }

  async kill9(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await gone
  }
}
