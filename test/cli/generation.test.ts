/** A view is built beside itself out of a mirror, its readers are moved, moved back, and what is left over is deleted. */
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { drawLog, makeFolder, mirrorLogs } from '../offline/mirror-scene.ts'
import { paymentsView, paymentsYaml, START_MS } from '../stream/payments.ts'
import { seededRandom } from '../support/random.ts'
import { cli, errorOf, writeIn } from './harness.ts'

interface Offsets {
  readonly lanes: readonly {
    readonly lane: string
    readonly generation: number
    readonly is_current: boolean
    marker: number
  }[]
}

describe('tilefold generation', () => {
  const folder = makeFolder()
  const [store, dir] = [join(folder, 'store'), join(folder, 'mirror')]
  const file = writeIn(folder, 'tilefold.yaml', paymentsYaml())

  beforeAll(async () => {
    const random = seededRandom(5)
    const logs = [0, 1].map(() => drawLog(random, 300, 0))
    await mirrorLogs(dir, [await paymentsView()], 'payments', logs)
  })

  const ask = (...args: string[]) => cli([...args, '-f', file, '--store', store, '-o', 'json'])

  async function answered<Answer = { generation: number }>(...args: string[]): Promise<Answer> {
    const { code, stdout, stderr } = await ask(...args)
    expect(code, `${args.join(' ')}: ${stderr}`).toBe(0)
    return JSON.parse(stdout) as Answer
  }

  async function read(): Promise<unknown> {
    const asOf = new Date(START_MS + 6 * 3_600_000).toISOString()
    const answer = await answered<{ rows: unknown }>('get', 'spend', '--entity', 'card=card-1', '--as-of', asOf)
    return answer.rows
  }

  const currentOf = async () =>
    new Set(
      (await answered<Offsets>('offsets', 'spend')).lanes
        .filter((each) => each.is_current)
        .map((each) => each.generation),
    )

  it('builds beside, switches, goes back and drops', async () => {
    await answered('rebuild', '--mirror', dir, '--threads', '0')
    const before = await read()
    expect(JSON.stringify(before)).toMatch(/[1-9]/)
    expect(await answered('generation', 'begin', 'spend')).toMatchObject({ generation: 2 })
    expect(errorOf(await ask('generation', 'switch', 'spend', '--generation', '2'))).toMatchObject({
      code: 'VIEW_NOT_READY',
    })
    await answered('rebuild', '--mirror', dir, '--generation', '2', '--threads', '0')
    const { lanes } = await answered<Offsets>('offsets', 'spend')
    const markers = (generation: number) =>
      lanes.filter((each) => each.generation === generation).map(({ lane, marker }) => [lane, marker])
    expect(markers(2)).toEqual(markers(1))
    expect(markers(2).length).toBe(2)
    expect(await currentOf()).toEqual(new Set([1]))
    expect(await answered('parity', 'spend', '--mirror', dir, '--generation', '2')).toMatchObject({ mismatched: 0 })
    await answered('generation', 'switch', 'spend', '--generation', '2')
    expect(await currentOf()).toEqual(new Set([2]))
    expect(await read()).toEqual(before)
    await answered('generation', 'switch', 'spend', '--generation', '1')
    expect(await read()).toEqual(before)
    await answered('generation', 'drop', 'spend', '--generation', '2')
    expect(errorOf(await ask('generation', 'drop', 'spend', '--generation', '1'))).toMatchObject({
      code: 'STATE_IN_USE',
    })
    await answered('gc', '--delete', '--quiet', '0s')
    expect(await answered('generation', 'begin', 'spend')).toMatchObject({ generation: 3 })
    expect(await read()).toEqual(before)
  })

  it.each([
    [['generation', 'list', 'spend'], 'USAGE'],
    [['generation', 'switch', 'spend'], 'USAGE'],
    [['generation', 'switch', 'spend', '--generation', '0'], 'USAGE'],
    [['generation', 'switch', 'spend', '--generation', '99'], 'LAYOUT_MISSING'],
    [['generation', 'begin', 'spent'], 'VIEW_UNKNOWN'],
    [['offsets', 'spent'], 'VIEW_UNKNOWN'],
    [['rebuild', '--mirror', join(dir, 'nowhere')], 'SOURCE_NOT_FOUND'],
    [['rebuild', '--mirror', dir, '--shard', '3/3'], 'USAGE'],
  ])('refuses %j', async (args, code) => {
    expect(errorOf(await ask(...args))).toMatchObject({ code })
  })
})
