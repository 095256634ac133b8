/**
 * A tutorial's shell blocks, run as a reader would paste them: one after the other into one bash, in an empty folder.
 *
 *   ```sh                pasted; must end with 0
 *   ```text              behind it: what it prints, line by line in this order, with `…` for anything; other lines may lie between
 *   ```sh not-run        shown only
 *
 * `npx tilefold` is the compiled command line, `node_modules` this repository's with the repository in it: what
 * `npm install tilefold` gives.
 */
import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')

export interface Block {
  /** The line of its fence, counted from 1. */
  readonly line: number
  readonly text: string
  /** What its output must have, in this order. */
  readonly shows: readonly string[]
}

/** Shell blocks that are to be run, in order. */
export function shellBlocks(markdown: string): Block[] {
  const blocks: { line: number; text: string; shows: string[] }[] = []
  const lines = markdown.split('\n')
  for (let at = 0; at < lines.length; at++) {
    const fence = /^```(\S*)\s*(.*)$/.exec(lines[at]!)
    if (fence === null) continue
    const end = lines.indexOf('```', at + 1)
    if (end < 0) throw new Error(`the block that begins in line ${at + 1} has no end`)
    const body = lines.slice(at + 1, end)
    const [, language, note] = fence
    if (language === 'sh' && note !== 'not-run') blocks.push({ line: at + 1, text: body.join('\n'), shows: [] })
    // Only right behind its block, with nothing but empty lines between.
    if (language === 'text' && isBehindShell(lines, at))
      blocks.at(-1)?.shows.push(...body.filter((each) => each !== ''))
    at = end
  }
  return blocks
}

function isBehindShell(lines: readonly string[], at: number): boolean {
  let above = at - 1
  while (lines[above] === '') above--
  if (lines[above] !== '```') return false
  for (let fence = above - 1; fence >= 0; fence--) if (lines[fence]!.startsWith('```')) return lines[fence] === '```sh'
  return false
}

export interface Printed {
  readonly block: Block
  readonly output: string
}

/**
 * Runs the blocks and holds what they print against what they should. Everything they left running is killed. `env`: the
 * addresses that a reader exports before.
 */
export async function runBlocks(
  blocks: readonly Block[],
  env: Readonly<Record<string, string>>,
  timeoutMs = 540_000,
): Promise<Printed[]> {
  const folder = mkdtempSync(join(tmpdir(), 'tilefold-docs-'))
  const bin = mkdtempSync(join(tmpdir(), 'tilefold-docs-bin-'))
  try {
    const modules = join(folder, 'node_modules')
    mkdirSync(modules)
    for (const name of readdirSync(join(root, 'node_modules'))) {
      symlinkSync(join(root, 'node_modules', name), join(modules, name))
    }
    symlinkSync(root, join(modules, 'tilefold'))
    writeFileSync(
      join(bin, 'npx'),
      `#!/bin/sh\nshift\nexec "${process.execPath}" "${root}/dist/src/cli/main.js" "$@"\n`,
    )
    chmodSync(join(bin, 'npx'), 0o755)
    const kept = Object.entries(process.env).filter(([name]) => !/^(TILEFOLD_|NODE_OPTIONS$|NO_COLOR$)/.test(name))
    const path = `${bin}${delimiter}${process.env.PATH}`
    const output = await inOneBash(blocks, folder, { ...Object.fromEntries(kept), ...env, PATH: path }, timeoutMs)
    return blocks.map((block, i) => {
      const printed = output[i] ?? ''
      const missing = firstMissing(block.shows, printed)
      if (missing !== undefined) {
        throw new Error(
          `the block of line ${block.line} does not show ${JSON.stringify(missing)}; it printed:\n${printed}`,
        )
      }
      return { block, output: printed }
    })
  } finally {
    for (const each of [folder, bin]) rmSync(each, { recursive: true, force: true })
  }
}

/** What each block printed, to both of its outputs. Throws where one fails. */
function inOneBash(
  blocks: readonly Block[],
  cwd: string,
  env: Readonly<Record<string, string | undefined>>,
  timeoutMs: number,
): Promise<string[]> {
  const mark = (line: number) => `--- block of line ${line} ---`
  const script = blocks.map(({ line, text }) => `echo '${mark(line)}'\n${text}\n`).join('')
  // A group of its own, so that all that was left running can be ended with it.
  const child = spawn('bash', ['-euo', 'pipefail', '-c', `exec 2>&1\n${script}`], { cwd, env, detached: true })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  const end = (signal: NodeJS.Signals) => {
    try {
      process.kill(-child.pid!, signal)
    } catch {
      // Nobody is left.
    }
  }
  const timer = setTimeout(() => end('SIGKILL'), timeoutMs)
  return new Promise<string[]>((done, fail) => {
    child.on('error', fail)
    // What it left running holds its output open.
    child.on('exit', () => end('SIGKILL'))
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      const parts = text.split(/^--- block of line \d+ ---\n/m).slice(1)
      if (code === 0) return done(parts)
      const block = blocks[parts.length - 1]
      fail(
        new Error(`the block of line ${block?.line} ended with ${code ?? signal}:\n${block?.text}\n\n${parts.at(-1)}`),
      )
    })
  })
}

/** The first line that is not there behind the ones before it. */
export function firstMissing(shows: readonly string[], output: string): string | undefined {
  const lines = output.split('\n').map(plain)
  let at = 0
  for (const show of shows) {
    const pattern = new RegExp(`^${plain(show).split('…').map(escaped).join('.*')}$`)
    while (at < lines.length && !pattern.test(lines[at]!)) at++
    if (at++ >= lines.length) return show
  }
  return undefined
}

/** Widths of columns go with what is in them. */
function plain(line: string): string {
  return line.trim().replaceAll(/\s+/g, ' ')
}

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
