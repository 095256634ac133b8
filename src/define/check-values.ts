/** Readers of single values: each returns what it read, or adds a problem and returns undefined. */
import { TilefoldError } from '../model/errors.ts'
import { formatDuration, parseDuration } from '../model/time.ts'
import { columnNames } from './check-source.ts'
import { type Path, type Problems, show, suggest } from './problems.ts'
import { LIMITS, RESERVED_NAMES, type SourceColumn } from './view.ts'

/** A plain object with known keys only. */
export function readObject(
  value: unknown,
  path: Path,
  keys: readonly string[],
  problems: Problems,
): Record<string, unknown> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    problems.add(
      path,
      `got ${show(value)}, expected an object with ${keys.map((key) => JSON.stringify(key)).join(', ')}`,
    )
    return undefined
  }
  for (const key of Object.keys(value)) {
    if (!keys.includes(key))
      problems.add([...path, key], `got unknown key ${JSON.stringify(key)}${suggest(key, keys)}`, { key: true })
  }
  return value as Record<string, unknown>
}

export function required(object: Record<string, unknown>, key: string, path: Path, problems: Problems): unknown {
  if (object[key] === undefined) problems.add(path, `got no ${JSON.stringify(key)}, expected one`)
  return object[key]
}

/** Names of views, sources and namespaces: they become parts of stored names. */
export function readName(value: unknown, path: Path, problems: Problems): string | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'string' && /^[A-Za-z][A-Za-z0-9_-]{0,63}$/.test(value) && !RESERVED_NAMES.includes(value))
    return value
  problems.add(
    path,
    `got ${show(value)}, expected a name of 1 to 64 letters, digits, "_" and "-" that starts with a letter`,
  )
  return undefined
}

export function isFeatureName(name: string): boolean {
  return (
    /^[\p{L}_][\p{L}\p{M}\p{N}_.-]*$/u.test(name) &&
    name.length <= LIMITS.nameCharsMax &&
    !RESERVED_NAMES.includes(name)
  )
}

export function readFeatureName(value: unknown, path: Path, problems: Problems): string | undefined {
  if (typeof value === 'string' && isFeatureName(value)) return value
  problems.add(
    path,
    `got ${show(value)}, expected a feature name: letters, digits, "_", "-" and ".", at most ${LIMITS.nameCharsMax}`,
  )
  return undefined
}

export function readColumnName(
  value: unknown,
  path: Path,
  columns: readonly SourceColumn[] | undefined,
  problems: Problems,
) {
  if (value === undefined) return undefined
  const found = columns?.find((each) => each.name === value)
  if (found === undefined && (columns !== undefined || typeof value !== 'string')) {
    const hint = typeof value === 'string' ? suggest(value, columnNames(columns)) : ', expected a column of the source'
    problems.add(path, `got ${typeof value === 'string' ? 'unknown column ' : ''}${show(value)}${hint}`)
  }
  return found
}

export function readExpression(value: unknown, path: Path, problems: Problems): string | undefined {
  if (typeof value === 'string' && value.trim() !== '' && value.length <= LIMITS.expressionCharsMax) return value
  const got = typeof value === 'string' && value.length > 80 ? `${value.length} characters` : show(value)
  problems.add(
    path,
    `got ${got}, expected a column or a SQL expression of at most ${LIMITS.expressionCharsMax} characters`,
  )
  return undefined
}

export function readOneOf<T extends string>(
  value: unknown,
  path: Path,
  known: readonly T[],
  problems: Problems,
): T | undefined {
  if (known.includes(value as T)) return value as T
  if (value !== undefined) {
    problems.add(path, `got ${show(value)}${suggest(typeof value === 'string' ? value : '', known)}`)
  }
  return undefined
}

/** A duration in milliseconds within [fromMs, toMs]; undefined when absent or wrong. */
export function readDuration(
  value: unknown,
  path: Path,
  problems: Problems,
  fromMs: number,
  toMs: number,
): number | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'string') {
    problems.add(path, `got ${show(value)}, expected a duration with a unit like "5m" or "1h30m" (ms, s, m, h, d, w)`)
    return undefined
  }
  let ms: number
  try {
    ms = parseDuration(value)
  } catch (error) {
    if (!(error instanceof TilefoldError)) throw error
    problems.add(path, error.message.replace(/^cannot read duration: /, ''))
    return undefined
  }
  if (ms >= fromMs && ms <= toMs) return ms
  problems.add(
    path,
    `got ${show(value)}, expected a duration from ${formatDuration(fromMs)} to ${formatDuration(toMs)}`,
  )
  return undefined
}
