/** What every source is to the rest: batches of columns in log order, and positions to come back to. */
import type { ColumnBatch } from '../model/columns.ts'
import type { InputColumn } from '../model/plan.ts'

export interface SourceBatch {
  /** One column per input, in the order of the inputs. */
  readonly batch: ColumnBatch
  /** Where the batch came from, for errors and reports: `flights-3m.parquet, row group 3`. */
  readonly origin: string
  /** Rows of the source read so far, and in all where the source knows it. */
  readonly rowsDone: number
  readonly rowsTotal?: number
}

export interface Source {
  /** Name of the input log: its lanes, clocks and markers go by it. */
  readonly log: string
  /** Yields batches whose first position is at least `fromPosition`, skipping what can be skipped without a decode. */
  read(fromPosition: number, signal?: AbortSignal): AsyncIterable<SourceBatch>
  /** Rows in all, where it is known without reading everything. */
  rowsTotal(): Promise<number | undefined>
}

/** Which of a file's columns to read: the union over the views that share the read. */
export interface SourceOptions {
  readonly inputs: readonly InputColumn[]
  /** Rows per batch at most; 8,192 unless told. The core is fastest with 4,096 to 16,384. */
  readonly batchRows?: number
  /** Bytes decoded at once, where a source decodes more than a batch at a time (Parquet); 128 MiB unless told. */
  readonly sliceBytesMax?: number
  /**
   * The next batch may overwrite the buffers of the one before: for a reader that is done with a batch when it asks for
   * the next. Saves an allocation per batch where the source copies (Parquet: a fifth of its time).
   */
  readonly reuseBuffers?: boolean
  /** Yields what is there whenever the input pauses, instead of waiting for a full batch. Streams of JSON lines only. */
  readonly yieldAtOnce?: boolean
  /** Called for each record that cannot become a row; the rest goes on. Row formats only: columns fail as a whole. */
  readonly onReject?: (record: RejectedRecord) => void
  /** Called with what looks wrong and is no error: a column that no row has, a file without an end mark. */
  readonly onWarning?: (text: string) => void
}

/** A record that is lost to the views, and why; its position belongs to it alone. */
export interface RejectedRecord {
  readonly position: number
  /** `events.ndjson:17` */
  readonly origin: string
  readonly reason: RejectReason
  /** What was found, and what was expected. */
  readonly message: string
}

/**
 * - `json`: not JSON, or cut off
 * - `object`: JSON, but not an object
 * - `encoding`: not UTF-8
 * - `too_long`, `too_deep`: over a limit
 * - `cell`: a value does not fit its column; text with a lone surrogate fits none
 */
export type RejectReason = 'json' | 'object' | 'encoding' | 'too_long' | 'too_deep' | 'cell'

export const BATCH_ROWS_DEFAULT = 8192
/** The core's batches end here. */
export const BATCH_ROWS_MAX = 65_536
