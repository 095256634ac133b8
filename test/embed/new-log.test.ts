/** What was flushed shows in the next answer, also when the answer before it was given without the log. */
import { describe, expect, it } from 'vitest'
import { count, defineView, timestamp, utf8 } from '../../src/define/dsl.ts'
import { createEngine } from '../../src/embed/engine.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'

const clicks = defineView({
  name: 'clicks',
  source: { name: 'clicks', columns: { at: timestamp('ms'), user: utf8() } },
  entity: 'user',
  time: 'at',
  aggregations: [count({ windows: ['1h'] })],
})

const NOON = Date.UTC(2026, 2, 1, 12)
const question = { view: 'clicks', entities: [{ user: 'ada' }], asOf: NOON }

describe('a log that is opened after the first answer', () => {
  it('is read from its first flush on', async () => {
    const engine = await createEngine({
      views: [clicks],
      store: createMemoryStore(),
      flushIntervalMs: 0,
      clock: () => NOON,
    })
    try {
      expect((await engine.getFeatures(question)).rows[0]!.statuses).toEqual(['unknown_entity'])
      for (const log of ['web', 'app']) {
        await engine.push([{ at: NOON - 1000, user: 'ada' }], { log })
        await engine.flush()
        const { rows } = await engine.getFeatures(question)
        expect(rows[0], `after a flush of log ${log}`).toEqual({ values: [log === 'web' ? 1 : 2], statuses: ['ok'] })
      }
    } finally {
      await engine.close()
    }
  })

  it('is read although a layout without it was still on its way when it was opened', async () => {
    const { store, holdLayout } = slowStore()
    const engine = await createEngine({ views: [clicks], store, flushIntervalMs: 0, clock: () => NOON })
    try {
      const release = holdLayout()
      const before = engine.getFeatures(question)
      await engine.push([{ at: NOON - 1000, user: 'ada' }], { log: 'web' })
      release()
      expect((await before).rows[0]!.statuses).toEqual(['unknown_entity'])
      await engine.flush()
      expect((await engine.getFeatures(question)).rows[0]).toEqual({ values: [1], statuses: ['ok'] })
    } finally {
      await engine.close()
    }
  })
})

/** A store that can keep one layout it has read until it is told to hand it over. */
function slowStore(): { store: Store; holdLayout: () => () => void } {
  const memory = createMemoryStore()
  let held: Promise<void> | undefined
  const readLayout: Store['readLayout'] = async (namespace, view) => {
    const wait = held
    held = undefined
    const text = await memory.readLayout(namespace, view)
    await wait
    return text
  }
  const store = new Proxy(memory, {
    get: (target, name) => {
      if (name === 'readLayout') return readLayout
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const holdLayout = () => {
    let release = () => {}
    held = new Promise((resolve) => {
      release = resolve
    })
    return release
  }
  return { store, holdLayout }
}
