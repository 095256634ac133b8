/**
 * Before anything of a file is stored: are its columns there, of the right types, and its times in the declared unit? A
 * history that was begun with the wrong files could not be taken back.
 */
import { basename } from 'node:path'
import { TilefoldError } from '../model/errors.ts'
import type { Plan } from '../model/plan.ts'
import { matchInputs } from '../source/match.ts'
import { describeParquet } from '../source/parquet.ts'
import { type EventFiles, inputsOf, openEventFiles } from './event-files.ts'
import { sampleTimes, timeInput } from './times.ts'

export const ANY_TIMES_OPTION = {
  flags: '--any-times',
  about: 'take event times as they are, though they look like another unit than declared',
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
        if (suspicion === undefined) continue
        throw new TilefoldError(
          'COLUMN_TYPE',
          `cannot read column ${JSON.stringify(input.name)} of ${basename(path)} as timestamp[${input.unit ?? 'ms'}]: ${suspicion} --any-times takes them as they are`,
          { where: basename(path), column: input.name, declared: input.unit ?? 'ms' },
        )
      }
      break
    }
  }
}
