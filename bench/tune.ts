/**
 * `npm run tune`: which tile sizes suit a view?
 *
 *   npm run tune                                          a view of five aggregates over 1 h, 24 h, 7 d and 30 d
 *   npm run tune -- --definition views.yaml --view clicks  one of yours, over made-up events of its columns' types
 *   npm run tune -- --ladders "5m,1h,1d 1m,15m,6h"         ladders to try
 *   npm run tune -- --entities 1000 --rate 60 --flush 5m   more entities, 60 events per entity and hour, other flushes
 *
 * Each ladder gets the same events, the longest window and a day of them, with a flush at regular intervals of event time.
 * `1h+5m`: a window of an hour starts up to five minutes early. Finer tiles make that more exact and a row larger; more
 * levels make rows and merges shorter.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { ViewDefinition } from '../src/define/view.ts'
import { parseDefinitions } from '../src/define/yaml.ts'
import { formatDuration, parseDuration } from '../src/model/time.ts'
import { valueView } from './engine-plan.ts'
import { formatTunings, type TuneOptions, type Tuning, tuneLadder } from './ladders.ts'

const LADDERS = ['5m,1h,1d', '1m,1h,1d', '1m,15m,3h,1d', '15m,6h,1d', '5m,1d', '5m']

const { values } = parseArgs({
  options: {
    definition: { type: 'string' },
    view: { type: 'string' },
    ladders: { type: 'string' },
    entities: { type: 'string', default: '200' },
    rate: { type: 'string', default: '20' },
    skew: { type: 'string', default: '1.1' },
    flush: { type: 'string', default: '1h' },
    seed: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
})
const view = values.definition ? readView(values.definition, values.view) : valueView(['1h', '24h', '7d', '30d'])
const options: TuneOptions = {
  entityCount: Math.max(1, Math.floor(numberOf('entities'))),
  rate: numberOf('rate'),
  skew: numberOf('skew'),
  flushMs: parseDuration(values.flush),
  seed: numberOf('seed'),
}
console.log(
  `view ${view.name}: ${options.entityCount} entities, ${options.rate} events per entity and hour (Zipf ${options.skew}), ` +
    `a flush every ${formatDuration(options.flushMs)} of event time; seed ${options.seed}`,
)
// The view's own ladder first, then the usual ones.
const own = view.tilesMs.map(formatDuration).join(',')
const ladders = values.ladders?.trim().split(/\s+/) ?? [...new Set([own, ...LADDERS])]
const tunings: Tuning[] = []
for (const ladder of ladders) tunings.push(await tuneLadder(view, ladder, options))
console.log(formatTunings(tunings))
if (values.json) writeFileSync(values.json, `${JSON.stringify({ options, tunings }, null, 2)}\n`)

function numberOf(option: 'entities' | 'rate' | 'skew' | 'seed'): number {
  const value = Number(values[option])
  if (Number.isFinite(value) && value >= 0) return value
  throw new Error(`cannot read --${option}: got ${JSON.stringify(values[option])}, expected a number`)
}

function readView(file: string, name: string | undefined): ViewDefinition {
  const { views } = parseDefinitions(readFileSync(file, 'utf8'), file)
  const view = name === undefined ? views[0] : views.find((each) => each.name === name)
  if (!view) throw new Error(`cannot find view ${name} in ${file}: it has ${views.map((each) => each.name).join(', ')}`)
  return view
}
