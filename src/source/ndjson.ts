/**
 * JSON lines as an input log: one object per line, a line's number its position, numbered on over the files.
 *
 *   bytes → lines (lines.ts) → JSON.parse → cells (build.ts) → batch with one position per row
 *
 * A line that cannot become a row is rejected: reported with its file, line, what was found and what was expected, and
 * the rest goes on. Blank lines are nobody's record, but they count as lines. A column that a line lacks is null there.
 * JSON's numbers are doubles to `JSON.parse`; where a number may have lost digits, its text is looked up in the line.
 */
import { createReadStream } from 'node:fs'
import path from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import type { InputColumn } from '../model/plan.ts'
import { type ColumnBuilder, createBuilder } from './build.ts'
import { describeValue, readDecimal } from './cells.ts'
import { listFiles } from './files.ts'
import { hasLongNumber, numberTexts } from './json-text.ts'
import { type LineFault, splitLines } from './lines.ts'
import { describeInput } from './match.ts'
import {
  BATCH_ROWS_DEFAULT,
  BATCH_ROWS_MAX,
  type RejectReason,
  type Source,
  type SourceBatch,
  type SourceOptions,
} from './port.ts'

export interface NdjsonOptions extends SourceOptions {
  readonly log: string
  /** Files, directories and simple globs; see `listFiles`. */
  readonly paths: readonly string[]
}

/** Longer lines are rejected: one event, not a dump. */
const LINE_BYTES_MAX = 1024 * 1024
/** Deeper values are rejected. */
const DEPTH_MAX = 64
const CHUNK_BYTES = 256 * 1024
const EXTENSIONS = ['.ndjson', '.jsonl', '.json']

/** Files of JSON lines as a source. Throws SOURCE_NOT_FOUND, and SOURCE_CORRUPT where a file cannot be read on. */
export function createNdjsonSource(options: NdjsonOptions): Source {
  return {
    log: options.log,
    async *read(fromPosition, signal) {
      const parser = new LineParser(options)
      let base = 0
      for (const file of await listFiles(options.paths, EXTENSIONS)) {
        for await (const batch of readLines(readChunks(file), path.basename(file), parser, base, fromPosition)) {
          signal?.throwIfAborted()
          yield batch
        }
        base = parser.nextPosition
      }
    },
    async rowsTotal() {
      return undefined
    },
  }
}

/** JSON lines from elsewhere (standard input, a request): any chunks of bytes. Messages name it `name`. */
export async function* readNdjsonStream(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  options: SourceOptions,
): AsyncGenerator<SourceBatch, void, undefined> {
  yield* readLines(chunks, name, new LineParser(options), 0, 0)
}

async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  parser: LineParser,
  base: number,
  fromPosition: number,
): AsyncGenerator<SourceBatch> {
  for await (const { first, lines, open } of splitLines(chunks, LINE_BYTES_MAX)) {
    for (let i = 0; i < lines.length; i++) {
      const line = lines[i]!
      const number = first + i
      parser.nextPosition = base + number + 1
      if (base + number < fromPosition) continue
      parser.add(
        number === 0 ? withoutMark(line) : line,
        base + number,
        name,
        number + 1,
        open && i === lines.length - 1,
      )
      if (parser.isFull) yield parser.finish(name)
    }
    if (parser.yieldsAtOnce && parser.rows > 0) yield parser.finish(name)
  }
  if (parser.rows > 0) yield parser.finish(name)
}

/** Files may begin with a byte order mark, which is not JSON. */
function withoutMark(line: string | LineFault): string | LineFault {
  return typeof line === 'string' && line.charCodeAt(0) === 0xfeff ? line.slice(1) : line
}

interface Fault {
  readonly reason: RejectReason
  readonly message: string
}

class LineParser {
  /** Behind the last line seen. */
  nextPosition = 0
  rows = 0
  private readonly options: SourceOptions
  private readonly batchRows: number
  private readonly builders: readonly ColumnBuilder[]
  /** Inputs with exact cells: their numbers may need a second look at the text. */
  private readonly exact: readonly boolean[]
  /** Inputs whose name every object inherits: only an own property is data. */
  private readonly inherited: readonly boolean[]
  private positions: Float64Array
  private readonly seen: boolean[]
  private firstKeys: readonly string[] = []
  private batches = 0

  constructor(options: SourceOptions) {
    this.options = options
    this.batchRows = Math.min(options.batchRows ?? BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX)
    this.builders = options.inputs.map((input) => createBuilder(input, this.batchRows))
    this.exact = options.inputs.map(({ type }) => type === 'int64' || type === 'decimal' || type === 'timestamp')
    this.inherited = options.inputs.map(({ name }) => name in Object.prototype)
    this.positions = new Float64Array(this.batchRows)
    this.seen = options.inputs.map(() => false)
  }

  get isFull(): boolean {
    return this.rows === this.batchRows
  }

  get yieldsAtOnce(): boolean {
    return this.options.yieldAtOnce === true
  }

  /** Takes one line: a row more, or a rejected record. */
  add(line: string | LineFault, position: number, file: string, number: number, cutOff: boolean): void {
    const fault = this.take(line, position, cutOff)
    if (fault === undefined) return
    const origin = `${file}:${number}`
    this.options.onReject?.({ position, origin, reason: fault.reason, message: `${origin}: ${fault.message}` })
  }

  private take(line: string | LineFault, position: number, cutOff: boolean): Fault | undefined {
    if (typeof line !== 'string') return { reason: line.reason, message: describeFault(line) }
    let record: unknown
    try {
      record = JSON.parse(line)
    } catch (error) {
      if (/^[ \t\r]*$/.test(line)) return undefined
      const hint = cutOff ? ' (the input ends within this line)' : ''
      const cause = (error as Error).message
      return { reason: 'json', message: `got ${describeValue(line)}, expected a JSON object: ${cause}${hint}` }
    }
    if (typeof record !== 'object' || record === null || Array.isArray(record)) {
      return { reason: 'object', message: `got ${describeValue(record)}, expected a JSON object` }
    }
    const row = record as Record<string, unknown>
    if (isDeep(row)) return { reason: 'too_deep', message: `got a value nested deeper than ${DEPTH_MAX}` }
    const message = this.fill(row, line)
    if (message !== undefined) return { reason: 'cell', message }
    if (this.firstKeys.length === 0) this.firstKeys = Object.keys(row)
    this.positions[this.rows] = position
    this.rows++
    return undefined
  }

  /** The batch of the rows so far; the parser starts anew. */
  finish(origin: string): SourceBatch {
    const length = this.rows
    const columns = this.builders.map((builder) => builder.finish(length))
    const positions = this.positions.subarray(0, length)
    this.positions = new Float64Array(this.batchRows)
    this.rows = 0
    this.batches++
    if (this.batches === 1) this.warnOfAbsent(origin)
    return { batch: { length, columns, positions }, origin, rowsDone: positions[length - 1]! + 1 }
  }

  /** Writes a row's cells; what does not fit, or undefined. */
  private fill(row: Record<string, unknown>, line: string): string | undefined {
    let texts: ReadonlyMap<string, string> | undefined
    for (let i = 0; i < this.builders.length; i++) {
      const builder = this.builders[i]!
      const { name } = builder.input
      let value = this.inherited[i] && !Object.hasOwn(row, name) ? undefined : row[name]
      if (value !== undefined) this.seen[i] = true
      if (this.exact[i] && typeof value === 'number' && mayHaveLost(value, builder.input, line)) {
        texts ??= numberTexts(line)
        value = exactNumber(texts.get(name), builder.input) ?? value
      }
      if (!builder.set(this.rows, value)) {
        return `column ${JSON.stringify(name)}: got ${describeValue(value)}, expected ${describeInput(builder.input)}`
      }
    }
    return undefined
  }

  private warnOfAbsent(origin: string): void {
    for (const [index, { input }] of this.builders.entries()) {
      if (this.seen[index]) continue
      const hint = didYouMean(input.name, this.firstKeys).text
      this.options.onWarning?.(
        `no line of the first batch of ${origin} has column ${JSON.stringify(input.name)}: it is read as null; ${hint}`,
      )
    }
  }
}

/** May the double stand for another number than the text said? */
function mayHaveLost(value: number, input: InputColumn, line: string): boolean {
  if (input.type !== 'decimal') return !Number.isSafeInteger(value)
  // A zero may be a number too small for a double.
  if (value === 0 && (line.includes('e-') || line.includes('E-'))) return true
  return hasLongNumber(line)
}

/** A number's text as what the column's builder takes exactly: whole numbers may be written `1e17`. */
function exactNumber(text: string | undefined, input: InputColumn): unknown {
  return text === undefined || input.type === 'decimal' ? text : readDecimal(text, 0)
}

function describeFault(fault: LineFault): string {
  const expected = fault.reason === 'encoding' ? 'UTF-8' : `at most ${LINE_BYTES_MAX} bytes in a line`
  return `got a line that begins with ${describeValue(fault.start)}, expected ${expected}`
}

/** Level by level, so that no depth can exhaust the stack. */
function isDeep(row: Record<string, unknown>): boolean {
  let level = nestedOf([row])
  for (let depth = 1; level.length > 0; depth++) {
    if (depth >= DEPTH_MAX) return true
    level = nestedOf(level)
  }
  return false
}

const NOTHING: readonly object[] = []

function nestedOf(values: readonly object[]): readonly object[] {
  let nested: object[] | undefined
  for (const value of values) {
    for (const name in value) {
      const inner: unknown = (value as Record<string, unknown>)[name]
      if (typeof inner !== 'object' || inner === null) continue
      nested ??= []
      nested.push(inner)
    }
  }
  return nested ?? NOTHING
}

async function* readChunks(file: string): AsyncGenerator<Uint8Array> {
  const stream = createReadStream(file, { highWaterMark: CHUNK_BYTES })
  try {
    yield* stream as AsyncIterable<Uint8Array>
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') throw new TilefoldError('SOURCE_NOT_FOUND', `cannot open ${file}: no such file`, { file })
    if (code !== undefined) {
      throw new TilefoldError('SOURCE_CORRUPT', `cannot read ${file}: ${message}`, { file }, { cause: error })
    }
    throw error
  }
}
