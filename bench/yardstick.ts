/** The C programs in `yardstick/`, compiled on the spot and cached by source and flags. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import type { Peer } from './contest.ts'
import { cacheDirectory, projectRoot } from './places.ts'
import { ContenderProcess } from './process.ts'

/** Tried in order: AVX2 and BMI2 as WebAssembly engines use them, then whatever the compiler knows of this machine. */
const FLAGS: readonly (readonly string[])[] = [['-O3', '-march=x86-64-v3'], ['-O3', '-march=native'], ['-O3']]

export type Yardstick = 'fold' | 'keys' | 'merge'

/** Starts the yardstick on a dataset; undefined where there is no gcc. The flags used are in `compilerOf`. */
export async function startYardstick(name: Yardstick, dataset: string): Promise<ContenderProcess | undefined> {
  const binary = compile(name)
  return binary === undefined ? undefined : ContenderProcess.start(`${name}.c`, binary, [dataset])
}

/** Its variants as peers: label, variant, and the most that ours may cost, where that is claimed. None without gcc. */
export function yardstickPeers(
  yardstick: ContenderProcess | undefined,
  variants: readonly (readonly [label: string, variant: string, limit?: number])[],
): Peer[] {
  if (!yardstick) return []
  return variants.map(([label, variant, limit]) => ({
    contender: yardstick.contender(label, variant),
    target: limit === undefined ? undefined : { kind: 'cost', limit },
  }))
}

let compiler: string | undefined

/** The compiler and flags that the yardsticks were built with, for the report. */
export function compilerOf(): string {
  return compiler ?? 'no C'
}

function compile(name: Yardstick): string | undefined {
  const folder = join(projectRoot, 'bench', 'yardstick')
  const source = join(folder, `${name}.c`)
  let version: string
  try {
    version = execFileSync('gcc', ['--version'], { encoding: 'utf8' }).split('\n')[0]!
  } catch {
    return undefined
  }

  let problem: unknown
  for (const flags of FLAGS) {
    const identity = createHash('sha256').update(version).update(flags.join(' '))
    for (const file of ['yardstick.h', `${name}.c`]) identity.update(readFileSync(join(folder, file)))
    const binary = join(cacheDirectory('yardstick'), `${name}-${identity.digest('hex').slice(0, 16)}`)
    try {
      if (!existsSync(binary)) {
        mkdirSync(cacheDirectory('yardstick'), { recursive: true })
        const fresh = `${binary}.${process.pid}`
        execFileSync('gcc', [...flags, source, '-o', fresh], { stdio: ['ignore', 'ignore', 'pipe'] })
        renameSync(fresh, binary)
      }
      // Without arguments every yardstick checks the machine, complains about its usage and exits with 2.
      if (exitCode(binary) !== 2) throw new Error('it does not run on this machine')
      compiler = `${version}, ${flags.join(' ')}`
      return binary
    } catch (error) {
      problem = error
    }
  }
  throw new Error(`cannot compile ${source}: ${problem instanceof Error ? problem.message : problem}`)
}

function exitCode(binary: string): number | undefined {
  try {
    execFileSync(binary, [], { stdio: 'ignore' })
    return 0
  } catch (error) {
    return (error as { status?: number }).status
  }
}
