/** The text of a definition file that explains itself. */
import { printColumn } from '../define/print.ts'
import type { Proposal } from './propose.ts'

/** `schema`: where the editor finds the JSON Schema, for completion and hints. */
export function definitionText(proposal: Proposal, schema: string): string {
  const { source, view, columns, entity, otherEntities, time, aggregations, windows, eventId, skipped } = proposal
  const width = Math.max(...columns.map((column) => quoted(column.name).length))
  const lines = [
    `# yaml-language-server: $schema=${schema}`,
    '# What to keep and to serve. Check it with "tilefold validate": it says what each view costs.',
    'views:',
    `  - name: ${view}`,
    '    source:',
    '      # The kind of event; views with the same source share one read of it.',
    `      name: ${source}`,
    '      # int64, float64, bool, utf8, decimal(precision,scale), timestamp[s|ms|us|ns|day]',
    '      columns:',
    ...columns.map(
      ({ name, type }) => `        ${`${quoted(name)}:`.padEnd(width + 1)} ${type.includes(',') ? `'${type}'` : type}`,
    ),
    ...skipped.map(({ name, reason }) => `        # ${JSON.stringify(name)} is left out: ${reason}`),
    '    # What the features are about: a column, or a list of columns.',
    `    entity: ${quoted(entity)}${otherEntities.length > 0 ? `   # or: ${otherEntities.join(', ')}` : ''}`,
    '    # When it happened. A window as of t is [t - length, t): an event at t is not in it.',
    `    time: ${quoted(time)}`,
    '    # SQL: events for which it is false or null are left out.',
    `    # filter: ${filterText(aggregations.find((each) => each.column !== undefined)?.column ?? entity)}`,
    ...dedupeLines(eventId),
    '    # Features are named {column}_{op}_{window}: one for each window.',
    '    # count sum mean min max variance stddev first last bit_or bit_and',
    '    aggregations:',
    ...aggregations.map(({ op, column, as }, i) => {
      const parts = [`op: ${op}`]
      if (column !== undefined) parts.push(`column: ${quoted(column)}`)
      if (as !== undefined) parts.push(`as: ${quoted(as)}`)
      parts.push(`windows: ${i === 0 ? `&windows [${windows.join(', ')}]` : '*windows'}`)
      return `      - { ${parts.join(', ')} }`
    }),
    '    # Widths of the tiles, each dividing the next. A window needs at least twelve of the finest.',
    '    tiles: [5m, 1h, 1d]',
    '    # Events of an entity stay raw for this long, so that a request may ask as of a moment ago.',
    '    # head: 1m',
    '    # What is later than this is dropped, put aside, or (accept) folded all the same.',
    '    # lateness: { allowed: 1d, policy: side_output }',
  ]
  return lines.map((line) => `${line}\n`).join('')
}

function dedupeLines(eventId: string | undefined): string[] {
  if (eventId === undefined) return []
  return ['    # Of events with one id the first counts.', `    # dedupe: { id: ${quoted(eventId)}, within: 1h }`]
}

/** SQL quotes some names, and YAML does not like to begin with a quote. */
function filterText(column: string): string {
  const expression = `${printColumn(column)} IS NOT NULL`
  return expression.startsWith('"') ? JSON.stringify(expression) : expression
}

/** A plain scalar where YAML reads it as text, else a quoted one. */
function quoted(name: string): string {
  const isPlain = /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !/^(y|n|yes|no|on|off|true|false|null)$/i.test(name)
  return isPlain ? name : JSON.stringify(name)
}
