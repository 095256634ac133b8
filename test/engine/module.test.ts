import { describe, expect, it } from 'vitest'
import { ABI_VERSION } from '../../assembly/layout.ts'
import { float64 } from '../../src/define/dsl.ts'
import { Merger } from '../../src/engine/merger.ts'
import { CORE_BUILDS, coreOf, loadCore, trapError } from '../../src/engine/module.ts'
import { TilefoldError } from '../../src/model/errors.ts'
import { naiveFeatures } from '../oracle/naive.ts'
import { answersFrom, batchOf, event, Folder, planOfEverything } from './folding.ts'

describe('the module', () => {
  it('is compiled once, and has the version that the host expects', () => {
    expect(loadCore('portable')).toBe(loadCore('portable'))
    expect(loadCore('debug')).not.toBe(loadCore('portable'))
    for (const build of CORE_BUILDS) {
      expect(loadCore(build).instantiate().abiVersion.value).toBe(ABI_VERSION)
    }
  })

  it('is refused when it is another one', () => {
    // An empty module: no exports at all.
    const other = coreOf(new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0)))
    expect(() => other.instantiate()).toThrow(expect.objectContaining({ code: 'CORE_ABI' }))
  })

  it('makes instances that share nothing, so that a trap ends one of them alone', async () => {
    const plan = await planOfEverything({ value: float64() })
    const alive = new Folder(loadCore(), plan.state)
    const merger = Merger.create(loadCore(), plan)
    const events = [event(1_000, { value: 1 }), event(2_000, { value: 2 })]
    alive.fold(batchOf(events.slice(0, 1), plan.state))

    const broken = loadCore('debug').instantiate()
    let trap: unknown
    try {
      // A plan of zeros has another ABI version.
      broken.configure(broken.reserveInput(1_024, 0))
    } catch (cause) {
      trap = trapError(broken, 'configure the core', cause)
    }
    expect(trap).toMatchObject({ code: 'CORE_TRAP', message: expect.stringMatching(/stopped at line \d+/) })

    alive.fold(batchOf(events.slice(1), plan.state, 0, 1)).flush()
    expect(answersFrom(merger, plan, [...alive.rows.values()], 60_000)).toEqual(
      naiveFeatures(events, plan, ['k'], 60_000),
    )
  })

  it('tells a full memory from a broken invariant, and leaves errors with a code as they are', () => {
    const core = loadCore().instantiate()
    expect(() => core.reserveInput(0xffff_ffff, 0)).toThrow()
    expect(trapError(core, 'read a batch', new Error('unreachable'))).toMatchObject({
      code: 'CORE_MEMORY',
      status: 500,
    })
    const known = new TilefoldError('ROW_CORRUPT', 'known')
    expect(trapError(core, 'read a batch', known)).toBe(known)
  })
})
