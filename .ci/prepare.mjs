// Makes `npm start`, `npm test` and `npm run bench` work on a fresh clone: installs what the lock file names when it isn't
// there, and builds what is missing or older than its sources.
import { execSync } from 'node:child_process'
import { existsSync, lstatSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const run = (command) => execSync(command, { cwd: root, stdio: ['ignore', 2, 2] })

function newest(...paths) {
  let time = 0
  for (const path of paths) {
    const full = join(root, path)
    if (!existsSync(full)) continue
    const stat = statSync(full)
    if (!stat.isDirectory()) time = Math.max(time, stat.mtimeMs)
    else for (const name of readdirSync(full)) time = Math.max(time, newest(join(path, name)))
  }
  return time
}

function isStale(output, ...inputs) {
  return !existsSync(join(root, output)) || statSync(join(root, output)).mtimeMs < newest(...inputs)
}

// Installed packages that are linked from elsewhere are not ours to replace.
const isLinked = lstatSync(join(root, 'node_modules'), { throwIfNoEntry: false })?.isSymbolicLink() ?? false
if (!isLinked && isStale('node_modules/.package-lock.json', 'package-lock.json'))
  run('npm ci --no-audit --no-fund --prefer-offline')
if (isStale('dist/core.debug.wasm', 'assembly', 'asconfig.json')) run('npm run --silent build:wasm')
// bench/ starts its servers with some of test/support, so tsc compiles that as well.
const sources = ['src', 'bench', 'fixtures', 'test/support', 'assembly/layout.ts', 'tsconfig.json', 'package.json']
if (isStale('dist/.built', ...sources)) {
  run('npm run --silent build:ts')
}
