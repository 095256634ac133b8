/** `tilefold rebuild`: lanes of topics from their mirror; the stream goes on where it ends. */
import { cpus } from 'node:os'
import { IngestPool } from '../ingest/pool.ts'
import { type RebuildReport, rebuild } from '../offline/rebuild.ts'
import { type Call, type Command, EXIT_OK } from './command.ts'
import { countersData, countersTable, warnOfNothing } from './counters.ts'
import { plansToFill, readGeneration, VIEW_OPTION } from './generation-number.ts'
import type { Printer } from './printer.ts'
import { Progress } from './progress.ts'
import { Rejects } from './rejects.ts'
import { readShare } from './share.ts'
import { openStore } from './stores.ts'
import { formatCount, renderTable } from './table.ts'
import { SIGNAL_CODES, type Signal } from './terminal.ts'
import { readTopics } from './topics.ts'
import { loadViews } from './views.ts'

export const rebuildCommand: Command = {
  name: 'rebuild',
  description: `Writes the lanes of mirrored topics as the stream would have written them: for a store that was lost, a new namespace or view,
or a worker that stopped with LOG_GAP because Kafka has forgotten what it needs. Then "tilefold run" goes on at the offsets
where the mirror ends, with no gap and no overlap. A lane that holds something goes on from there, so the same call after
Ctrl-C, a crash or kill -9 finishes the work. Stop the workers first: a lane has one owner. Views whose topic is routed are left
out: their lanes are those of the internal topic.

With --shard i/n this process takes the partitions that are i modulo n, in the mirror's order of topics and partitions;
run n of them, anywhere. Each reads its own partitions' files and no others.`,
  arguments: [],
  options: [
    { flags: '--mirror <dir>', about: 'directory of the mirror (mirror)' },
    { flags: '--topic <source=topic>', about: 'topic of a source that is not named like it', isList: true },
    {
      flags: '--generation <n>',
      about: 'into this generation, beside the one that is read (tilefold generation begin)',
    },
    VIEW_OPTION,
    { flags: '--shard <i/n>', about: "this process's share, from 0/n to n-1/n" },
    { flags: '--threads <n>', about: 'threads that fold; 0 folds in this one (one less than the cores, at most 4)' },
  ],
  examples: [
    ['tilefold rebuild --mirror mirror --redis-url redis://localhost:6379', 'then: tilefold run'],
    ['tilefold rebuild --mirror /mnt/mirror --shard "$JOB_COMPLETION_INDEX/8"', 'an indexed Job of Kubernetes'],
  ],
  run,
}

async function run({ flags, settings, terminal, printer }: Call): Promise<number> {
  const { namespace, plans: allPlans } = await loadViews(settings)
  const dir = (flags.mirror as string | undefined) ?? 'mirror'
  const share = readShare(flags.shard as string | undefined)
  const topics = readTopics(flags, allPlans)
  const generation = readGeneration(flags.generation as string | undefined)
  const threads = settings.whole('threads', 0, 64) ?? Math.max(1, Math.min(4, cpus().length - 1))
  const { store, path } = await openStore(settings, { readOnly: false, plans: allPlans })
  const seat = { store, namespace, ...(generation === undefined ? {} : { generation }) }
  const progress = new Progress({ label: 'rebuild', unit: 'records', stream: terminal.stderr, clock: terminal.clock })
  const rejects = new Rejects((line) => progress.log(line))
  const pool = new IngestPool({
    // Only a directory can be written by several threads.
    threads: path === undefined ? 0 : threads,
    store,
    storePath: path,
    clock: terminal.clock,
    onSide: rejects.addAside.bind(rejects),
  })
  const abort = new AbortController()
  let stoppedBy: Signal | undefined
  terminal.onSignal((signal) => {
    stoppedBy = signal
    progress.log('stopping: what is folded is being stored; another signal ends it now')
    abort.abort()
  })
  const startMs = terminal.clock()
  try {
    const report = await rebuild({
      seat,
      plans: await plansToFill(flags, seat, allPlans),
      dir,
      topics,
      pool,
      clock: terminal.clock,
      ...(share && { share }),
      ...rejects.sourceOptions,
      onProgress: ({ recordsDone, recordsTotal }) => progress.update({ done: recordsDone, total: recordsTotal }),
      signal: abort.signal,
    })
    progress.stop()
    rejects.finish()
    summarise(report, Math.max(0.001, (terminal.clock() - startMs) / 1000), rejects, printer)
    if (report.finished) return EXIT_OK
    printer.note('Stopped before the end: call the same again to go on.')
    return SIGNAL_CODES[stoppedBy ?? 'SIGINT']
  } finally {
    progress.stop()
    await pool.close()
    await store.close()
  }
}

function summarise(report: RebuildReport, seconds: number, rejects: Rejects, printer: Printer): void {
  const { finished, records, partitions, views, leftOut } = report
  const rate = Math.round(records / seconds)
  for (const view of leftOut) {
    printer.warn(`view ${view} is left out: its events come by way of a router, and would count twice`)
  }
  warnOfNothing(views, printer)
  printer.result({
    data: {
      finished,
      records,
      seconds,
      records_per_second: rate,
      unreadable: rejects.unreadable,
      put_aside: rejects.aside,
      left_out: leftOut,
      partitions: partitions.map(({ goOnAt, ...rest }) => ({ ...rest, go_on_at: goOnAt })),
      views: countersData(views),
    },
    table: () => {
      const columns = [
        { title: 'TOPIC' },
        ...['PARTITION', 'FROM', 'GO ON AT'].map((title) => ({ title, align: 'right' as const })),
      ]
      const rows = partitions.map(({ topic, partition, from, goOnAt }) => [
        topic,
        String(partition),
        ...[from, goOnAt].map(String),
      ])
      const table = renderTable(columns, rows, (text) => printer.style('bold', text))
      return `${formatCount(records)} records in ${seconds.toFixed(1)} s, ${formatCount(rate)}/s\n\n${table}\n${countersTable(views, printer)}`
    },
  })
}
