/** Files are right in some ranges of time and the log in all others: rows are those of what is right, wherever it dies. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { count, defineView, float64, min, timestamp, utf8 } from '../../src/define/dsl.ts'
import { IngestPool } from '../../src/ingest/pool.ts'
import { joinRanges, parseRange, type TimeRange } from '../../src/model/covers.ts'
import type { Plan } from '../../src/model/plan.ts'
import type { ViewLayout } from '../../src/model/view-layout.ts'
import { backfill } from '../../src/offline/backfill.ts'
import { runParity } from '../../src/offline/parity-run.ts'
import { rebuild } from '../../src/offline/rebuild.ts'
import { beginGeneration, findUncut, readOffsets, switchGeneration } from '../../src/registry/generations.ts'
import type { DeadLetter } from '../../src/source/dead-letters.ts'
import { createNdjsonSource } from '../../src/source/ndjson.ts'
import type { StreamMessage } from '../../src/source/stream.ts'
import { createMemoryStore } from '../../src/store/memory.ts'
import type { Store } from '../../src/store/port.ts'
import { eachSeed } from '../fuzz/effort.ts'
import { FaultyStore, Killed } from '../laws/faulty-store.ts'
import {
  drawPayments,
  expectedRows,
  messageOf,
  NAMESPACE,
  type Payment,
  paymentsView,
  START_MS,
  storedRows,
} from '../stream/payments.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { makeFolder, mirrorLogs, streamLogs } from './mirror-scene.ts'

const FILE = 'test/offline/covers.test.ts'
const HOUR_MS = 3_600_000
const clock = () => START_MS * 2

describe('ranges that history covers', () => {
  let plan: Plan
  beforeAll(async () => {
    plan = await paymentsView()
  })

  function fileOf(payments: readonly Payment[]): string {
    const path = join(makeFolder(), 'payments.ndjson')
    writeFileSync(path, payments.map((payment) => `${JSON.stringify(payment)}\n`).join(''))
    return path
  }

  const sourceOf = (path: string) =>
    createNdjsonSource({ log: 'files', paths: [path], inputs: plan.state.inputs, batchRows: 40 })

  async function fillHistory(store: Store, path: string, generation?: number, covers?: readonly TimeRange[]) {
    const pool = new IngestPool({ threads: 0, store, clock })
    const seat = { store, namespace: NAMESPACE, ...(generation === undefined ? {} : { generation }) }
    const options = { seat, plans: [plan], source: sourceOf(path), pool, clock, deltaBytesMax: 2_000, covers }
    return backfill(options).finally(() => pool.close())
  }

  async function fillLive(store: Store, dir: string, generation: number, plans = [plan]) {
    const pool = new IngestPool({ threads: 0, store, clock })
    const seat = { store, namespace: NAMESPACE, generation }
    return rebuild({ seat, plans, dir, pool, clock, deltaBytesMax: 2_000 }).finally(() => pool.close())
  }

  /** What came to the dead letters. */
  async function stream(store: Store, logs: readonly StreamMessage[][], plans = [plan]): Promise<DeadLetter[]> {
    const letters: DeadLetter[] = []
    const deadLetters = {
      add: (letter: DeadLetter) => void letters.push(letter),
      flush: async () => {},
      close: async () => {},
    }
    await streamLogs(store, plans, logs, { deadLetters })
    return letters
  }

  const mirrored = (logs: readonly StreamMessage[][]) => mirrorLogs(makeFolder(), [plan], 'payments', logs)

  const logsOf = (payments: readonly Payment[]): StreamMessage[][] =>
    [0, 1].map((partition) =>
      payments
        .filter(({ card }) => card.length % 2 === partition || card.endsWith(`${partition}`))
        .map((payment, position) => messageOf(payment, position)),
    )

  const layoutOf = async (store: Store) =>
    JSON.parse((await store.readLayout(NAMESPACE, plan.view)) ?? '{"generations":[]}') as ViewLayout

  /** Dies one call later each time, before or behind it, until it is done: every call has been the last. */
  async function killed(
    random: Random,
    inner: Store,
    work: (store: Store) => Promise<unknown>,
    between: () => unknown,
  ) {
    for (let at = 0; at < 500; at += random.between(1, 8)) {
      const store = new FaultyStore(inner)
      store.plan(at, random.pick(['before', 'after'] as const))
      try {
        await work(store)
        return
      } catch (error) {
        // It died behind the last call.
        if (/its history of files is complete/.test((error as Error).message)) return
        if (!(error instanceof Killed) && !/killed|dead/.test((error as Error).message)) throw error
        await between()
      }
    }
    throw new Error('it was never done')
  }

  it('with a cut, files give the events before it and the stream those from it on, each once', async () => {
    await eachSeed(FILE, 0, 4, async (seed) => {
      const random = seededRandom(seed)
      const payments = drawPayments(random, 300, 12)
      // No tile's edge.
      const cutMs = START_MS + random.between(2 * HOUR_MS, 6 * HOUR_MS) + 1
      const path = fileOf(payments.filter(({ at }) => at < cutMs + random.below(2 * HOUR_MS)))
      const topic = payments.filter(({ at }) => at >= cutMs - random.below(2 * HOUR_MS))
      const covers = [{ fromMs: 0, toMs: cutMs }]
      const store = createMemoryStore()
      await killed(
        random,
        store,
        (faulty) => fillHistory(faulty, path, undefined, covers),
        async () => expect((await layoutOf(store)).current).toBeUndefined(),
      )
      const letters = await stream(store, [topic.map(messageOf)])
      expect(letters.map(({ reason, message }) => [reason, Number(message.offset)])).toEqual(
        topic.flatMap(({ at }, offset) => (at < cutMs ? [['history', offset]] : [])),
      )
      expect(await storedRows(store, plan)).toEqual(await expectedRows(plan, payments))
      expect(await findUncut({ store, namespace: NAMESPACE }, [plan])).toEqual([])
      const other = [{ fromMs: 0, toMs: cutMs + 1 }]
      await expect(fillHistory(store, path, undefined, other)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    })
  })

  it('without one, both count: that is known, and a cut cannot be made behind it', async () => {
    const payments = drawPayments(seededRandom(1), 60, 4)
    const store = createMemoryStore()
    await fillHistory(store, fileOf(payments))
    await stream(store, [payments.map(messageOf)])
    expect(await storedRows(store, plan)).toEqual(await expectedRows(plan, [...payments, ...payments]))
    expect(await findUncut({ store, namespace: NAMESPACE }, [plan])).toEqual(['spend'])
    const covers = [{ fromMs: 0, toMs: START_MS }]
    await expect(fillHistory(store, fileOf(payments), undefined, covers)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    })
    // What files gave, no rebuild gives: a generation without it is not switched to by mistake.
    const seat = { store, namespace: NAMESPACE }
    await beginGeneration(seat, plan)
    await fillLive(store, await mirrored([payments.map(messageOf)]), 2)
    await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
    await switchGeneration(seat, plan, 2, { allowBehind: true })
    expect(await storedRows(store, plan)).toEqual(await expectedRows(plan, payments))
  })

  it('correct what is wrong, in any order and wherever it dies; readers see all of the old until all of the new', async () => {
    await eachSeed(FILE, 100, 3, async (seed) => {
      const random = seededRandom(seed)
      const right = drawPayments(random, 260, 12)
      const fromMs = START_MS + random.below(4 * HOUR_MS)
      const ranges = joinRanges([
        { fromMs, toMs: fromMs + random.between(1, 3 * HOUR_MS) },
        ...(random.chance(0.5) ? [{ fromMs: START_MS + 7 * HOUR_MS, toMs: START_MS + 7.5 * HOUR_MS }] : []),
      ])
      const isInside = ({ at }: Payment) => ranges.some((range) => at >= range.fromMs && at < range.toMs)
      const wrong = right.flatMap((payment) => {
        if (!isInside(payment)) return [payment]
        const bad = { ...payment, amount: payment.amount * 100 }
        return random.pick([[], [bad], [bad, payment]])
      })
      const logs = logsOf(wrong)
      // What the topic holds of a card may be in both of its partitions; what is right is in the file once.
      const inLogs = logs.flatMap((log) => log.map(({ value }) => JSON.parse(value!.toString()) as Payment))
      const good = [...inLogs.filter((payment) => !isInside(payment)), ...right.filter(isInside)]
      // The file has the days around as well, and not as they should count.
      const path = fileOf([
        ...right.filter(isInside),
        ...right.filter(() => random.chance(0.3)).filter((each) => !isInside(each)),
      ])
      const store = createMemoryStore()
      await stream(store, logs)
      const before = await storedRows(store, plan)
      expect(before).toEqual(await expectedRows(plan, inLogs))
      const seat = { store, namespace: NAMESPACE }
      await beginGeneration(seat, plan, { replace: ranges })
      const dir = await mirrored(logs)
      const isStill = async () => expect(await storedRows(store, plan)).toEqual(before)
      const steps = random.shuffled([
        (faulty: Store) => fillLive(faulty, dir, 2),
        (faulty: Store) => fillHistory(faulty, path, 2),
      ])
      for (const step of steps) {
        // Behind the log, or without all of its files: then not even where it is asked for.
        const isIn = (await layoutOf(store)).generations.some(({ history }) => history.endPosition !== undefined)
        if (!isIn) {
          const asked = switchGeneration(seat, plan, 2, { allowBehind: true })
          await expect(asked).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
        }
        await expect(switchGeneration(seat, plan, 2)).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
        await killed(random, store, step, isStill)
        await isStill()
      }
      const history = { source: sourceOf(path), notAfterMs: clock() }
      const parity = await runParity({
        seat,
        plan,
        mirror: dir,
        history,
        generation: 2,
        asOfMs: START_MS + 9 * HOUR_MS,
      })
      expect(parity).toMatchObject({ equal: parity.compared, mismatched: 0, missing: 0, extra: 0, unchecked: [] })
      expect(parity.compared).toBeGreaterThan(0)
      await killed(
        random,
        store,
        (faulty) => switchGeneration({ ...seat, store: faulty }, plan, 2),
        () => {},
      )
      expect(await storedRows(store, plan)).toEqual(await expectedRows(plan, good))

      // The stream goes on in it, and what comes late of the range goes aside.
      const later = [...drawPayments(random, 20, 12).filter(isInside), ...drawPayments(random, 20, 12)]
      const longer = logs.map((log, partition) => [
        ...log,
        ...later.filter((_, i) => i % 2 === partition).map((payment, i) => messageOf(payment, log.length + i)),
      ])
      const letters = await stream(store, longer)
      expect(letters.length).toBe(later.filter(isInside).length)
      const more = later.filter((payment) => !isInside(payment))
      expect(await storedRows(store, plan)).toEqual(await expectedRows(plan, [...good, ...more]))
      const takes = (await readOffsets(seat, plan)).lanes.map(({ generation, lane, takes }) => [
        generation,
        lane[0],
        takes,
      ])
      expect(takes).toContainEqual([1, 'p', undefined])
      expect(takes).toContainEqual([2, 'h', { ranges, inside: true }])
      expect(takes).toContainEqual([2, 'p', { ranges, inside: false }])
      await switchGeneration(seat, plan, 1, { allowBehind: true })
      expect(await storedRows(store, plan)).toEqual(before)
    })
  }, 120_000)

  it('are begun as complete as what readers see', async () => {
    const store = createMemoryStore()
    const seat = { store, namespace: NAMESPACE }
    const pool = new IngestPool({ threads: 0, store, clock })
    const source = sourceOf(fileOf(drawPayments(seededRandom(8), 9, 2)))
    await backfill({ seat, plans: [plan], source, pool, clock, completeSinceMs: START_MS }).finally(() => pool.close())
    const replace = [{ fromMs: 0, toMs: START_MS + HOUR_MS }]
    expect((await beginGeneration(seat, plan, { replace })).generation).toMatchObject({ completeSinceMs: START_MS })
    await fillHistory(store, fileOf([]), 2)
    expect((await layoutOf(store)).generations.find(({ generation }) => generation === 2)).toMatchObject({
      completeSinceMs: START_MS,
      covers: replace,
    })
  })

  it('are kept apart from what a lane holds already', async () => {
    const payments = drawPayments(seededRandom(2), 60, 4)
    const store = createMemoryStore()
    const seat = { store, namespace: NAMESPACE }
    await stream(store, [payments.map(messageOf)])
    const path = fileOf(payments)
    const covers = [{ fromMs: 0, toMs: START_MS + HOUR_MS }]
    await expect(fillHistory(store, path, undefined, covers)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    // In a generation that nothing was written to, a cut may still be made.
    await beginGeneration(seat, plan)
    await fillHistory(store, path, 2, covers)
    expect((await layoutOf(store)).current?.generation).toBe(1)
    await fillLive(store, await mirrored([payments.map(messageOf)]), 2)
    await switchGeneration(seat, plan, 2)
    expect(await storedRows(store, plan)).toEqual(await expectedRows(plan, payments))
  })

  it('need no range where the definition is another: begun, filled, compared and switched to, state and all', async () => {
    const wider = await compileView(
      defineView({
        name: plan.view,
        source: { name: 'payments', columns: { card: utf8(), at: timestamp('ms'), amount: float64() } },
        entity: 'card',
        time: 'at',
        aggregations: [count({ windows: ['1h', '24h'] }), min('amount', { windows: ['24h'] })],
      }),
    )
    expect(wider.stateHash).not.toBe(plan.stateHash)
    const random = seededRandom(7)
    const payments = drawPayments(random, 200, 9)
    const logs = [payments.map(messageOf)]
    const store = createMemoryStore()
    const seat = { store, namespace: NAMESPACE }
    await stream(store, logs)
    const before = await storedRows(store, plan)
    await beginGeneration(seat, wider)
    const dir = await mirrored(logs)
    const isStill = async () => expect(await storedRows(store, plan)).toEqual(before)
    await killed(random, store, (faulty) => fillLive(faulty, dir, 2, [wider]), isStill)
    await isStill()
    const parity = await runParity({ seat, plan: wider, mirror: dir, generation: 2, asOfMs: START_MS + 9 * HOUR_MS })
    expect(parity).toMatchObject({ mismatched: 0, missing: 0, extra: 0, unchecked: [] })
    expect(parity.compared).toBe(before.size)
    await switchGeneration(seat, wider, 2)
    expect(await storedRows(store, wider)).toEqual(await expectedRows(wider, payments))
    // And back, under the definition that the old rows are of.
    await switchGeneration(seat, plan, 1)
    await isStill()
  })
})

describe('a range of time', () => {
  it('is read and joined with its neighbours', () => {
    const day = parseRange('2026-11-24T00:00:00Z..2026-11-25T00:00:00+00:00')
    expect(day).toEqual({ fromMs: Date.UTC(2026, 10, 24), toMs: Date.UTC(2026, 10, 25) })
    expect(parseRange('0..1')).toEqual({ fromMs: 0, toMs: 1 })
    const range = (fromMs: number, toMs: number) => ({ fromMs, toMs })
    expect(joinRanges([range(5, 9), range(0, 2), range(2, 3), range(6, 7)])).toEqual([range(0, 3), range(5, 9)])
  })

  it.each(['', '1', '1..', '1..1', '2..1', '1..2..3', '2026-11-24..2026-11-25', '-1..2', '0..4294967296001'])(
    'is not %j',
    (text) => {
      expect(() => parseRange(text)).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }))
    },
  )
})
