/** The command line as a function of its arguments, in this process; and as the process it is, for what only that has. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll } from 'vitest'
import { runCli } from '../../src/cli/program.ts'
import type { Signal, Terminal } from '../../src/cli/terminal.ts'

export const root = resolve(import.meta.dirname, '../..')
/** The clock of every command that is run here. */
export const NOW = Date.UTC(2025, 5, 1)

export interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly stdin?: AsyncIterable<Uint8Array> & { destroy(): unknown }
  readonly isTTY?: boolean
  /** NOW unless told. */
  readonly nowMs?: number
  /** Called with the function that sends a signal, once the command listens for one. */
  readonly onListening?: (send: (signal: Signal) => void) => void
  readonly onStdout?: (text: string) => void
  readonly onStderr?: (text: string) => void
}

/** Runs a command in this process. */
export async function cli(args: readonly string[], options: CliOptions = {}): Promise<Outcome> {
  let stdout = ''
  let stderr = ''
  const terminal: Terminal = {
    get stdin() {
      return options.stdin ?? bytesOf('')
    },
    stdout: {
      isTTY: options.isTTY,
      write: (text) => {
        stdout += text
        options.onStdout?.(text)
      },
    },
    stderr: {
      isTTY: options.isTTY,
      write: (text) => {
        stderr += text
        options.onStderr?.(text)
      },
    },
    env: options.env ?? {},
    clock: () => options.nowMs ?? NOW,
    onSignal: (handler) => options.onListening?.(handler),
  }
  const code = await runCli(args, terminal)
  return { code, stdout, stderr }
}

/** A standard input that gives its parts one by one. */
export function bytesOf(
  ...parts: readonly (string | (() => Promise<string>))[]
): AsyncIterable<Uint8Array> & { destroy(): unknown } {
  const iterable = (async function* () {
    for (const part of parts) yield Buffer.from(typeof part === 'string' ? part : await part())
  })()
  return Object.assign(iterable, { destroy: () => {} })
}

/** A folder that is gone after the tests of the file. */
export function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tilefold-cli-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export function writeIn(folder: string, name: string, text: string | Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

/** The compiled command as a process. */
export function spawnCli(
  args: readonly string[],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  const kept = Object.entries(process.env).filter(([name]) => !/^(TILEFOLD_|NODE_OPTIONS$|NO_COLOR$)/.test(name))
  return spawn(process.execPath, [join(root, 'dist/src/cli/main.js'), ...args], {
    cwd,
    env: { ...Object.fromEntries(kept), ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

export interface Ended extends Outcome {
  readonly signal: NodeJS.Signals | null
}

/** Resolves when the process has ended and its output is read. */
export function ended(child: ChildProcess): Promise<Ended> {
  let stdout = ''
  let stderr = ''
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  return new Promise((done, fail) => {
    child.on('error', fail)
    child.on('close', (code, signal) => done({ code: code ?? -1, signal, stdout, stderr }))
  })
}

export function runProcess(
  args: readonly string[],
  cwd: string,
  env?: Readonly<Record<string, string>>,
): Promise<Ended> {
  const child = spawnCli(args, cwd, env)
  child.stdin!.end()
  return ended(child)
}

/** The error that `-o json` prints. */
export function errorOf({ stderr }: Outcome): { code: string; message: string; details: Record<string, unknown> } {
  const line = stderr.trimEnd().split('\n').at(-1)!
  return (JSON.parse(line) as { error: ReturnType<typeof errorOf> }).error
}

// ---- orders ----------------------------------------------------------------------------------------------------------

export interface Order {
  readonly at: string
  readonly customer: string
  readonly amount: number
  readonly items: number
}

/** What `init` writes. */
export const ORDERS_YAML = `namespace: shop
views:
  - name: orders_by_customer
    source: { name: orders, columns: { at: 'timestamp[ms]', customer: utf8, amount: float64, items: int64 } }
    entity: customer
    time: at
    aggregations:
      - { op: count, windows: [1h, 24h] }
      - { op: sum, column: amount, windows: [24h] }
      - { op: last, column: items, windows: [24h] }
`

/** Amounts are quarters: plain sums of them are exact. */
export function makeOrders(count: number, startMs = Date.UTC(2025, 0, 1)): Order[] {
  const customers = ['ada', 'bob', 'ada', 'cleo']
  return Array.from({ length: count }, (_, i) => ({
    at: new Date(startMs + i * 600_000).toISOString(),
    customer: customers[i % customers.length]!,
    amount: 1 + (i % 17) / 4,
    items: i % 5,
  }))
}

export function toLines(rows: readonly object[]): string {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join('')
}

/** count_1h, count_24h, amount_sum_24h, items_last_24h of a customer. */
export function expectedValues(orders: readonly Order[], customer: string, asOf: string): (number | null)[] {
  const endMs = Date.parse(asOf)
  const within = (hours: number) =>
    orders.filter((order) => {
      const ms = Date.parse(order.at)
      // A window of an hour starts on a tile of five minutes, one of a day on a tile of an hour.
      const stepMs = hours === 1 ? 300_000 : 3_600_000
      const startMs = Math.floor((endMs - hours * 3_600_000) / stepMs) * stepMs
      return order.customer === customer && ms >= startMs && ms < endMs
    })
  const day = within(24)
  return [
    within(1).length,
    day.length,
    day.length === 0 ? null : day.reduce((sum, order) => sum + order.amount, 0),
    day.at(-1)?.items ?? null,
  ]
}

/** Asks for all features of the orders' view; the values. */
export async function askValues(store: string, file: string, customer: string, asOf: string): Promise<unknown[]> {
  const { code, stdout, stderr } = await cli([
    'get',
    'orders_by_customer',
    '--entity',
    `customer=${customer}`,
    '--as-of',
    asOf,
    '-o',
    'json',
    '--store',
    store,
    '-f',
    file,
  ])
  if (code !== 0) throw new Error(stderr)
  return (JSON.parse(stdout) as { rows: { values: unknown[] }[] }).rows[0]!.values
}
