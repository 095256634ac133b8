/** A ledger may know less than what was readable, never more. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { FlushLedger, type LedgerEntry, positionVisibleAt, readLedger } from '../../src/ingest/ledger.ts'
import { createLmdbStore } from '../../src/store/lmdb.ts'
import { createMemoryStore, MemoryStore } from '../../src/store/memory.ts'
import type { LaneName, LaneToken, LaneWrite, LedgerSegment, Store, WriteOutcome } from '../../src/store/port.ts'
import { createRedisStore } from '../../src/store/redis.ts'
import { appliedOf } from '../../src/store/rules.ts'
import { patience } from '../fuzz/effort.ts'
import { FaultyStore } from '../laws/faulty-store.ts'
import { wasKilled } from '../laws/ingest-subject.ts'
import { seededRandom } from '../support/random.ts'
import { startRedis } from '../support/redis.ts'
import { at, LANES, laneName, openIngest, push } from './forget-stream.ts'

const cleanUps: (() => Promise<void> | void)[] = []
afterAll(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp()
})

const DAY_MS = 86_400_000

/** What a store makes of the writes of a ledger. */
class Kept {
  segments: LedgerSegment[] = []

  take(ledger: FlushLedger, now = false): void {
    const write = ledger.take(now)
    if (write === undefined) return
    const others = this.segments.filter(({ number }) => number !== write.number && !write.dropped.includes(number))
    this.segments = [...others, write].sort((a, b) => a.number - b.number)
  }

  get bytes(): number {
    return this.segments.reduce((sum, { bytes }) => sum + bytes.length, 0)
  }
}

describe('a flush ledger', () => {
  it('gives back what was put in, over many segments and owners', () => {
    const random = seededRandom(3)
    const kept = new Kept()
    const wanted: LedgerEntry[] = []
    let nowMs = Date.UTC(2026, 0, 1)
    let position = 2 ** 40
    for (let owner = 0; owner < 5; owner++) {
      const ledger = new FlushLedger({ keepMs: DAY_MS, clock: () => nowMs }, kept.segments, -1)
      for (let i = 0; i < 700; i++) {
        nowMs += 100 + random.below(i % 50 === 0 ? 1_000_000 : 1_000)
        position += 1 + random.below(i % 70 === 0 ? 2 ** 33 : 20_000)
        ledger.visible(position)
        wanted.push({ position, visibleAtMs: nowMs + 1 })
        kept.take(ledger)
      }
    }
    expect(readLedger(kept.segments)).toEqual(wanted)
    expect(kept.segments.length).toBeGreaterThan(5)
    expect(kept.bytes / wanted.length).toBeLessThan(6)
  })

  it.each([
    ['older than it shall keep', 3_600_000, undefined],
    ['more than it shall keep', Number.MAX_SAFE_INTEGER, 30_000],
  ])('lets go of what is %s', (_, keepMs, bytesMax) => {
    let nowMs = 0
    const kept = new Kept()
    const ledger = new FlushLedger({ keepMs, clock: () => nowMs, ...(bytesMax && { bytesMax }) }, [], -1)
    for (let i = 1; i <= 12_000; i++) {
      nowMs += 1_000
      ledger.visible(i * 8_000_000)
      kept.take(ledger)
    }
    const found = readLedger(kept.segments)
    expect(found.at(-1)!.position).toBe(12_000 * 8_000_000)
    expect(found.length).toBeLessThan(8_000)
    if (bytesMax !== undefined) {
      expect(kept.bytes).toBeLessThanOrEqual(bytesMax)
      expect(kept.bytes).toBeGreaterThan(bytesMax - 5_000)
    } else {
      expect(found[0]!.visibleAtMs).toBeLessThanOrEqual(nowMs - keepMs)
      expect(found[0]!.visibleAtMs).toBeGreaterThan(nowMs - keepMs - 1_000_000)
    }
  })

  it('holds entries apart, and still has the last one at the idle check', () => {
    let nowMs = 1_000
    const kept = new Kept()
    const ledger = new FlushLedger({ keepMs: DAY_MS, clock: () => nowMs }, [], -1)
    for (let position = 0; position < 100; position++) {
      nowMs += 5
      kept.take(ledger)
      ledger.visible(position)
    }
    expect(ledger.hasNews).toBe(true)
    kept.take(ledger, true)
    const entries = readLedger(kept.segments)
    expect(entries.length).toBeLessThan(10)
    expect(entries.at(-1)).toEqual({ position: 99, visibleAtMs: 1_501 })
  })

  it('does not go back in time with the clock', () => {
    let nowMs = 10_000
    const kept = new Kept()
    const ledger = new FlushLedger({ keepMs: DAY_MS, clock: () => nowMs }, [], -1)
    ledger.visible(1)
    kept.take(ledger)
    nowMs = 5_000
    ledger.visible(2)
    kept.take(ledger, true)
    expect(readLedger(kept.segments).map((each) => each.visibleAtMs)).toEqual([10_001, 10_001])
  })

  it('leaves out a damaged segment', () => {
    let nowMs = 0
    const kept = new Kept()
    const ledger = new FlushLedger({ keepMs: DAY_MS, clock: () => nowMs }, [], -1)
    for (let position = 0; position < 2_000; position++) {
      nowMs += 1_000
      ledger.visible(position)
      kept.take(ledger)
    }
    const whole = readLedger(kept.segments).length
    const first = kept.segments[0]!
    kept.segments[0] = { ...first, bytes: first.bytes.map((byte, i) => (i === 20 ? byte ^ 1 : byte)) }
    const rest = readLedger(kept.segments)
    expect([whole, rest.length > 1_000, rest[0]!.position > 0]).toEqual([2_000, true, true])
    expect(positionVisibleAt(rest, 2_000)).toEqual({ atLeast: -1, atMost: rest[0]!.position })
  })

  it('says what was readable at an instant', () => {
    const entries = [
      { position: 10, visibleAtMs: 1_000 },
      { position: 20, visibleAtMs: 2_000 },
    ]
    expect(positionVisibleAt([], 5)).toEqual({ atLeast: -1 })
    expect(positionVisibleAt(entries, 999)).toEqual({ atLeast: -1, atMost: 10 })
    expect(positionVisibleAt(entries, 1_000)).toEqual({ atLeast: 10, atMost: 20 })
    expect(positionVisibleAt(entries, 1_999)).toEqual({ atLeast: 10, atMost: 20 })
    expect(positionVisibleAt(entries, 2_000)).toEqual({ atLeast: 20 })
  })
})

// ---- every way to die ------------------------------------------------------------------------------------------------

const EVENTS = Array.from({ length: 30 }, (_, i) => at(i, 'abcdef'[(i * 5) % 6]!, i))

/** What readers could see of a lane from `ms` on. */
interface Sight {
  readonly ms: number
  /** Every row has at least this, and one row this much. */
  readonly atLeast: number
  readonly furthest: number
}

/** Watches what is readable; every write takes its time. */
class WatchedStore extends MemoryStore {
  nowMs = 1_000_000
  readonly sights = new Map<string, Sight[]>()

  override async write(lane: LaneName, token: LaneToken, sequence: number, change: LaneWrite): Promise<WriteOutcome> {
    this.nowMs += 70
    const outcome = await super.write(lane, token, sequence, change)
    let furthest = -1
    for await (const { bytes } of this.scanRows(lane)) furthest = Math.max(furthest, appliedOf(bytes))
    const { marker } = (await super.readLane(lane))!
    this.sights.set(lane.lane, [...(this.sights.get(lane.lane) ?? []), { ms: this.nowMs, atLeast: marker, furthest }])
    this.nowMs += 70
    return outcome
  }
}

async function run(faults: readonly { call: number; fault: 'before' | 'after' | 'lose_reply' }[]) {
  const inner = new WatchedStore({ writeBytesMax: 300 })
  const store = new FaultyStore(inner)
  const calls: number[] = []
  for (let died = true; died; ) {
    const planned = faults[calls.length]
    store.restart()
    if (planned) store.plan(planned.call, planned.fault)
    died = await wasKilled(live(store, calls.length, () => inner.nowMs))
    calls.push(store.calls)
  }
  return { inner, calls }
}

async function live(store: Store, life: number, clock: () => number): Promise<void> {
  const ingest = await openIngest(store, { ledgerMs: DAY_MS }, clock)
  for (let from = ingest.resumeFrom; from < EVENTS.length; ) {
    const to = Math.min(EVENTS.length, from + 1 + ((from + life) % 4))
    await push(ingest, EVENTS, from, to)
    from = to
    if ((from + life) % 5 < 3) await ingest.flush()
    if ((from + life) % 7 === 0) await ingest.check()
  }
  await ingest.flush()
  await ingest.check()
}

async function expectTruth({ inner }: Awaited<ReturnType<typeof run>>, where: string): Promise<number> {
  let entries = 0
  for (const lane of LANES) {
    const ledger = readLedger(await inner.readLedger(laneName(lane)))
    const sights = inner.sights.get(lane)!
    entries += ledger.length
    expect(ledger.at(-1)!.position, where).toBe(EVENTS.length - 1)
    const instants = [...sights.map(({ ms }) => ms), ...ledger.map(({ visibleAtMs }) => visibleAtMs)]
    for (const ms of instants.flatMap((each) => [each - 1, each, each + 1])) {
      const seen = sights.findLast((sight) => sight.ms <= ms) ?? { atLeast: -1, furthest: -1 }
      const { atLeast, atMost = Number.POSITIVE_INFINITY } = positionVisibleAt(ledger, ms)
      expect(atLeast, `${where}, lane ${lane} at ${ms}: claimed, and not readable`).toBeLessThanOrEqual(seen.atLeast)
      expect(seen.furthest, `${where}, lane ${lane} at ${ms}: readable, and denied`).toBeLessThanOrEqual(atMost)
    }
  }
  return entries
}

describe('a ledger whose owners die', () => {
  it(
    'claims nothing that was not readable, and denies nothing that was',
    async () => {
      const undisturbed = await run([])
      expect(await expectTruth(undisturbed, 'undisturbed')).toBeGreaterThan(9)
      for (let call = 0; call < undisturbed.calls[0]!; call++) {
        // To the store, dying behind a call is dying before the next one.
        for (const fault of ['before', 'lose_reply'] as const) {
          const once = await run([{ call, fault }])
          await expectTruth(once, `${fault} ${call}`)
          if (fault !== 'before') continue
          for (let second = call % 10; second < once.calls[1]!; second += 10) {
            await expectTruth(
              await run([
                { call, fault },
                { call: second, fault },
              ]),
              `before ${call}, ${second}`,
            )
          }
        }
      }
    },
    patience(20_000),
  )

  it('is kept by every store, and only where it is asked for', async () => {
    const redis = await startRedis()
    cleanUps.push(() => redis.stop())
    const path = mkdtempSync(join(tmpdir(), 'tilefold-ledger-'))
    cleanUps.push(() => rmSync(path, { recursive: true, force: true }))
    const stores = [createMemoryStore(), createLmdbStore({ path }), createRedisStore({ urls: redis.url })]
    const found: (readonly LedgerEntry[])[] = []
    for (const store of stores) {
      let nowMs = 1_000_000
      await live(store, 0, () => {
        nowMs += 1_000
        return nowMs
      })
      found.push(readLedger(await store.readLedger(laneName(LANES[0]!))))
      expect(await store.readLedger(laneName('other.0'))).toEqual([])
      const ingest = await openIngest(store, { lanes: ['quiet.0'] })
      await push(ingest, EVENTS)
      await ingest.flush()
      await ingest.check()
      expect(await store.readLedger(laneName('quiet.0'))).toEqual([])
      await store.close()
    }
    expect(found[0]!.length).toBeGreaterThan(5)
    expect(found[1]).toEqual(found[0])
    expect(found[2]).toEqual(found[0])
  })

  it('drops old segments from every store', async () => {
    const redis = await startRedis()
    cleanUps.push(() => redis.stop())
    const path = mkdtempSync(join(tmpdir(), 'tilefold-ledger-'))
    cleanUps.push(() => rmSync(path, { recursive: true, force: true }))
    for (const store of [createMemoryStore(), createLmdbStore({ path }), createRedisStore({ urls: redis.url })]) {
      const lane = laneName('drops.0')
      const { token } = await store.takeLane(lane, 'a')
      for (const [i, dropped] of [[], [], [1], [2, 3]].entries()) {
        const ledger = { number: i + 1, bytes: Uint8Array.of(i, 255), dropped }
        expect(await store.write(lane, token, i, { ledger })).toBe('ok')
      }
      expect((await store.readLedger(lane)).map(({ number, bytes }) => [number, [...bytes]])).toEqual([[4, [3, 255]]])
      await store.close()
    }
  })
})
