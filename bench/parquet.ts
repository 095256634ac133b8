/**
 * Claim: one thread turns a Parquet log of a million keys into stored tiles in no more time than DuckDB takes to group it into
 * the same tiles. What each side does and does not do: history.ts. With ten thousand keys the ratio is printed: there the
 * time is that of reading, and DuckDB's reader is native.
 */
import { atMost, type Claim, hold } from './claim.ts'
import { backfillContender, duckdbContender, type TileBounds } from './history.ts'
import { planOfEvents, writeEvents } from './parquet-events.ts'

export const parquet: Claim = {
  name: 'parquet',
  about: "a Parquet log to stored tiles against DuckDB's GROUP BY of the same tiles",
  async run(settings) {
    const plan = await planOfEvents()
    const rows = settings.short ? 200_000 : 5_000_000
    for (const keys of settings.short ? [50_000, 1000] : [1_000_000, 10_000]) {
      const files = await writeEvents(rows, keys)
      const bounds: TileBounds = {}
      const target = keys > 10_000 ? atMost(1) : undefined
      try {
        await hold(
          {
            claim: 'parquet',
            title: `${rows.toLocaleString('en-US')} rows, ${keys.toLocaleString('en-US')} keys, one thread`,
            unit: 'row',
            subject: backfillContender('tilefold, to rows in LMDB', plan, files, bounds, { threads: 0 }),
            peers: [
              {
                contender: duckdbContender('DuckDB, to a Parquet file', files, bounds, { threads: 1, into: 'file' }),
                target,
              },
              {
                contender: duckdbContender('DuckDB, to a table in memory', files, bounds, {
                  threads: 1,
                  into: 'table',
                }),
              },
            ],
          },
          { ...settings, turns: { all: settings.turns.slow, slow: settings.turns.slow } },
        )
      } finally {
        await files.drop()
      }
    }
  },
}
