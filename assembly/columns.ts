/**
 * The register file that a column program works on. A register is one column of the current batch, all rows of it:
 *
 *   data      F64, I64: n cells of 8 bytes · DEC: n cells of 16 · BOOL: n bytes · UTF8: the text bytes
 *   valid     n bytes, 1 = present, 0 = null; address 0 = nothing is null
 *   offsets   UTF8 only: n + 1 u32; row i's text is the bytes at data + offset i (an address that may wrap: `data` alone
 *             need not be one)
 *
 * Registers live in scratch memory: good until the next batch. Cells of null rows have undefined data (but safe offsets).
 */
import { PROGRAM_REGISTERS_MAX, TYPE_UTF8 } from './layout'

export const REGISTERS_MAX: i32 = PROGRAM_REGISTERS_MAX

@unmanaged
export class Register {
  type: i32
  data: usize
  valid: usize
  offsets: usize
  /**
   * Bytes from one row's cell (UTF8: offset) to the next. 0 = one cell stands for every row: constants while a program
   * runs. Registers that a plan names always have a cell for each row.
   */
  step: usize
}

const REGISTER_BYTES: usize = 20
const registers = memory.data(256 * 20)

export function register(index: i32): Register {
  return changetype<Register>(registers + (index as usize) * REGISTER_BYTES)
}

/** Is row `row` of the register present? */
export function isPresent(cell: Register, row: i32): bool {
  return cell.valid == 0 || load<u8>(cell.valid + (row as usize)) != 0
}

/** Bytes of row `row`'s text. */
export function textLength(cell: Register, row: i32): u32 {
  assert(cell.type == TYPE_UTF8)
  const at = cell.offsets + ((row as usize) << 2)
  return load<u32>(at, 4) - load<u32>(at)
}
