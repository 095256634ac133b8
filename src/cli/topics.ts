/** Which topics the views' sources are, for every command that asks Kafka. */
import type { Plan } from '../model/plan.ts'
import type { Flags, Option } from './command.ts'
import { type Settings, settingError } from './settings.ts'

export const TOPIC_OPTIONS: readonly Option[] = [
  { flags: '--kafka-brokers <list>', about: 'host:port of some brokers, by comma; TILEFOLD_KAFKA_BROKERS' },
  {
    flags: '--kafka-group <name>',
    about: 'consumer group (tilefold-<namespace>); each later generation has one of its own, named after it',
  },
  { flags: '--topic <source=topic>', about: 'topic of a source that is not named like it', isList: true },
]

/** `payments=prod.payments`, by source. Throws USAGE. */
export function readTopics(flags: Flags, plans: readonly Plan[]): Map<string, string> {
  const texts = (flags.topic ?? []) as readonly string[]
  const sources = [...new Set(plans.map((plan) => plan.state.source))]
  return new Map(
    texts.map((text): [string, string] => {
      const at = text.indexOf('=')
      const source = text.slice(0, at)
      if (at > 0 && sources.includes(source)) return [source, text.slice(at + 1)]
      throw settingError(
        '--topic',
        `got ${JSON.stringify(text)}, expected <source>=<topic> with a source among ${sources.join(', ')}`,
      )
    }),
  )
}

/** Every topic that the views are read from, once. `routes`: of views whose topic is routed, the one that the router writes. */
export function topicsOf(
  topics: ReadonlyMap<string, string>,
  plans: readonly Plan[],
  routes?: ReadonlyMap<string, string>,
): string[] {
  return [...new Set(plans.map(({ view, state }) => routes?.get(view) ?? topics.get(state.source) ?? state.source))]
}

export function groupOf(settings: Settings, namespace: string): string {
  return settings.text('kafka_group') ?? `tilefold-${namespace}`
}
