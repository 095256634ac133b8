/** What several views of one project must agree on: names, and the columns of a source they share. */
import { definitionError, type Path, type Problem, show } from './problems.ts'
import type { SourceColumn, ViewDefinition } from './view.ts'

/** Throws DEFINITION_INVALID naming every clash. */
export function checkViews(views: readonly ViewDefinition[]): void {
  const found: Problem[] = []
  const names = new Set<string>()
  const sources = new Map<string, { view: string; column: SourceColumn }>()
  for (const view of views) {
    const report = (path: Path, message: string) =>
      found.push({ code: 'DEFINITION_INVALID', position: view.origin.locate(path), message })
    if (names.has(view.name)) report(['name'], `got view ${show(view.name)} twice, expected different names`)
    names.add(view.name)
    for (const column of view.source.columns) {
      const key = JSON.stringify([view.source.name, column.name])
      const known = sources.get(key)
      if (known === undefined) sources.set(key, { view: view.name, column })
      else if (typeText(known.column) !== typeText(column)) {
        report(
          ['source', 'columns', column.name],
          `got ${typeText(column)} for a column of source ${show(view.source.name)}, expected ${typeText(known.column)} as in view ${show(known.view)}`,
        )
      }
    }
  }
  if (found.length > 0) throw definitionError(found)
}

/** A column's type as definitions write it. */
export function typeText(column: SourceColumn): string {
  if (column.type === 'decimal') return `decimal(${column.precision},${column.scale})`
  return column.type === 'timestamp' ? `timestamp[${column.unit}]` : column.type
}
