/** The log of answers: what stands in its files, read by DuckDB, is what was answered. */
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { encodeKey } from '../../src/model/key.ts'
import { ServedLogWriter } from '../../src/offline/served-log.ts'
import type { FeatureAnswer } from '../../src/serve/respond.ts'
import { isChosen } from '../../src/serve/served.ts'
import { startServer } from '../../src/serve/server.ts'
import { post } from '../serve/http.ts'
import { layoutOf } from '../serve/plans.ts'
import { HOUR, historyLanes, lanesOf, NOON, openShop } from '../serve/shop.ts'
import { duckRows } from '../source/support.ts'
import { seededRandom } from '../support/random.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

describe('a log of answers', () => {
  let directory: string
  let [logged, dropped] = [0, 0]
  let faults: unknown[] = []
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'tilefold-served-'))
    folders.push(directory)
    ;[logged, dropped, faults] = [0, 0, []]
  })

  const openLog = (share = 1, intervalMs = 3_600_000) =>
    new ServedLogWriter({
      directory,
      share,
      intervalMs,
      clock: () => NOON + 90_061_000,
      metrics: {
        servedLogged(rows, lost) {
          logged += rows
          dropped += lost
        },
      },
      onFault: (cause) => faults.push(cause),
    })
  const filesOf = (view: string) =>
    readdirSync(directory, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.startsWith(`${view}/`) && statSync(join(directory, name)).isFile())
      .sort()
  const rowsOf = (view: string) =>
    duckRows(`SELECT * REPLACE (epoch_ms(event_timestamp) AS event_timestamp, epoch_ms(_served_at) AS _served_at)
      FROM read_parquet('${directory}/${view}/**/*.parquet', hive_partitioning = false)
      ORDER BY _request_id, _request_row`)

  it(`holds every answer with what it was computed from (seed ${SEED})`, async () => {
    const shop = await openShop()
    const log = openLog()
    const reader = shop.newReader({ log })
    const random = seededRandom(SEED)
    const answers = new Map<string, FeatureAnswer>()
    const queries = [
      { view: 'spend' },
      { features: ['spend:count_1h', 'visits:points_last_1d'] },
      { features: ['spend:price_sum_1d', 'spend:note_last_1d', 'spend:amount_mean_1h'] },
    ]
    for (let i = 0; i < 60; i++) {
      const entities = Array.from({ length: 1 + random.below(4) }, () => ({
        user: ['ann', 'bob', 'nobody'][random.below(3)]!,
        shop: [1n, 2, '1152921504606846976'][random.below(3)]!,
      }))
      const asOfs = entities.map(() => NOON - random.below(3 * HOUR))
      const requestId = `r${String(i).padStart(3, '0')}`
      const query = { ...queries[random.below(3)]!, entities, asOfs, explain: random.below(2) === 0 }
      answers.set(requestId, await reader.getFeatures(query, { requestId }))
    }
    await log.close()
    expect({ dropped, faults }).toEqual({ dropped: 0, faults: [] })

    const seen = { spend: 0, visits: 0 }
    for (const plan of [shop.spend, shop.visits]) {
      for (const row of await rowsOf(plan.view)) {
        seen[plan.view as 'spend' | 'visits']++
        const { metadata, rows } = answers.get(row._request_id as string)!
        const { values, statuses } = rows[Number(row._request_row)]!
        expect(row._state_hash).toBe(plan.stateHash)
        expect(row._definition_hash).toBe(plan.definitionHash)
        expect(Number(row.event_timestamp)).toBe((metadata.asOfMs as Float64Array)[Number(row._request_row)])
        expect(Number(row._served_at)).toBe(NOON)
        // The last of the shop's five payments is applied in every row there is.
        const id = plan === shop.spend ? `${row.user}` : `${row.user} ${row.shop}`
        const isKnown = ['ann', 'bob', 'ann 1', 'ann 2', `bob ${2n ** 60n}`].includes(id)
        expect(row._applied).toBe(isKnown ? 'web.0=4' : '')
        for (const feature of plan.features) {
          const at = metadata.features.findIndex(({ name, view }) => name === feature.name && view === plan.view)
          const name = `${plan.view}__${feature.name}`
          expect(row[`${name}__status`]).toBe(at < 0 ? null : statuses[at])
          const [found, value] = [row[name], at < 0 ? null : values[at]!]
          if (value === null || typeof value !== 'number' || feature.op === 'count') {
            expect(found === null ? null : String(found)).toBe(value === null ? null : String(value))
          } else expect(Object.is(found, value)).toBe(true)
        }
      }
    }
    const asked = (view: string) =>
      [...answers.values()]
        .filter(({ metadata }) => metadata.versions.some((version) => version.view === view))
        .reduce((sum, { rows }) => sum + rows.length, 0)
    expect(seen).toEqual({ spend: asked('spend'), visits: asked('visits') })
    expect(logged).toBe(seen.spend + seen.visits)
  })

  it('holds the answers from before there was a lane: nothing was known then', async () => {
    const shop = await openShop()
    const log = openLog()
    await shop.setLayout(shop.spend, layoutOf(shop.spend, {}, 2))
    const entities = [{ user: 'ann' }, { user: 'bob' }]
    await shop.newReader({ log }).getFeatures({ view: 'spend', entities }, { requestId: 'early' })
    await log.close()
    const rows = await rowsOf('spend')
    expect(rows.map(({ _request_id, user, _applied }) => [_request_id, user, _applied])).toEqual([
      ['early', 'ann', ''],
      ['early', 'bob', ''],
    ])
    expect(rows.map((row) => [Number(row.spend__count_1d), row.spend__count_1d__status])).toEqual([
      [0, 'unknown_entity'],
      [0, 'unknown_entity'],
    ])
  })

  it('names each lane that held a row', async () => {
    const shop = await openShop()
    await shop.setLayout(shop.spend, layoutOf(shop.spend, lanesOf({ history: 2, logs: [{ name: 'web', shards: 1 }] })))
    const [first, second] = historyLanes(shop.spend, 2)
    const old = [{ at: NOON - 22 * HOUR, user: 'ann' }]
    await shop.write(shop.spend, [first!, second!], old)
    const log = openLog()
    const answer = await shop
      .newReader({ log })
      .getFeatures({ view: 'spend', entities: [{ user: 'ann' }], explain: true })
    await log.close()
    const [row] = await rowsOf('spend')
    const lanes = answer.rows[0]!.explain![0]!.rows.map(({ lane, applied }) => `${lane}=${applied}`)
    expect(lanes).toHaveLength(2)
    expect(row!._applied).toBe(lanes.join(','))
    expect(lanes).toContain('web.0=4')
  })

  it('holds the same share of the entities at every request', async () => {
    const shop = await openShop()
    const log = openLog(0.3)
    const reader = shop.newReader({ log })
    const entities = Array.from({ length: 500 }, (_, i) => ({ user: `user ${i}` }))
    for (let i = 0; i < 2; i++) await reader.getFeatures({ view: 'spend', entities }, { requestId: `r${i}` })
    await log.close()
    const chosen = entities.filter(({ user }) => isChosen(encodeKey(shop.spend.state.entity, [user]), 0.3))
    const rows = await rowsOf('spend')
    expect(rows.map(({ user }) => user)).toEqual([...chosen, ...chosen].map(({ user }) => user))
    expect(chosen.length).toBeGreaterThan(100)
    expect(chosen.length).toBeLessThan(200)
  })

  it('ends files as time goes by, each by day and whole, and takes the name that the caller gave the request', async () => {
    const shop = await openShop()
    const log = openLog(1, 20)
    const server = await startServer({ reader: shop.newReader({ log }), port: 0 })
    const ask = (id: string) =>
      post(`${server.url}/v1/features`, { view: 'spend', entities: [{ user: 'bob' }] }, { 'x-request-id': id })
    expect((await ask('order 17')).status).toBe(200)
    expect((await ask('order-18')).status).toBe(200)
    while (logged < 2) await new Promise((resolve) => setTimeout(resolve, 5))
    await ask('order-19')
    await server.close()
    await log.close()
    const ids = (await rowsOf('spend')).map((row) => row._request_id as string)
    expect(ids.filter((id) => id.startsWith('order'))).toEqual(['order-18', 'order-19'])
    expect(ids.filter((id) => /^[0-9a-f]{8}-/.test(id))).toHaveLength(1)
    expect(filesOf('spend').length).toBeGreaterThanOrEqual(2)
    for (const name of filesOf('spend')) {
      expect(name).toMatch(/^spend\/date=2026-03-02\/served-20260302T130101Z-[0-9a-f]{6}\.parquet$/)
    }
  })

  it('leaves out what it cannot write, and says so; answers go on', async () => {
    const shop = await openShop()
    writeFileSync(join(directory, 'spend'), 'in the way')
    const log = openLog()
    const reader = shop.newReader({ log })
    const query = { features: ['spend:count_1h', 'visits:count_1d'], entities: [{ user: 'ann', shop: 1 }] }
    const answer = await reader.getFeatures(query)
    expect(answer.rows[0]!.statuses).toEqual(['ok', 'ok'])
    await log.close()
    expect({ logged, dropped }).toEqual({ logged: 1, dropped: 1 })
    expect(faults).toHaveLength(1)
    rmSync(join(directory, 'spend'))
    expect(await rowsOf('visits')).toHaveLength(1)
  })

  it('leaves out what comes faster than it can be written, and keeps the rest', async () => {
    const shop = await openShop()
    const log = openLog()
    const reader = shop.newReader({ log })
    const entities = Array.from({ length: 1000 }, (_, i) => ({ user: `user ${i}` }))
    const burst = await reader.getFeatures({ view: 'spend', entities })
    expect(burst.rows).toHaveLength(1000)
    // The disk is not asked before this turn is over.
    const row = { ...(await loggedRow(shop)), requestId: 'again' }
    for (let i = 0; i < 70; i++) log.take(new Array(1000).fill(row))
    await log.close()
    expect(logged + dropped).toBe(71_000)
    expect(dropped).toBeGreaterThan(0)
    expect(await rowsOf('spend')).toHaveLength(logged)
  })

  async function loggedRow(shop: Awaited<ReturnType<typeof openShop>>) {
    const rows: Parameters<ServedLogWriter['take']>[0][number][] = []
    const reader = shop.newReader({ log: { share: 1, take: (some) => rows.push(...some) } })
    await reader.getFeatures({ view: 'spend', entities: [{ user: 'ann' }] })
    return rows[0]!
  }
})
