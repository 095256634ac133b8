/** Why the core refused a row, as an error with a code. */
import {
  ERROR_ROW_CHECKSUM,
  ERROR_ROW_MAGIC,
  ERROR_ROW_REGRESSED,
  ERROR_ROW_SHAPE,
  ERROR_ROW_SHORT,
  ERROR_ROW_TEXT,
  ERROR_ROW_VERSION,
  ROW_VERSION,
} from '../../assembly/layout.ts'
import { TilefoldError } from '../model/errors.ts'

const REASONS: Record<number, string> = {
  [ERROR_ROW_SHORT]: 'its length does not match its contents',
  [ERROR_ROW_MAGIC]: 'it does not start with the row magic "TF"',
  [ERROR_ROW_VERSION]: `its format version is not ${ROW_VERSION}`,
  [ERROR_ROW_CHECKSUM]: 'its checksum is wrong',
  [ERROR_ROW_SHAPE]: 'its levels or runs do not fit the view',
  [ERROR_ROW_TEXT]: 'a text cell lies outside the row',
}

/** `thing` names the row. */
export function rowError(code: number, thing: string): TilefoldError {
  if (code === ERROR_ROW_REGRESSED) {
    return new TilefoldError(
      'REGRESSED',
      `cannot update the ${thing}: it holds events that this owner has not flushed; the store went back in time under it`,
    )
  }
  return new TilefoldError('ROW_CORRUPT', `cannot use the ${thing}: ${REASONS[code] ?? `reason ${code}`}`)
}
