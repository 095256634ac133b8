/**
 * Claim: folding events into tiles costs little more than C that gives up exact sums.
 *
 * The fold stage alone, on entity numbers that are already resolved, against C in the same layout, DuckDB and JavaScript;
 * and the whole way from key bytes to tiles.
 */
import { atLeast, atMost, type Claim, hold, type Settings } from './claim.ts'
import type { Contender, Peer } from './contest.ts'
import { removeDataset, writeDataset } from './dataset.ts'
import { addKeyedEvents, groupByContender, openDatabase } from './duckdb.ts'
import { foldContender, keyedFoldContender } from './engine-fold.ts'
import { startBaseline } from './process.ts'
import { createWorkload, disorder, MINUTE_MS, STEP_MS, toInt64, type Workload } from './workload.ts'
import { startYardstick, yardstickPeers } from './yardstick.ts'

export const fold: Claim = {
  name: 'fold',
  about: 'events into five-minute tiles: count, exact sum, min, max, last; with variance; disorder; from keys',
  async run(settings) {
    const rows = settings.short ? 400_000 : 8_000_000
    const skewed = createWorkload({ rows, entityCount: 10_000, skew: 1.1, seed: settings.seed })
    await foldSkewed(skewed, settings)
    await foldDisordered(skewed, settings)
    const entityCount = settings.short ? 50_000 : 1_000_000
    await foldUniform(createWorkload({ rows, entityCount, skew: 0, seed: settings.seed }), settings)
  },
}

async function foldSkewed(workload: Workload, settings: Settings): Promise<void> {
  const path = writeWorkload('fold-skewed', workload)
  try {
    const javascript = await startBaseline('fold', path)
    const database = await openDatabase(workload)
    await addKeyedEvents(database, workload.entityCount)

    const yardstick = await startYardstick('fold', path)
    await hold(
      {
        claim: 'fold',
        title: workload.name,
        unit: 'event',
        subject: await foldContender('tilefold, exact sums', workload),
        peers: [
          ...yardstickPeers(yardstick, [
            ['C, same layout, plain sums', 'plain', 1.8],
            ['C, same layout, exact sums', 'exact'],
          ]),
          slow(javascript.contender('JavaScript, event objects in Maps', 'events'), 8),
          slow(javascript.contender('JavaScript, numbers from typed arrays in Maps', 'columns')),
          slow(groupByContender('DuckDB, GROUP BY, 1 thread', database, workload, 'entity', true), 1.5),
        ],
      },
      settings,
    )

    const squares = await startYardstick('fold', path)
    await hold(
      {
        claim: 'fold',
        title: `${workload.name}, with variance`,
        unit: 'event',
        subject: await foldContender('tilefold, exact sums and squares', workload, { squares: true }),
        peers: [
          // Without squares it has less to show; the contest before this one has compared it.
          ...yardstickPeers(squares, [['C, plain sums, no squares', 'plain', 3]]).map((peer) => ({
            ...peer,
            uncompared: true,
          })),
          ...yardstickPeers(squares, [
            ['C, plain sums and squares', 'plain-squares'],
            ['C, exact sums and squares', 'exact-squares', 2],
          ]),
        ],
      },
      settings,
    )

    const strings = await startBaseline('fold', path)
    await hold(
      {
        claim: 'fold',
        title: `${workload.name}, from key bytes`,
        unit: 'event',
        subject: await keyedFoldContender('tilefold, columns to tiles', workload),
        peers: [
          slow(strings.contender('JavaScript, event objects in Maps', 'events')),
          slow(groupByContender('DuckDB, GROUP BY VARCHAR, 1 thread', database, workload, 'key')),
        ],
      },
      settings,
    )
  } finally {
    removeDataset(path)
  }
}

async function foldDisordered(workload: Workload, settings: Settings): Promise<void> {
  const shuffled = disorder(workload, MINUTE_MS)
  const path = writeWorkload('fold-disorder', shuffled)
  try {
    const yardstick = await startYardstick('fold', path)
    await hold(
      {
        claim: 'fold',
        title: shuffled.name,
        unit: 'event',
        subject: await foldContender('tilefold, out of order', shuffled),
        peers: [
          { contender: await foldContender('tilefold, in order', workload), target: atMost(1.1) },
          ...yardstickPeers(yardstick, [['C, same layout, plain sums, out of order', 'plain']]),
        ],
      },
      settings,
    )
  } finally {
    removeDataset(path)
  }
}

async function foldUniform(workload: Workload, settings: Settings): Promise<void> {
  const path = writeWorkload('fold-uniform', workload)
  try {
    const yardstick = await startYardstick('fold', path)
    const javascript = await startBaseline('fold', path)
    const database = await openDatabase(workload)
    await hold(
      {
        claim: 'fold',
        title: workload.name,
        unit: 'event',
        subject: await foldContender('tilefold, exact sums', workload),
        peers: [
          ...yardstickPeers(yardstick, [
            ['C, same layout, plain sums', 'plain', 2],
            ['C, same layout, exact sums', 'exact'],
          ]),
          slow(javascript.contender('JavaScript, event objects in Maps', 'events'), 10),
          slow(groupByContender('DuckDB, GROUP BY, 1 thread', database, workload, 'entity'), 3),
        ],
      },
      settings,
    )
  } finally {
    removeDataset(path)
  }
}

function writeWorkload(name: string, workload: Workload): string {
  const { rows, entityCount, startMs, entities, times, values } = workload
  return writeDataset(name, { rows, entityCount, stepMs: STEP_MS, startMs }, [entities, toInt64(times), values])
}

function slow(contender: Contender, limit?: number): Peer {
  return { contender, slow: true, target: limit === undefined ? undefined : atLeast(limit) }
}
