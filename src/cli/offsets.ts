/** `tilefold offsets`: up to where each lane of a view's generations holds its log. */
import { formatRanges } from '../model/covers.ts'
import { readOffsets } from '../registry/generations.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import type { Call, Command } from './command.ts'
import { coversData } from './covers-data.ts'
import { openStore } from './stores.ts'
import { formatCount, renderTable } from './table.ts'
import { loadViews } from './views.ts'

export const offsets: Command = {
  name: 'offsets',
  description: `Shows every lane of every generation that the layout of a view names: whether it is history (rows of files) or a log, up to which
position its rows hold it, which event times it takes, and which generation readers see. A worker or a rebuild goes on right behind the
position. START: where the lanes of a generation that was begun with --from start.

Of a view whose topic is routed, lanes from a route stand at offsets of the internal topic; -o json tells under "sources" up to where their
last checkpoints have each log of the topic itself. Lanes of the router hold no rows, but the clocks and ids that it judges by.`,
  arguments: [{ name: '<view>', about: 'name of the view' }],
  options: [],
  examples: [['tilefold offsets spend -o json', 'for a script']],
  run,
}

async function run({ args, settings, printer }: Call): Promise<undefined> {
  const { namespace, plans } = await loadViews(settings)
  const { plan } = viewNamed(catalogOf(plans), args[0]!)
  const { store } = await openStore(settings, { readOnly: true, plans })
  try {
    const { generations, lanes } = await readOffsets({ store, namespace }, plan)
    printer.result({
      data: {
        view: plan.view,
        generations: generations.map(({ stateHash, generation, isCurrent, history, covers }) => ({
          state_hash: stateHash,
          generation,
          is_current: isCurrent,
          history: { files: history.log ?? null, is_complete: history.endPosition !== undefined },
          ...(covers && { covers: coversData(covers) }),
          lanes: lanes.filter((lane) => lane.stateHash === stateHash && lane.generation === generation).length,
        })),
        lanes: lanes.map(({ stateHash, isCurrent, takes, sources, ...rest }) => ({
          state_hash: stateHash,
          is_current: isCurrent,
          ...rest,
          ...(sources && { sources: Object.fromEntries(sources) }),
          ...(takes && { takes: takes.inside ? 'inside' : 'outside', covers: coversData(takes.ranges) }),
        })),
      },
      table: () =>
        renderTable(
          [
            ...['STATE', 'READ', 'LANE', 'FROM'].map((title) => ({ title })),
            ...['START', 'POSITION'].map((title) => ({ title, align: 'right' as const })),
            { title: 'EVENTS' },
          ],
          [
            ...lanes.map(({ stateHash, generation, isCurrent, lane, from, start, marker, takes }) => [
              `${stateHash}/${generation}`,
              isCurrent ? 'yes' : '-',
              lane,
              from,
              start === undefined ? '-' : formatCount(start),
              marker < 0 ? '-' : formatCount(marker),
              takes ? `${takes.inside ? 'inside' : 'outside'} ${formatRanges(takes.ranges)}` : 'all',
            ]),
            // Begun, and nothing was written to it yet.
            ...generations
              .filter(
                (each) =>
                  !lanes.some((lane) => lane.stateHash === each.stateHash && lane.generation === each.generation),
              )
              .map(({ stateHash, generation, covers }) => [
                `${stateHash}/${generation}`,
                ...['-', '-', '-', '-', '-'],
                covers ? `files give ${formatRanges(covers)}` : '-',
              ]),
          ],
        ),
    })
    return undefined
  } finally {
    await store.close()
  }
}
