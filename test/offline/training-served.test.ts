/**
 * Training sets as served, from files into files: a live stream with late, duplicate and shuffled events is asked at random
 * instants, and what was answered comes out of its mirror again; labels are joined to it later.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Table } from 'apache-arrow'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { beforeAll, describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { parseDefinitions } from '../../src/define/yaml.ts'
import { encodeKey } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { VisiblePositions } from '../../src/offline/served-ledger.ts'
import { openSpine } from '../../src/offline/spine.ts'
import { arrowBatches } from '../../src/offline/training-output.ts'
import { type ServedTrainingOptions, servedTrainingSet } from '../../src/offline/training-served.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { cli, errorOf, makeFolder, writeIn } from '../cli/harness.ts'
import { duckRows } from '../source/support.ts'
import { START_MS } from '../stream/payments.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawLog } from './mirror-scene.ts'
import { mirrorLogs, serveLive } from './served-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const HOUR_MS = 3_600_000
const definition = (windows: string) => `namespace: shop
views:
  - name: spend
    source: { name: payments, columns: { card: utf8, at: 'timestamp[ms]', amount: float64, id: utf8 } }
    entity: card
    time: at
    lateness: { policy: drop, allowed: 30s }
    dedupe: { id: id, within: 1h }
    aggregations:
      - { op: count, windows: ${windows} }
      - { op: sum, column: amount, windows: ${windows} }
      - { op: mean, column: amount, windows: [1h] }
      - { op: max, column: amount, windows: [24h] }
      - { op: last, column: id, windows: [24h] }
`
const folder = makeFolder()
const served = join(folder, 'served')
const mirror = join(folder, 'mirror')
const store = join(folder, 'store')
const definitions = writeIn(folder, 'tilefold.yaml', definition('[1h, 24h]'))

let plan: Plan
let logs: StreamMessage[][]
/** What was served, and what was asked without being logged: at instants when everything that had come was readable. */
let rows: ServedRow[]
const unlogged: ServedRow[] = []
/** Instants when more had come than was readable. */
let unsettled = 0

/** Two partitions that share their cards, with ids that come twice. */
function drawLogs(random: Random): StreamMessage[][] {
  return Array.from({ length: 2 }, () =>
    drawLog(random, 400, random.below(50)).map((message) => {
      const text = message.value?.toString() ?? ''
      if (!text.endsWith('}') || !text.startsWith('{"card"')) return message
      return { ...message, value: Buffer.from(`${text.slice(0, -1)},"id":"e${random.below(1200)}"}`) }
    }),
  )
}

async function compiled(yaml: string): Promise<Plan> {
  return compileView(parseDefinitions(Buffer.from(yaml), 'tilefold.yaml').views[0]!)
}

beforeAll(async () => {
  console.log(`training sets as served: TILEFOLD_SEED=${SEED}`)
  const random = seededRandom(SEED)
  plan = await compiled(definition('[1h, 24h]'))
  logs = drawLogs(random)
  const lmdb = createLmdbStore({ path: store })
  let asked = 0
  let lastMs = 0
  rows = await serveLive({
    plans: [plan],
    topic: 'payments',
    logs,
    random,
    store: lmdb,
    namespace: 'shop',
    folder,
    messagesAtOnce: 40,
    ledgerMs: 1000 * HOUR_MS,
    async ask(reader, nowMs, isSettled) {
      const entities = Array.from({ length: 1 + random.below(4) }, () => ({ card: `card-${random.below(13)}` }))
      const asOfs = entities.map(() => nowMs + random.between(-HOUR_MS, 120_000))
      await reader.getFeatures({ view: 'spend', entities, asOfs }, { requestId: `r${asked++}` })
      // The ledger has one entry in 100 ms.
      if (!isSettled || nowMs < lastMs + 200) unsettled++
      else {
        const card = `card-${random.below(12)}`
        await reader.getFeatures({ view: 'spend', entities: [{ card }], asOfs: [nowMs] }, { requestId: 'unlogged' })
      }
      lastMs = nowMs
    },
  })
  await lmdb.close()
  unlogged.push(...rows.filter(({ requestId }) => requestId === 'unlogged'))
  await mirrorLogs(mirror, [plan], 'payments', logs)
})

type Label = Readonly<Record<string, string | number | Date | bigint | null>>

/** A spine of labels; the columns are those of the first row. */
function writeSpine(name: string, labels: readonly Label[]): string {
  const types = { string: 'STRING', number: 'DOUBLE', bigint: 'INT64', object: 'TIMESTAMP' } as const
  const columnData = Object.keys(labels[0]!).map((column) => {
    const data = labels.map((label) => label[column]!)
    const found = data.find((value) => value !== null) ?? ''
    return { name: column, data, type: types[typeof found as keyof typeof types] }
  })
  return writeIn(folder, name, new Uint8Array(parquetWriteBuffer({ columnData })))
}

const build = (spine: string, out: string, ...args: string[]) =>
  cli(['training-set', '--as-served', '--spine', spine, '--out', out, '-f', definitions, '-o', 'json', ...args], {
    nowMs: START_MS + 100 * HOUR_MS,
  })

function table(out: string): Promise<Record<string, unknown>[]> {
  return duckRows(`SELECT * FROM '${out}'`)
}

/** What was served, in the columns of a training set. */
function featuresOf(row: ServedRow): unknown[] {
  return row.plan.features.map((_, feature) => row.answers.get(feature)!.value)
}

function cellsOf(row: Record<string, unknown>, of = plan): unknown[] {
  return of.features.map(({ name, op }) => {
    const value = row[`spend__${name}`] ?? null
    return op === 'count' && value !== null ? Number(value) : value
  })
}

function expectSame(got: readonly unknown[], expected: readonly unknown[], where: string): void {
  expect(got.length, where).toBe(expected.length)
  for (const [i, value] of expected.entries()) {
    if (!Object.is(got[i], value)) expect(got[i], `${where}, feature ${i}`).toBe(value)
  }
}

const logged = () => rows.filter(({ requestId }) => /^r\d+$/.test(requestId))

describe('a training set as served', () => {
  it('gives logged rows what was served for them, out of the mirror, bit for bit', async () => {
    // The files of the log are a spine as they stand: keys and instants.
    const out = join(folder, 'from-files.parquet')
    const labels = logged().map((row, i) => ({
      card: row.keys[0] as string,
      event_timestamp: new Date(row.asOfMs),
      y: i,
    }))
    const spine = writeSpine('instants.parquet', labels)
    const { code, stdout, stderr } = await build(spine, out, '--served-log', served, '--mirror', mirror)
    expect(stderr.replaceAll(/^warning: .*answered (several times|without a value).*\n/gm, '')).toBe('')
    expect(code).toBe(0)
    const told = JSON.parse(stdout)
    expect(told).toMatchObject({ mode: 'as_served', rows: labels.length, unusable: 0 })
    expect(told.views[0]).toMatchObject({ view: 'spend', log: labels.length, ledger: 0, unknown: 0, lacking: 0 })
    const built = await table(out)
    expect(built.map(({ y }) => y)).toEqual(labels.map(({ y }) => y))
    expect(new Set(built.map((row) => row.spend__served_from))).toEqual(new Set(['log']))
    for (const [i, row] of logged().entries()) {
      const first = firstAnswer(row)
      expectSame(cellsOf(built[i]!), featuresOf(first), `row ${i}`)
    }
    expect(built.filter((row) => Number(row.spend__count_24h) > 2).length).toBeGreaterThan(20)
  })

  it('joins labels that came later, by the request alone', async () => {
    const single = rows.filter((row) => rows.filter((each) => each.requestId === row.requestId).length === 1)
    const own = single.filter(({ requestId }) => /^r/.test(requestId))
    expect(own.length).toBeGreaterThan(5)
    const spine = writeSpine('labels.parquet', [
      ...own.map((row, i) => ({ _request_id: row.requestId, label: i % 2 })),
      { _request_id: 'nobody-asked', label: 1 },
    ])
    for (const values of ['--from-log', '--served-log'] as const) {
      const out = join(folder, `labels${values}.parquet`)
      const from = values === '--from-log' ? ['--from-log'] : ['--mirror', mirror]
      const { code, stdout, stderr } = await build(spine, out, '--served-log', served, ...from)
      expect(stderr).toContain('1 rows of view spend are in no log and no ledger')
      expect(code).toBe(0)
      expect(JSON.parse(stdout).views[0]).toMatchObject({ log: own.length, unknown: 1 })
      const built = await table(out)
      expect(Object.keys(built[0]!).slice(0, 4)).toEqual(['_request_id', 'label', 'card', 'event_timestamp'])
      for (const [i, row] of own.entries()) {
        expect(built[i]).toMatchObject({ _request_id: row.requestId, label: i % 2, card: row.keys[0] })
        expectSame(cellsOf(built[i]!), featuresOf(row), `${values}, row ${i}`)
      }
      expect(cellsOf(built.at(-1)!)).toEqual(plan.features.map(() => null))
      expect(built.at(-1)).toMatchObject({ card: null, spend__served_from: null })
    }
  })

  it('tells the entities of one request apart by number or key, and guesses nothing', async () => {
    const several = logged().filter((row) => rows.some((each) => each.requestId === row.requestId && each.entity === 1))
    const ids = several.map((row) => ({ _request_id: row.requestId, label: 0 }))
    const vague = await build(writeSpine('vague.parquet', ids), join(folder, 'no.parquet'), '--served-log', served)
    expect(errorOf(vague)).toMatchObject({
      code: 'COLUMN_MISSING',
      message: expect.stringContaining('_request_row or card'),
    })
    expect(existsSync(join(folder, 'no.parquet'))).toBe(false)

    const numbered = several.map((row) => ({ _request_id: row.requestId, _request_row: BigInt(row.entity) }))
    const out = join(folder, 'numbered.parquet')
    expect(
      (await build(writeSpine('numbered-spine.parquet', numbered), out, '--served-log', served, '--from-log')).code,
    ).toBe(0)
    for (const [i, row] of (await table(out)).entries()) expectSame(cellsOf(row), featuresOf(several[i]!), `row ${i}`)

    const keyed = several.map((row) => ({ _request_id: row.requestId, card: row.keys[0] as string }))
    const keyedOut = join(folder, 'keyed.parquet')
    expect(
      (await build(writeSpine('keyed-spine.parquet', keyed), keyedOut, '--served-log', served, '--mirror', mirror))
        .code,
    ).toBe(0)
    for (const [i, row] of (await table(keyedOut)).entries()) {
      const asked = rows.find(
        (each) => each.requestId === several[i]!.requestId && each.keys[0] === several[i]!.keys[0],
      )!
      expectSame(cellsOf(row), featuresOf(asked), `row ${i}`)
    }
  })

  it('recomputes features that were defined later, where the same events count', async () => {
    const later = await compiled(definition('[1h, 2h, 24h]'))
    expect(later.stateHash).not.toBe(plan.stateHash)
    const yaml = writeIn(folder, 'later.yaml', definition('[1h, 2h, 24h]'))
    const sample = logged().slice(-40)
    const spine = writeSpine(
      'later-spine.parquet',
      sample.map((row) => ({ _request_id: row.requestId, card: row.keys[0] as string, y: 1 })),
    )
    const out = join(folder, 'later.parquet')
    const args = ['--served-log', served, '--mirror', mirror, '-f', yaml]
    expect((await build(spine, out, ...args)).code).toBe(0)
    const built = await table(out)
    for (const [i, row] of built.entries()) {
      const old = later.features.map(({ name }) => plan.features.findIndex((each) => each.name === name))
      const asked = rows.find((each) => each.requestId === sample[i]!.requestId && each.keys[0] === sample[i]!.keys[0])!
      for (const [feature, at] of old.entries()) {
        if (at >= 0) expect(cellsOf(row, later)[feature]).toBe(featuresOf(asked)[at])
      }
      const [short, middle, long] = ['1h', '2h', '24h'].map((window) => Number(row[`spend__count_${window}`]))
      expect(short! <= middle! && middle! <= long!).toBe(true)
    }
    expect(
      built.some((row) => row.spend__count_2h !== row.spend__count_24h && row.spend__count_2h !== row.spend__count_1h),
    ).toBe(true)
    // The log has no such feature: with its own values that one is null, or comes out of the mirror.
    const bare = join(folder, 'later-bare.parquet')
    expect((await build(spine, bare, '--served-log', served, '--from-log', '-f', yaml)).code).toBe(0)
    expect((await table(bare)).every((row) => row.spend__count_2h === null)).toBe(true)
    const both = join(folder, 'later-both.parquet')
    expect((await build(spine, both, ...args, '--from-log')).code).toBe(0)
    expect(await table(both)).toEqual(built)
    // Other events count: what the log says is of no use.
    const strict = writeIn(folder, 'strict.yaml', definition('[1h, 24h]').replace('30s', '10s'))
    const other = await build(spine, join(folder, 'no.parquet'), ...args, '-f', strict)
    expect(errorOf(other)).toMatchObject({ code: 'SOURCE_NOT_FOUND', details: { views: [{ otherState: 40 }] } })
  })
})

/** The answer that was served first for the entity as of the instant. */
function firstAnswer(row: ServedRow): ServedRow {
  return rows.find((each) => each.asOfMs === row.asOfMs && each.keys[0] === row.keys[0])!
}

describe('rows that are in no log', () => {
  it('get what was readable at their instant, by the flush ledgers', async () => {
    expect(unlogged.length).toBeGreaterThan(10)
    expect(unsettled).toBeGreaterThan(10)
    const spine = writeSpine(
      'unlogged.parquet',
      unlogged.map(({ keys, asOfMs }) => ({ card: keys[0] as string, event_timestamp: new Date(asOfMs), y: 1 })),
    )
    const out = join(folder, 'unlogged-out.parquet')
    const { code, stdout, stderr } = await build(spine, out, '--ledger', '--store', store, '--mirror', mirror)
    expect(stderr).toBe('')
    expect(code).toBe(0)
    const told = JSON.parse(stdout).views[0]
    expect(told).toMatchObject({ log: 0, ledger: unlogged.length, unknown: 0 })
    const lmdb = createLmdbStore({ path: store, readOnly: true })
    const visible = await VisiblePositions.open({ store: lmdb, namespace: 'shop' }, plan, mirror)
    await lmdb.close()
    let exact = 0
    for (const [i, row] of (await table(out)).entries()) {
      expect(row.spend__served_from).toBe('ledger')
      const { applied: served, keys, asOfMs } = unlogged[i]!
      const model = new Map(
        visible.at(encodeKey(plan.state.entity, keys), asOfMs)!.applied.map(({ lane, applied }) => [lane, applied]),
      )
      const behind = served.map(({ lane, applied }) => applied - (model.get(lane) ?? -1))
      expect(Math.max(0, ...behind)).toBeLessThanOrEqual(told.ledger_unsure)
      if (behind.some((positions) => positions > 0)) continue
      // It stands where the answer stood.
      expectSame(cellsOf(row), featuresOf(unlogged[i]!), `row ${i}`)
      exact++
    }
    expect(exact).toBeGreaterThan(unlogged.length / 2)
  })
})

describe('servedTrainingSet', () => {
  const options = async (spine: string, more: Partial<ServedTrainingOptions> = {}): Promise<ServedTrainingOptions> => ({
    spine: await openSpine([spine]),
    views: [{ plan }],
    servedLog: served,
    mirror,
    clock: () => START_MS * 2,
    ...more,
  })

  it('yields Arrow record batches, once', async () => {
    const sample = logged().slice(0, 20)
    const spine = writeSpine(
      'arrow.parquet',
      sample.map((row) => ({ _request_id: row.requestId, card: row.keys[0] as string })),
    )
    const set = servedTrainingSet(await options(spine))
    const batches = []
    for await (const batch of arrowBatches(set.read())) batches.push(batch)
    const built = new Table(batches)
    expect(built.numRows).toBe(20)
    expect(set.report).toMatchObject({ rows: 20, unusable: 0, views: [{ view: 'spend', log: 20 }] })
    await expect(set.read().next()).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  })

  it('leaves no temporary file behind', () => {
    expect(readdirSync(folder).filter((name) => name.startsWith('_tmp'))).toEqual([])
  })
})
