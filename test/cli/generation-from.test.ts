/** A view is replayed from an instant, from offsets and from what there is, and says since when it is complete. */
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { parseInstant } from '../../src/model/time.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { drawLog, makeFolder, mirrorLogs } from '../offline/mirror-scene.ts'
import { paymentsView, paymentsYaml, START_MS } from '../stream/payments.ts'
import { seededRandom } from '../support/random.ts'
import { cli, errorOf, writeIn } from './harness.ts'

const HOUR_MS = 3_600_000
const INSTANT = new Date(START_MS + HOUR_MS).toISOString()

interface Lane {
  readonly lane: string
  readonly generation: number
  readonly start?: number
  readonly marker: number
}

interface Begun {
  readonly generation: number
  readonly starts: readonly { log: string; position: number }[]
  readonly complete_since?: string
}

describe('tilefold generation begin --from', () => {
  const folder = makeFolder()
  const [store, dir] = [join(folder, 'store'), join(folder, 'mirror')]
  const file = writeIn(folder, 'tilefold.yaml', paymentsYaml())
  let logs: StreamMessage[][]

  beforeAll(async () => {
    const random = seededRandom(5)
    logs = [0, 1].map(() => drawLog(random, 300, 0))
    await mirrorLogs(dir, [await paymentsView()], 'payments', logs)
    await answered('rebuild', '--mirror', dir, '--threads', '0')
  })

  const ask = (...args: string[]) => cli([...args, '-f', file, '--store', store, '-o', 'json'])

  async function answered<Answer = Begun>(...args: string[]): Promise<Answer> {
    const { code, stdout, stderr } = await ask(...args)
    expect(code, `${args.join(' ')}: ${stderr}`).toBe(0)
    return JSON.parse(stdout) as Answer
  }

  const begin = (...args: string[]) => answered('generation', 'begin', 'spend', ...args)
  const indexAt = (log: StreamMessage[]) => log.findIndex(({ timestamp }) => Number(timestamp) >= parseInstant(INSTANT))

  it('starts at an instant, shows where, and marks what reaches back as incomplete', async () => {
    const begun = await begin('--from', INSTANT, '--mirror', dir)
    const expected = logs.map((log, i) => ({ log: `payments.${i}`, position: Number(log[indexAt(log)]!.offset) }))
    expect(begun.starts).toEqual(expected)
    expect(parseInstant(begun.complete_since)).toBe(START_MS + 2 * HOUR_MS)
    const lanesOf = async () =>
      (await answered<{ lanes: Lane[] }>('offsets', 'spend')).lanes.filter(
        ({ generation }) => generation === begun.generation,
      )
    expect((await lanesOf()).map(({ start, marker }) => [start, marker])).toEqual(
      expected.map(({ position }) => [position, -1]),
    )
    const number = `${begun.generation}`
    const report = await answered<{ partitions: { from: number }[] }>(
      ...['rebuild', '--mirror', dir, '--generation', number, '--threads', '0'],
    )
    expect(report.partitions.map(({ from }) => from)).toEqual(expected.map(({ position }) => position))
    expect((await lanesOf()).every(({ start, marker }) => marker > start!)).toBe(true)
    expect(await answered('parity', 'spend', '--mirror', dir, '--generation', number)).toMatchObject({
      mismatched: 0,
      missing: 0,
      extra: 0,
    })
    await answered('generation', 'switch', 'spend', '--generation', number)
    const asOf = new Date(START_MS + 3.1 * HOUR_MS).toISOString()
    expect(await answered('get', 'spend', '--entity', 'card=card-1', '--as-of', asOf)).toMatchObject({
      metadata: { views: [{ generation: begun.generation, complete_since: begun.complete_since }] },
      rows: [{ statuses: ['ok', 'incomplete', 'ok', 'incomplete', 'incomplete', 'incomplete'] }],
    })
  })

  it('starts at offsets, complete since what is told, or what follows from the records left out', async () => {
    const position = Number(logs[1]![40]!.offset)
    const told = await begin('--from', `payments.1=${position}`, '--complete-since', INSTANT)
    expect(told).toMatchObject({ starts: [{ log: 'payments.1', position }], complete_since: INSTANT })
    const named = logs.map((log, i) => `payments.${i}=${log[40]!.offset}`).join(',')
    const found = await begin('--from', named, '--mirror', dir)
    const newestMs = Math.max(...logs.flatMap((log) => log.slice(0, 41).map(({ timestamp }) => Number(timestamp))))
    expect(parseInstant(found.complete_since)).toBe(newestMs + HOUR_MS + 1)
    const earliest = await begin('--from', 'earliest', '--mirror', dir)
    expect(earliest.starts.map((each) => each.position)).toEqual(logs.map((log) => Number(log[0]!.offset)))
  })

  it.each([
    [['--from', INSTANT], 'CONFIG_INVALID'],
    [['--from', 'payments.0=7'], 'CONFIG_INVALID'],
    [['--from', 'payments.7=7', '--mirror', 'MIRROR'], 'CONFIG_INVALID'],
    [['--from', 'payments.0=0', '--mirror', 'MIRROR'], 'LOG_GAP'],
    [['--from', 'payments.0=99999', '--mirror', 'MIRROR'], 'LOG_GAP'],
    [['--from', '2020-01-01T00:00Z', '--mirror', 'MIRROR'], 'LOG_GAP'],
    [['--from', 'yesterday', '--mirror', 'MIRROR'], 'USAGE'],
    [['--from', '1234', '--mirror', 'MIRROR'], 'USAGE'],
    [['--from', 'payments=12'], 'USAGE'],
    [['--complete-since', INSTANT], 'USAGE'],
  ])('refuses %j', async (args, code) => {
    const given = args.map((each) => (each === 'MIRROR' ? dir : each))
    expect(errorOf(await ask('generation', 'begin', 'spend', ...given))).toMatchObject({ code })
  })

  it('refuses what makes no sense elsewhere', async () => {
    const refused = [
      ['generation', 'switch', 'spend', '--generation', '1', '--from', 'earliest'],
      ['generation', 'switch', 'spend', '--generation', '1', '--max-lag', 'some'],
      ['rebuild', '--mirror', dir, '--view', 'spend'],
    ]
    for (const args of refused) expect(errorOf(await ask(...args))).toMatchObject({ code: 'USAGE' })
    const unknown = await ask('rebuild', '--mirror', dir, '--generation', '99')
    expect(errorOf(unknown)).toMatchObject({ code: 'LAYOUT_MISSING' })
  })
})
