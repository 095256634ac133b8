/** Files that tell some times and a log that tells the others: a cut, and a corrected day, from the command line. */
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { mirrorLogs } from '../offline/mirror-scene.ts'
import { messageOf, paymentsView, paymentsYaml } from '../stream/payments.ts'
import { ordersFolder } from '../support/cli-orders.ts'
import {
  askValues,
  cli,
  errorOf,
  expectedValues,
  makeFolder,
  makeOrders,
  type Outcome,
  spawnCli,
  toLines,
  writeIn,
} from './harness.ts'

const HOUR_MS = 3_600_000
/** Before the clock of the commands: files are not of the future. */
const START_MS = Date.UTC(2025, 0, 5)

describe('a history with a cut', () => {
  const { folder, definitions, newStore } = ordersFolder()
  const orders = makeOrders(300)
  const asOf = '2025-01-03T00:10:00Z'
  const until = '2025-01-02T05:07:00Z'
  const before = orders.filter(({ at }) => at < until)
  // Both go over it.
  const files = writeIn(folder, 'history.ndjson', toLines(orders.slice(0, before.length + 20)))
  const live = writeIn(folder, 'live.ndjson', toLines(orders.slice(before.length - 30)))

  const ask = (store: string, ...args: string[]) => cli([...args, '-f', definitions, '--store', store, '-o', 'json'])

  it('counts every event once, and tells what was put aside', async () => {
    const store = newStore()
    const filled = await ask(store, 'backfill', files, '--until', until, '--threads', '0')
    expect(JSON.parse(filled.stdout)).toMatchObject({
      put_aside: {},
      views: [{ consumed: before.length + 20, applied: before.length, late: 20, elsewhere: 20 }],
    })
    // The same call once more, and another cut.
    expect(JSON.parse((await ask(store, 'backfill', files, '--until', until, '--threads', '0')).stdout)).toMatchObject({
      rows: 0,
    })
    const other = await ask(store, 'backfill', files, '--until', '2025-01-02T05:08:00Z')
    expect(errorOf(other)).toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(until.slice(0, 19)),
    })
    const pushed = await ask(store, 'push', live, '--threads', '0')
    expect(JSON.parse(pushed.stdout)).toMatchObject({
      put_aside: { history: 30 },
      views: [{ applied: 300 - before.length, elsewhere: 30 }],
    })
    for (const customer of ['ada', 'bob', 'cleo', 'nobody']) {
      expect(await askValues(store, definitions, customer, asOf)).toEqual(expectedValues(orders, customer, asOf))
    }
    const { lanes } = JSON.parse((await ask(store, 'offsets', 'orders_by_customer')).stdout) as { lanes: object[] }
    const covers = [{ from: '1970-01-01T00:00:00.000Z', to: new Date(until).toISOString() }]
    expect(lanes[0]).toMatchObject({ lane: 'h0', from: 'history', takes: 'inside', covers })
    expect(lanes.at(-1)).toMatchObject({ from: 'log', takes: 'outside', covers })
    // What these files give is told when another generation is begun without.
    for (const [range, says] of [
      ['1..5', true],
      [`0..${until}`, false],
    ] as const) {
      const { code, stderr } = await ask(store, 'generation', 'begin', 'orders_by_customer', '--replace', range)
      expect([code, stderr.includes(new Date(until).toISOString())]).toEqual([0, says])
    }
    const doctor = JSON.parse((await ask(store, 'doctor')).stdout) as { findings: object[] }
    expect(doctor.findings).toEqual([expect.objectContaining({ part: 'host' })])
  })

  it('is missed by doctor and run where there is none', async () => {
    const store = newStore()
    await ask(store, 'backfill', files)
    const text = expect.stringContaining('--until')
    const doctor = JSON.parse((await ask(store, 'doctor')).stdout) as { findings: object[] }
    expect(doctor.findings).toContainEqual({ part: 'view orders_by_customer', verdict: 'warning', text })
    // It says so before it reaches for the brokers.
    const flags = ['-f', definitions, '--store', store, '--kafka-brokers', '127.0.0.1:1']
    const worker = spawnCli(['run', ...flags], folder)
    let said = ''
    await new Promise<void>((done) => {
      worker.stderr!.on('data', (part: Buffer) => {
        said += part.toString()
        if (said.includes('--until')) done()
      })
      worker.on('exit', () => done())
    })
    worker.kill('SIGKILL')
    expect(said).toContain('count twice')
  })

  it.each([
    [['backfill', files, '--until', 'tomorrow'], 'USAGE'],
    [['backfill', files, '--until', '0'], 'USAGE'],
    [['backfill', files, '--until', '9999999999999999'], 'USAGE'],
    [['backfill', files, '--generation', '0'], 'USAGE'],
    [['backfill', files, '--generation', '7'], 'LAYOUT_MISSING'],
    [['generation', 'begin', 'orders_by_customer', '--replace', '2025-01-01'], 'USAGE'],
    [['generation', 'begin', 'orders_by_customer', '--replace', '5..5'], 'USAGE'],
    [['generation', 'switch', 'orders_by_customer', '--generation', '1', '--replace', '5..6'], 'USAGE'],
  ])('refuses %j', async (args, code) => {
    expect(errorOf(await ask(newStore(), ...args))).toMatchObject({ code })
  })
})

describe('a bad day', () => {
  const folder = makeFolder()
  const [store, dir] = [join(folder, 'store'), join(folder, 'mirror')]
  // A second view, which stays as it is.
  const file = writeIn(folder, 'tilefold.yaml', `${paymentsYaml()}${twin()}`)
  const payments = Array.from({ length: 240 }, (_, i) => ({ card: `c${i % 4}`, at: START_MS + i * 120_000, amount: 2 }))
  const [fromMs, toMs] = [START_MS + 2.5 * HOUR_MS, START_MS + 5 * HOUR_MS + 1]
  const isBad = ({ at }: { at: number }) => at >= fromMs && at < toMs

  function twin(): string {
    const [, view] = paymentsYaml().split('views:\n')
    return view!.replace('name: spend', 'name: other').replace('windows: [1h, 24h]', 'windows: [1h]')
  }

  const ask = (...args: string[]) => cli([...args, '-f', file, '--store', store, '-o', 'json'])
  async function answered<Answer>(...args: string[]): Promise<Answer> {
    const { code, stdout, stderr }: Outcome = await ask(...args)
    expect(code, `${args.join(' ')}: ${stderr}`).toBe(0)
    return JSON.parse(stdout) as Answer
  }
  async function read(...features: string[]): Promise<unknown> {
    const asOf = new Date(START_MS + 8 * HOUR_MS).toISOString()
    const { rows } = await answered<{ rows: { values: unknown[] }[] }>(
      'get',
      ...features,
      ...['--entity', 'card=c1', '--as-of', asOf],
    )
    return rows[0]!.values
  }
  const readSpend = () => read('spend:count_24h', 'spend:amount_sum_24h', 'spend:amount_max_24h')

  beforeAll(async () => {
    const logs = [payments.map((payment, i) => messageOf(isBad(payment) ? { ...payment, amount: 999 } : payment, i))]
    await mirrorLogs(dir, [await paymentsView()], 'payments', logs)
    writeIn(folder, 'corrected.ndjson', toLines(payments.filter(isBad)))
  })

  it('is corrected beside what readers see, and seen at once', async () => {
    await answered('rebuild', '--mirror', dir, '--threads', '0')
    const bad = payments.filter((each) => each.card === 'c1' && isBad(each)).length
    const wrong = [60, (60 - bad) * 2 + bad * 999, 999]
    expect(await readSpend()).toEqual(wrong)
    const range = `${new Date(fromMs).toISOString()}..${toMs}`
    expect(await answered('generation', 'begin', 'spend', '--replace', range)).toMatchObject({
      generation: 2,
      covers: [{ from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString() }],
    })
    const { generations } = await answered<{ generations: object[] }>('offsets', 'spend')
    expect(generations).toMatchObject([
      { generation: 1, is_current: true, lanes: 1 },
      { generation: 2, is_current: false, lanes: 0, history: { is_complete: false }, covers: [{}] },
    ])
    // Live lanes first; then what the switch still waits for.
    const rebuilt = await answered<{ views: object[] }>(
      'rebuild',
      '--mirror',
      dir,
      '--generation',
      '2',
      '--threads',
      '0',
    )
    expect(rebuilt.views).toMatchObject([{ view: 'spend', consumed: 240, elsewhere: payments.filter(isBad).length }])
    for (const more of [[], ['--allow-behind']]) {
      const early = await ask('generation', 'switch', 'spend', '--generation', '2', ...more)
      expect(errorOf(early)).toMatchObject({ code: 'VIEW_NOT_READY', message: expect.stringContaining('backfill') })
    }
    const corrected = join(folder, 'corrected.ndjson')
    expect(await answered('backfill', corrected, '--generation', '2', '--threads', '0')).toMatchObject({
      finished: true,
    })
    expect(await readSpend()).toEqual(wrong)
    expect(await answered('parity', 'spend', '--mirror', dir, '--generation', '2')).toMatchObject({
      compared: 4,
      equal: 4,
      mismatched: 0,
      unchecked: ['h0', 'h1', 'h2', 'h3'],
    })
    const both = ['--mirror', dir, '--history', corrected, '--generation', '2']
    expect(await answered('parity', 'spend', ...both)).toMatchObject({
      compared: 8,
      equal: 8,
      entities: 4,
      unchecked: [],
    })
    const others = await ask(
      'parity',
      'spend',
      '--mirror',
      dir,
      '--history',
      file,
      '--format',
      'ndjson',
      '--generation',
      '2',
    )
    expect(errorOf(others)).toMatchObject({ code: 'CONFIG_INVALID' })
    await answered('generation', 'switch', 'spend', '--generation', '2')
    expect(await readSpend()).toEqual([60, 120, 2])
    expect(await read('other:amount_sum_24h', 'other:amount_max_24h')).toEqual(wrong.slice(1))
    const back = ['generation', 'switch', 'spend', '--generation', '1']
    expect(errorOf(await ask(...back))).toMatchObject({ code: 'VIEW_NOT_READY' })
    await answered(...back, '--allow-behind')
    expect(await readSpend()).toEqual(wrong)
  })
})
