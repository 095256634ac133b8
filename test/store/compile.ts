/** Other processes and threads cannot run TypeScript as it is: the compiler writes what they need into a cache folder. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Compiles a file of this project and what it imports; returns where its JavaScript is. Below node_modules, so that packages resolve. */
export function compileForNode(file: string): { readonly script: string; remove(): void } {
  const cache = join(ROOT, 'node_modules', '.cache')
  mkdirSync(cache, { recursive: true })
  const outDir = mkdtempSync(join(cache, 'tilefold-test-'))
  const config = {
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: {
      rootDir: ROOT,
      outDir,
      declaration: false,
      sourceMap: false,
      noCheck: true,
      typeRoots: [join(ROOT, 'node_modules', '@types')],
    },
    include: [],
    files: [join(ROOT, file)],
  }
  writeFileSync(join(outDir, 'tsconfig.json'), JSON.stringify(config))
  writeFileSync(join(outDir, 'package.json'), '{"type":"module"}')
  execFileSync(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', outDir], { stdio: 'pipe' })
  const script = join(outDir, file.replace(/\.ts$/, '.js'))
  return { script, remove: () => rmSync(outDir, { recursive: true, force: true }) }
}
