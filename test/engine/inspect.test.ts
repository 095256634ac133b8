import { describe, expect, it } from 'vitest'
import {
  FRONTIER_BYTES,
  ROW_CHECKSUM_AT,
  ROW_HEADER_BYTES,
  ROW_VERSION_AT,
  RUN_COUNT_AT,
  RUN_HEAP_BYTES_AT,
} from '../../assembly/layout.ts'
import { Core } from '../../src/engine/core.ts'
import { inspectRow } from '../../src/engine/inspect.ts'
import { loadCore } from '../../src/engine/module.ts'
import type { PartialDescription, RowDescription } from '../../src/engine/row-description.ts'
import { encodeKey, type KeyPart } from '../../src/model/key.ts'
import type { StatePlan } from '../../src/model/plan.ts'
import { checksum } from '../assembly/naive-row.ts'
import { naiveAccept } from '../oracle/accept.ts'
import { idOf, type NaiveEvent, timeOf, type Value, valueIn } from '../oracle/event.ts'
import { fromDecimal, type Rational } from '../oracle/rational.ts'
import { type NaivePartial, naivePartial, naiveTiles } from '../oracle/tiles.ts'
import { toBatches } from '../support/batches.ts'
import { type Case, drawCase } from '../support/cases.ts'
import { seededRandom } from '../support/random.ts'

const CASES = 100
const SHARES = { lanes: 1, shard: 0, shards: 1, completeSinceMs: 7, layoutVersion: 3 }

/** The rows that the core writes for a case, by hexadecimal key, after several flushes. */
function writeRows({ plan, events, notAfterMs, seed }: Case): Map<string, Uint8Array> {
  const core = new Core(loadCore(), plan.state, SHARES, notAfterMs)
  const rows = new Map<string, Uint8Array>()
  const random = seededRandom(seed)
  for (const batch of toBatches(events, plan.state, random, { sizes: [random.between(1, 120)] })) {
    core.prepare(batch)
    core.fold(Number.POSITIVE_INFINITY, false)
    for (const chunk of core.beginFlush(64)) {
      const keys = core.keysOf(chunk).map((key) => Buffer.from(key).toString('hex'))
      const written = core.writeRows(
        chunk,
        keys.map((key) => rows.get(key)),
        core.position,
      )
      for (const [i, key] of keys.entries()) rows.set(key, written[i]!)
    }
    core.endFlush()
  }
  return rows
}

describe('a stored row, inspected', () => {
  it('says what the oracle says, and accounts for every byte', () => {
    let tiles = 0
    let events = 0
    for (let seed = 1; seed <= CASES; seed++) {
      const drawn = drawCase(seed)
      const { state } = drawn.plan
      const { applied } = naiveAccept(drawn.events, state, drawn)
      for (const [key, bytes] of writeRows(drawn)) {
        const own = applied.filter((event) => keyOf(event, state) === key)
        const row = inspectRow(bytes, state)
        const shown = `seed ${seed}, key ${key}`
        const accounted = row.parts.reduce((sum, { count, bytesEach }) => sum + count * bytesEach, 0)
        expect(accounted, shown).toBe(bytes.length)
        expect(foundIn(row), shown).toEqual(expectedOf(row, own, state))
        tiles += row.levels.reduce((sum, level) => sum + level.tiles.length, 0)
        events += row.events.length
      }
    }
    // Vacuous otherwise.
    expect(tiles).toBeGreaterThan(1000)
    expect(events).toBeGreaterThan(100)
  })

  it('gives the position, versions and frontiers of the header', () => {
    const drawn = drawCase(3, { clean: true })
    for (const bytes of writeRows(drawn).values()) {
      const row = inspectRow(bytes, drawn.plan.state)
      expect(row).toMatchObject({ formatVersion: 1, bytes: bytes.length, layoutVersion: 3, completeSinceMs: 7 })
      expect(row.applied).toBeGreaterThanOrEqual(0)
      expect(row.applied).toBeLessThan(drawn.events.length)
    }
  })

  it('refuses every damaged byte but the applied position with a code, and never reads beyond the row', () => {
    const drawn = drawCase(8, { clean: true })
    const bytes = [...writeRows(drawn).values()].sort((a, b) => b.length - a.length)[0]!
    const { state } = drawn.plan
    for (let at = 0; at < bytes.length; at++) {
      if (at >= 8 && at < 16) continue
      const damaged = bytes.slice()
      damaged[at]! ^= 1 << (at % 8)
      expect(() => inspectRow(damaged, state), `byte ${at}`).toThrowError(
        expect.objectContaining({ code: 'ROW_CORRUPT' }),
      )
    }
    for (let length = 0; length < bytes.length; length += 7) {
      expect(() => inspectRow(bytes.subarray(0, length), state), `${length} bytes`).toThrowError(
        expect.objectContaining({ code: 'ROW_CORRUPT' }),
      )
    }
  })

  it('names the version and the checksum in what it refuses', () => {
    const drawn = drawCase(8, { clean: true })
    const [bytes] = [...writeRows(drawn).values()]
    const other = bytes!.slice()
    other[ROW_VERSION_AT] = 9
    expect(() => inspectRow(other, drawn.plan.state)).toThrow('format version is not 1')
    const wrong = bytes!.slice()
    wrong[ROW_CHECKSUM_AT]! ^= 1
    expect(() => inspectRow(wrong, drawn.plan.state)).toThrow('checksum')
  })

  it.each([
    ['count', RUN_COUNT_AT, 0xffff_ffff],
    ['count', RUN_COUNT_AT, 0],
    ['heap', RUN_HEAP_BYTES_AT, 0xffff_fff0],
  ])('refuses a run whose %s leads out of the row, though the checksum is right', (_name, field, value) => {
    const drawn = drawCase(8, { clean: true })
    const { state } = drawn.plan
    const [bytes] = [...writeRows(drawn).values()]
    const hostile = bytes!.slice()
    const run = ROW_HEADER_BYTES + state.ladder.length * FRONTIER_BYTES
    new DataView(hostile.buffer).setUint32(run + field, value, true)
    seal(hostile)
    expect(() => inspectRow(hostile, state)).toThrow('its length does not match its contents')
  })
})

/** Puts the right checksum on a row, so that what comes behind it is looked at. */
function seal(row: Uint8Array): void {
  const view = new DataView(row.buffer, row.byteOffset, row.byteLength)
  view.setUint32(ROW_CHECKSUM_AT, checksum(row.subarray(16)), true)
}

function keyOf(event: NaiveEvent, state: StatePlan): string {
  return Buffer.from(encodeKey(state.entity, event.key as KeyPart[])).toString('hex')
}

/** What the oracle says of a row whose frontiers are given: only those are taken from it. */
function expectedOf(row: RowDescription, own: readonly NaiveEvent[], state: StatePlan): unknown {
  const compactMs = row.levels.map((level) => level.compactedMs)
  const evictMs = row.levels.map((level) => level.evictedMs)
  const { head, levels } = naiveTiles(own, state, { headMs: row.headFrontierMs, compactMs, evictMs })
  return {
    events: head.map((event) => [timeOf(event), ...cellsOf(event, state)]),
    levels: levels.map((tiles, i) => {
      const { stepMs } = state.ladder[i]!
      const ascending = [...tiles].sort(([a], [b]) => a - b)
      return ascending.map(([number, inside]) => [
        number * stepMs,
        (number + 1) * stepMs,
        inside.length,
        state.partials.map((partial) => expectedPartial(naivePartial(inside, state, partial), partial.column, state)),
      ])
    }),
  }
}

function foundIn(row: RowDescription): unknown {
  return {
    events: row.events.map(({ timeMs, cells }) => [timeMs, ...cells.map((cell) => cell.value)]),
    levels: row.levels.map(({ tiles }) =>
      tiles.map(({ startMs, endMs, rows, partials }) => [startMs, endMs, rows, partials.map(foundPartial)]),
    ),
  }
}

function expectedPartial(partial: NaivePartial, index: number, state: StatePlan): unknown {
  const { name: column, scale } = state.columns[index]!
  if (partial.kind === 'edge') {
    const { event } = partial
    const timeMs = event === undefined ? null : timeOf(event)
    return { column, timeMs, value: textOf(partial.value, scale), event: event && cellsOf(event, state) }
  }
  if (partial.kind === 'bits') return { column, value: textOf(partial.value, scale) }
  const { count: cells, sum, squares, min, max } = partial
  return {
    column,
    cells,
    sum: sum && inLowestTerms(sum),
    squares: squares && inLowestTerms(squares),
    min: min === undefined ? undefined : textOf(min, scale),
    max: max === undefined ? undefined : textOf(max, scale),
  }
}

function foundPartial(partial: PartialDescription): unknown {
  if (partial.kind !== 'numeric' && !('timeMs' in partial)) return { column: partial.column, value: partial.value }
  if (partial.kind !== 'numeric') {
    const { column, timeMs, value, event } = partial
    // An inline edge keeps the one column there is.
    const cells = event?.map((cell) => cell.value) ?? (timeMs === null ? undefined : [value])
    return { column, timeMs, value, event: cells }
  }
  const { column, cells, sum, squares, min, max } = partial
  const exact = (text: string | undefined) => text && inLowestTerms(readText(text))
  return { column, cells, sum: exact(sum), squares: exact(squares), min, max }
}

/** Event id and projected columns, as the row keeps them. */
function cellsOf(event: NaiveEvent, state: StatePlan): unknown[] {
  const id = state.id === undefined ? [] : [textOf(idOf(event))]
  return [...id, ...state.columns.map((column) => textOf(valueIn(event, column), column.scale))]
}

/** int64 and decimal as text. */
function textOf(value: Value, scale = 0): unknown {
  if (typeof value !== 'bigint') return value
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, '0')
  const text = scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
  return value < 0n ? `-${text}` : text
}

/** A number as its text says it. */
function readText(text: string): Rational {
  const [whole = '', fraction = ''] = text.replace('-', '').split('.')
  const magnitude = BigInt(whole + fraction)
  return fromDecimal(text.startsWith('-') ? -magnitude : magnitude, fraction.length)
}

function inLowestTerms({ numerator, denominator }: Rational): string {
  let [a, b] = [numerator < 0n ? -numerator : numerator, denominator]
  while (b !== 0n) [a, b] = [b, a % b]
  return `${numerator / a}/${denominator / a}`
}
