/** Names of states and definitions: hashes over one spelling of their data. */
import { createHash } from 'node:crypto'
import type { Plan, StatePlan } from '../model/plan.ts'

/** JSON with sorted keys and without undefined, so that the order of writing decides nothing. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, each]) => each !== undefined)
    entries.sort(([a], [b]) => (a < b ? -1 : 1))
    return `{${entries.map(([key, each]) => `${JSON.stringify(key)}:${canonicalJson(each)}`).join(',')}}`
  }
  return JSON.stringify(value)
}

/** 16 lower-case hex digits: 64 bits of SHA-256. */
function digest(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex').slice(0, 16)
}

/**
 * Over everything that decides acceptance or what a row keeps. The program and its registers are how that is computed and
 * may change with the compiler; their meaning is in `expressions` and in the columns' names. `accepts` is about sources.
 */
export function hashState(state: StatePlan): string {
  const { program: _program, registers: _registers, inputs, ...meaning } = state
  return digest({ ...meaning, inputs: inputs.map(({ accepts: _accepts, ...input }) => input) })
}

/**
 * Over what decides which events count for whom, and nothing of what is kept of them: two states that share it stand at the same
 * events when they stand at the same position. Retention is left out, for it follows from the windows.
 */
export function hashAcceptance(state: StatePlan): string {
  const { semantics, source, expressions, entity, id, lateness, maxFutureMs, dedupe } = state
  const read = Object.values(expressions).join(' ')
  const inputs = state.inputs
    .filter(({ name }) => read.includes(name) || entity.some((part) => part.name === name))
    .map(({ accepts: _accepts, ...input }) => input)
  inputs.sort((a, b) => (a.name < b.name ? -1 : 1))
  return digest({ semantics, source, expressions, entity, id, lateness, maxFutureMs, dedupe, inputs })
}

/** Over the state and everything served from it, features in the order of their names. */
export function hashDefinition(plan: Omit<Plan, 'stateHash' | 'definitionHash'>, stateHash: string): string {
  const features = [...plan.features].sort((a, b) => (a.name < b.name ? -1 : 1))
  return digest({ view: plan.view, stateHash, windows: plan.windows, features, ttlMs: plan.ttlMs })
}
