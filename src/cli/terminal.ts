/** What a command touches of its process. Nothing else of `src/cli` reads the clock, the environment or a stream. */

import { styleText } from 'node:util'

export interface OutputStream {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

export type Signal = 'SIGINT' | 'SIGTERM'

export interface Terminal {
  /** Opened when it is first asked for; destroyed by who does not read it to its end. */
  readonly stdin: AsyncIterable<Uint8Array> & { destroy(): unknown }
  readonly stdout: OutputStream
  readonly stderr: OutputStream
  readonly env: Readonly<Record<string, string | undefined>>
  /** Milliseconds since the epoch. */
  readonly clock: () => number
  /** The next signal goes to `handler`; the one behind it ends the process as the system does. */
  onSignal(handler: (signal: Signal) => void): void
}

export function processTerminal(): Terminal {
  return {
    get stdin() {
      return process.stdin
    },
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    clock: Date.now,
    onSignal(handler) {
      const signals: readonly Signal[] = ['SIGINT', 'SIGTERM']
      const once = (signal: NodeJS.Signals) => {
        for (const each of signals) process.removeListener(each, once)
        handler(signal as Signal)
      }
      for (const each of signals) process.on(each, once)
    },
  }
}

/** Exit code of a process that ended for a signal: 128 and its number. */
export const SIGNAL_CODES: Record<Signal, number> = { SIGINT: 130, SIGTERM: 143 }

export type Style = 'bold' | 'dim' | 'red' | 'yellow'

/** Styles text for a stream: not for files and pipes, nor where the user wants none (https://no-color.org). */
export function stylist(stream: OutputStream, env: Terminal['env']): (style: Style, text: string) => string {
  const isPlain = stream.isTTY !== true || (env.NO_COLOR ?? '') !== '' || env.TERM === 'dumb'
  return isPlain ? (_style, text) => text : (style, text) => styleText(style, text, { validateStream: false })
}
