/**
 * Before anything of a file is stored: are its columns there, of the right types, and its times in the declared unit? A
 * history that was begun with the wrong files could not be taken back.
 */
import { basename } from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import type { InputColumn, Plan } from '../model/plan.ts'
import type { Spine } from '../offline/spine.ts'
import { askedState } from '../offline/spine-plan.ts'
import { matchInputs } from '../source/match.ts'
import { describeParquet } from '../source/parquet.ts'
import { type EventFiles, inputsOf, openEventFiles } from './event-files.ts'
import { sampleTimes, timeInput } from './times.ts'

export const ANY_TIMES_OPTION = {
  flags: '--any-times',
  about: 'take event times as they are, though they look like another unit than declared',
}

/** The same of a spine's instants: asked in another unit than meant, each row would be answered as of 1970. Throws COLUMN_TYPE. */
export async function checkSpineTimes(spine: Spine, time: string): Promise<void> {
  const [input] = askedState([], time).inputs
  for await (const { columns, length } of spine.read([input!])) {
    const suspicion = sampleTimes(columns[0]!, input!, 'parquet', length)?.suspicion
    if (suspicion !== undefined) throw otherUnit(input!, spine.name, suspicion)
    break
  }
}

function otherUnit(input: InputColumn, where: string, suspicion: string): TilefoldError {
  const declared = input.unit ?? 'ms'
  return new TilefoldError(
    'COLUMN_TYPE',
    `cannot read column ${JSON.stringify(input.name)} of ${where} as timestamp[${declared}]: ${suspicion} --any-times takes them as they are`,
    { where, column: input.name, declared },
  )
}

/** Throws SOURCE_NOT_FOUND, SOURCE_CORRUPT, COLUMN_MISSING, COLUMN_TYPE. */
export async function checkEventFiles(files: EventFiles, plans: readonly Plan[], isAnyTime: boolean): Promise<void> {
  const inputs = inputsOf(plans)
  const { format, paths } = files
  if (format === 'parquet') {
    for (const path of paths) matchInputs(inputs, (await describeParquet(path)).fields, basename(path))
  }
  // The first batch of each file, or of the first where footers have told the rest.
  for (const path of format === 'parquet' ? paths.slice(0, 1) : paths) {
    for await (const { batch } of openEventFiles({ format, paths: [path] }, 'preflight', { inputs }).read(0)) {
      for (const plan of isAnyTime ? [] : plans) {
        const input = timeInput(plan)
        const column = batch.columns.find((each) => each.name === input.name)!
        const suspicion = sampleTimes(column, input, format, batch.length)?.suspicion
        if (suspicion !== undefined) throw otherUnit(input, basename(path), suspicion)
      }
      break
    }
  }
}
