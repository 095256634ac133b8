/**
 * Training sets as served, from files into files: a live stream with late, duplicate and shuffled events is asked at random
 * instants, and what was answered comes out of its mirror again; labels are joined to it later.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Table } from 'apache-arrow'
import { beforeAll, describe, expect, it } from 'vitest'
import { encodeKey } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { VisiblePositions } from '../../src/offline/served-ledger.ts'
import { openSpine } from '../../src/offline/spine.ts'
import { arrowBatches } from '../../src/offline/training-output.ts'
import { type ServedTrainingOptions, servedTrainingSet } from '../../src/offline/training-served.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { cli, errorOf, writeIn } from '../cli/harness.ts'
import { START_MS } from '../stream/payments.ts'
import { mirrorLogs } from './mirror-scene.ts'
import { compiled, definition } from './served-payments.ts'
import { expectSame, featuresOf, TrainingServedScene, table } from './training-served-scene.ts'

const HOUR_MS = 3_600_000
const scene = new TrainingServedScene()
const { folder, served, mirror, store } = scene
const writeSpine: TrainingServedScene['writeSpine'] = (name, labels) => scene.writeSpine(name, labels)
const build: TrainingServedScene['build'] = (spine, out, ...args) => scene.build(spine, out, ...args)
const cellsOf: TrainingServedScene['cellsOf'] = (row, of) => scene.cellsOf(row, of)
const firstAnswer: TrainingServedScene['firstAnswer'] = (row) => scene.firstAnswer(row)
const logged = () => scene.logged

let plan: Plan
let logs: readonly StreamMessage[][]
let rows: readonly ServedRow[]
let settled: readonly ServedRow[]

beforeAll(async () => {
  await scene.open()
  ;({ plan, logs, rows, settled } = scene)
})

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

  it('takes the first of several answers that one request was given', async () => {
    // A caller that sends a name again has sent the same request again.
    const [first, ...others] = rows.filter(({ requestId }) => requestId === 'again')
    expect(others.some((row) => row.answers.get(1)!.value !== first!.answers.get(1)!.value)).toBe(true)
    const spine = writeSpine('again.parquet', [{ _request_id: 'again', y: 1 }])
    const out = join(folder, 'again-out.parquet')
    const { stdout, stderr } = await build(spine, out, '--served-log', served, '--mirror', mirror)
    expect(JSON.parse(stdout).views[0]).toMatchObject({ log: 1, repeated: 1 })
    expect(stderr).toContain('1 rows of view spend were answered several times')
    expectSame(cellsOf((await table(out))[0]!), featuresOf(first!), 'the first')
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

describe('rows that are in no log', () => {
  it('get what was readable at their instant, by the flush ledgers', async () => {
    expect(settled.length).toBeGreaterThan(3)
    const spine = writeSpine(
      'unlogged.parquet',
      settled.map(({ keys, asOfMs }) => ({ card: keys[0] as string, event_timestamp: new Date(asOfMs), y: 1 })),
    )
    const out = join(folder, 'unlogged-out.parquet')
    const { code, stdout } = await build(spine, out, '--ledger', '--store', store, '--mirror', mirror)
    expect(code).toBe(0)
    const told = JSON.parse(stdout).views[0]
    expect(told).toMatchObject({ log: 0, lacking: 0 })
    expect(told.ledger + told.unknown).toBe(settled.length)
    // Before the first flush of a lane whose log had begun, nobody knows.
    expect(told.unknown).toBeLessThan(settled.length / 2)
    const lmdb = createLmdbStore({ path: store, readOnly: true })
    const visible = await VisiblePositions.open({ store: lmdb, namespace: 'shop' }, plan, mirror)
    await lmdb.close()
    let exact = 0
    for (const [i, row] of (await table(out)).entries()) {
      const { applied: served, keys, asOfMs } = settled[i]!
      if (row.spend__served_from === null) continue
      expect(row.spend__served_from).toBe('ledger')
      const model = new Map(
        visible.at(encodeKey(plan.state.entity, keys), asOfMs)!.applied.map(({ lane, applied }) => [lane, applied]),
      )
      const behind = served.map(({ lane, applied }) => applied - (model.get(lane) ?? -1))
      expect(Math.max(0, ...behind)).toBeLessThanOrEqual(told.ledger_unsure)
      if (behind.some((positions) => positions > 0)) continue
      // It stands where the answer stood.
      expectSame(cellsOf(row), featuresOf(settled[i]!), `row ${i}`)
      exact++
    }
    expect(exact).toBeGreaterThan(told.ledger / 2)
  })
})

describe('trouble with the spine', () => {
  it('is a rule for each kind, and a count', async () => {
    const [first, second] = logged()
    const [known, lastMs] = [settled.at(-1)!, Math.max(...rows.map(({ asOfMs }) => asOfMs))]
    const card = known.keys[0] as string
    const at = (ms: number) => new Date(ms)
    const spine = writeSpine('trouble.parquet', [
      { card: first!.keys[0] as string, event_timestamp: at(first!.asOfMs), is: 'logged' },
      { card, event_timestamp: at(known.asOfMs + 1), is: 'modelled' },
      { card: 'nobody', event_timestamp: at(known.asOfMs + 1), is: 'modelled, of an unknown entity' },
      { card: null, event_timestamp: at(known.asOfMs), is: 'without a key' },
      { card: '', event_timestamp: at(known.asOfMs), is: 'with an empty key' },
      { card, event_timestamp: null, is: 'without an instant' },
      { card, event_timestamp: at(-5), is: 'out of range' },
      { card, event_timestamp: at(START_MS - HOUR_MS), is: 'before history' },
      { card, event_timestamp: at(lastMs + 1000 * HOUR_MS), is: 'to come' },
      { card: second!.keys[0] as string, event_timestamp: at(second!.asOfMs), is: 'logged' },
      { card: first!.keys[0] as string, event_timestamp: at(first!.asOfMs), is: 'logged' },
    ])
    const out = join(folder, 'trouble-out.parquet')
    const args = ['--served-log', served, '--mirror', mirror, '--ledger', '--store', store]
    const { code, stdout, stderr } = await build(spine, out, ...args)
    expect(code).toBe(0)
    const told = JSON.parse(stdout)
    expect(told).toMatchObject({ rows: 11, unusable: 4 })
    // Before the first record nothing was readable, and that is known.
    expect(told.views[0]).toMatchObject({ log: 3, ledger: 3, unknown: 5, ahead: 1, lacking: 0 })
    expect(stderr).toContain('4 rows have no request id, and no usable key or instant')
    expect(stderr).toContain('1 rows ask view spend about an instant to come')
    const built = await table(out)
    expect(built.map(({ is }) => is)).toEqual([
      'logged',
      'modelled',
      'modelled, of an unknown entity',
      'without a key',
      'with an empty key',
      'without an instant',
      'out of range',
      'before history',
      'to come',
      'logged',
      'logged',
    ])
    const from = ['log', 'ledger', 'ledger', null, null, null, null, 'ledger', null, 'log', 'log']
    expect(built.map((row) => row.spend__served_from)).toEqual(from)
    const nothing = plan.features.map(() => null)
    const unknown = plan.features.map(({ op }) => (op === 'count' ? 0 : null))
    for (const i of [3, 4, 5, 6, 8]) expect(cellsOf(built[i]!), `row ${i}`).toEqual(nothing)
    for (const i of [2, 7]) expect(cellsOf(built[i]!), `row ${i}`).toEqual(unknown)
    for (const [i, row] of [
      [0, first!],
      [9, second!],
      [10, first!],
    ] as const) {
      expectSame(cellsOf(built[i]!), featuresOf(firstAnswer(row)), `row ${i}`)
    }
  })

  it('is an error where nothing would come of it, and then there is no file', async () => {
    const out = join(folder, 'never.parquet')
    const ids = writeSpine('strangers.parquet', [{ _request_id: 'x', card: 'card-1', y: 1 }])
    const bare = writeSpine('bare.parquet', [{ y: 1, z: 2 }])
    const cases: [string[], string, RegExp][] = [
      [[ids, '--served-log', served], 'SOURCE_NOT_FOUND', /nothing of any row; got 1 rows/],
      [[ids], 'CONFIG_INVALID', /nothing tells what was served/],
      [[ids, '--served-log', join(folder, 'nowhere')], 'SOURCE_NOT_FOUND', /no folder .*nowhere.spend/],
      [[ids, '--served-log', served, '--mirror', join(folder, 'none')], 'SOURCE_NOT_FOUND', /nothing of any row/],
      [[bare, '--served-log', served], 'COLUMN_MISSING', /"event_timestamp"|"card"/],
      [[ids, '--served-log', served, '--check-leakage'], 'USAGE', /parity <view> --served-log/],
      [[ids, '--served-log', served, '--events', 'e'], 'USAGE', /--events: it does not go with --as-served/],
      [[ids, '--served-log', served, '--serving-delay', '5s'], 'USAGE', /looked up with --ledger/],
      [[ids, '--ledger', '--from-log', '--store', store], 'CONFIG_INVALID', /no log of answers is given/],
    ]
    for (const [[spine, ...args], code, message] of cases) {
      const outcome = await build(spine!, out, '--mirror', mirror, ...args)
      expect([errorOf(outcome).code, errorOf(outcome).message], args.join(' ')).toEqual([
        code,
        expect.stringMatching(message),
      ])
      expect(existsSync(out)).toBe(false)
    }
    const happened = await cli(['training-set', '--spine', ids, '--out', out, '--served-log', served, '-o', 'json'])
    expect(errorOf(happened)).toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('with --as-served only'),
    })
  })

  it('is told of records that the mirror lacks', async () => {
    const short = join(folder, 'short')
    await mirrorLogs(
      short,
      [plan],
      'payments',
      logs.map((log) => log.slice(0, 200)),
    )
    const own = logged()
    const spine = writeSpine(
      'short.parquet',
      own.map((row) => ({ _request_id: row.requestId, _request_row: BigInt(row.entity) })),
    )
    const ends = logs.map((log) => Number(log[199]!.offset))
    const isLacking = ({ applied }: ServedRow) =>
      applied.some(({ lane, applied: at }) => at > ends[Number(lane.split('.')[1])]!)
    const answered = own.filter((row) => [...row.answers.values()].some(({ status }) => status !== 'too_old'))
    const lacking = answered.filter(isLacking).length
    const out = join(folder, 'short-out.parquet')
    const { code, stdout } = await build(spine, out, '--served-log', served, '--mirror', short)
    expect(code).toBe(0)
    expect(JSON.parse(stdout).views[0]).toMatchObject({ log: own.length - lacking, unknown: lacking, lacking })
    expect(lacking).toBeGreaterThan(10)
    for (const [i, row] of (await table(out)).entries()) {
      if (isLacking(own[i]!)) expect(cellsOf(row)).toEqual(plan.features.map(() => null))
      else expectSame(cellsOf(row), featuresOf(own[i]!), `row ${i}`)
    }
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
