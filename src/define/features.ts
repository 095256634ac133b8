/** Features: their names, types and defaults. */
import type { FeaturePlan, ValueType } from '../model/plan.ts'
import { type Path, type Problems, show } from './problems.ts'
import { type Need, resultType } from './projection.ts'
import { AGGREGATION_OPS, type AggregationDefinition, LIMITS } from './view.ts'

/** A feature before partials and windows are numbered. */
export type FeatureDraft = Omit<FeaturePlan, 'partial' | 'window'> & { readonly lengthMs: number; readonly path: Path }

export function planFeatures(
  aggregation: AggregationDefinition,
  need: Need | undefined,
  path: Path,
  problems: Problems,
): FeatureDraft[] {
  const op = AGGREGATION_OPS[aggregation.op]
  // A column that did not compile is a problem already.
  if (aggregation.column !== undefined && need === undefined) return []
  const result = resultType(op, need?.projection)!
  const fallback = readDefault(aggregation.default, op === 'count' ? 'float64' : result.type, result.scale ?? 0)
  if ('problem' in fallback) problems.add([...path, 'default'], fallback.problem)
  const base =
    aggregation.as ?? [need?.projection.column, aggregation.op].filter((each) => each !== undefined).join('_')
  return aggregation.windows.map(({ text, lengthMs }, i) => ({
    name: aggregation.name ?? `${base}_${text}`,
    op,
    ...result,
    default: 'value' in fallback ? fallback.value : undefined,
    lengthMs,
    path: aggregation.name === undefined ? [...path, 'windows', i] : [...path, 'name'],
  }))
}

/** A default as the plan keeps it: exact types as text. */
function readDefault(
  value: AggregationDefinition['default'],
  type: ValueType,
  scale: number,
): { value: AggregationDefinition['default'] } | { problem: string } {
  if (value === undefined) return { value }
  const refuse = (expected: string) => ({ problem: `got ${show(value)}, expected ${expected}` })
  switch (type) {
    case 'float64':
      return typeof value === 'number' && Number.isFinite(value)
        ? { value: value === 0 ? 0 : value }
        : refuse('a finite number')
    case 'bool':
      return typeof value === 'boolean' ? { value } : refuse('true or false')
    case 'utf8':
      return typeof value === 'string' && value.isWellFormed() ? { value } : refuse('a text')
    case 'int64': {
      const whole =
        typeof value === 'string' && /^-?\d{1,19}$/.test(value)
          ? BigInt(value)
          : Number.isSafeInteger(value)
            ? BigInt(value as number)
            : undefined
      if (whole === undefined || BigInt.asIntN(64, whole) !== whole)
        return refuse('a 64-bit integer (as text beyond 2^53)')
      return { value: String(whole) }
    }
    case 'decimal': {
      const [, sign, digits = '', fraction = ''] = /^(-?)(\d{1,38})(?:\.(\d{1,38}))?$/.exec(String(value)) ?? []
      if (sign === undefined || typeof value === 'boolean' || fraction.length > scale || digits.length + scale > 38) {
        return refuse(`a number with at most ${scale} digits behind the point`)
      }
      const whole = digits.replace(/^0+(?=\d)/, '')
      return { value: `${sign}${whole}${scale > 0 ? `.${fraction.padEnd(scale, '0')}` : ''}` }
    }
  }
}

export function checkFeatureNames(features: readonly FeatureDraft[], problems: Problems): void {
  const seen = new Set<string>()
  for (const { name, path } of features) {
    if (seen.has(name))
      problems.add(path, `got feature ${show(name)} twice, expected different names: use "as" or "name"`)
    else if (name.length > LIMITS.nameCharsMax)
      problems.add(path, `got feature name ${show(name)}, expected at most ${LIMITS.nameCharsMax} characters`)
    seen.add(name)
  }
}
