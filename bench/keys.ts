/** Claim: interning entity keys (8 to 24 bytes, from offsets and bytes to dense ids) costs little more than C does. */
import { type Claim, hold, type Settings } from './claim.ts'
import { removeDataset, writeDataset } from './dataset.ts'
import { internContender } from './engine-keys.ts'
import { startBaseline } from './process.ts'
import { createKeys, createWorkload, keyColumn } from './workload.ts'
import { startYardstick, yardstickPeers } from './yardstick.ts'

export const keys: Claim = {
  name: 'keys',
  about: 'entity keys to dense ids, 10k and 1M distinct',
  async run(settings) {
    await intern(10_000, settings.short ? 400_000 : 4_000_000, settings)
    await intern(settings.short ? 50_000 : 1_000_000, settings.short ? 400_000 : 8_000_000, settings)
  },
}

async function intern(distinct: number, rows: number, settings: Settings): Promise<void> {
  const { entities } = createWorkload({ rows, entityCount: distinct, skew: 0, seed: settings.seed })
  const column = keyColumn(createKeys(distinct), entities)
  const header = { rows, entityCount: distinct, stepMs: 0, startMs: 0 }
  const path = writeDataset('keys', header, [column.offsets, column.bytes])
  try {
    const yardstick = await startYardstick('keys', path)
    const javascript = await startBaseline('keys', path)
    await hold(
      {
        claim: 'keys',
        title: `${rows} keys, ${distinct} distinct, uniform`,
        unit: 'key',
        subject: await internContender('tilefold', column),
        peers: [
          ...yardstickPeers(yardstick, [['C, groups of 128 once the table is large', 'switched', 1.5]]),
          { contender: javascript.contender('JavaScript, Map of strings from the bytes', 'strings'), slow: true },
        ],
      },
      settings,
    )
  } finally {
    removeDataset(path)
  }
}
