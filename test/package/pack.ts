/** The package as npm makes it, from what is built. */
import { execFileSync } from 'node:child_process'
import { join, resolve } from 'node:path'

export const root = resolve(import.meta.dirname, '../..')

export interface PackedFile {
  /** Inside the package. */
  readonly path: string
  readonly mode: number
}

interface Packed {
  readonly filename: string
  readonly files: readonly PackedFile[]
}

/** Writes the tarball to `folder`, or only says what would be in it. */
export function pack(folder?: string): { readonly tarball: string; readonly files: readonly PackedFile[] } {
  const where = folder === undefined ? ['--dry-run'] : ['--pack-destination', folder]
  const output = npm(root, ['pack', '--ignore-scripts', '--json', ...where])
  const [packed] = JSON.parse(output) as Packed[]
  return { tarball: join(folder ?? '', packed!.filename), files: packed!.files }
}

export function npm(cwd: string, args: readonly string[]): string {
  const env = plainEnvironment()
  return execFileSync('npm', args, {
    cwd,
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 << 20,
  })
}

/** Without what npm tells the scripts that it runs, and without our own settings. */
export function plainEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|TILEFOLD_|NODE_OPTIONS$|VITEST|NODE_ENV$|INIT_CWD$)/i.test(name),
  )
  return { ...Object.fromEntries(kept), NO_COLOR: '1' }
}
