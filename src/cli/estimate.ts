/** `tilefold estimate`: rows, bytes, writes and CPU of a definition, before anything is deployed. */
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { formatDuration } from '../model/time.ts'
import { type Call, type Command, EXIT_OK } from './command.ts'
import { costOf, type Load } from './estimate-cost.ts'
import { ViewFolder } from './estimate-fold.ts'
import { type Estimated, type EstimateReport, estimateData, estimateTable } from './estimate-report.ts'
import { type Sample, sampleFiles, sampleTopic } from './estimate-sample.ts'
import { type EventFormat, FORMAT_OPTION, findEventFiles, inputsOf } from './event-files.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { Progress } from './progress.ts'
import { Rejects } from './rejects.ts'
import { readWhole } from './settings.ts'
import { readRate } from './validate.ts'
import { loadViews, plansOfSource } from './views.ts'

export const estimate: Command = {
  name: 'estimate',
  description: `Says what views will take: rows, bytes of rows and of the store's memory, bytes written per second, CPU. A sample of events is read and
folded as a worker would, into memory; nothing is stored. What the sample shows is called measured; what follows from it for
the whole stream (--rate), all entities (--entities) and rows as old as tiles are kept is called extrapolated, with the rule.`,
  arguments: [{ name: '[definitions]', about: 'definition file; the one of --file unless given' }],
  options: [
    { flags: '--sample <files>', about: 'file, folder or glob of events; may be given several times', isList: true },
    { flags: '--sample-topic <topic>', about: "instead: a topic's newest records, as JSON" },
    { flags: '--sample-rows <n>', about: 'events to read at most (100000)' },
    { flags: '--rate <rate>', about: "events of the whole stream: 5000/s, 20/m (the sample's own)" },
    { flags: '--entities <n>', about: "entities there will be (the sample's own)" },
    { flags: '--max-flush-interval <duration>', about: 'how often rows are written under load (1s)' },
    { flags: '--source <name>', about: 'kind of events in the sample, where the views take several' },
    FORMAT_OPTION,
    { flags: '--kafka-brokers <list>', about: 'host:port of some brokers, by comma; TILEFOLD_KAFKA_BROKERS' },
  ],
  examples: [
    ['tilefold estimate --sample events.parquet', 'at the rate of the file'],
    ['tilefold estimate --sample-topic payments --rate 5000/s --entities 2000000', 'as production will be'],
  ],
  run,
}

async function run(call: Call): Promise<number> {
  const { args, flags, settings, printer, terminal } = call
  const withFile = args[0] === undefined ? settings : settings.with({ file: args[0] })
  const rowsMax = readWhole((flags.sampleRows as string | undefined) ?? '100000', '--sample-rows', 1, 100_000_000)
  const rate = flags.rate === undefined ? undefined : readRate(flags.rate as string)
  const entities = flags.entities === undefined ? undefined : readWhole(flags.entities as string, '--entities', 1, 1e12)
  const flushMs = settings.durationMs('max_flush_interval')
  const { plans: allPlans } = await loadViews(withFile)
  const { plans } = plansOfSource(allPlans, flags.source as string | undefined)
  const progress = new Progress({ label: 'estimate', unit: 'events', stream: terminal.stderr, clock: terminal.clock })
  const rejects = new Rejects((line) => progress.log(line))
  try {
    const { sample, format } = await openSample(call, plans, rejects, rowsMax)
    const folders = plans.map((plan) => new ViewFolder(plan, format, terminal.clock))
    const logs = new Set<string>()
    let events = 0
    for await (const each of sample.batches) {
      logs.add(each.log)
      for (const folder of folders) await folder.fold(each)
      events += each.batch.length
      progress.update({ done: events, note: each.log })
    }
    progress.stop()
    rejects.finish()
    if (events === 0) throw new TilefoldError('SOURCE_NOT_FOUND', 'cannot estimate: the sample has no events')
    const views = []
    for (const folder of folders) views.push(await folder.finish())
    const readMicrosPerEvent = sample.readMicros() / events
    const estimated = views.map((view): Estimated => {
      const seconds = view.span === undefined ? 0 : (view.span.lastMs - view.span.firstMs) / 1000
      const ownRate = seconds > 0 ? view.sequence.length / seconds : undefined
      const eventsPerSecond = rate ?? ownRate
      const load: Load | undefined =
        eventsPerSecond === undefined
          ? undefined
          : { eventsPerSecond, entities: entities ?? view.events.length, flushMs, readMicrosPerEvent }
      return { view, ownRate, ...(load === undefined ? {} : { load, cost: costOf(view, load) }) }
    })
    const report: EstimateReport = {
      events,
      logs: logs.size,
      unreadable: rejects.unreadable,
      isCut: events >= rowsMax,
      readWhat: sample.readWhat,
      readMicrosPerEvent,
      hasRate: rate !== undefined,
      hasEntities: entities !== undefined,
      flushMs,
      views: estimated,
    }
    warn(report, printer.warn.bind(printer))
    printer.result({ data: estimateData(report), table: () => estimateTable(report, printer) })
    return EXIT_OK
  } finally {
    progress.stop()
  }
}

async function openSample(
  { flags, settings }: Call,
  plans: readonly Plan[],
  rejects: Rejects,
  rowsMax: number,
): Promise<{ sample: Sample; format: EventFormat }> {
  const topic = flags.sampleTopic as string | undefined
  const files = flags.sample as readonly string[] | undefined
  if ((topic === undefined) === (files === undefined)) {
    throw new TilefoldError('USAGE', 'cannot estimate: expected either --sample <files> or --sample-topic <topic>')
  }
  const inputs = inputsOf(plans)
  if (topic !== undefined) {
    const kafka = kafkaOptionsOf(settings)
    const { onReject } = rejects.sourceOptions
    return { sample: await sampleTopic({ kafka, topic, inputs, rowsMax, onReject }), format: 'ndjson' }
  }
  const found = await findEventFiles(files!, flags)
  return { sample: sampleFiles(found, { inputs, ...rejects.sourceOptions }, rowsMax), format: found.format }
}

/** A sample shorter than what its rows keep shows too few tiles to weigh them by; the rule then stands on less. */
function warn({ views, hasEntities, hasRate }: EstimateReport, tell: (text: string) => void): void {
  for (const { view, load } of views) {
    const { plan, span, counters } = view
    if (counters.applied === 0)
      tell(`view ${plan.view} has applied none of the sample's events: nothing can be told of its rows`)
    if (load === undefined) tell(`view ${plan.view}: all events have one time; give --rate`)
    const longest = Math.max(...plan.windows.map(({ lengthMs }) => lengthMs))
    if (span !== undefined && span.lastMs - span.firstMs < longest && !(hasEntities && hasRate)) {
      tell(
        `view ${plan.view}: the sample spans ${formatDuration(Math.max(1000, Math.round((span.lastMs - span.firstMs) / 1000) * 1000))}, its longest window ${formatDuration(longest)}: more entities will come by in it; give --entities`,
      )
    }
  }
}
