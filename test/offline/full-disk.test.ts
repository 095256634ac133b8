/** A disk that is full: what was to be written is complete or not there, the error says so, and with room again it goes on. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ServedLogWriter } from '../../src/offline/served-log.ts'
import {
  askValues,
  cli,
  errorOf,
  expectedValues,
  makeFolder,
  makeOrders,
  ORDERS_YAML,
  toLines,
  writeIn,
} from '../cli/harness.ts'
import { HOUR, NOON, openShop } from '../serve/shop.ts'
import { duck } from '../source/support.ts'
import { paymentsView, START_MS } from '../stream/payments.ts'
import { makeDisk, type SmallDisk, whyNoDisk } from '../support/full-disk.ts'
import { seededRandom } from '../support/random.ts'
import { drawLog, expectWhole, ScriptedGroup, startMirror } from './mirror-scene.ts'

const AS_OF = '2025-01-03T00:00:00Z'

describe.skipIf(whyNoDisk() !== undefined)('on a disk that is full', () => {
  const folder = makeFolder()
  const definitions = writeIn(folder, 'views.yaml', ORDERS_YAML)
  const orders = makeOrders(300)
  const events = writeIn(folder, 'orders.ndjson', toLines(orders))
  let disk: SmallDisk
  beforeEach(() => {
    disk = makeDisk(24 << 20)
  })
  afterEach(() => disk.remove())

  const left = () => readdirSync(disk.folder).filter((name) => name !== '.ballast')

  async function spineOf(rows: number): Promise<string> {
    const path = join(folder, `spine-${rows}.parquet`)
    await duck(
      `COPY (SELECT (['ada', 'bob', 'cleo'])[i % 3 + 1] AS customer, TIMESTAMP '2025-01-02' + INTERVAL (i) SECOND AS event_timestamp, random() AS label FROM range(${rows}) t(i)) TO '${path}'`,
      'SELECT 1',
    )
    return path
  }

  const build = (spine: string, out: string, ...more: string[]) =>
    cli(['training-set', '--spine', spine, '--events', events, '--out', out, '-f', definitions, '-o', 'json', ...more])

  it.each(['train.parquet', 'train.arrow'])('a training set is not there, and what was is (%s)', async (name) => {
    const spine = await spineOf(5000)
    const out = join(disk.folder, name)
    for (const before of [undefined, 'before']) {
      if (before !== undefined) writeFileSync(out, before)
      for (const leftBytes of [0, 20_000]) {
        disk.fill(leftBytes)
        const error = errorOf(await build(spine, out))
        expect([error.code, error.message]).toEqual([
          'OUTPUT_FAILED',
          expect.stringMatching(/cannot write .*no space left/),
        ])
        expect(left()).toEqual(before === undefined ? [] : [name])
        if (before !== undefined) expect(readFileSync(out, 'utf8')).toBe(before)
      }
      disk.free()
    }
    expect((await build(spine, out)).code).toBe(0)
    expect(left()).toEqual([name])
  })

  it('its temporary files are gone, too, and the set is not begun', async () => {
    // Each row of the spine wants an answer from events that do not fit into what may be held.
    const many = join(folder, 'many.parquet')
    await duck(
      `COPY (SELECT 1735689600000 + i * 20 AS "at", 'c' || (i % 50000) AS customer, i / 4 AS amount, i AS items FROM range(1000000) t(i)) TO '${many}'`,
      `COPY (SELECT 'c' || i AS customer, TIMESTAMP '2025-01-01 05:00:00' AS event_timestamp FROM range(50000) t(i)) TO '${join(folder, 'asked.parquet')}'`,
      'SELECT 1',
    )
    const out = join(folder, 'spilled.parquet')
    const args = [
      'training-set',
      '--spine',
      join(folder, 'asked.parquet'),
      '--events',
      many,
      '--out',
      out,
      '-f',
      definitions,
    ]
    const more = ['--memory', '64MiB', '-o', 'json', '--any-times']
    const error = errorOf(await cli([...args, ...more, '--temp', disk.folder]))
    expect([error.code, error.message]).toEqual([
      'OUTPUT_FAILED',
      expect.stringMatching(/cannot write .*no space left/),
    ])
    expect(left()).toEqual([])
    expect(existsSync(out)).toBe(false)
    expect(readdirSync(folder).filter((name) => name.startsWith('_tmp'))).toEqual([])
  })

  it('a mirror stops at whole files, and goes on where there is room again', async () => {
    const log = drawLog(seededRandom(1), 600)
    const group = new ScriptedGroup('payments', [log], seededRandom(1))
    const codes = new Set<string | undefined>()
    const dir = disk.folder
    const plans = [await paymentsView()]
    const { consumer, mirror } = startMirror(group, {
      dir,
      plans,
      clock: () => START_MS,
      report: ({ code }) => codes.add(code),
    })
    await mirror.start()
    await group.assign(0, consumer)
    for (let turn = 0; turn < 400; turn++) {
      if (turn === 4) disk.fill()
      if (turn === 200) disk.free()
      await consumer.retry()
      if (!(await consumer.deliver(0, 50)) && consumer.waiting.size === 0 && turn > 200) break
    }
    await mirror.stop()
    expect([...codes].filter((code) => code !== undefined)).toEqual(['MIRROR_UNAVAILABLE'])
    await expectWhole(dir, 'payments', [log])
  })

  it('a log of answers is left out and counted, and answers go on', async () => {
    const shop = await openShop()
    let [logged, dropped] = [0, 0]
    const faults: unknown[] = []
    const log = new ServedLogWriter({
      directory: join(disk.folder, 'served'),
      share: 1,
      intervalMs: HOUR,
      clock: () => NOON,
      metrics: {
        servedLogged(rows, lost) {
          logged += rows
          dropped += lost
        },
      },
      onFault: (cause) => faults.push(cause),
    })
    const reader = shop.newReader({ log })
    disk.fill()
    const entities = Array.from({ length: 500 }, (_, i) => ({ user: `user ${i % 7}` }))
    expect((await reader.getFeatures({ view: 'spend', entities })).rows.length).toBe(500)
    await log.close()
    expect({ logged, dropped }).toEqual({ logged: 0, dropped: 500 })
    expect(String(faults[0])).toMatch(/no space left/)
    const files = readdirSync(disk.folder, { recursive: true, encoding: 'utf8' })
    expect(files.filter((name) => /parquet$/.test(name))).toEqual([])
  })

  it('a backfill says so, shows nothing, and goes on where there is room again', async () => {
    // One order each of thousands: rows of a few megabytes.
    const many = makeOrders(6000).map((order, i) => ({ ...order, customer: `c${i}`, at: orders[i % 300]!.at }))
    const file = writeIn(folder, 'many.ndjson', toLines(many))
    const store = join(disk.folder, 'store')
    const args = ['backfill', file, '--store', store, '-f', definitions, '-o', 'json', '--any-times']
    // No room for a store, then for some of its rows: each attempt goes on from the one before.
    for (const leftBytes of [0, 100_000, 400_000, 800_000]) {
      disk.fill(leftBytes)
      const outcome = await cli(args)
      expect(outcome.code, `${leftBytes} bytes left: ${outcome.stdout}`).toBe(1)
      const error = errorOf(outcome)
      expect(error.code).toBe('STORE_UNAVAILABLE')
      expect(error.message).toMatch(/\d+ bytes are free there|no space left/)
      await expect(askValues(store, definitions, 'c7', AS_OF)).rejects.toThrow()
      disk.free()
    }
    expect((await cli(args)).code).toBe(0)
    for (const customer of ['c7', 'c299', 'c5998', 'nobody']) {
      expect(await askValues(store, definitions, customer, AS_OF)).toEqual(expectedValues(many, customer, AS_OF))
    }
  })
})
