/**
 * The log of answers, read back: what `served-log.ts` writes, file by file, as a definition of today sees it.
 *
 *   served/spend/date=…/served-….parquet ──> rows: request, key, as-of, applied positions, and each feature that the file has
 *
 * Files of other days may have been written under other definitions: a feature that one does not have was not answered there.
 */
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Column, ColumnBatch } from '../model/columns.ts'
import { TilefoldError } from '../model/errors.ts'
import { encodeKey } from '../model/key.ts'
import type { FeaturePlan, FeatureStatus, FeatureValue, InputColumn, Plan } from '../model/plan.ts'
import { cellReader } from '../source/column-values.ts'
import { listFiles } from '../source/files.ts'
import { createParquetSource, describeParquet } from '../source/parquet.ts'
import type { ServedVector } from './as-served.ts'
import { ACCEPTANCE, LAYOUT, servedInputs } from './served-log.ts'
import { SPINE_TIME } from './training.ts'
import { featureInput, featureStatusName } from './training-columns.ts'

export interface LoggedAnswer {
  readonly value: FeatureValue
  readonly status: FeatureStatus
}

/** One entity of one request. */
export interface LoggedRow extends ServedVector {
  readonly requestId: string
  /** Index into the request's entities. */
  readonly requestRow: number
  readonly keys: readonly FeatureValue[]
  readonly servedAtMs: number
  readonly definitionHash: string
  readonly stateHash: string
  /** Absent in the first logs. */
  readonly acceptanceHash?: string
  readonly generation: number
  /** Of the generation, as JSON; absent in the first logs. */
  readonly layout?: string
  /** By index of the plan's features; one that was not asked for, or is not in the file, is absent. */
  readonly answers: ReadonlyMap<number, LoggedAnswer>
}

/** Rows of a file, read where they are looked at. */
export interface LoggedRows {
  readonly length: number
  requestId(row: number): string
  asOfMs(row: number): number
  key(row: number): Uint8Array
  read(row: number): LoggedRow
}

/** The files of a view's log, oldest first. Throws SOURCE_NOT_FOUND. */
export async function servedFiles(directory: string, view: string): Promise<readonly string[]> {
  const folder = join(directory, view)
  const isThere = await stat(folder).then(
    (found) => found.isDirectory(),
    () => false,
  )
  if (isThere) return listFiles([folder], ['.parquet'])
  throw new TilefoldError(
    'SOURCE_NOT_FOUND',
    `cannot find a log of answers of view ${view}: got no folder ${folder}, expected one as \`tilefold serve --served-log\` writes it`,
    { dir: directory, view },
  )
}

/** Throws SOURCE_CORRUPT, COLUMN_MISSING, COLUMN_TYPE. */
export async function* readServedFile(
  file: string,
  plan: Plan,
  signal?: AbortSignal,
): AsyncGenerator<LoggedRows, void, undefined> {
  const { fields } = await describeParquet(file)
  const names = new Set(fields.map(({ name }) => name))
  const logged = [...plan.features.entries()].filter(
    ([, feature]) =>
      names.has(featureInput(plan.view, feature).name) && names.has(featureStatusName(plan.view, feature)),
  )
  const inputs = [
    ...servedInputs(plan).filter(({ name }) => (name !== ACCEPTANCE.name && name !== LAYOUT.name) || names.has(name)),
    ...logged.flatMap(([, feature]) => [featureInput(plan.view, feature), statusInput(plan.view, feature)]),
  ]
  const source = createParquetSource({ log: 'served', paths: [file], inputs })
  for await (const { batch } of source.read(0, signal)) yield rowsOf(batch, plan, logged, basename(file))
}

function statusInput(view: string, feature: FeaturePlan): InputColumn {
  return { name: featureStatusName(view, feature), type: 'utf8', accepts: ['utf8'] }
}

function rowsOf(
  batch: ColumnBatch,
  plan: Plan,
  logged: readonly (readonly [number, FeaturePlan])[],
  file: string,
): LoggedRows {
  const column = (name: string): Column => batch.columns.find((each) => each.name === name)!
  const cells = (name: string) => cellReader(column(name))
  const [requestId, requestRow, asOf, servedAt] = [
    cells('_request_id'),
    cells('_request_row'),
    cells(SPINE_TIME),
    cells('_served_at'),
  ]
  const [definitionHash, stateHash, generation] = [
    cells('_definition_hash'),
    cells('_state_hash'),
    cells('_generation'),
  ]
  const applied = cells('_applied')
  const optional = (name: string) => (batch.columns.some((each) => each.name === name) ? cells(name) : undefined)
  const [acceptanceHash, layout] = [optional(ACCEPTANCE.name), optional(LAYOUT.name)]
  const parts = plan.state.entity
  const keys = parts.map(({ name }) => cells(name))
  const answers = logged.map(([index, feature]) => ({
    index,
    isCount: feature.op === 'count',
    value: cells(featureInput(plan.view, feature).name),
    status: cells(featureStatusName(plan.view, feature)),
  }))
  const key = (row: number) =>
    encodeKey(
      parts,
      keys.map((read) => read(row)),
    )
  return {
    length: batch.length,
    requestId: (row) => requestId(row) as string,
    asOfMs: (row) => Number(asOf(row)),
    key,
    read: (row) => ({
      requestId: requestId(row) as string,
      requestRow: Number(requestRow(row)),
      keys: keys.map((read) => read(row)),
      key: key(row),
      asOfMs: Number(asOf(row)),
      servedAtMs: Number(servedAt(row)),
      definitionHash: definitionHash(row) as string,
      stateHash: stateHash(row) as string,
      ...(acceptanceHash && { acceptanceHash: acceptanceHash(row) as string }),
      generation: Number(generation(row)),
      ...(layout && { layout: layout(row) as string }),
      applied: readApplied(applied(row) as string, file),
      answers: new Map(
        answers.flatMap(({ index, isCount, value, status }) => {
          const told = status(row)
          if (told === null) return []
          const found = value(row)
          return [[index, { value: isCount && found !== null ? Number(found) : found, status: told as FeatureStatus }]]
        }),
      ),
    }),
  }
}

/** `payments.0.0=17,payments.1.0=4` */
function readApplied(text: string, file: string): LoggedRow['applied'] {
  if (text === '') return []
  return text.split(',').map((part) => {
    const [, lane, applied] = /^(.+)=(\d{1,16})$/.exec(part) ?? []
    if (lane !== undefined) return { lane, applied: Number(applied) }
    throw new TilefoldError(
      'SOURCE_CORRUPT',
      `cannot read ${file}: got ${JSON.stringify(part)} in _applied, expected <lane>=<position>`,
      { file },
    )
  })
}
