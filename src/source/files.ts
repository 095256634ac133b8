/** Names of files to a plan: the same names in the same order on every machine. */
import { type Dirent, promises as fs } from 'node:fs'
import path from 'node:path'
import { TilefoldError } from '../model/errors.ts'

/**
 * Expands files, directories and simple globs (`*`, `?`, `**`). Each entry keeps its place; what one entry expands to is
 * sorted by name, code unit by code unit. Directories are walked to their end, for files with one of `extensions`; names
 * that start with `.` or `_` are nobody's data. Throws SOURCE_NOT_FOUND.
 */
export async function listFiles(entries: readonly string[], extensions: readonly string[]): Promise<readonly string[]> {
  const files = new Set<string>()
  for (const entry of entries) {
    const found = await expand(entry, extensions)
    if (found.length === 0) {
      throw notFound(entry, `no file ${/[*?]/.test(entry) ? 'matches' : `with ${extensions.join(' or ')} is in it`}`)
    }
    for (const file of found) files.add(file)
  }
  return [...files]
}

async function expand(entry: string, extensions: readonly string[]): Promise<readonly string[]> {
  const stat = await fs.stat(entry).catch((error: NodeJS.ErrnoException) => error)
  if (!(stat instanceof Error)) {
    if (!stat.isDirectory()) return [entry]
    const files = await walk(entry)
    return files.filter((file) => extensions.some((extension) => file.endsWith(extension)))
  }
  const parts = entry.split('/')
  const fixed = parts.findIndex((part) => /[*?]/.test(part))
  if (fixed < 0) throw notFound(entry, stat.code === 'ENOENT' ? 'no such file or directory' : stat.message)
  const base = parts.slice(0, fixed).join('/') || (entry.startsWith('/') ? '/' : '.')
  const pattern = globPattern(parts.slice(fixed).join('/'))
  const files = await walk(base)
  return files.filter((file) => pattern.test(path.relative(base, file).split(path.sep).join('/')))
}

async function walk(directory: string): Promise<readonly string[]> {
  const listed = await fs.readdir(directory, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    throw notFound(directory, error.code === 'ENOENT' ? 'no such directory' : error.message)
  })
  const files: string[] = []
  for (const item of listed.sort(byName)) {
    if (item.name.startsWith('.') || item.name.startsWith('_')) continue
    const full = path.join(directory, item.name)
    if (item.isDirectory()) files.push(...(await walk(full)))
    else if (item.isFile() || (item.isSymbolicLink() && (await isFile(full)))) files.push(full)
  }
  return files
}

function byName(a: Dirent, b: Dirent): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}

/** A link to a directory is not followed: it may lead back. */
async function isFile(file: string): Promise<boolean> {
  return fs.stat(file).then(
    (stat) => stat.isFile(),
    () => false,
  )
}

function globPattern(glob: string): RegExp {
  const source = glob.replace(/\*\*\/|\*\*|\*|\?|[^*?]+/g, (part) => {
    if (part === '**/') return '(?:[^/]+/)*'
    if (part === '**') return '.*'
    if (part === '*') return '[^/]*'
    if (part === '?') return '[^/]'
    return part.replace(/[.+^${}()|[\]\\]/g, '\\$&')
  })
  return new RegExp(`^${source}$`)
}

function notFound(entry: string, cause: string): TilefoldError {
  return new TilefoldError('SOURCE_NOT_FOUND', `cannot find ${JSON.stringify(entry)}: ${cause}`, { path: entry })
}
