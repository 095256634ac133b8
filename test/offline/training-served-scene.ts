/** A live stream that was asked at random instants, its mirror, its log and its store; and training sets of it by the command. */
import { join } from 'node:path'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { expect } from 'vitest'
import type { Plan } from '../../src/model/plan.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { cli, makeFolder, writeIn } from '../cli/harness.ts'
import { duckRows } from '../source/support.ts'
import { START_MS } from '../stream/payments.ts'
import { definition, servedPayments } from './served-payments.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const HOUR_MS = 3_600_000

export type Label = Readonly<Record<string, string | number | Date | bigint | null>>

export class TrainingServedScene {
  readonly folder = makeFolder()
  readonly definitions = writeIn(this.folder, 'tilefold.yaml', definition('[1h, 24h]'))
  readonly served = join(this.folder, 'served')
  readonly mirror = join(this.folder, 'mirror')
  readonly store = join(this.folder, 'store')
  plan!: Plan
  logs!: readonly StreamMessage[][]
  rows!: readonly ServedRow[]
  settled!: readonly ServedRow[]

  async open(): Promise<void> {
    console.log(`training sets as served: TILEFOLD_SEED=${SEED}`)
    Object.assign(this, await servedPayments(this.folder, SEED))
  }

  /** Answers of requests that have an id of ours. */
  get logged(): ServedRow[] {
    return this.rows.filter(({ requestId }) => /^r\d+$/.test(requestId))
  }

  /** The answer that was served first for the entity as of the instant. */
  firstAnswer(row: ServedRow): ServedRow {
    return this.rows.find((each) => each.asOfMs === row.asOfMs && each.keys[0] === row.keys[0])!
  }

  /** A spine of labels; the columns are those of the first row. */
  writeSpine(name: string, labels: readonly Label[]): string {
    const types = { string: 'STRING', number: 'DOUBLE', bigint: 'INT64', object: 'TIMESTAMP' } as const
    const columnData = Object.keys(labels[0]!).map((column) => {
      const data = labels.map((label) => label[column]!)
      const found = data.find((value) => value !== null) ?? ''
      return { name: column, data, type: types[typeof found as keyof typeof types] }
    })
    return writeIn(this.folder, name, new Uint8Array(parquetWriteBuffer({ columnData })))
  }

  build(spine: string, out: string, ...args: string[]) {
    const command = [
      'training-set',
      '--as-served',
      '--spine',
      spine,
      '--out',
      out,
      '-f',
      this.definitions,
      '-o',
      'json',
    ]
    return cli([...command, ...args], { nowMs: START_MS + 100 * HOUR_MS })
  }

  cellsOf(row: Record<string, unknown>, of = this.plan): unknown[] {
    return of.features.map(({ name, op }) => {
      const value = row[`spend__${name}`] ?? null
      return op === 'count' && value !== null ? Number(value) : value
    })
  }
}

export function table(out: string): Promise<Record<string, unknown>[]> {
  return duckRows(`SELECT * FROM '${out}'`)
}

/** What was served, in the columns of a training set. */
export function featuresOf(row: ServedRow): unknown[] {
  return row.plan.features.map((_, feature) => row.answers.get(feature)!.value)
}

export function expectSame(got: readonly unknown[], expected: readonly unknown[], where: string): void {
  expect(got.length, where).toBe(expected.length)
  for (const [i, value] of expected.entries()) {
    if (!Object.is(got[i], value)) expect(got[i], `${where}, feature ${i}`).toBe(value)
  }
}
