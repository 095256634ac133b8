import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { defineView } from '../../src/define/dsl.ts'
import { drawPlan } from './definitions.ts'
import { seededRandom } from './random.ts'
import { viewOf } from './views.ts'

describe('drawn plans that a definition can say', () => {
  it('are what the compiler makes of the definition: windows, partials, keep times, features, hashes', async () => {
    for (let seed = 0; seed < 300; seed++) {
      const slackMs = [0, 60_000, 3_600_000][seed % 3]!
      const drawn = drawPlan(seededRandom(seed), { slackMs, orderFree: seed % 2 === 0 })
      const compiled = await compileView(defineView(viewOf(drawn, slackMs)))
      const { program: _drawnProgram, registers: _drawnRegisters, inputs: drawnInputs, ...drawnState } = drawn.state
      const { program: _program, registers: _registers, inputs, ...state } = compiled.state
      expect(state, `seed ${seed}`).toEqual(drawnState)
      expect(
        inputs.map(({ name, type }) => [name, type]),
        `seed ${seed}`,
      ).toEqual(drawnInputs.map(({ name, type }) => [name, type]))
      expect(compiled.windows, `seed ${seed}`).toEqual(drawn.windows)
      expect(compiled.features, `seed ${seed}`).toEqual(drawn.features)
      expect([compiled.stateHash, compiled.definitionHash], `seed ${seed}`).toEqual([
        drawn.stateHash,
        drawn.definitionHash,
      ])
    }
  })
})
