/** `--entity origin=ATL,destination=LAX`, or the same as JSON: the join keys of one entity. */
import { TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import type { Plan } from '../model/plan.ts'

export type EntityKeys = Readonly<Record<string, string | number | boolean>>

/**
 * A comma separates parts only where the name of a key follows it, so values may hold commas. Values are taken by the type
 * of their part. Throws USAGE.
 */
export function parseEntity(text: string, plans: readonly Plan[]): EntityKeys {
  const types = new Map(plans.flatMap((plan) => plan.state.entity.map((part) => [part.name, part.type] as const)))
  const given = text.trimStart().startsWith('{') ? readJson(text) : readParts(text, [...types.keys()])
  const keys: Record<string, string | number | boolean> = Object.create(null)
  for (const [name, value] of Object.entries(given)) {
    const type = types.get(name)
    if (type === undefined) {
      throw entityError(
        text,
        `no view that is asked for has a key ${JSON.stringify(name)}; ${didYouMean(name, types.keys()).text}`,
      )
    }
    const isBool = type === 'bool' && (value === 'true' || value === 'false')
    keys[name] = isBool ? value === 'true' : value
  }
  return keys
}

function readParts(text: string, names: readonly string[]): Record<string, string> {
  const parts: Record<string, string> = Object.create(null)
  const starts = names.map((name) => `,${name}=`)
  let from = 0
  for (let at = 1; at <= text.length; at++) {
    if (at < text.length && !starts.some((start) => text.startsWith(start, at))) continue
    const part = text.slice(from, at)
    const equals = part.indexOf('=')
    if (equals < 1) throw entityError(text, `got ${JSON.stringify(part)}, expected key=value`)
    parts[part.slice(0, equals)] = part.slice(equals + 1)
    from = at + 1
  }
  return parts
}

function readJson(text: string): Record<string, string | number | boolean> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw entityError(text, `it is not JSON: ${(error as Error).message}`)
  }
  const parts = Object.entries(value as object)
  const wrong = parts.find(([, each]) => !['string', 'number', 'boolean'].includes(typeof each))
  if (wrong)
    throw entityError(
      text,
      `${JSON.stringify(wrong[0])} is ${JSON.stringify(wrong[1])}, expected text, a number or a bool`,
    )
  return Object.fromEntries(parts)
}

function entityError(text: string, cause: string): TilefoldError {
  return new TilefoldError('USAGE', `cannot use --entity ${JSON.stringify(text)}: ${cause}`)
}
