/**
 * The JSON Schema (draft-07, which editors' YAML servers know) of definition files: completion and hints while one writes.
 * `schema.json` in the package is this object; test/define/schema.test.ts holds them together.
 */
import { KEY_PARTS_MAX, LEVELS_MAX } from '../../assembly/layout.ts'
import { formatDuration } from '../model/time.ts'
import { SUPPORTED } from './sql.ts'
import { AGGREGATION_OPS, DEFAULTS, LIMITS } from './view.ts'

const name = {
  type: 'string',
  pattern: '^[A-Za-z][A-Za-z0-9_-]{0,63}$',
}
const featureName = { type: 'string', minLength: 1, maxLength: LIMITS.nameCharsMax }
const columnName = { type: 'string', minLength: 1, maxLength: LIMITS.nameCharsMax }

function duration(description: string, fallback?: number) {
  return {
    type: 'string',
    pattern: '^([0-9]+(ms|[smhdw]))+$',
    description,
    ...(fallback === undefined ? {} : { default: formatDuration(fallback) }),
  }
}

function object(description: string, properties: Record<string, unknown>, required: readonly string[]) {
  return { type: 'object', description, additionalProperties: false, required, properties }
}

const aggregation = object(
  'One operation over one column, in one or more windows: a feature per window.',
  {
    op: {
      enum: Object.keys(AGGREGATION_OPS),
      description:
        'count: rows, or non-null cells of a column. sum, mean (avg): exact, rounded once. min, max. var_pop, var_samp (variance), stddev_pop, stddev_samp (stddev): from exact power sums. first, last: by event time. bit_or, bit_and: of int64, bit by bit.',
    },
    column: {
      type: 'string',
      maxLength: LIMITS.expressionCharsMax,
      description: `A column, or a SQL expression over columns; without it, count counts rows. In expressions ${SUPPORTED}. Null where a result does not fit its type.`,
    },
    windows: {
      type: 'array',
      minItems: 1,
      items: duration('Length of the window: as of t it is [t - length, t).'),
      description: `Lengths like 1h, 24h, 30d: at least ${LIMITS.tailSteps} finest tiles, at most ${formatDuration(LIMITS.windowMsMax)}.`,
    },
    as: {
      ...featureName,
      description: 'Base of the names: {as}_{window}. Needed for an expression; otherwise the base is {column}_{op}.',
    },
    name: { ...featureName, description: 'The whole name of the feature; only with one window.' },
    default: {
      type: ['number', 'string', 'boolean'],
      description: 'Served instead of null. Integers beyond 2^53 and decimals as text.',
    },
  },
  ['op', 'windows'],
)

const view = object(
  'A feature view: source, entity, event time, aggregations over windows.',
  {
    name: { ...name, description: 'Name of the view.' },
    source: object(
      'The kind of event that the view reads.',
      {
        name: { ...name, description: 'Name of the kind of event; views with the same source share one read.' },
        columns: {
          type: 'object',
          minProperties: 1,
          description: 'The columns that the view may use, and their types.',
          additionalProperties: {
            type: 'string',
            pattern:
              '^\\s*(int64|float64|bool|utf8|decimal\\s*\\(\\s*[0-9]+\\s*,\\s*[0-9]+\\s*\\)|timestamp\\s*\\[\\s*(s|ms|us|ns|day)\\s*\\])\\s*$',
            examples: ['int64', 'float64', 'bool', 'utf8', 'decimal(12,2)', 'timestamp[ms]'],
            description:
              'int64, float64, bool, utf8, decimal(precision,scale), timestamp[unit]: the unit that its integers count.',
          },
        },
      },
      ['name', 'columns'],
    ),
    entity: {
      description: 'The column, or columns in order, that the features are about: utf8, int64 or bool.',
      oneOf: [
        columnName,
        { type: 'array', items: columnName, minItems: 1, maxItems: KEY_PARTS_MAX, uniqueItems: true },
      ],
    },
    time: { ...columnName, description: 'The timestamp column that holds the event time.' },
    filter: {
      type: 'string',
      maxLength: LIMITS.expressionCharsMax,
      description: 'SQL of type bool: an event for which it is false or null is left out.',
    },
    aggregations: {
      type: 'array',
      minItems: 1,
      maxItems: LIMITS.aggregationsMax,
      items: aggregation,
      description: 'The features.',
    },
    tiles: {
      type: 'array',
      minItems: 1,
      maxItems: LEVELS_MAX,
      items: duration('Width of a tile.'),
      default: DEFAULTS.tiles,
      description: `Widths of the tiles, finest first, each dividing the next, ${formatDuration(LIMITS.stepMsMin)} to ${formatDuration(LIMITS.stepMsMax)}. A window starts on an edge of the widest tile that is at most a twelfth of it.`,
    },
    edges: {
      enum: ['aligned'],
      default: DEFAULTS.edges,
      description: 'Where a window starts: on a tile edge. It ends exactly at as-of.',
    },
    head: duration(
      'How long events stay raw behind the watermark, so that a request may ask as of a moment ago.',
      DEFAULTS.headMs,
    ),
    head_step: duration(
      'Keeps the head as tiles of this width instead, for views with very hot entities: as-of is floored to it. Divides the head and the finest tile.',
    ),
    lateness: object(
      'What happens to an event behind the late clock.',
      {
        allowed: duration('How far behind the late clock an event is still on time; the retention by default.'),
        policy: {
          enum: ['accept', 'side_output', 'drop'],
          default: DEFAULTS.policy,
          description: 'For events later than allowed: accept them all the same, put them aside, or drop them.',
        },
      },
      [],
    ),
    dedupe: object(
      'Of events with one id the first in log order counts.',
      {
        id: { ...columnName, description: 'The column that holds the event id: utf8 or int64.' },
        within: duration(
          'An event farther than this behind the late clock is not deduplicated.',
          DEFAULTS.dedupeWithinMs,
        ),
      },
      ['id'],
    ),
    max_future: duration(
      'How far event time may be ahead of record time before the event is rejected.',
      DEFAULTS.maxFutureMs,
    ),
    disorder: duration(
      'How far out of order events arrive as a rule: the watermark stays this far behind.',
      DEFAULTS.disorderMs,
    ),
    retention: duration(
      'Events older than this go to the side output; the longest window and one widest tile by default.',
    ),
    ttl: duration('An answer from data that end longer before as-of than this is stale; never by default.'),
    slack: duration(
      'How far behind the head an as-of still finds the tiles that its windows start in.',
      DEFAULTS.slackMs,
    ),
  },
  ['name', 'source', 'entity', 'time', 'aggregations'],
)

export const definitionSchema = {
  $schema: 'http://json-schema.org/draft-07/schema#',
  title: 'tilefold feature views',
  ...object(
    'Definitions of feature views.',
    {
      namespace: { ...name, default: DEFAULTS.namespace, description: 'First part of every stored name.' },
      views: { type: 'array', minItems: 1, maxItems: LIMITS.viewsMax, items: view, description: 'The views.' },
    },
    ['views'],
  ),
} as const

/** The text of `schema.json`. */
export function schemaText(): string {
  return `${JSON.stringify(definitionSchema, null, 2)}\n`
}
