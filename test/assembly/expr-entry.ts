// Entry of the module that test/assembly/expr.test.ts compiles: the column program alone.
import { allocate, resetScratch } from '../../assembly/arena'
import { register } from '../../assembly/columns'
import { evaluate } from '../../assembly/expr'

export { allocate, trapCode, trapLine } from '../../assembly/arena'

export function run(program: usize, programBytes: usize, columns: usize, n: i32): void {
  resetScratch()
  evaluate(program, programBytes, columns, n)
}

export function registerType(index: i32): i32 {
  return register(index).type
}

export function registerData(index: i32): usize {
  return register(index).data
}

export function registerValid(index: i32): usize {
  return register(index).valid
}

export function registerOffsets(index: i32): usize {
  return register(index).offsets
}

export function registerStep(index: i32): usize {
  return register(index).step
}

/** Keeps `allocate` in the module. */
export function reserve(bytes: usize): usize {
  return allocate(bytes)
}
