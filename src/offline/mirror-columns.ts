/**
 * The columns of a mirrored topic.
 *
 *   _topic _partition _offset _record_ts _event_ts? _key | what the views read | _error _value
 *
 * **A record without columns is a row all the same.** Its payload could not be decoded, or it has none (a tombstone):
 * `_error` says why, and `_value` holds its bytes. A reader decodes it again for the views it reads for, and meets the
 * verdict that the stream would have met, be it that other views, or an older definition, were mirrored. Of other
 * records `_value` is kept if asked for; then columns that a view will only need tomorrow can be had from it.
 */
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import type { WriterField, WriterType } from '../source/parquet-writer-columns.ts'

const TYPES: Record<InputColumn['type'], WriterType> = {
  bool: 'bool',
  int64: 'int64',
  timestamp: 'int64',
  float64: 'float64',
  decimal: 'decimal128',
  utf8: 'utf8',
}

export const TOMBSTONE = 'tombstone'

export interface MirrorColumns {
  /** What is decoded: every column that some view reads. */
  readonly inputs: readonly InputColumn[]
  readonly fields: readonly WriterField[]
  /** The column that is every view's event time. */
  readonly eventTime?: string
}

/** Throws CONFIG_INVALID where the views of a topic read one column as two types, or the plain profile can't hold it. */
export function mirrorColumns(topic: string, plans: readonly Plan[], isPlain: boolean): MirrorColumns {
  const inputs = new Map<string, InputColumn>()
  for (const { view, state } of plans) {
    for (const input of state.inputs) {
      const other = inputs.get(input.name)
      const refused =
        (other && (other.type !== input.type || other.scale !== input.scale || other.unit !== input.unit)
          ? `another view reads it as ${other.type}, view ${view} as ${input.type}`
          : undefined) ??
        (OWN_NAMES.includes(input.name) ? 'the mirror has a column of its own of this name' : undefined) ??
        (isPlain && input.type === 'decimal' ? 'the plain profile has no decimals' : undefined)
      if (refused !== undefined) {
        throw new TilefoldError(
          'CONFIG_INVALID',
          `cannot mirror column ${JSON.stringify(input.name)} of topic ${topic}: ${refused}`,
          { topic, column: input.name },
        )
      }
      inputs.set(input.name, input)
    }
  }
  const times = new Set(plans.map(({ state }) => state.expressions.time.replaceAll(/^"|"$/g, '')))
  const [time] = times
  const eventTime = times.size === 1 && inputs.get(time!)?.type === 'timestamp' ? time : undefined
  const payload = [...inputs.values()].map(
    ({ name, type, scale }): WriterField => ({
      name,
      type: TYPES[type],
      ...(scale === undefined ? {} : { scale }),
      ...(type === 'timestamp' ? { unit: 'ms' } : {}),
    }),
  )
  return {
    inputs: [...inputs.values()],
    fields: [
      { name: '_topic', type: 'utf8', isRequired: true },
      { name: '_partition', type: 'int32', isRequired: true },
      { name: '_offset', type: 'int64', isRequired: true },
      { name: '_record_ts', type: 'int64', unit: 'ms', isRequired: true },
      ...(eventTime === undefined ? [] : [{ name: '_event_ts', type: 'int64', unit: 'ms' } as const]),
      { name: '_key', type: 'binary' },
      ...payload,
      { name: '_error', type: 'utf8' },
      { name: '_value', type: 'binary' },
    ],
    ...(eventTime === undefined ? {} : { eventTime }),
  }
}

const OWN_NAMES = ['_topic', '_partition', '_offset', '_record_ts', '_event_ts', '_key', '_error', '_value']
