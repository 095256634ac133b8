/**
 * Claim: merging a row's 61 tiles into four nested windows, with exact sums, costs little more than C with plain ones.
 *
 * Hot: 16 rows in turn, so all tiles are in the first caches. Cold: rows of 40,000 entities at random.
 */
import { atLeast, type Claim, hold, type Settings } from './claim.ts'
import { removeDataset, writeDataset } from './dataset.ts'
import { mergeContender, sweepContender } from './engine-merge.ts'
import { startBaseline } from './process.ts'
import { COVER, createTileWorkload, tileColumns, WINDOWS_MS } from './tiles.ts'
import { startYardstick, yardstickPeers } from './yardstick.ts'

export const merge: Claim = {
  name: 'merge',
  about: '61 tiles into 4 nested windows, hot and cold',
  async run(settings) {
    await mergeRows(16, settings.short ? 20_000 : 200_000, 'hot', settings)
    await mergeRows(settings.short ? 2_000 : 40_000, settings.short ? 4_000 : 40_000, 'cold', settings)
  },
}

async function mergeRows(entities: number, requests: number, heat: 'hot' | 'cold', settings: Settings): Promise<void> {
  const workload = createTileWorkload(entities, requests, settings.seed)
  const header = { rows: workload.tiles.entities.length, entityCount: entities, stepMs: 0, startMs: 0 }
  const path = writeDataset(`merge-${heat}`, header, tileColumns(workload))
  try {
    const yardstick = await startYardstick('merge', path)
    const javascript = await startBaseline('merge', path)
    const claimed = heat === 'hot'
    const objects = javascript.contender('JavaScript, tile objects', 'objects')
    await hold(
      {
        claim: 'merge',
        title: `${COVER.length} tiles, ${WINDOWS_MS.length} windows, ${heat} (${entities} rows in use)`,
        unit: 'request',
        subject: await (claimed ? sweepContender : mergeContender)('tilefold, exact sums', workload),
        peers: [
          ...(claimed
            ? [{ contender: await mergeContender('tilefold, with check, opening, rounding', workload) }]
            : []),
          ...yardstickPeers(yardstick, [
            ['C, plain sums, segment loops', 'segments', claimed ? 2.5 : undefined],
            ['C, plain sums, a window check per tile', 'checks', claimed ? 1 : undefined],
          ]),
          { contender: objects, slow: true, target: claimed ? atLeast(6) : undefined },
        ],
      },
      settings,
    )
  } finally {
    removeDataset(path)
  }
}
