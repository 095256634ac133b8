/** Where the suite finds its own files, from the sources (vitest) as well as compiled (dist/bench). */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of package.json. */
export const projectRoot = findRoot(dirname(fileURLToPath(import.meta.url)))

/** A folder for things that can be made again: compiled yardsticks, input files, databases. */
export function cacheDirectory(name: string): string {
  return join(projectRoot, 'dist', 'bench-cache', name)
}

function findRoot(from: string): string {
  if (existsSync(join(from, 'package.json'))) return from
  if (dirname(from) === from) throw new Error('cannot find package.json above the bench')
  return findRoot(dirname(from))
}
