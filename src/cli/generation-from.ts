/** `--from`: where a replay into a new generation starts. */

import type { Plan } from '../model/plan.ts'
import { parseInstant } from '../model/time.ts'
import type { LogStart } from '../model/view-layout.ts'
import type { GenerationStart } from '../registry/generations.ts'
import { type AskedStart, findStart } from '../registry/starts.ts'
import { createKafkaTimes } from '../source/kafka-times.ts'
import type { LogTimes } from '../source/log-times.ts'
import { createMirrorTimes } from '../source/mirror-times.ts'
import type { Call, Flags, Option } from './command.ts'
import { kafkaOptionsOf } from './kafka-settings.ts'
import { type Settings, settingError } from './settings.ts'
import { readTopics, TOPIC_OPTIONS, topicsOf } from './topics.ts'

export const FROM_OPTIONS: readonly Option[] = [
  {
    flags: '--from <start>',
    about:
      'begin: an instant (record time), earliest, or offsets as <topic>.<partition>=<offset>,…; all of the log unless told',
  },
  {
    flags: '--complete-since <instant>',
    about: 'begin --from: no event since then lies before the start; from record times and max_future unless told',
  },
  { flags: '--mirror <dir>', about: 'begin --from: look up times and offsets in this mirror, not in Kafka' },
  ...TOPIC_OPTIONS.filter(({ flags }) => !flags.startsWith('--kafka-group')),
]

/** Undefined unless `--from` is told. Throws USAGE, LOG_GAP, CONFIG_INVALID, SOURCE_NOT_FOUND, LOG_UNAVAILABLE, MIRROR_INVALID. */
export async function readStart(
  { flags, settings, terminal }: Call,
  plan: Plan,
  plans: readonly Plan[],
): Promise<GenerationStart | undefined> {
  const text = flags.from as string | undefined
  const completeSinceMs = readCompleteSince(flags, text)
  if (text === undefined) return undefined
  const asked = readFrom(text)
  const [topic] = topicsOf(readTopics(flags, plans), [plan])
  const times = openTimes(flags, settings)
  try {
    return await findStart({
      asked,
      topic: topic!,
      maxFutureMs: plan.state.maxFutureMs,
      ...(times && { times }),
      ...(completeSinceMs === undefined ? {} : { completeSinceMs }),
      nowMs: terminal.clock(),
    })
  } finally {
    await times?.close()
  }
}

function openTimes(flags: Flags, settings: Settings): LogTimes | undefined {
  const dir = flags.mirror as string | undefined
  if (dir !== undefined) return createMirrorTimes(dir)
  return settings.list('kafka_brokers').length > 0 ? createKafkaTimes(kafkaOptionsOf(settings)) : undefined
}

/** Milliseconds of the year 1973: what is less was meant as an offset. */
const INSTANT_MIN = 100_000_000_000

function readFrom(text: string): AskedStart {
  if (text === 'earliest') return { at: 'earliest' }
  if (text.includes('=')) return { at: 'positions', starts: text.split(',').map((part) => readPosition(text, part)) }
  const timeMs = instantOf(text)
  if (timeMs !== undefined && timeMs >= INSTANT_MIN) return { at: 'instant', timeMs }
  throw badFrom(text)
}

function readPosition(text: string, part: string): LogStart {
  const [, log, position] = /^(.+\.\d+)=(\d{1,15})$/.exec(part.trim()) ?? []
  if (log === undefined) throw badFrom(text)
  return { log, position: Number(position) }
}

function badFrom(text: string): Error {
  return settingError(
    '--from',
    `got ${JSON.stringify(text)}, expected RFC 3339 with a zone, earliest, or offsets like payments.0=1234,payments.1=99`,
  )
}

function readCompleteSince(flags: Flags, from: string | undefined): number | undefined {
  const text = flags.completeSince as string | undefined
  if (text === undefined) return undefined
  const timeMs = instantOf(text)
  if (from !== undefined && timeMs !== undefined) return timeMs
  const expected = from === undefined ? 'it beside --from' : 'RFC 3339 with a zone or milliseconds'
  throw settingError('--complete-since', `got ${JSON.stringify(text)}, expected ${expected}`)
}

function instantOf(text: string): number | undefined {
  try {
    return parseInstant(text)
  } catch {
    return undefined
  }
}
