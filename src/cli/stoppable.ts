/** A long command that a signal ends: with its progress shown, and with the signal's code. */
import type { Call } from './command.ts'
import { Progress, type ProgressOptions } from './progress.ts'
import { SIGNAL_CODES, type Signal } from './terminal.ts'

export interface Stoppable extends Pick<ProgressOptions, 'label' | 'unit'> {
  /** What is said where a signal came before the end. */
  readonly stopped: string
}

/** The exit code of `work`. It is to throw when its signal aborts, unless it is done by then. */
export async function stoppable(
  { terminal, printer }: Call,
  { label, unit, stopped }: Stoppable,
  work: (progress: Progress, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  const progress = new Progress({ label, unit, stream: terminal.stderr, clock: terminal.clock })
  const abort = new AbortController()
  let stoppedBy: Signal | undefined
  terminal.onSignal((signal) => {
    stoppedBy = signal
    abort.abort()
  })
  try {
    return await work(progress, abort.signal)
  } catch (error) {
    if (stoppedBy === undefined) throw error
    progress.stop()
    printer.note(stopped)
    return SIGNAL_CODES[stoppedBy]
  } finally {
    progress.stop()
  }
}
