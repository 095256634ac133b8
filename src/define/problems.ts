/**
 * What is wrong with a definition, and where. Checks collect problems instead of stopping at the first, so that a user
 * mends a file in one go.
 */
import { type ErrorCode, TilefoldError } from '../model/errors.ts'

/** Keys and indexes from the top of a view (or of the file) to the offending value. */
export type Path = readonly (string | number)[]

export interface Position {
  /** `flights.yaml:12:9`, or `view "departures", aggregations[1].windows[0]` where there is no file. */
  readonly text: string
  readonly file?: string
  /** 1-based. */
  readonly line?: number
  readonly column?: number
}

/** What exactly is meant at a path; the value, if nothing is said. */
export interface Spot {
  /** The key, not its value. */
  readonly key?: boolean
  /** Characters into the text there, for errors inside an expression. */
  readonly offset?: number
}

/** Where a definition came from. */
export interface Origin {
  locate(path: Path, spot?: Spot): Position
}

export interface Problem {
  readonly code: ErrorCode
  readonly position: Position
  /** `got X, expected Y`, without the place. */
  readonly message: string
}

/** Collects problems; `finish` throws them. */
export class Problems {
  readonly #found: Problem[] = []
  readonly #origin: Origin

  constructor(origin: Origin) {
    this.#origin = origin
  }

  add(path: Path, message: string, { code = 'DEFINITION_INVALID', ...spot }: Spot & { code?: ErrorCode } = {}): void {
    this.#found.push({ code, message, position: this.#origin.locate(path, spot) })
  }

  get count(): number {
    return this.#found.length
  }

  /** Throws a TilefoldError with every problem in its message and in `details.problems`; returns when there are none. */
  finish(): void {
    if (this.#found.length > 0) throw this.error()
  }

  /** The error for what was found so far: at least one problem. */
  error(): TilefoldError {
    return definitionError(this.#found)
  }
}

const SHOWN_MAX = 20

/** One error for all problems, in the order of the file; the code is the first one's. */
export function definitionError(found: readonly Problem[]): TilefoldError {
  const place = ({ position }: Problem) => [position.line ?? 0, position.column ?? 0] as const
  const problems = [...found].sort((a, b) => place(a)[0] - place(b)[0] || place(a)[1] - place(b)[1])
  const first = problems[0]!
  const details = { problems: problems.map((each) => ({ code: each.code, ...each.position, message: each.message })) }
  if (problems.length === 1) {
    return new TilefoldError(first.code, `cannot use definition at ${first.position.text}: ${first.message}`, details)
  }
  const lines = problems.slice(0, SHOWN_MAX).map((each) => `\n  ${each.position.text}: ${each.message}`)
  if (problems.length > SHOWN_MAX) lines.push(`\n  and ${problems.length - SHOWN_MAX} more`)
  return new TilefoldError(first.code, `cannot use definition: ${problems.length} problems${lines.join('')}`, details)
}

/** A value as an error shows it: JSON, shortened. */
export function show(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'bigint') return `${value}`
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch {
    text = undefined
  }
  text ??= typeof value
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

/** `, did you mean "x"?` for the nearest of the known names, else the list of them; for the end of a message. */
export function suggest(name: string, known: readonly string[]): string {
  const near = nearest(name, known)
  if (near !== undefined) return `, did you mean ${JSON.stringify(near)}?`
  if (known.length === 0) return ''
  const shown = known.slice(0, 30).map((each) => JSON.stringify(each))
  return `, expected one of ${shown.join(', ')}${known.length > 30 ? ', ...' : ''}`
}

/** The known name within a third of its letters, swaps counted once; undefined when none is near. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let bestDistance = Number.POSITIVE_INFINITY
  if (name.length > 128) return undefined
  for (const each of known) {
    const distance = each.toLowerCase() === name.toLowerCase() ? 0 : editDistance(name, each)
    if (distance < bestDistance && distance <= Math.max(1, Math.floor(each.length / 3))) {
      best = each
      bestDistance = distance
    }
  }
  return best
}

function editDistance(source: string, target: string): number {
  let before: number[] = []
  let last = Array.from({ length: target.length + 1 }, (_, i) => i)
  for (let i = 1; i <= source.length; i++) {
    const row = [i]
    for (let j = 1; j <= target.length; j++) {
      const same = source[i - 1] === target[j - 1]
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && source[i - 1] === target[j - 2] && source[i - 2] === target[j - 1]) {
        cost = Math.min(cost, before[j - 2]! + 1)
      }
      row.push(cost)
    }
    before = last
    last = row
  }
  return last[target.length]!
}
