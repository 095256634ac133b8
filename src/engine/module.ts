/**
 * The WebAssembly core as an ES module sees it: compiled once, instantiated per view and lane group. The only file that
 * touches `WebAssembly`.
 */
import { readFileSync } from 'node:fs'
import { ABI_VERSION } from '../../assembly/layout.ts'
import { TilefoldError } from '../model/errors.ts'

/** The exports of assembly/index.ts. Addresses and counts are numbers; an address is good until the next call. */
export interface CoreExports {
  readonly memory: WebAssembly.Memory
  readonly abiVersion: WebAssembly.Global
  reserveInput(bytes: number, keep: number): number
  lastTrap(): number
  lastTrapLine(): number
  memoryBytes(): number
  configure(at: number): void
  configureFeatures(at: number): void
  takeTimes(at: number, count: number, inside: number): void
  prepareBatch(
    columns: number,
    n: number,
    firstPosition: number,
    positions: number,
    recordTimes: number,
    notAfterMs: number,
  ): number
  foldBatch(wallMs: number, replaying: number): void
  takeJudgedRows(): void
  judged(clockMs: number, recordPosition: number): void
  raiseLayout(version: number): void
  acceptedRows(): number
  acceptedEntities(): number
  verdicts(): number
  counterTable(): number
  foldNumbered(entities: number, times: number, values: number, n: number): void
  admit(count: number, rows: number): void
  internKeys(data: number, offsets: number, n: number, numbers: number): number
  clearKeys(): void
  advance(ms: number, wallMs: number): void
  lateClock(): number
  watermark(): number
  headFrontier(): number
  position(): number
  entityCount(): number
  entityKey(entity: number): number
  entityLane(entity: number): number
  entityApplied(entity: number): number
  setEntityApplied(entity: number, position: number): void
  internKey(at: number, length: number): number
  forgetBefore(entity: number, ms: number): void
  eraseEntity(entity: number, hasRow: number): number
  hashKey(at: number, length: number): number
  deltaBytes(): number
  expectDelta(bytes: number): void
  beginFlush(): number
  dirtyEntity(place: number): number
  dirtyLane(place: number): number
  chunkEnd(start: number, count: number): number
  chunkIsNew(start: number, end: number): number
  chunkKeys(start: number, end: number): number
  writeNewRows(start: number, end: number, position: number): number
  dirtyFirstPosition(place: number): number
  beginRows(): void
  writeRow(place: number, stored: number, storedBytes: number, position: number): number
  rowAddress(): number
  rowBytes(): number
  outputBytes(): number
  outputAddress(): number
  endFlush(): void
  forgetEntities(): void
  writeCheckpoint(): number
  readCheckpoint(at: number, bytes: number): number
  startAt(position: number): void
  advanceStoredRow(at: number, bytes: number, frontierMs: number): number
  uniteStoredRows(a: number, aBytes: number, b: number, bBytes: number): number
  anonymise(): void
  merge(count: number, asOfs: number, rows: number, rowCount: number): void
  openSwept(index: number, count: number, at: number, bytes: number): number
  sweepSwept(count: number, times: number, asOfMs: number): void
  asofKeys(data: number, offsets: number, n: number): void
  asofCover(n: number, entities: number, asOfs: number): void
  asofReserve(count: number): void
  asofHold(): number
  asofForget(): void
  asofSpill(part: number, parts: number): number
  asofLoad(at: number): void
  asofClear(): void
  asofOrder(): number
  asofAnswer(n: number, entities: number, asOfs: number): void
  asofRows(n: number): number
  infos(): number
  statuses(): number
  values(): number
}

export interface CoreModule {
  readonly module: WebAssembly.Module
  instantiate(): CoreExports
}

/**
 * One source, three builds, equal bytes from each of them:
 *
 *   simd       the default: minima, maxima and copies two cells at a time
 *   portable   for hosts whose WebAssembly has no SIMD
 *   debug      every assertion, and a source map
 */
export const CORE_BUILDS = ['simd', 'portable', 'debug'] as const
export type CoreBuild = (typeof CORE_BUILDS)[number]

const FILES: Readonly<Record<CoreBuild, string>> = {
  simd: 'core.simd.wasm',
  portable: 'core.wasm',
  debug: 'core.debug.wasm',
}

const compiled = new Map<CoreBuild, CoreModule>()

/** The compiled core; the first call compiles it, all instances share the machine code. Throws CORE_ABI, CORE_BUILD. */
export function loadCore(build: CoreBuild = chosenBuild()): CoreModule {
  const known = compiled.get(build)
  if (known) return known
  // The sources stand beside dist/, the compiled host inside it.
  const inDist = import.meta.url.includes('/dist/src/')
  const url = new URL(inDist ? `../../${FILES[build]}` : `../../dist/${FILES[build]}`, import.meta.url)
  const bytes = readFileSync(url)
  const core =
    build === 'simd' && !WebAssembly.validate(bytes) ? loadCore('portable') : coreOf(new WebAssembly.Module(bytes))
  compiled.set(build, core)
  return core
}

function chosenBuild(): CoreBuild {
  const wanted = process.env.TILEFOLD_CORE || 'simd'
  if ((CORE_BUILDS as readonly string[]).includes(wanted)) return wanted as CoreBuild
  throw new TilefoldError(
    'CORE_BUILD',
    `cannot load the core: TILEFOLD_CORE is ${JSON.stringify(wanted)}, expected one of ${CORE_BUILDS.join(', ')}`,
  )
}

/** A core from a module compiled elsewhere: workers get it posted and compile nothing. */
export function coreOf(module: WebAssembly.Module): CoreModule {
  return {
    module,
    instantiate() {
      const exports = new WebAssembly.Instance(module, {}).exports as unknown as CoreExports
      if (exports.abiVersion?.value !== ABI_VERSION) {
        throw new TilefoldError(
          'CORE_ABI',
          `cannot use the core: got ABI version ${exports.abiVersion?.value}, expected ${ABI_VERSION}; build it again with npm run build`,
        )
      }
      return exports
    },
  }
}

const TRAP_MEMORY = 2

/** What a trap in `exports` means, as an error with a code. The instance is not to be used again. */
export function trapError(exports: CoreExports, doing: string, cause: unknown): TilefoldError {
  if (cause instanceof TilefoldError) return cause
  const limit = exports.memory.buffer.byteLength
  if (exports.lastTrap() === TRAP_MEMORY || (cause instanceof RangeError && /memory/i.test(cause.message))) {
    return new TilefoldError(
      'CORE_MEMORY',
      `cannot ${doing}: the core's memory is full; got ${limit} bytes in use`,
      {},
      { cause },
    )
  }
  const line = exports.lastTrapLine()
  const where = line > 0 ? ` at line ${line}` : ''
  return new TilefoldError(
    'CORE_TRAP',
    `cannot ${doing}: the core stopped${where}: ${(cause as Error).message}`,
    {},
    { cause },
  )
}
