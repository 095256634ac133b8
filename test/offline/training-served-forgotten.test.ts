/** Training sets as served of an entity that was asked to be forgotten: nothing up to the request, and behind it what happened since. */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { encodeKey } from '../../src/model/key.ts'
import type { Plan } from '../../src/model/plan.ts'
import { answersAsServed } from '../../src/offline/as-served.ts'
import { requestErase } from '../../src/registry/erase.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { expectSame, featuresOf, TrainingServedScene, table } from './training-served-scene.ts'

const scene = new TrainingServedScene()
const { folder, served, mirror, store } = scene
const writeSpine: TrainingServedScene['writeSpine'] = (name, labels) => scene.writeSpine(name, labels)
const build: TrainingServedScene['build'] = (spine, out, ...args) => scene.build(spine, out, ...args)
const cellsOf: TrainingServedScene['cellsOf'] = (row, of) => scene.cellsOf(row, of)
const firstAnswer: TrainingServedScene['firstAnswer'] = (row) => scene.firstAnswer(row)
const logged = () => scene.logged

let plan: Plan
let settled: readonly ServedRow[]

beforeAll(async () => {
  await scene.open()
  ;({ plan, settled } = scene)
})

describe('an entity that was asked to be forgotten', () => {
  const nothing = () => plan.features.map(() => null)
  let gone: string
  let fromMs: number
  /** The store as it was, with the request on its list. */
  const list = join(folder, 'list')

  beforeAll(async () => {
    const cards = logged().map(({ keys }) => keys[0] as string)
    const countOf = (card: string) => cards.filter((each) => each === card).length
    gone = cards.reduce((most, card) => (countOf(card) > countOf(most) ? card : most))
    const instants = logged()
      .filter(({ keys }) => keys[0] === gone)
      .map(({ asOfMs }) => asOfMs)
      .sort((a, b) => a - b)
    fromMs = instants[Math.floor(instants.length / 2)]!
    cpSync(store, list, { recursive: true })
    const lmdb = createLmdbStore({ path: list })
    const key = Buffer.from(encodeKey(plan.state.entity, [gone])).toString('hex')
    await requestErase({ store: lmdb, namespace: 'shop' }, { views: ['spend'], states: [], key, atMs: fromMs })
    await lmdb.close()
  })

  const spineOf = (name: string, asked: readonly ServedRow[]) =>
    writeSpine(
      name,
      asked.map(({ keys, asOfMs }) => ({ card: keys[0] as string, event_timestamp: new Date(asOfMs) })),
    )
  const isGone = ({ keys, asOfMs }: ServedRow) => keys[0] === gone && asOfMs <= fromMs

  it('has nulls up to the request, and behind it only what happened since', async () => {
    const asked = logged()
    const out = join(folder, 'forgotten.parquet')
    const args = ['--served-log', served, '--mirror', mirror, '--store', list]
    const { code, stdout, stderr } = await build(spineOf('forgotten-spine.parquet', asked), out, ...args)
    expect(code, stderr).toBe(0)
    const forgotten = asked.filter(isGone).length
    expect(forgotten).toBeGreaterThan(1)
    expect(JSON.parse(stdout).views[0]).toMatchObject({
      forgotten,
      log: asked.length - forgotten,
      unknown: 0,
      lacking: 0,
    })
    expect(stderr).toContain(`${forgotten} rows of view spend are of entities that were asked to be forgotten`)
    const built = await table(out)
    const count24h = plan.features.findIndex(({ name }) => name === 'count_24h')
    const [behind, erased] = [[] as number[], [] as number[]]
    for (const [i, asRow] of asked.entries()) {
      const row = firstAnswer(asRow)
      if (isGone(row)) {
        expect(cellsOf(built[i]!), `row ${i}`).toEqual(nothing())
        expect(built[i]).toMatchObject({ card: gone, spend__served_from: null })
        continue
      }
      if (row.keys[0] !== gone) {
        expectSame(cellsOf(built[i]!), featuresOf(row), `row ${i}`)
        continue
      }
      // What was known at the answer's positions of the time before the request: the stream is shorter than a day.
      const vector = { key: encodeKey(plan.state.entity, [gone]), asOfMs: fromMs, applied: row.applied }
      const [before] = await answersAsServed({ plan, generation: row.generation, vectors: [vector], mirror })
      behind.push(Number(built[i]!.spend__count_24h))
      erased.push(Number(featuresOf(row)[count24h]) - Number(before!.values[count24h]))
    }
    expect(behind).toEqual(erased)
    expect(Math.max(...behind)).toBeGreaterThan(0)
  })

  it('is not in what is taken from the log either, where a window reaches back behind the request', async () => {
    const asked = logged()
    const out = join(folder, 'forgotten-log.parquet')
    const args = ['--from-log', '--served-log', served, '--store', list]
    const { code, stdout } = await build(spineOf('forgotten-log-spine.parquet', asked), out, ...args)
    expect(code).toBe(0)
    const own = asked.filter(({ keys }) => keys[0] === gone).length
    expect(JSON.parse(stdout).views[0]).toMatchObject({ forgotten: own, log: asked.length - own })
    for (const [i, row] of (await table(out)).entries()) {
      if (asked[i]!.keys[0] === gone) expect(cellsOf(row), `row ${i}`).toEqual(nothing())
      else expectSame(cellsOf(row), featuresOf(firstAnswer(asked[i]!)), `row ${i}`)
    }
  })

  it('has nulls by the ledger, nothing of the log in columns that the spine lacks, and nothing at all if need be', async () => {
    const own = settled.filter(({ asOfMs }) => asOfMs <= fromMs).map((row) => ({ ...row, keys: [gone] }))
    expect(own.length).toBeGreaterThan(0)
    const out = join(folder, 'forgotten-ledger.parquet')
    const modelled = await build(spineOf('f-ledger.parquet', own), out, '--ledger', '--store', list, '--mirror', mirror)
    expect(modelled.code, modelled.stderr).toBe(0)
    expect(JSON.parse(modelled.stdout).views[0]).toMatchObject({ forgotten: own.length, ledger: 0, unknown: 0 })

    const named = logged().filter(isGone)
    const ids = named.map(({ requestId, entity }) => ({ _request_id: requestId, _request_row: BigInt(entity) }))
    const args = ['--served-log', served, '--mirror', mirror, '--store', list]
    expect((await build(writeSpine('f-ids.parquet', ids), out, ...args)).code).toBe(0)
    for (const row of await table(out)) expect(row).toMatchObject({ card: null, event_timestamp: null })
  })
})
