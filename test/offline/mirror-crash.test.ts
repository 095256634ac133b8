/**
 * Every record in exactly one file: a mirror that dies before or behind any of its steps on the disk, disks that fail, and
 * several mirrors of one directory, some of which should have stopped long ago.
 *
 * TILEFOLD_FUZZ=20 draws twenty times the histories; TILEFOLD_SEED other ones.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { TilefoldError } from '../../src/model/errors.ts'
import type { Plan } from '../../src/model/plan.ts'
import type { MirrorReport } from '../../src/offline/mirror.ts'
import { checkMirror } from '../../src/source/mirror-check.ts'
import { listEntries } from '../../src/source/mirror-manifest.ts'
import { codeOf } from '../source/support.ts'
import { paymentsView, START_MS } from '../stream/payments.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { drawLog, expectWhole, makeFolder, ScriptedGroup, startMirror } from './mirror-scene.ts'

const SEED = Number(process.env.TILEFOLD_SEED ?? 1)
const HISTORIES = 12 * Number(process.env.TILEFOLD_FUZZ ?? 1)
const LIMITS = { rowGroupRows: 25, rowGroupBytes: 1 << 20, fileRows: 60, fileBytes: 1 << 20, fileAgeMs: 600_000 }

let plan: Plan
beforeAll(async () => {
  plan = await paymentsView()
})

/** Reads the log to its end; returns the mirror's last words. */
async function mirrorAll(
  dir: string,
  log: ReturnType<typeof drawLog>,
  onStep: (moment: 'before' | 'after', step: string) => void = () => {},
): Promise<MirrorReport[]> {
  const reports: MirrorReport[] = []
  const group = new ScriptedGroup('payments', [log], seededRandom(SEED))
  const { consumer, mirror } = startMirror(group, {
    dir,
    plans: [plan],
    limits: LIMITS,
    clock: () => START_MS,
    onStep,
    report: (report) => reports.push(report),
  })
  try {
    await mirror.start()
    await group.assign(0, consumer)
    while (await consumer.deliver(0, 37)) {}
  } finally {
    await mirror.stop().catch(() => {})
  }
  return reports
}

/** Files under their final names, and whether the manifest names them all. */
async function expectNothingUnnamed(dir: string): Promise<void> {
  if (!existsSync(join(dir, 'events'))) return
  const names = readdirSync(join(dir, 'events'), { recursive: true }).filter((name) => `${name}`.endsWith('.parquet'))
  const files = names.length === 0 ? [] : await checkMirror(dir, 'payments', 0)
  // The last one may still lie in `_tmp`; no other file may be there that the manifest does not know.
  expect(names.length).toBeGreaterThanOrEqual(files.length - 1)
  expect(names.length).toBeLessThanOrEqual(files.length)
}

describe('a mirror that dies', () => {
  it('before or behind any step comes back to every record once', { timeout: 300_000 }, async () => {
    const log = drawLog(seededRandom(SEED), 64)
    let steps = 0
    const seen = new Set<string>()
    await mirrorAll(makeFolder(), log, (moment, step) => {
      steps++
      seen.add(`${moment} ${step}`)
    })
    const names = ['create', 'write', 'sync', 'close', 'sync folder', 'link', 'make folder', 'move', 'remove']
    expect([...seen].sort()).toEqual(names.flatMap((name) => [`after ${name}`, `before ${name}`]).sort())
    for (let at = 1; at <= steps; at++) {
      const dir = makeFolder()
      let step = 0
      // Dead is dead: nothing that comes behind reaches the disk.
      await mirrorAll(dir, log, () => {
        if (++step >= at) throw new Error('killed')
      }).catch(() => {})
      expect(step).toBeGreaterThanOrEqual(at)
      await expectNothingUnnamed(dir)
      await mirrorAll(dir, log)
      await expectWhole(dir, 'payments', [log]).catch((error: Error) => {
        throw new Error(`killed at step ${at} of ${steps}: ${error.message}`, { cause: error })
      })
    }
  })

  it('again and again comes to the end all the same', async () => {
    for (let n = 1; n <= HISTORIES; n++) {
      const random = seededRandom(SEED * 1000 + n)
      const log = drawLog(random, 120)
      const dir = makeFolder()
      for (let life = 0; life < 6; life++) {
        let left = 1 + random.below(80)
        await mirrorAll(dir, log, () => {
          if (--left < 0) throw new Error('killed')
        }).catch(() => {})
      }
      await mirrorAll(dir, log)
      await expectWhole(dir, 'payments', [log])
    }
  })
})

describe('a disk that fails', () => {
  it('stops nothing but the attempt, and leaves no half file', async () => {
    for (let n = 1; n <= HISTORIES; n++) {
      const random = seededRandom(SEED * 2000 + n)
      const log = drawLog(random, 120)
      const dir = makeFolder()
      const group = new ScriptedGroup('payments', [log], random)
      const codes = new Set<string | undefined>()
      const { consumer, mirror } = startMirror(group, {
        dir,
        plans: [plan],
        limits: LIMITS,
        onStep: () => {
          if (random.below(40) === 0) throw new TilefoldError('MIRROR_UNAVAILABLE', 'cannot write: no space left')
        },
        report: ({ code }) => codes.add(code),
      })
      while ((await mirror.start().catch(() => false)) === false) {}
      await group.assign(0, consumer)
      for (let turns = 0; turns < 3000; turns++) {
        await consumer.retry()
        if (await consumer.deliver(0, 1 + random.below(30))) continue
        if (consumer.waiting.size > 0) continue
        const [run] = mirror.runs
        if (
          run !== undefined &&
          (await run
            .finish()
            .then(() => true)
            .catch(() => false))
        )
          break
        // As the real one does when a timer's flush fails.
        consumer.restart('payments', 0, 0)
      }
      await mirror.stop().catch(() => {})
      await mirrorAll(dir, log)
      await expectWhole(dir, 'payments', [log])
      expect([...codes].filter((code) => code !== undefined && code !== 'MIRROR_UNAVAILABLE')).toEqual([])
    }
  })
})

describe('several mirrors of one directory', () => {
  it('take turns, and zombies commit nothing', async () => {
    let fenced = 0
    for (let n = 1; n <= HISTORIES; n++) {
      const random = seededRandom(SEED * 3000 + n)
      const logs = [drawLog(random, 160), drawLog(random, 90)]
      const dir = makeFolder()
      const group = new ScriptedGroup('payments', logs, random)
      const members = Array.from({ length: 3 }, () =>
        startMirror(group, {
          dir,
          plans: [plan],
          limits: LIMITS,
          clock: () => START_MS,
          report: ({ code }) => {
            if (code === 'FENCED') fenced++
          },
        }),
      )
      for (const { mirror } of members) await mirror.start()
      for (let turn = 0; turn < 60; turn++) await actAll(random, group, members)
      for (const { consumer } of members) for (const p of logs.keys()) await consumer.deliver(p, 20)
      // The last owner goes to the end; the others wake up and finish what they think is theirs, meanwhile.
      const [last] = members
      for (const partition of logs.keys()) await group.assign(partition, last!.consumer, false)
      const others = members.slice(1).map(({ mirror }) => mirror.stop().catch(() => {}))
      for (const partition of logs.keys()) {
        for (let turns = 0; turns < 100; turns++) {
          await last!.consumer.retry()
          if (!(await last!.consumer.deliver(partition, 25)) && last!.consumer.waiting.size === 0) break
        }
      }
      await Promise.all(others)
      await last!.mirror.stop().catch(() => {})
      for (const partition of logs.keys()) {
        // A zombie's last claim may have fenced the last owner: whoever comes next ends it.
        await finishAlone(dir, logs, partition)
      }
      await expectWhole(dir, 'payments', logs)
    }
    expect(fenced).toBeGreaterThan(5)
  })

  async function actAll(random: Random, group: ScriptedGroup, members: readonly ReturnType<typeof startMirror>[]) {
    const partition = random.below(group.logs.length)
    const member = random.pick(members)
    switch (random.below(6)) {
      case 0:
        // Both at once: the old owner finishes while the new one claims.
        await Promise.all([
          group.assign(partition, member.consumer, random.below(2) === 0),
          ...members.flatMap(({ mirror }) => mirror.runs.map((run) => run.finish().catch(() => {}))),
        ])
        return
      case 1:
        await member.consumer.retry()
        return
      default:
        await Promise.all([
          member.consumer.deliver(partition, 1 + random.below(40)),
          random.pick(members).consumer.deliver(random.below(group.logs.length), 1 + random.below(40)),
        ])
    }
  }

  async function finishAlone(dir: string, logs: readonly ReturnType<typeof drawLog>[], partition: number) {
    const group = new ScriptedGroup('payments', [...logs], seededRandom(SEED))
    const { consumer, mirror } = startMirror(group, { dir, plans: [plan], limits: LIMITS })
    await mirror.start()
    await group.assign(partition, consumer)
    while (await consumer.deliver(partition, 500)) {}
    await mirror.stop()
  }

  it('number their entries without a hole', async () => {
    const dir = makeFolder()
    const log = drawLog(seededRandom(SEED), 100)
    await Promise.all([mirrorAll(dir, log), mirrorAll(dir, log), mirrorAll(dir, log)])
    await mirrorAll(dir, log)
    await expectWhole(dir, 'payments', [log])
    const numbers = await listEntries(dir, 'payments', 0)
    expect(numbers).toEqual(numbers.map((_, i) => i + 1))
  })
})

describe('a log that is not the one it was', () => {
  it.each([
    ['begins behind what was mirrored', 'LOG_GAP', (log: ReturnType<typeof drawLog>) => log.slice(-10)],
    ['is shorter than what was mirrored', 'LOG_CHANGED', (log: ReturnType<typeof drawLog>) => log.slice(0, 20)],
    [
      'holds another record where the last file ends',
      'LOG_CHANGED',
      (log: ReturnType<typeof drawLog>) => log.map((message) => ({ ...message, key: Buffer.from('x') })),
    ],
  ])('and %s stops the partition with a report', async (_what, code, change) => {
    const dir = makeFolder()
    const log = drawLog(seededRandom(SEED), 200)
    await mirrorAll(dir, log.slice(0, 120))
    const reports = await mirrorAll(dir, change(log))
    expect(reports.find(({ event }) => event === 'stopped')?.code).toBe(code)
    expect(await codeOf(() => checkMirror(dir, 'payments', 1))).toBe('SOURCE_NOT_FOUND')
    await expectWhole(dir, 'payments', [log.slice(0, 120)])
  })
})
