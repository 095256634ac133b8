import { describe, expect, it } from 'vitest'
import { checkLaws } from '../laws/laws.ts'
import type { Fault } from './subject.ts'
import { NaiveSubject } from './subject.ts'

/** Seeds are taken until the fault shows; each is a case and all its scripts. */
const SEEDS = 60

async function firstFailure(fault: Fault): Promise<string | undefined> {
  for (let seed = 0; seed < SEEDS; seed++) {
    try {
      await checkLaws(async (options) => new NaiveSubject(options, fault), seed, { count: 40 })
    } catch (error) {
      return (error as Error).message
    }
  }
  return undefined
}

describe('the laws', () => {
  it('hold for an engine that is made of the oracle itself', async () => {
    let scripts = 0
    let rows = 0
    let values = 0
    for (let seed = 0; seed < 40; seed++) {
      const report = await checkLaws(async (options) => new NaiveSubject(options), seed, {
        count: 40,
        ...(seed % 4 === 0 && { slackMs: 60_000 }),
      })
      scripts += report.scripts
      rows += report.rowsCompared
      values += report.valuesCompared
    }
    // Something was compared: the plain script and five laws for each seed at least.
    expect(scripts).toBeGreaterThanOrEqual(40 * 6)
    expect(rows).toBeGreaterThan(0)
    expect(values).toBeGreaterThan(0)
  })

  const faults: readonly Fault[] = [
    'applies a replay twice',
    'commits before the rows are written',
    'keeps the order of arrival',
    'forgets a lane',
    'loses the last row of a batch',
    'counts a redelivery again',
    'starts with an empty clock',
    'includes the event at as-of',
    'floors no start',
    'forgets history',
    'counts what history covers',
    'compacts one tile too many',
  ]
  it.each(faults)('catch an engine that %s', async (fault) => {
    expect(await firstFailure(fault), `${SEEDS} seeds did not show it`).toMatch(/^law ".+" is broken with seed \d+: /)
  })

  it('repeat a failure from its seed', async () => {
    const message = await firstFailure('loses the last row of a batch')
    const seed = Number(/seed (\d+)/.exec(message!)![1])
    const again = checkLaws(async (options) => new NaiveSubject(options, 'loses the last row of a batch'), seed, {
      count: 40,
    })
    await expect(again).rejects.toThrow(message)
  })
})
