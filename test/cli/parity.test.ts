/** `tilefold parity` over a directory: what it finds, what it ends with, and the commands that it prints. */
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '../../src/model/plan.ts'
import { createJsonDecoder } from '../../src/source/json-messages.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { StreamJob } from '../../src/stream/job.ts'
import { drawLog, ScriptedConsumer, ScriptedGroup, startMirror } from '../offline/mirror-scene.ts'
import { NAMESPACE, paymentsView, paymentsYaml, START_MS } from '../stream/payments.ts'
import { seededRandom } from '../support/random.ts'
import { cli, errorOf, makeFolder, writeIn } from './harness.ts'

interface Told {
  readonly compared: number
  readonly equal: number
  readonly mismatched: number
  readonly missing: number
  readonly extra: number
  readonly differences: {
    readonly kind: string
    readonly command: string
    readonly fields?: { readonly field: string; readonly stored: string; readonly expected: string }[]
  }[]
}

describe('tilefold parity', () => {
  const folder = makeFolder()
  const [path, dir] = [join(folder, 'store'), join(folder, 'mirror')]
  const definitions = writeIn(folder, 'tilefold.yaml', paymentsYaml())
  const own = ['-f', definitions, '--store', path, '--namespace', NAMESPACE]
  const clock = () => START_MS * 2
  let plan: Plan

  const parity = async (...args: string[]) => {
    const outcome = await cli(['parity', 'spend', '--mirror', dir, ...own, ...args, '-o', 'json'])
    return { ...outcome, told: JSON.parse(outcome.stdout || '{}') as Told }
  }

  beforeAll(async () => {
    plan = await paymentsView()
    const log = drawLog(seededRandom(1), 300)
    const mirrors = new ScriptedGroup('payments', [log], seededRandom(1))
    const { consumer: reader, mirror } = startMirror(mirrors, { dir, plans: [plan], clock })
    await mirror.start()
    await mirrors.assign(0, reader)
    while (await reader.deliver(0, 100)) {}
    await mirror.stop()
    const store = createLmdbStore({ path })
    const group = new ScriptedGroup('payments', [log], seededRandom(1))
    const consumer = new ScriptedConsumer(group)
    const job = await StreamJob.create({
      plans: [plan],
      consumer,
      store,
      namespace: NAMESPACE,
      decoder: createJsonDecoder,
      maxDeadRatio: 1,
      clock,
      report: () => {},
    })
    await job.start()
    await group.assign(0, consumer)
    while (await consumer.deliver(0, 100)) {}
    await job.stop()
    await store.close()
  })

  it('ends with 0 where every row is the same', async () => {
    const { code, told, stderr } = await parity()
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(told).toMatchObject({ mismatched: 0, missing: 0, extra: 0, differences: [] })
    expect(told.compared).toBeGreaterThan(5)
    expect(told.equal).toBe(told.compared)
  })

  it('ends with 1 where one is not, and prints a command that shows it field by field', async () => {
    const store = createLmdbStore({ path })
    const name = { namespace: NAMESPACE, stateHash: plan.stateHash, generation: 1, lane: 'payments.0.0' }
    const rows: { key: Uint8Array; bytes: Uint8Array }[] = []
    for await (const { key, bytes } of store.scanRows(name)) rows.push({ key: key.slice(), bytes: bytes.slice() })
    const { token, sequence } = await store.takeLane(name, 'damage')
    const damaged = { key: rows[0]!.key, bytes: rows[1]!.bytes }
    expect(await store.write(name, token, sequence, { rows: [damaged] })).toBe('ok')
    await store.close()

    const { code, told } = await parity()
    expect(code).toBe(1)
    expect(told).toMatchObject({ mismatched: 1, missing: 0, extra: 0 })
    const [difference] = told.differences
    expect(difference).toMatchObject({ kind: 'mismatched' })
    expect(difference).not.toHaveProperty('fields')

    // As it is printed, without the program's name.
    const again = await cli([...difference!.command.split(' ').slice(1), '-o', 'json'])
    expect(again.code).toBe(1)
    const shown = JSON.parse(again.stdout) as Told
    expect(shown).toMatchObject({ compared: 1, mismatched: 1 })
    const { fields } = shown.differences[0]!
    expect(fields!.length).toBeGreaterThan(0)
    for (const { stored, expected } of fields!) expect(stored).not.toBe(expected)

    const table = await cli(['parity', 'spend', '--mirror', dir, ...own])
    expect(table.stdout).toContain(difference!.command)
    const clean = await parity('--entity', `card=${Buffer.from(rows[2]!.key).toString()}`)
    expect(clean.code).toBe(0)
    expect(clean.told).toMatchObject({ compared: 1, equal: 1 })
  })

  it('refuses what it cannot read, with a code', async () => {
    const lost = await parity('--mirror', join(folder, 'nowhere'))
    expect(lost.code).toBe(1)
    expect(errorOf(lost).code).toBe('SOURCE_NOT_FOUND')
    expect((await parity('--sample', '0')).code).toBe(2)
    expect((await parity('--as-of', 'soon')).code).toBe(2)
    expect((await parity('--limit', 'all')).code).toBe(2)
    expect(errorOf(await parity('--generation', '9')).code).toBe('LAYOUT_MISSING')
    expect((await parity('--generation', '1', '--as-of', '2026-01-05T02:00:00Z')).told.compared).toBeGreaterThan(5)
    expect((await parity('--key', 'card-1')).code).toBe(2)
  })
})
