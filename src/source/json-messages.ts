/**
 * Messages of a log with JSON payloads, to a batch of columns.
 *
 *   bytes → size ─┬─> json-scan.ts ────────────┬─> cells → batch, with a position and a record time per row
 *                 └─> JSON.parse → json-row.ts ┘
 *
 * The usual message is scanned, at less than the price of `JSON.parse` alone; what the scanner is not sure of is parsed.
 * Only fields that a view reads are kept. A message without a value is a tombstone: it is nobody's event, and counted. One
 * that cannot become a row is rejected, with its reason; its bytes are still with whoever gave it.
 */
import { isUtf8 } from 'node:buffer'
import type { ColumnBatch } from '../model/columns.ts'
import type { InputColumn } from '../model/plan.ts'
import { describeValue } from './cells.ts'
import { JSON_DEPTH_MAX, JsonRows, type RowFault } from './json-row.ts'
import { JsonScanner } from './json-scan.ts'
import type { RejectedRecord } from './port.ts'
import type { StreamMessage } from './stream.ts'

export interface JsonDecoderOptions {
  readonly inputs: readonly InputColumn[]
  /** Longer payloads are rejected unparsed; 1 MiB unless told. */
  readonly maxBytes?: number
  /** Deeper values are rejected; 64 unless told. */
  readonly maxDepth?: number
  /** Called for each message that cannot become a row. */
  readonly onReject: (record: RejectedRecord) => void
}

export interface JsonDecoder {
  /** Messages without a value so far. */
  readonly tombstones: number
  /** Rows of the messages that have one, in their order; the core takes 65,536 at most. */
  decode(messages: readonly StreamMessage[]): ColumnBatch
}

const BYTES_MAX = 1024 * 1024
const ROWS_MIN = 256

export function createJsonDecoder(options: JsonDecoderOptions): JsonDecoder {
  return new MessageDecoder(options)
}

class MessageDecoder implements JsonDecoder {
  tombstones = 0
  readonly #options: JsonDecoderOptions
  readonly #bytesMax: number
  readonly #depthMax: number
  #rowsMax = 0
  #json: JsonRows
  #scanner: JsonScanner

  constructor(options: JsonDecoderOptions) {
    this.#options = options
    this.#bytesMax = options.maxBytes ?? BYTES_MAX
    this.#depthMax = options.maxDepth ?? JSON_DEPTH_MAX
    this.#json = this.#roomFor(0)
    this.#scanner = new JsonScanner(this.#json.builders, this.#depthMax)
  }

  decode(messages: readonly StreamMessage[]): ColumnBatch {
    const { length: count } = messages
    // Columns are made anew for each batch: room for thousands would cost the few of a calm hour.
    if (count > this.#rowsMax || (count * 8 < this.#rowsMax && this.#rowsMax > ROWS_MIN)) {
      this.#json = this.#roomFor(count)
      this.#scanner = new JsonScanner(this.#json.builders, this.#depthMax)
    }
    const positions = new Float64Array(messages.length)
    const recordTimes = new Float64Array(messages.length)
    for (const message of messages) {
      if (message.value === null) {
        this.tombstones++
        continue
      }
      const row = this.#json.rows
      const fault = this.#take(message.value)
      if (fault === undefined) {
        positions[row] = +message.offset
        recordTimes[row] = +message.timestamp
      } else this.#reject(message, fault)
    }
    const { length, columns } = this.#json.finish()
    return {
      length,
      columns,
      positions: positions.subarray(0, length),
      recordTimes: recordTimes.subarray(0, length),
    }
  }

  #take(value: Buffer): RowFault | undefined {
    if (value.length > this.#bytesMax) {
      return { reason: 'too_long', message: `got ${value.length} bytes, expected at most ${this.#bytesMax}` }
    }
    if (this.#scanner.scan(value, this.#json.rows)) {
      this.#json.rows++
      return undefined
    }
    const text = value.toString()
    // Bytes that are not UTF-8 become this character, which may also have been sent.
    if (text.includes('\ufffd') && !isUtf8(value)) {
      return { reason: 'encoding', message: `got ${describeValue(text)}, expected UTF-8` }
    }
    let record: unknown
    try {
      record = JSON.parse(text)
    } catch (error) {
      const cause = (error as Error).message
      return { reason: 'json', message: `got ${describeValue(text)}, expected a JSON object: ${cause}` }
    }
    return this.#json.add(record, text)
  }

  #reject(message: StreamMessage, { reason, message: text }: RowFault): void {
    const { offset } = message
    this.#options.onReject({
      position: +offset,
      origin: `offset ${offset}`,
      reason,
      message: `offset ${offset}: ${text}`,
    })
  }

  #roomFor(messages: number): JsonRows {
    this.#rowsMax = Math.max(ROWS_MIN, messages)
    return new JsonRows(this.#options.inputs, this.#rowsMax, this.#depthMax)
  }
}
