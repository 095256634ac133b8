/**
 * Claim: a second worker thread makes a backfill at least 1.6 times as fast. The calling thread reads and decodes in either
 * case, so one worker is already helped by it; everything in one thread, and DuckDB with one and two threads, beside it.
 */
import { atLeast, type Claim, hold } from './claim.ts'
import { backfillContender, duckdbContender, type TileBounds } from './history.ts'
import { planOfEvents, writeEvents } from './parquet-events.ts'

export const workers: Claim = {
  name: 'workers',
  about: 'a backfill by two worker threads against one',
  async run(settings) {
    const plan = await planOfEvents()
    const rows = settings.short ? 200_000 : 5_000_000
    const keys = settings.short ? 50_000 : 1_000_000
    const files = await writeEvents(rows, keys)
    const bounds: TileBounds = {}
    const ours = (name: string, threads: number) => backfillContender(name, plan, files, bounds, { threads })
    const theirs = (threads: number) =>
      duckdbContender(`DuckDB, ${threads} thread${threads > 1 ? 's' : ''}, to a Parquet file`, files, bounds, {
        threads,
        into: 'file',
      })
    try {
      await hold(
        {
          claim: 'workers',
          title: `${rows.toLocaleString('en-US')} rows, ${keys.toLocaleString('en-US')} keys, to rows in LMDB`,
          unit: 'row',
          subject: ours('two workers', 2),
          peers: [
            { contender: ours('one worker', 1), target: atLeast(1.6) },
            { contender: ours('no worker, all in one thread', 0) },
            { contender: theirs(1) },
            { contender: theirs(2) },
          ],
        },
        { ...settings, turns: { all: settings.turns.slow, slow: settings.turns.slow } },
      )
    } finally {
      await files.drop()
    }
  },
}
