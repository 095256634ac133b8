/** What was answered against the mirror: by command, by request, and as a canary that takes share after share. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '../../src/model/plan.ts'
import { createParityMetrics } from '../../src/observe/metrics.ts'
import { type CanaryCounts, runCanary } from '../../src/offline/parity-canary.ts'
import { sampleOf } from '../../src/offline/parity-sample.ts'
import { compareServed } from '../../src/offline/parity-served.ts'
import type { ServedRow } from '../../src/serve/served.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { type CliOptions, cli, errorOf, makeFolder, toLines, writeIn } from '../cli/harness.ts'
import { START_MS } from '../stream/payments.ts'
import { seededRandom } from '../support/random.ts'
import { mirrorLogs } from './mirror-scene.ts'
import { definition, servedPayments } from './served-payments.ts'
import { serveLive } from './served-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 2)
const HOUR_MS = 3_600_000
const folder = makeFolder()
const definitions = writeIn(folder, 'tilefold.yaml', definition('[1h, 24h]'))
const [served, mirror, store] = [join(folder, 'served'), join(folder, 'mirror'), join(folder, 'store')]

let plan: Plan
let logs: readonly StreamMessage[][]
let rows: readonly ServedRow[]

beforeAll(async () => {
  console.log(`parity of what was served: TILEFOLD_SEED=${SEED}`)
  ;({ plan, logs, rows } = await servedPayments(folder, SEED))
})

async function parity(dir: string, args: readonly string[] = [], options: CliOptions = {}) {
  const own = ['parity', 'spend', '--mirror', dir, '-f', definitions, '-o', 'json']
  const outcome = await cli([...own, ...args], options)
  return { ...outcome, told: JSON.parse(outcome.stdout || '{}') }
}

/** The mirror without one event, which an answer has counted and which has no double. */
async function withoutOne(): Promise<string> {
  for (const row of rows.toReversed()) {
    for (const { lane, applied } of row.applied) {
      const partition = Number(lane.split('.')[1])
      const at = countedEvent(partition, applied, row)
      if (at < 0) continue
      // A tombstone in its place: the offset is there, the event is not.
      const log = logs[partition]!.with(at, { ...logs[partition]![at]!, value: null })
      return mirrorLogs(join(folder, 'dropped'), [plan], 'payments', logs.with(partition, log))
    }
  }
  throw new Error('no event to drop')
}

function countedEvent(partition: number, applied: number, row: ServedRow): number {
  if (row.answers.get(0)!.status !== 'ok') return -1
  let clockMs = 0
  return logs[partition]!.findIndex(({ offset, value, timestamp }) => {
    const text = value?.toString() ?? ''
    if (!text.startsWith('{"card":"') || !text.includes('"id":')) return false
    const event = JSON.parse(text) as { card: string; at: number; id: string }
    const isInTime = event.at >= clockMs - 30_000
    clockMs = Math.max(clockMs, Math.min(event.at, Number(timestamp)))
    if (!isInTime || event.card !== row.keys[0] || Number(offset) > applied) return false
    const doubles = logs.flat().filter((each) => each.value?.includes(`"${event.id}"`)).length
    return doubles === 1 && event.at < row.asOfMs && event.at >= row.asOfMs - 1_800_000
  })
}

describe('parity of what was served', () => {
  it('finds every answer of a stream with late, duplicate and shuffled events the same', async () => {
    const { code, told, stderr } = await parity(mirror, ['--served-log', served])
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(told).toMatchObject({ mismatched: 0, missing: 0, unverified: 0, other_definition: 0, differences: [] })
    expect(told.compared + told.unanswered).toBe(rows.length)
    expect(told.compared).toBeGreaterThan(rows.length / 2)
  })

  it('turns red where one event is dropped, and prints a command that shows it', async () => {
    const dir = await withoutOne()
    const { code, told } = await parity(dir, ['--served-log', served])
    expect(code).toBe(1)
    expect(told.mismatched + told.missing).toBeGreaterThan(0)
    const [{ command, request }] = told.differences
    const again = await cli([...command.split(' ').slice(1), '-o', 'json'])
    expect(again.code).toBe(1)
    expect(JSON.parse(again.stdout).differences[0]).toMatchObject({ request })
    const table = await cli([...command.split(' ').slice(1)])
    expect(table.stdout).toMatch(/FEATURE +SERVED +EXPECTED|no row in/)
  })

  it('is no gate that opens because nothing was looked at', async () => {
    const nobody = await parity(mirror, ['--served-log', served, '--request', 'nobody'])
    expect(nobody).toMatchObject({ code: 1, told: { compared: 0 } })
    expect(nobody.stderr).toContain('nothing was compared')
    const short = await mirrorLogs(
      join(folder, 'short'),
      [plan],
      'payments',
      logs.map((log) => log.slice(0, 200)),
    )
    const ahead = await parity(short, ['--served-log', served])
    expect(ahead.code).toBe(0)
    expect(ahead.told.unverified).toBeGreaterThan(10)
    expect(ahead.told.compared + ahead.told.unverified + ahead.told.unanswered).toBe(rows.length)
    for (const args of [
      ['--generation', '1'],
      ['--as-of', '1'],
      ['--every', '1m', '--request', 'r1'],
      ['--metrics-port', '0'],
    ]) {
      const refused = await parity(mirror, ['--served-log', served, ...args])
      expect([refused.code, errorOf(refused).code], args.join(' ')).toEqual([2, 'USAGE'])
    }
    expect((await parity(mirror, ['--request', 'r1'])).code).toBe(2)
    const lost = await parity(mirror, ['--served-log', join(folder, 'nowhere')])
    expect(errorOf(lost).code).toBe('SOURCE_NOT_FOUND')
  })

  it('covers every entity in as many turns as there are shares', async () => {
    let compared = 0
    for (let turn = 7; turn < 11; turn++) {
      const report = await compareServed({ plan, servedLog: served, mirror, sample: sampleOf(4, turn, []) })
      expect(report.compared).toBeLessThan(rows.length)
      compared += report.compared + report.unanswered
    }
    expect(compared).toBe(rows.length)
  })
})

describe('a canary', () => {
  const run = async (args: readonly string[], turns: number) => {
    let stop = () => {}
    let metrics = ''
    let told = ''
    let asking: Promise<void> | undefined
    const outcome = await parity(mirror, [...args, '--every', '20ms', '--metrics-port', '0'], {
      onListening: (send) => {
        stop = () => send('SIGINT')
      },
      onStderr: (text) => {
        told += text
        if ((told.match(/ compared, /g)?.length ?? 0) < turns || asking !== undefined) return
        const [url] = /http:[^"\s]+metrics/.exec(told)!
        asking = fetch(url)
          .then((response) => response.text())
          .then((found) => {
            metrics = found
            stop()
          })
      },
    })
    await asking
    const value = (name: string) => Number(new RegExp(`^tilefold_parity_${name} (\\S+)$`, 'm').exec(metrics)?.[1])
    return { ...outcome, value, told }
  }

  it('compares turn after turn, tells metrics, and ends with 0 where all was the same', async () => {
    const { code, value } = await run(['--served-log', served, '--sample', '0.5'], 3)
    expect(code).toBe(0)
    expect(value('checked_total{view="spend"}')).toBeGreaterThan(rows.length / 2)
    expect(value('mismatch_total{view="spend",kind="mismatched"}')).toBe(0)
    expect(value('failures_total{view="spend"}')).toBe(0)
    expect(value('age_seconds{view="spend"}')).toBeGreaterThanOrEqual(0)
    const stored = await run(['--store', store, '--sample', '0.5'], 2)
    expect(stored.code).toBe(0)
    expect(stored.value('checked_total{view="spend"}')).toBeGreaterThan(5)
  })

  it('ends with 1 where any turn found a difference, and has told how to see it', async () => {
    const args = ['--served-log', served, '--mirror', join(folder, 'dropped')]
    const { code, value, told } = await run(args, 1)
    expect(code).toBe(1)
    const found =
      value('mismatch_total{view="spend",kind="mismatched"}') + value('mismatch_total{view="spend",kind="missing"}')
    expect(found).toBeGreaterThan(0)
    expect(told).toContain('to see it: tilefold parity spend --served-log')
  })

  it('goes on over turns that could not be carried out, and counts them', async () => {
    const metrics = createParityMetrics({ version: '0', clock: Date.now })
    const abort = new AbortController()
    const failures: string[] = []
    const turns: number[] = []
    const compare = async (turn: number): Promise<CanaryCounts> => {
      if (failures.length === 0) await compareServed({ plan, servedLog: join(folder, 'nowhere'), mirror })
      turns.push(turn)
      return { compared: 3, mismatched: 0, missing: 0, extra: 0 }
    }
    const report = await runCanary({
      view: 'spend',
      everyMs: 5,
      clock: Date.now,
      compare,
      metrics,
      onTurn: () => turns.length === 2 && abort.abort(),
      onFailure: (_, error) => failures.push(error.code),
      signal: abort.signal,
    })
    expect(report).toEqual({ turns: 2, failures: 1, different: 0 })
    expect(failures).toEqual(['SOURCE_NOT_FOUND'])
    expect(turns[1]).toBe(turns[0]! + 1)
    expect(await metrics.text()).toContain('tilefold_parity_failures_total{view="spend"} 1')
    const bug = runCanary({
      view: 'spend',
      everyMs: 5,
      clock: Date.now,
      compare: () => Promise.reject(new RangeError('a fault of ours')),
      metrics,
      onTurn: () => {},
      onFailure: () => {},
      signal: new AbortController().signal,
    })
    await expect(bug).rejects.toThrow('a fault of ours')
  })
})

describe('a view with history', () => {
  it.each([
    ['every event of files and log', []],
    ['the files alone for what lies before an instant', ['--until', new Date(START_MS + HOUR_MS).toISOString()]],
  ])('has its rows read again from the files that they were folded from: %s', async (_, begun) => {
    const own = makeFolder()
    const payments = Array.from({ length: 300 }, (_, i) => {
      const at = START_MS - 12 * HOUR_MS + i * 140_000
      return { card: `card-${i % 13}`, at, amount: i / 8, id: `h${i}` }
    })
    const files = writeIn(own, 'history.ndjson', toLines(payments))
    const path = join(own, 'store')
    const seat = ['-f', definitions, '--store', path]
    expect((await cli(['backfill', files, ...begun, ...seat], { nowMs: START_MS })).code).toBe(0)
    const lmdb = createLmdbStore({ path })
    const random = seededRandom(SEED)
    const answered = await serveLive({
      plans: [plan],
      topic: 'payments',
      logs: logs.map((log) => log.slice(0, 150)),
      random,
      store: lmdb,
      namespace: 'shop',
      folder: own,
      messagesAtOnce: 40,
      async ask(reader, nowMs) {
        const entities = Array.from({ length: 3 }, () => ({ card: `card-${random.below(13)}` }))
        await reader.getFeatures({ view: 'spend', entities, asOfs: entities.map(() => nowMs) })
      },
    })
    await lmdb.close()
    expect(answered.filter(({ applied }) => applied.length > 1).length).toBeGreaterThan(5)
    const args = ['--served-log', join(own, 'served')]
    const { code, told } = await parity(mirror, [...args, '--history', files])
    expect(told).toMatchObject({ mismatched: 0, missing: 0, unverified: 0, unanswered: 0, compared: answered.length })
    expect(code).toBe(0)
    const without = await parity(mirror, args)
    expect(without.told.unverified).toBeGreaterThan(answered.length / 2)
    // Of the same name and size, but one payment has another amount.
    const other = join(own, 'other')
    mkdirSync(other)
    const wrong = payments.map((payment) => (payment.id === 'h290' ? { ...payment, amount: 99.75 } : payment))
    const otherFiles = writeIn(
      other,
      'history.ndjson',
      toLines(wrong).replace('99.75', `${payments[290]!.amount}`.replace(/^./, '9')),
    )
    const found = await parity(mirror, [...args, '--history', otherFiles])
    expect(found.code).toBe(1)
    expect(found.told.mismatched).toBeGreaterThan(0)
    const again = await cli([...found.told.differences[0].command.split(' ').slice(1), '-o', 'json'])
    expect(JSON.parse(again.stdout).differences[0].features.length).toBeGreaterThan(0)
    expect(again.code).toBe(1)
    const refused = await parity(mirror, [...args, '--history', definitions, '--format', 'ndjson'])
    expect(errorOf(refused)).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('other files') })
  })
})
