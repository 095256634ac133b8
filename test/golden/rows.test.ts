/**
 * Rows as they were once stored, beside what they must answer for ever. Every `.json` of fixtures/tiles/v1 has a `.bin` of the
 * same name: the plan, the instants, the answers and the normalised bytes, and the rows themselves one behind the other.
 *
 *   TILEFOLD_GOLDEN=update npx vitest run test/golden     writes the cases that have no files yet
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ROW_BYTES_AT } from '../../assembly/layout.ts'
import { Merger } from '../../src/engine/merger.ts'
import { CORE_BUILDS, loadCore } from '../../src/engine/module.ts'
import { RowNormaliser } from '../../src/engine/rows.ts'
import type { Plan } from '../../src/model/plan.ts'
import { answersFrom } from '../engine/folding.ts'
import type { Answer } from '../laws/subject.ts'
import { GOLDEN } from './cases.ts'

const DIRECTORY = fileURLToPath(new URL('../../fixtures/tiles/v1', import.meta.url))

interface Golden {
  readonly plan: Plan
  readonly asOf: readonly { readonly ms: number; readonly answers: readonly Answer[] }[]
  readonly frontierMs: number
  /** Hex of the rows normalised to the frontier. */
  readonly normalised: string
}

function read(name: string): Golden & { rows: Uint8Array[] } {
  const golden = JSON.parse(readFileSync(join(DIRECTORY, `${name}.json`), 'utf8'), revive) as Golden
  return { ...golden, rows: split(readFileSync(join(DIRECTORY, `${name}.bin`))) }
}

/** A row says how long it is. */
function split(bytes: Uint8Array): Uint8Array[] {
  const rows: Uint8Array[] = []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = 0; at < bytes.length; at += rows[rows.length - 1]!.length) {
    rows.push(bytes.subarray(at, at + view.getUint32(at + ROW_BYTES_AT, true)))
  }
  return rows
}

/** int64 answers are `{ "int64": "…" }`: JSON has no exact ones. */
function revive(_: string, value: unknown): unknown {
  const text = (value as { int64?: unknown } | null)?.int64
  return typeof text === 'string' ? BigInt(text) : value
}

function replace(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? { int64: `${value}` } : value
}

async function write(name: string): Promise<void> {
  const { plan, rows, asOfMs, frontierMs } = await GOLDEN[name]!()
  const merger = Merger.create(loadCore(), plan)
  const golden: Golden = {
    plan,
    frontierMs,
    normalised: Buffer.from(new RowNormaliser(loadCore(), plan.state).normalise(rows, frontierMs)).toString('hex'),
    asOf: asOfMs.map((ms) => ({ ms, answers: answersFrom(merger, plan, rows, ms) })),
  }
  writeFileSync(join(DIRECTORY, `${name}.bin`), Buffer.concat(rows))
  writeFileSync(join(DIRECTORY, `${name}.json`), `${JSON.stringify(golden, replace, 1)}\n`)
}

if (process.env.TILEFOLD_GOLDEN === 'update') {
  for (const name of Object.keys(GOLDEN)) if (!existsSync(join(DIRECTORY, `${name}.json`))) await write(name)
}

const names = readdirSync(DIRECTORY)
  .filter((file) => file.endsWith('.json'))
  .map((file) => file.slice(0, -'.json'.length))

describe('stored rows of format 1', () => {
  it('are all there', () => {
    expect(names).toEqual(expect.arrayContaining(Object.keys(GOLDEN)))
  })

  describe.each(CORE_BUILDS)('by the %s core', (build) => {
    it.each(names)('answer what they always answered: %s', (name) => {
      const { plan, rows, asOf } = read(name)
      const merger = Merger.create(loadCore(build), plan)
      expect(asOf.flatMap(({ answers }) => answers).some(({ status }) => status === 'ok')).toBe(true)
      for (const { ms, answers } of asOf) {
        expect(answersFrom(merger, plan, rows, ms), `as of ${ms}`).toEqual(answers)
      }
    })

    it.each(names)('come to the bytes they always came to: %s', (name) => {
      const { plan, rows, frontierMs, normalised } = read(name)
      const row = new RowNormaliser(loadCore(build), plan.state).normalise(rows, frontierMs)
      expect(Buffer.from(row).toString('hex')).toBe(normalised)
    })
  })
})
