/**
 * Python with pyarrow and Polars, for a second and a third opinion on files: an environment of its own in `.cache`, made
 * once. Wheels only, so that nothing is compiled; where there is no Python, or no wheels for it, the reason is told.
 */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

const PACKAGES = ['pyarrow==26.0.1', 'polars==2.1.0']
const PIP_FLAGS = ['--disable-pip-version-check', '--only-binary=:all:']
const ROOT = path.resolve(import.meta.dirname, '../..')
const FOLDER = path.join(ROOT, '.cache/python', PACKAGES.join('-').replaceAll('==', '-'))
const PYTHON = path.join(FOLDER, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python')
/** There when the installation has come to its end. */
const READY = path.join(FOLDER, 'ready')
/** 100 MB of wheels. */
const INSTALL_MS = 240_000

/** Why there is no such Python; undefined where there is. The first call may take half a minute. */
export async function whyNoPython(): Promise<string | undefined> {
  if (existsSync(READY)) return undefined
  try {
    rmSync(FOLDER, { recursive: true, force: true })
    mkdirSync(path.dirname(FOLDER), { recursive: true })
    await run('python3', ['-m', 'venv', FOLDER])
    await run(PYTHON, ['-m', 'pip', 'install', '-q', '--retries=1', ...PIP_FLAGS, ...PACKAGES])
    await run(PYTHON, ['-c', 'import pyarrow.parquet, pyarrow.feather, pyarrow.dataset, polars'])
    writeFileSync(READY, '')
    return undefined
  } catch (error) {
    const { code, stderr, message } = error as NodeJS.ErrnoException & { readonly stderr?: string }
    const cause = code === 'ENOENT' ? 'python3 is not installed' : stderr?.trim().split('\n').at(-1) || message
    const why = `no Python with ${PACKAGES.join(' and ')}: ${cause}`
    console.warn(`SKIPPED: files are not shown to pyarrow and Polars, there is ${why}`)
    return why
  }
}

function run(command: string, args: readonly string[]): Promise<unknown> {
  return promisify(execFile)(command, args, { timeout: INSTALL_MS })
}

/** Runs a script with a JSON value on its standard input; what it prints, read as JSON. */
export function runPython(script: string, given: unknown): unknown {
  const input = JSON.stringify(given)
  const out = execFileSync(PYTHON, [script], {
    input,
    maxBuffer: 2 ** 28,
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 2],
  })
  return JSON.parse(out)
}
