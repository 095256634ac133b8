/** Our engine in the keys claim: the core's interning stage alone, over a table of its own. */

import { Checksum } from './checksum.ts'
import { type Contender, timed } from './contest.ts'
import { BATCH_ROWS, createCore, valuePlan } from './engine-plan.ts'

/** Keys as offsets and bytes to numbers in order of first appearance; copies in and out are timed. */
export async function internContender(
  name: string,
  column: { readonly offsets: Int32Array; readonly bytes: Uint8Array },
): Promise<Contender> {
  const core = createCore(await valuePlan({ windows: ['1h'] }))
  core.admit(1, BATCH_ROWS)
  const rows = column.offsets.length - 1
  const numbers = new Uint32Array(rows)

  const intern = () => {
    for (let start = 0; start < rows; start += BATCH_ROWS) {
      const end = Math.min(start + BATCH_ROWS, rows)
      const [from, to] = [column.offsets[start]!, column.offsets[end]!]
      const numbersAt = core.reserveInput(BATCH_ROWS * 8 + 8 + (to - from) + 16, 0) >>> 0
      const offsetsAt = numbersAt + BATCH_ROWS * 4
      const bytesAt = offsetsAt + BATCH_ROWS * 4 + 8
      new Int32Array(core.memory.buffer, offsetsAt, end - start + 1).set(column.offsets.subarray(start, end + 1))
      new Uint8Array(core.memory.buffer, bytesAt, to - from).set(column.bytes.subarray(from, to))
      core.internKeys(bytesAt - from, offsetsAt, end - start, numbersAt)
      numbers.set(new Uint32Array(core.memory.buffer, numbersAt, end - start), start)
    }
  }
  const checksum = () => {
    const sum = new Checksum()
    for (let row = 0; row < rows; row++) sum.word(row).word(numbers[row]!).end()
    return sum.toString()
  }
  return {
    name,
    round() {
      core.clearKeys()
      return timed(rows, intern, checksum)
    },
  }
}
