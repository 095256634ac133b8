/** The number of a generation, as an option, and the views that have it. */
import type { Plan } from '../model/plan.ts'
import { plansOfGeneration } from '../registry/generations.ts'
import type { LayoutSeat } from '../registry/layouts.ts'
import { catalogOf, viewNamed } from '../serve/catalog.ts'
import type { Flags, Option } from './command.ts'
import { settingError } from './settings.ts'

export const VIEW_OPTION: Option = {
  flags: '--view <name>',
  about: 'with --generation: only this view; else every view that has it',
  isList: true,
}

/** Throws USAGE. */
export function readGeneration(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw settingError('--generation', `got ${JSON.stringify(text)}, expected a whole number from 1`)
}

/** Without a number all plans; else those that were named, or else those that have it. Throws USAGE, VIEW_UNKNOWN, LAYOUT_MISSING. */
export async function plansToFill(flags: Flags, seat: LayoutSeat, plans: readonly Plan[]): Promise<readonly Plan[]> {
  const { generation } = seat
  const names = (flags.view ?? []) as readonly string[]
  if (names.length > 0 && (generation ?? 1) === 1) {
    throw settingError('--view', 'got it without a generation behind the first, which all views fill together')
  }
  if (generation === undefined) return plans
  if (names.length > 0) return names.map((name) => viewNamed(catalogOf(plans), name).plan)
  return plansOfGeneration(seat, plans)
}
