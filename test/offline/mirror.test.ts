/** The mirror over scripted logs: what is in its files, and that a replay of them is a replay of the topic. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { asyncBufferFromFile, parquetMetadataAsync } from 'hyparquet'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '../../src/model/plan.ts'
import { NO_WORKER_METRICS, type WorkerMetrics } from '../../src/observe/port.ts'
import { mirrorColumns } from '../../src/offline/mirror-columns.ts'
import { createMirrorSource, readMirror } from '../../src/source/mirror.ts'
import { checkMirror, type FoundFile, replayStart } from '../../src/source/mirror-check.ts'
import { listMirror, type MirrorFacts } from '../../src/source/mirror-manifest.ts'
import { codeOf, duck, input, readAll, thrown } from '../source/support.ts'
import { paymentsView, START_MS } from '../stream/payments.ts'
import { seededRandom } from '../support/random.ts'
import {
  drawLog,
  expectWhole,
  makeFolder,
  replayMirror,
  replayTopic,
  ScriptedGroup,
  startMirror,
} from './mirror-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const HOUR_MS = 3_600_000

/** By hand: would it be a row of payments? */
function isRow(value: Buffer | null): boolean {
  try {
    const event = JSON.parse(value!.toString()) as { card?: unknown; amount?: unknown }
    return typeof event.card !== 'number' && typeof event.amount !== 'string'
  } catch {
    return false
  }
}

describe('a mirror', () => {
  let plan: Plan

  beforeAll(async () => {
    plan = await paymentsView()
  })

  /** Mirrors the logs from the beginning to their end. */
  async function mirrored(logs: ReturnType<typeof drawLog>[], more: object = {}, plans = [plan]): Promise<string> {
    const dir = makeFolder()
    const random = seededRandom(SEED + 1)
    const group = new ScriptedGroup('payments', logs, random)
    const { consumer, mirror } = startMirror(group, { dir, plans, clock: () => START_MS, ...more })
    await mirror.start()
    for (const partition of logs.keys()) {
      await group.assign(partition, consumer)
      while (await consumer.deliver(partition, 1 + random.below(90))) {}
    }
    await mirror.stop()
    expect([...mirror.stopped.values()]).toEqual([])
    return dir
  }

  it('holds every record of every partition once', async () => {
    const logs = [drawLog(seededRandom(SEED), 700), drawLog(seededRandom(SEED + 5), 300, 1000), []]
    const dir = await mirrored(logs)
    await expectWhole(dir, 'payments', logs)
    expect(await listMirror(dir)).toEqual([0, 1, 2].map((partition) => ({ topic: 'payments', partition })))
  })

  it('names files by their offsets and lays them by the hour of their first record', async () => {
    const log = drawLog(seededRandom(SEED), 700)
    const dir = await mirrored([log])
    const files = await checkMirror(dir, 'payments', 0)
    expect(files.length).toBeGreaterThan(5)
    let next = Number(log[0]!.offset)
    for (const { entry } of files) {
      const { start, end, rows, holes, failed } = entry.facts
      expect(start).toBe(entry === files[0]!.entry ? start : next)
      next = end + 1
      const own = log.filter(({ offset }) => +offset >= start && +offset <= end)
      expect(rows).toBe(own.length)
      expect(holes).toBe(end - start + 1 - own.length)
      const hour = new Date(+own[0]!.timestamp).toISOString()
      const name = [start, end].map((offset) => String(offset).padStart(20, '0')).join('+')
      expect(entry.file).toBe(
        `events/payments/ds=${hour.slice(0, 10)}/hour=${hour.slice(11, 13)}/payments+0+${name}.parquet`,
      )
      // Late ones stay with their neighbours; of a later hour there is none.
      const fileHour = Math.floor(+own[0]!.timestamp / HOUR_MS)
      expect(own.filter(({ timestamp }) => Math.floor(+timestamp / HOUR_MS) > fileHour)).toEqual([])
      expect(entry.facts.recordTimes).toEqual([
        Math.min(...own.map(({ timestamp }) => +timestamp)),
        Math.max(...own.map(({ timestamp }) => +timestamp)),
      ])
      expect(failed).toBe(own.filter(({ value }) => !isRow(value)).length)
      const metadata = await parquetMetadataAsync(await asyncBufferFromFile(join(dir, entry.file)))
      const about = metadata.key_value_metadata!.find(({ key }) => key === 'tilefold')!.value!
      expect(JSON.parse(about)).toEqual(entry.facts)
    }
  })

  it('ends row groups by their rows, or sooner where memory is short', async () => {
    const log = drawLog(seededRandom(SEED), 400)
    const groups = async (more: object) => {
      const dir = await mirrored([log], more)
      const files = await checkMirror(dir, 'payments', 0)
      const all = await Promise.all(
        files.map(async ({ path }) => (await parquetMetadataAsync(await asyncBufferFromFile(path))).row_groups),
      )
      return all.map((each) => each.map((group) => Number(group.num_rows)))
    }
    const usual = await groups({})
    for (const rows of usual) expect(rows.slice(0, -1)).toEqual(rows.slice(0, -1).map(() => 40))
    expect(Math.max(...usual.flat())).toBe(40)
    const short = await groups({ memoryBytes: 1 })
    expect(short.flat().length).toBeGreaterThan(usual.flat().length)
    expect(short.map((rows) => rows.reduce((a, b) => a + b))).toEqual(usual.map((rows) => rows.reduce((a, b) => a + b)))
  })

  it('tells how far it is behind, what it could not read, and the holes', async () => {
    const log = drawLog(seededRandom(SEED), 300)
    const told = { lag: -1, holes: 0, dead: 0, rows: 0 }
    const metrics: WorkerMetrics = {
      ...NO_WORKER_METRICS,
      consumerLag: (_topic, _partition, records) => {
        told.lag = records
      },
      offsetHoles: (_topic, offsets) => {
        told.holes += offsets
      },
      deadLetters: (_topic, _reason, records) => {
        told.dead += records
      },
      flushed: (_view, _seconds, rows) => {
        told.rows += rows
      },
    }
    const dir = await mirrored([log], { metrics })
    const facts = (await checkMirror(dir, 'payments', 0)).map(({ entry }) => entry.facts)
    const tombstones = log.filter(({ value }) => value === null).length
    const sum = (of: (each: MirrorFacts) => number) => facts.reduce((total, each) => total + of(each), 0)
    expect(told).toEqual({
      lag: 0,
      holes: sum(({ holes }) => holes),
      dead: sum(({ failed }) => failed) - tombstones,
      rows: log.length,
    })
    expect(told.holes).toBeGreaterThan(10)
  })

  it('keeps what was decoded as columns, and what was not with its bytes and the reason', async () => {
    const log = drawLog(seededRandom(SEED), 400)
    const dir = await mirrored([log])
    const [offsets, cards, amounts, times, errors, values] = await duck(
      `SELECT _offset, card, amount, epoch_ms(_event_ts), _error, hex(_value)
       FROM '${dir}/events/payments/**/*.parquet' ORDER BY _offset`,
    )
    const reasons = new Set<string>()
    for (const [i, message] of log.entries()) {
      expect(offsets![i]).toBe(BigInt(message.offset))
      let event: { card?: string; amount?: unknown; at?: number } | undefined
      try {
        event = message.value === null ? undefined : JSON.parse(message.value.toString())
      } catch {}
      if (event !== undefined && typeof event.amount !== 'string') {
        expect([cards![i], amounts![i], Number(times![i])]).toEqual([
          event.card ?? null,
          event.amount ?? null,
          event.at,
        ])
        expect([errors![i], values![i]]).toEqual([null, null])
      } else {
        expect([cards![i], amounts![i], times![i]]).toEqual([null, null, null])
        expect(values![i]).toBe(message.value?.toString('hex').toUpperCase() ?? null)
        reasons.add(`${errors![i]}`.replace(/offset \d+: /, '').slice(0, 12))
      }
    }
    expect(reasons.size).toBeGreaterThanOrEqual(4)
    expect(reasons).toContain('tombstone')
  })

  it.each(['snappy', 'none'] as const)('is read by parquetjs-lite in the plain profile (%s)', async (compression) => {
    const log = drawLog(seededRandom(SEED), 300)
    const dir = await mirrored([log], { style: { compression, isPlain: true } })
    const lite = createRequire(import.meta.url)('parquetjs-lite') as {
      ParquetReader: {
        openFile(path: string): Promise<{
          getCursor(): { next(): Promise<Record<string, unknown> | null> }
          close(): Promise<void>
        }>
      }
    }
    const rows: Record<string, unknown>[] = []
    for (const { path } of await checkMirror(dir, 'payments', 0)) {
      const reader = await lite.ParquetReader.openFile(path)
      const cursor = reader.getCursor()
      for (let row = await cursor.next(); row; row = await cursor.next()) rows.push(row)
      await reader.close()
    }
    expect(rows.map((row) => `${row._topic} ${row._partition} ${row._offset} ${row._record_ts}`)).toEqual(
      log.map(({ offset, timestamp }) => `payments 0 ${offset} ${timestamp}`),
    )
    // Its bytes and text are one to it.
    const hexOf = (cell: unknown) => (cell == null ? null : Buffer.from(cell as string).toString('hex'))
    expect(rows.map((row) => hexOf(row._key))).toEqual(log.map(({ key }) => key?.toString('hex') ?? null))
    for (const [i, row] of rows.entries()) {
      const value = log[i]!.value
      const event = isRow(value) ? (JSON.parse(value!.toString()) as Record<string, unknown>) : {}
      expect([row.card ?? null, row.amount ?? null, row.at == null ? null : Number(row.at)]).toEqual([
        event.card ?? null,
        event.amount ?? null,
        event.at ?? null,
      ])
      expect(row._error == null, `${row._offset}`).toBe(isRow(value))
      expect(hexOf(row._value)).toBe(isRow(value) ? null : (value?.toString('hex') ?? null))
    }
  })

  it('keeps every payload if asked, so that other columns can be had from it', async () => {
    const log = drawLog(seededRandom(SEED), 300)
    const dir = await mirrored([log], { keepsValues: true })
    const other = [input('card', 'utf8'), input('at', 'int64')]
    const read = await readAll(readMirror({ dir, topic: 'payments', partition: 0, inputs: other }))
    const { rejected } = await replayTopic(plan, log)
    // The amount is no column of these inputs, so who only has a bad amount is no reject.
    expect(read.positions.length).toBeGreaterThan(log.length - rejected.length - log.filter((m) => !m.value).length)
    const plain = await mirrored([log])
    expect(
      await codeOf(() => readAll(readMirror({ dir: plain, topic: 'payments', partition: 0, inputs: other }))),
    ).toBe('COLUMN_TYPE')
    const missing = [input('card', 'utf8'), input('shop', 'utf8')]
    expect(
      await codeOf(() => readAll(readMirror({ dir: plain, topic: 'payments', partition: 0, inputs: missing }))),
    ).toBe('COLUMN_MISSING')
  })

  it('says where the late clock stood at the start of each file', async () => {
    const log = drawLog(seededRandom(SEED), 500)
    const dir = await mirrored([log])
    let clock = -1
    const remaining = [...log]
    for (const { entry } of await checkMirror(dir, 'payments', 0)) {
      expect(entry.facts.clocks[plan.stateHash]).toBe(clock)
      while (remaining.length > 0 && +remaining[0]!.offset <= entry.facts.end) {
        const message = remaining.shift()!
        const at = acceptableTime(message.value, +message.timestamp)
        if (at !== undefined) clock = Math.max(clock, Math.min(at, +message.timestamp))
      }
      expect(entry.facts.endClocks[plan.stateHash]).toBe(clock)
    }
  })

  /** By hand: what of these records the acceptance lets advance the clock. */
  function acceptableTime(value: Buffer | null, recordMs: number): number | undefined {
    try {
      const event = JSON.parse(value!.toString()) as { card?: unknown; at?: number; amount?: unknown }
      if (typeof event.card !== 'string' || typeof event.amount === 'string') return undefined
      return event.at! - recordMs > plan.state.maxFutureMs ? undefined : event.at
    } catch {
      return undefined
    }
  }

  describe('replayed', () => {
    it.each([1, 2, 3])('gives the rows, counters, rejects and marker of the topic (log %i)', async (n) => {
      const drawn = drawLog(seededRandom(SEED * 100 + n), 600, n * 7)
      // The marker is at the last record that is a row, wherever the log ends.
      const log = [...drawn, { ...drawn[0]!, value: Buffer.from('poison'), offset: `${+drawn.at(-1)!.offset + 1}` }]
      const dir = await mirrored([log], { style: { isPlain: n === 2, compression: n === 3 ? 'none' : 'snappy' } })
      const topic = await replayTopic(plan, log)
      const mirror = await replayMirror(plan, dir, 'payments', 0)
      expect(mirror.rows).toEqual(topic.rows)
      expect(mirror.rows.size).toBeGreaterThan(5)
      expect(mirror.counters).toEqual(topic.counters)
      expect(mirror.marker).toEqual(topic.marker)
      expect(mirror.rejected).toEqual(topic.rejected)
      expect(topic.rejected.length).toBeGreaterThan(20)
    })

    it('is the same for one view of two that were mirrored together', async () => {
      const log = drawLog(seededRandom(SEED), 400)
      const strict = await paymentsView('payments', 'other')
      const lax = { ...strict, state: { ...strict.state, inputs: [...strict.state.inputs, input('note', 'bool')] } }
      const odd = log.map((message, i) =>
        i % 9 === 0
          ? { ...message, value: Buffer.from(`{"card":"c","at":${START_MS + i},"amount":1,"note":"x"}`) }
          : message,
      )
      const dir = await mirrored([odd], {}, [plan, { ...lax, stateHash: '0'.repeat(16) }])
      const topic = await replayTopic(plan, odd)
      const mirror = await replayMirror(plan, dir, 'payments', 0)
      expect(mirror.rows).toEqual(topic.rows)
      expect(mirror.counters).toEqual(topic.counters)
      expect(mirror.rejected).toEqual(topic.rejected)
    })

    it('reads any range of offsets, and none that it does not hold', async () => {
      const log = drawLog(seededRandom(SEED), 300, 50)
      const dir = await mirrored([log])
      const options = { dir, topic: 'payments', partition: 0, inputs: plan.state.inputs }
      const all = (await readAll(readMirror(options))).positions
      const [from, to] = [Number(log[77]!.offset), Number(log[222]!.offset)]
      const some = (await readAll(readMirror({ ...options, from, to }))).positions
      expect(some).toEqual(all.filter((offset) => offset >= from && offset < to))
      const source = createMirrorSource(options)
      expect((await readAll(source.read(from))).positions).toEqual(all.filter((offset) => offset >= from))
      expect(source.log).toBe('payments.0')
      const end = Number(log.at(-1)!.offset) + 1
      expect(await codeOf(() => readAll(readMirror({ ...options, from: 3 })))).toBe('LOG_GAP')
      expect(await codeOf(() => readAll(readMirror({ ...options, to: end + 1 })))).toBe('LOG_GAP')
      expect(await codeOf(() => readAll(readMirror({ ...options, partition: 4 })))).toBe('SOURCE_NOT_FOUND')
    })

    it('notices any bit of a file that is not the one that was written', async () => {
      const log = drawLog(seededRandom(SEED), 200)
      const random = seededRandom(SEED + 9)
      for (const compression of ['zstd', 'none'] as const) {
        const dir = await mirrored([log], { style: { compression } })
        const options = { dir, topic: 'payments', partition: 0, inputs: plan.state.inputs }
        const expected = await readAll(readMirror(options))
        const [, { path, entry }] = (await checkMirror(dir, 'payments', 0)) as [unknown, FoundFile]
        const good = readFileSync(path)
        for (let i = 0; i < 30; i++) {
          const bytes = Buffer.from(good)
          const where = random.below(bytes.length)
          bytes[where]! ^= 1 << random.below(8)
          writeFileSync(path, bytes)
          const error = await thrown(() => readAll(readMirror(options)))
          expect(error.code, `seed ${SEED}, byte ${where}`).toBe('MIRROR_INVALID')
          expect(error.message).toContain(entry.file)
        }
        writeFileSync(path, good)
        expect((await readAll(readMirror(options))).columns).toEqual(expected.columns)
      }
    })

    it('refuses files that do not agree with the manifest', async () => {
      const log = drawLog(seededRandom(SEED), 400)
      const dir = await mirrored([log])
      const options = { dir, topic: 'payments', partition: 0, inputs: plan.state.inputs }
      const read = () => codeOf(() => readAll(readMirror(options)))
      const [first, second] = (await checkMirror(dir, 'payments', 0)).map(({ path }) => path)
      // Missing.
      renameSync(second!, `${second}.away`)
      expect(await read()).toBe('MIRROR_INVALID')
      // Changed.
      writeFileSync(second!, readFileSync(`${second}.away`).subarray(1))
      expect(await read()).toBe('MIRROR_INVALID')
      rmSync(second!)
      renameSync(`${second}.away`, second!)
      // Beside the manifest, and so perhaps a second time.
      const stranger = first!.replace(/\+\d{20}\.parquet$/, `+${'9'.repeat(20)}.parquet`)
      writeFileSync(stranger, '')
      expect(await read()).toBe('MIRROR_INVALID')
      rmSync(stranger)
      // Overlapping, and with a gap.
      const manifest = join(dir, '_manifest/payments/0/0000000003.json')
      const text = readFileSync(manifest, 'utf8')
      for (const by of [-1, 1]) {
        const entry = JSON.parse(text) as { facts: { start: number } }
        entry.facts.start += by
        writeFileSync(manifest, JSON.stringify(entry))
        expect(await read()).toBe('MIRROR_INVALID')
      }
      rmSync(manifest)
      expect(await read()).toBe('MIRROR_INVALID')
      // No JSON, of another version, of another partition, without what a file is, and with one that lies elsewhere.
      const own = JSON.parse(text) as { file: string; facts: object }
      for (const [entry, message] of [
        ['{"format":1', /0000000003\.json: .*JSON/],
        ['', /0000000003\.json: .*JSON/],
        [[], /of another version; got format undefined/],
        ['null', /of another version; got format undefined/],
        [{ ...own, format: 2 }, /of another version; got format 2/],
        [{ ...own, kind: 'note' }, /got format 1, kind note/],
        [{ ...own, partition: 1 }, /belongs elsewhere; got entry 3 of payments\.1/],
        [{ ...own, topic: 'orders' }, /belongs elsewhere; got entry 3 of orders\.0/],
        [{ ...own, number: 4 }, /belongs elsewhere; got entry 4/],
        [{ ...own, facts: undefined }, /is no entry of a file: facts/],
        [{ ...own, facts: { ...own.facts, end: '7' } }, /is no entry of a file: facts.end/],
        [{ ...own, facts: { ...own.facts, start: -1 } }, /is no entry of a file: facts.start/],
        [{ ...own, facts: { ...own.facts, hashes: {} } }, /is no entry of a file: facts.hashes/],
        [{ ...own, bytes: undefined }, /is no entry of a file: bytes/],
        [{ ...own, sha256: 5 }, /is no entry of a file: sha256/],
        [{ ...own, file: `../${own.file}` }, /is no entry of a file: file/],
        [{ ...own, file: '/etc/passwd' }, /is no entry of a file: file/],
        [{ ...own, temp: 'events/x.parquet' }, /is no entry of a file: temp/],
      ] as const) {
        writeFileSync(manifest, typeof entry === 'string' ? entry : JSON.stringify(entry))
        const error = await thrown(() => readAll(readMirror(options)))
        expect([error.code, error.message]).toEqual(['MIRROR_INVALID', expect.stringMatching(message)])
      }
      writeFileSync(manifest, text)
      expect((await readAll(readMirror(options))).positions.length).toBeGreaterThan(300)
    })
  })

  it('leaves files out of a replay only where the stored clock allows it', async () => {
    const log = drawLog(seededRandom(SEED), 700).filter(({ value }) => value?.includes('"amount":'))
    const clean = log.filter(({ value }) => !value!.includes('much') && value!.toString().endsWith('}'))
    const dir = await mirrored([
      clean.filter(({ value, timestamp }) => {
        try {
          return JSON.parse(value!.toString()).at < +timestamp + HOUR_MS
        } catch {
          return false
        }
      }),
    ])
    const files = (await checkMirror(dir, 'payments', 0)).map(({ entry }) => entry)
    const sinceMs = START_MS + 2 * HOUR_MS
    const { from, lateClockMs } = replayStart(files, plan.state, plan.stateHash, sinceMs)
    expect(from).toBeGreaterThan(files[0]!.facts.start)
    const left = files.filter(({ facts }) => facts.start < from)
    expect(left.every(({ facts }) => facts.eventTimes![1] < sinceMs)).toBe(true)
    expect(files[left.length]!.facts.eventTimes![1]).toBeGreaterThanOrEqual(sinceMs)
    expect(lateClockMs).toBe(left.at(-1)!.facts.endClocks[plan.stateHash])
    const first = files[0]!.facts.start
    expect(replayStart(files, { dedupe: { withinMs: 1 } }, plan.stateHash, sinceMs).from).toBe(first)
    expect(replayStart(files, plan.state, 'another', sinceMs)).toEqual({ from: first, lateClockMs: -1 })
    const failed = files.map((file) => ({ ...file, facts: { ...file.facts, failed: 1 } as MirrorFacts }))
    expect(replayStart(failed, plan.state, plan.stateHash, sinceMs).from).toBe(first)
  })

  it('knows no clock of a state that came later', async () => {
    const log = drawLog(seededRandom(SEED), 400)
    const dir = makeFolder()
    const late = { ...plan, view: 'late', stateHash: 'f'.repeat(16) }
    for (const [plans, messages] of [
      [[plan], log.slice(0, 200)],
      [[plan, late], log],
    ] as const) {
      const group = new ScriptedGroup('payments', [[...messages]], seededRandom(SEED))
      const { consumer, mirror } = startMirror(group, { dir, plans })
      await mirror.start()
      await group.assign(0, consumer)
      while (await consumer.deliver(0, 70)) {}
      await mirror.stop()
    }
    await expectWhole(dir, 'payments', [log])
    const clocks = (await checkMirror(dir, 'payments', 0)).map(({ entry }) => Object.keys(entry.facts.clocks))
    expect(clocks.flat()).not.toContain(late.stateHash)
    expect(clocks.at(-1)).toEqual([plan.stateHash])
  })

  it('refuses views that do not agree on a column, and columns of its own names', async () => {
    const with_ = (name: string, type: 'int64' | 'utf8' | 'decimal') => ({
      ...plan,
      state: { ...plan.state, inputs: [...plan.state.inputs, input(name, type)] },
    })
    expect(await codeOf(() => mirrorColumns('t', [plan, with_('amount', 'int64')], false))).toBe('CONFIG_INVALID')
    expect(await codeOf(() => mirrorColumns('t', [with_('_offset', 'int64')], false))).toBe('CONFIG_INVALID')
    expect(await codeOf(() => mirrorColumns('t', [with_('price', 'decimal')], true))).toBe('CONFIG_INVALID')
    expect(mirrorColumns('t', [with_('price', 'decimal')], false).eventTime).toBe('at')
  })
})
