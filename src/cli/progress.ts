/**
 * The progress of a long job, on one line: what is done, how fast, how long it will take.
 *
 *   backfill ██████████████░░░░░░  71 %  2,045,184 of 2,880,452 events  812,345/s  2s left
 *
 * On a terminal the line is redrawn in place, at most ten times a second; elsewhere (a log, a pipe) a plain line comes every
 * few seconds. It goes to stderr, so that stdout holds results alone.
 */
import { formatDuration } from '../model/time.ts'

/** The part of `process.stderr` that is used. */
export interface ProgressStream {
  readonly isTTY?: boolean
  readonly columns?: number
  write(text: string): unknown
}

export interface ProgressOptions {
  /** What is being done, in a word: `backfill`. */
  readonly label: string
  /** What is counted: `events`. */
  readonly unit: string
  readonly stream: ProgressStream
  /** Milliseconds; only differences count. */
  readonly clock: () => number
  /** Between two plain lines, where the stream is no terminal; 3,000 unless told. */
  readonly plainIntervalMs?: number
}

export interface ProgressState {
  readonly done: number
  /** Absent where nobody knows: then there is no bar and no time left. */
  readonly total?: number
  /** Shown at the end of the line: a file, an instant. */
  readonly note?: string
}

interface Sample {
  readonly atMs: number
  readonly done: number
}

const REDRAW_MS = 100
const PLAIN_MS = 3000
const BAR_CELLS = 20
/** The rate shown is that of the last seconds: a slow start is soon forgotten. */
const RATE_WINDOW_MS = 8000
const SAMPLE_MS = 250

export class Progress {
  readonly #options: ProgressOptions
  readonly #startMs: number
  /** What the first update says was perhaps done by an earlier run: no speed is read from it. */
  #first: Sample | undefined
  #recent: Sample[] = []
  #state: ProgressState = { done: 0 }
  #shownMs: number
  #isDrawn = false
  #ended = false

  constructor(options: ProgressOptions) {
    this.#options = options
    this.#startMs = options.clock()
    // The first line comes at once on a terminal, and with the first news elsewhere.
    this.#shownMs = this.#isTerminal ? Number.NEGATIVE_INFINITY : this.#startMs
  }

  /** Cheap enough for every batch: mostly it only notes the numbers. */
  update(state: ProgressState): void {
    if (this.#ended) return
    const nowMs = this.#options.clock()
    this.#state = state
    this.#sample(nowMs)
    const intervalMs = this.#isTerminal ? REDRAW_MS : (this.#options.plainIntervalMs ?? PLAIN_MS)
    if (nowMs - this.#shownMs < intervalMs) return
    this.#shownMs = nowMs
    if (this.#isTerminal) this.#draw()
    else this.#options.stream.write(`${this.#plainLine()}\n`)
  }

  /** Writes a line of its own, above the progress line. */
  log(text: string): void {
    this.#clear()
    this.#options.stream.write(`${text}\n`)
    if (this.#isTerminal && !this.#ended && this.#first) this.#draw()
  }

  /** Replaces the line by its summary: what is done, in what time. Later updates are ignored. */
  finish(): void {
    if (this.#ended) return
    this.stop()
    const { label, unit, stream, clock } = this.#options
    const nowMs = clock()
    const { done } = this.#state
    const rate = rateOf(this.#first, { atMs: nowMs, done })
    stream.write(`${label}: ${count(done)} ${unit} in ${formatSeconds(nowMs - this.#startMs)}${rate && `, ${rate}`}\n`)
  }

  /** Takes the line away without a word: the job was stopped, or says itself how it ended. */
  stop(): void {
    this.#clear()
    this.#ended = true
  }

  get #isTerminal(): boolean {
    return this.#options.stream.isTTY === true
  }

  #sample(atMs: number): void {
    const sample = { atMs, done: this.#state.done }
    this.#first ??= sample
    const last = this.#recent.at(-1)
    if (last && atMs - last.atMs < SAMPLE_MS) return
    this.#recent.push(sample)
    while (this.#recent.length > 2 && atMs - this.#recent[1]!.atMs > RATE_WINDOW_MS) this.#recent.shift()
  }

  #draw(): void {
    const { columns = 80, write } = this.#options.stream
    const { label, stream } = this.#options
    const { done, total } = this.#state
    const filled = total ? Math.round((Math.min(done, total) / total) * BAR_CELLS) : 0
    const bar = total ? `${'█'.repeat(filled)}${'░'.repeat(BAR_CELLS - filled)} ` : ''
    const line = `${label} ${bar}${this.#facts().join('  ')}`
    // One column is left free: a full line would wrap, and a wrapped line cannot be redrawn.
    write.call(stream, `\r\x1b[2K${line.slice(0, Math.max(10, columns - 1))}`)
    this.#isDrawn = true
  }

  #plainLine(): string {
    return `${this.#options.label}: ${this.#facts().join(', ')}`
  }

  #facts(): string[] {
    const { done, total, note } = this.#state
    const last = this.#recent.at(-1)
    const from = this.#recent[0]
    const facts: string[] = []
    if (total) facts.push(`${String(Math.floor((Math.min(done, total) / total) * 100)).padStart(3)} %`)
    facts.push(`${count(done)}${total === undefined ? '' : ` of ${count(total)}`} ${this.#options.unit}`)
    const rate = last && rateOf(from, last)
    if (rate) facts.push(rate)
    if (total !== undefined && from && last && last.done > from.done) {
      const leftMs = ((total - done) * (last.atMs - from.atMs)) / (last.done - from.done)
      if (leftMs >= 500) facts.push(`${formatDuration(Math.round(leftMs / 1000) * 1000)} left`)
    }
    if (note !== undefined) facts.push(note)
    return facts.map((fact, i) => (this.#isTerminal || i > 0 ? fact : fact.trimStart()))
  }

  #clear(): void {
    if (this.#isDrawn) this.#options.stream.write('\r\x1b[2K')
    this.#isDrawn = false
  }
}

/** Empty where there is nothing to divide. */
function rateOf(from: Sample | undefined, to: Sample): string {
  if (!from || to.atMs <= from.atMs || to.done <= from.done) return ''
  return `${count(((to.done - from.done) * 1000) / (to.atMs - from.atMs))}/s`
}

/** Whole numbers with separators: 2,880,452. */
function count(value: number): string {
  return Math.round(value).toLocaleString('en-US')
}

function formatSeconds(ms: number): string {
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : formatDuration(Math.round(ms / 1000) * 1000)
}
