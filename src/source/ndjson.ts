/**
 * JSON lines as an input log: one object per line, a line's number its position, numbered on over the files.
 *
 *   bytes → lines (lines.ts) → JSON.parse → cells (build.ts) → batch with one position per row
 *
 * A line that cannot become a row is rejected: reported with its file, line, what was found and what was expected, and
 * the rest goes on. Blank lines are nobody's record, but they count as lines. A column that a line lacks is null there.
 * What a value means to a column is said in json-row.ts.
 */
import { createReadStream } from 'node:fs'
import path from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import { describeValue } from './cells.ts'
import { listFiles } from './files.ts'
import { JsonRows, type RowFault } from './json-row.ts'
import { type LineFault, splitLines } from './lines.ts'
import { BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX, type Source, type SourceBatch, type SourceOptions } from './port.ts'

export interface NdjsonOptions extends SourceOptions {
  readonly log: string
  /** Files, directories and simple globs; see `listFiles`. */
  readonly paths: readonly string[]
}

/** Longer lines are rejected: one event, not a dump. */
const LINE_BYTES_MAX = 1024 * 1024
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

class LineParser {
  /** Behind the last line seen. */
  nextPosition = 0
  private readonly options: SourceOptions
  private readonly batchRows: number
  private readonly json: JsonRows
  private positions: Float64Array
  private batches = 0

  constructor(options: SourceOptions) {
    this.options = options
    this.batchRows = Math.min(options.batchRows ?? BATCH_ROWS_DEFAULT, BATCH_ROWS_MAX)
    this.json = new JsonRows(options.inputs, this.batchRows)
    this.positions = new Float64Array(this.batchRows)
  }

  get rows(): number {
    return this.json.rows
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

  private take(line: string | LineFault, position: number, cutOff: boolean): RowFault | undefined {
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
    this.positions[this.rows] = position
    return this.json.add(record, line)
  }

  /** The batch of the rows so far; the parser starts anew. */
  finish(origin: string): SourceBatch {
    const { length, columns } = this.json.finish()
    const positions = this.positions.subarray(0, length)
    this.positions = new Float64Array(this.batchRows)
    this.batches++
    if (this.batches === 1) this.warnOfAbsent(origin)
    return { batch: { length, columns, positions }, origin, rowsDone: positions[length - 1]! + 1 }
  }

  private warnOfAbsent(origin: string): void {
    for (const [index, { name }] of this.options.inputs.entries()) {
      if (this.json.seen[index]) continue
      const hint = didYouMean(name, this.json.firstKeys).text
      this.options.onWarning?.(
        `no line of the first batch of ${origin} has column ${JSON.stringify(name)}: it is read as null; ${hint}`,
      )
    }
  }
}

function describeFault(fault: LineFault): string {
  const expected = fault.reason === 'encoding' ? 'UTF-8' : `at most ${LINE_BYTES_MAX} bytes in a line`
  return `got a line that begins with ${describeValue(fault.start)}, expected ${expected}`
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
