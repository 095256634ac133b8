/** The definitions a command works with, compiled. */
import { readFile } from 'node:fs/promises'
import { extname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { compileView } from '../define/compile.ts'
import { definitionError, type Problem } from '../define/problems.ts'
import { DEFAULTS, type ViewDefinition } from '../define/view.ts'
import { parseDefinitions } from '../define/yaml.ts'
import { type ErrorCode, TilefoldError } from '../model/errors.ts'
import { didYouMean } from '../model/nearest.ts'
import type { Plan } from '../model/plan.ts'
import { type Settings, settingError } from './settings.ts'

export interface LoadedViews {
  readonly file: string
  readonly namespace: string
  readonly views: readonly ViewDefinition[]
  /** In the order of `views`. */
  readonly plans: readonly Plan[]
}

/** Throws CONFIG_INVALID, DEFINITION_SYNTAX, DEFINITION_INVALID, EXPRESSION_INVALID; the last two with every problem. */
export async function loadViews(settings: Settings): Promise<LoadedViews> {
  const file = settings.text('file')!
  const isModule = ['.js', '.mjs', '.cjs'].includes(extname(file))
  const { namespace, views } = isModule ? await readModule(file) : await readYaml(file)
  const plans = await compileAll(views)
  return { file, namespace: namespaceOf(settings) ?? namespace, views, plans }
}

async function readYaml(file: string): Promise<{ namespace: string; views: readonly ViewDefinition[] }> {
  let text: Uint8Array
  try {
    text = await readFile(file)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const cause =
      code === 'ENOENT' ? 'no such file; write one with "tilefold init", or name yours with --file' : message
    throw new TilefoldError('CONFIG_INVALID', `cannot read definitions ${file}: ${cause}`, { file })
  }
  return parseDefinitions(text, file)
}

/** Every view that the module exports, alone or in a list; `namespace` where it exports one. */
async function readModule(file: string): Promise<{ namespace: string; views: readonly ViewDefinition[] }> {
  let exports: Record<string, unknown>
  try {
    exports = (await import(pathToFileURL(resolve(file)).href)) as Record<string, unknown>
  } catch (error) {
    if (error instanceof TilefoldError) throw error
    const { message } = error as Error
    throw new TilefoldError('CONFIG_INVALID', `cannot load definitions ${file}: ${message}`, { file }, { cause: error })
  }
  const views = [...new Set(Object.values(exports).flat())].filter(isView)
  if (views.length === 0) {
    throw new TilefoldError(
      'CONFIG_INVALID',
      `cannot use definitions ${file}: it exports no view; got ${Object.keys(exports).join(', ') || 'nothing'}`,
    )
  }
  const { namespace } = exports
  return { namespace: typeof namespace === 'string' ? namespace : DEFAULTS.namespace, views }
}

function isView(value: unknown): value is ViewDefinition {
  const view = value as Partial<ViewDefinition> | null
  return typeof view === 'object' && typeof view?.name === 'string' && typeof view.origin?.locate === 'function'
}

/** Problems of all views are told at once. */
async function compileAll(views: readonly ViewDefinition[]): Promise<Plan[]> {
  const compiled = await Promise.allSettled(views.map((view) => compileView(view)))
  const failures = compiled.filter((each) => each.status === 'rejected').map((each) => each.reason as unknown)
  if (failures.length === 0) return compiled.map((each) => (each as PromiseFulfilledResult<Plan>).value)
  const problems = failures.flatMap(problemsOf)
  throw failures.length === 1 || problems.length === 0 ? failures[0] : definitionError(problems)
}

function problemsOf(error: unknown): Problem[] {
  const listed = error instanceof TilefoldError ? error.details.problems : undefined
  return ((listed ?? []) as { code: ErrorCode; message: string; text: string }[]).map(
    ({ code, message, ...position }) => ({
      code,
      message,
      position,
    }),
  )
}

function namespaceOf(settings: Settings): string | undefined {
  const setting = settings.get('namespace')
  if (setting !== undefined && !/^[A-Za-z][A-Za-z0-9_-]{0,63}$/.test(setting.text)) {
    throw settingError(
      setting.from,
      `got ${JSON.stringify(setting.text)}, expected a name of letters, digits, "_" and "-"`,
    )
  }
  return setting?.text
}

/** The views that take one kind of events: the one named, else the only one there is. Throws USAGE. */
export function plansOfSource(plans: readonly Plan[], source: string | undefined): { source: string; plans: Plan[] } {
  const kinds = [...new Set(plans.map((plan) => plan.state.source))]
  if (source === undefined && kinds.length > 1) {
    throw new TilefoldError(
      'USAGE',
      `cannot tell which kind of events the files hold: the views take ${kinds.join(', ')}; say which with --source`,
    )
  }
  const kind = source ?? kinds[0]!
  if (!kinds.includes(kind)) {
    throw new TilefoldError(
      'USAGE',
      `cannot use --source ${kind}: no view takes such events; ${didYouMean(kind, kinds).text}`,
    )
  }
  return { source: kind, plans: plans.filter((plan) => plan.state.source === kind) }
}
