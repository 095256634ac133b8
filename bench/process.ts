/**
 * A contender in a process of its own: the C yardsticks and plain JavaScript. It prints `ready`, then answers each line
 * that names a variant with `<ns> <ops> <checksum>`; it sleeps in between, so it takes nothing from the others' rounds.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Contender, Measure } from './contest.ts'

/** Starts plain JavaScript on a dataset (baseline-process.ts); runs compiled only, as `npm run bench` does. */
export function startBaseline(program: 'fold' | 'keys' | 'merge', dataset: string): Promise<ContenderProcess> {
  const script = fileURLToPath(new URL('./baseline-process.js', import.meta.url))
  return ContenderProcess.start('JavaScript', process.execPath, [script, program, dataset])
}

export class ContenderProcess {
  private readonly child: ChildProcess
  private readonly lines: Interface
  private readonly waiting: { resolve(line: string): void; reject(error: Error): void }[] = []
  private readonly early: string[] = []
  private failure: Error | undefined
  private users = 0

  private constructor(
    private readonly name: string,
    command: string,
    commandArguments: readonly string[],
  ) {
    this.child = spawn(command, commandArguments, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.lines = createInterface({ input: this.child.stdout! })
    this.lines.on('line', (line) => {
      const next = this.waiting.shift()
      if (next) next.resolve(line)
      else this.early.push(line)
    })
    this.child.on('error', (error) => this.fail(error))
    this.child.on('close', (code, signal) =>
      this.fail(new Error(`cannot run ${name}: it ended with ${signal ?? code}`)),
    )
    // Writing to a child that has died must not kill the harness; `close` reports the death.
    this.child.stdin!.on('error', () => {})
  }

  static async start(name: string, command: string, commandArguments: readonly string[]): Promise<ContenderProcess> {
    const started = new ContenderProcess(name, command, commandArguments)
    const greeting = await started.nextLine()
    if (greeting !== 'ready') throw new Error(`cannot start ${name}: got ${JSON.stringify(greeting)}, expected "ready"`)
    return started
  }

  /** The process as a contender, one per variant; it ends when all of them are closed. */
  contender(label: string, variant: string): Contender {
    this.users++
    return {
      name: label,
      round: () => this.round(variant),
      close: () => {
        if (--this.users === 0) this.child.stdin!.end()
      },
    }
  }

  private async round(variant: string): Promise<Measure> {
    this.child.stdin!.write(`${variant}\n`)
    const line = await this.nextLine()
    const [ns, ops, checksum] = line.split(' ')
    if (checksum === undefined || !(Number(ops) > 0)) {
      throw new Error(`cannot read ${this.name}: got ${JSON.stringify(line)}, expected "<ns> <ops> <checksum>"`)
    }
    return { ns: Number(ns), ops: Number(ops), checksum }
  }

  private nextLine(): Promise<string> {
    const line = this.early.shift()
    if (line !== undefined) return Promise.resolve(line)
    if (this.failure) return Promise.reject(this.failure)
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }))
  }

  private fail(error: Error): void {
    this.failure ??= error
    for (const { reject } of this.waiting.splice(0)) reject(this.failure)
  }
}
