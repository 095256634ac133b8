/**
 * Definitions in YAML. The document is walked by us, not turned into objects by the parser: so every value keeps its place in
 * the file, and aliases, tags, depth and size are bounded before anything is built from them. The only file that knows yaml.
 */
import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type Scalar,
  visit,
} from 'yaml'
import { checkView } from './check.ts'
import { readName, readObject } from './check-values.ts'
import { checkViews } from './check-views.ts'
import { definitionError, type Origin, type Path, type Position, Problems, type Spot, show } from './problems.ts'
import { DEFAULTS, LIMITS, RESERVED_NAMES, type ViewDefinition } from './view.ts'

export interface DefinitionFile {
  readonly namespace: string
  readonly views: readonly ViewDefinition[]
}

export const FILE_KEYS = ['namespace', 'views'] as const

const FILE_BYTES_MAX = 1 << 20
const DEPTH_MAX = 16
/** Uses of aliases, and nodes after their expansion: a bomb of a few lines stands for billions. */
const ALIASES_MAX = 64
const NODES_MAX = 20_000

/**
 * Reads a definition file; `file` is its name in errors. Throws DEFINITION_SYNTAX where it is no YAML, DEFINITION_INVALID
 * where it breaks a rule, always with line and column; `details.problems` has every problem.
 */
export function parseDefinitions(text: string | Uint8Array, file: string): DefinitionFile {
  const source = decode(text, file)
  const lines = new LineCounter()
  const position = (offset: number) => positionAt(file, lines, offset)
  const document = parse(source, file, lines, position)
  const origin = originOf(document, source, position)
  const problems = new Problems(origin)
  const value = new Walk(document, problems).plain(document.contents, [])
  problems.finish()

  const given = readObject(value, [], FILE_KEYS, problems)
  if (given === undefined) throw problems.error()
  const namespace =
    given.namespace === undefined ? DEFAULTS.namespace : readName(given.namespace, ['namespace'], problems)
  const list = Array.isArray(given.views) ? (given.views as unknown[]) : []
  if (list.length === 0 || list.length > LIMITS.viewsMax) {
    problems.add(['views'], `got ${show(given.views)}, expected a list of 1 to ${LIMITS.viewsMax} views`)
  }
  const views = list.flatMap((each, i): ViewDefinition[] => {
    const view = checkView(each, ['views', i], problems)
    return view ? [{ ...view, origin: below(origin, ['views', i]) }] : []
  })
  problems.finish()
  checkViews(views)
  return { namespace: namespace!, views }
}

function decode(text: string | Uint8Array, file: string): string {
  const bytes = typeof text === 'string' ? Buffer.byteLength(text) : text.length
  if (bytes > FILE_BYTES_MAX) {
    throw syntaxError({ text: file, file }, `got ${bytes} bytes, expected at most ${FILE_BYTES_MAX}`)
  }
  if (typeof text === 'string') return text
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(text)
  } catch {
    throw syntaxError({ text: file, file }, 'got bytes that are no UTF-8 text, expected YAML')
  }
}

/** Open brackets at most: the parser takes quadratic time over unclosed ones, minutes for a megabyte of them. */
const BRACKETS_MAX = 200

function hasDeepBrackets(source: string): boolean {
  let open = 0
  for (let i = 0; i < source.length; i++) {
    const code = source.charCodeAt(i)
    if (code === 0x5b || code === 0x7b) open++
    else if (code === 0x5d || code === 0x7d) open--
    if (open > BRACKETS_MAX) return true
  }
  return false
}

/** YAML 1.2, core schema, no merge keys, unique keys. */
function parse(
  source: string,
  file: string,
  lines: LineCounter,
  position: (offset: number) => Position,
): Document.Parsed {
  if (hasDeepBrackets(source)) throw syntaxError({ text: file, file }, 'got YAML nested too deeply')
  let document: Document.Parsed
  try {
    document = parseDocument(source, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, version: '1.2' })
  } catch (error) {
    // The parser recurses: thousands of brackets overflow its stack.
    if (error instanceof RangeError) throw syntaxError({ text: file, file }, 'got YAML nested too deeply')
    throw error
  }
  const [error] = [...document.errors, ...document.warnings]
  if (error === undefined) return document
  const isDeep = error.message.startsWith('Maximum call stack')
  const isSecond = error.code === 'MULTIPLE_DOCS'
  const cause = isDeep
    ? 'YAML nested too deeply'
    : isSecond
      ? 'a second document, expected one'
      : `malformed YAML: ${error.message}`
  throw syntaxError(position(error.pos[0]), `got ${cause}`)
}

function syntaxError(position: Position, message: string) {
  return definitionError([{ code: 'DEFINITION_SYNTAX', position, message }])
}

/** JSON text as YAML in block style: what the command line prints. Whole numbers keep every digit. */
export function formatYaml(json: string): string {
  const document = parseDocument(json, { intAsBigInt: true })
  visit(document, {
    Collection: (_key, node) => {
      if (node.items.length > 0) node.flow = false
    },
    Scalar: (_key, node) => {
      node.type = undefined
    },
  })
  return document.toString({ lineWidth: 0 })
}

// ---- values ----------------------------------------------------------------------------------------------------------

/** Turns nodes into plain values; what has no place in a definition becomes a problem. */
class Walk {
  readonly #document: Document.Parsed
  readonly #problems: Problems
  #nodes = 0
  #aliases = 0

  constructor(document: Document.Parsed, problems: Problems) {
    this.#document = document
    this.#problems = problems
  }

  plain(node: unknown, path: Path): unknown {
    if (++this.#nodes > NODES_MAX || path.length > DEPTH_MAX) return this.#refuseSize(path)
    if (isAlias(node)) return this.#alias(node, path)
    if (isScalar(node)) return this.#scalar(node, path)
    if (isSeq(node)) {
      this.#checkTag(node.tag, path)
      return node.items.map((each, i) => this.plain(each, [...path, i]))
    }
    if (!isMap(node)) return null
    this.#checkTag(node.tag, path)
    const object: Record<string, unknown> = Object.create(null)
    for (const pair of node.items) {
      const key = isScalar(pair.key) ? pair.key.value : undefined
      if (typeof key !== 'string' || RESERVED_NAMES.includes(key)) {
        this.#problems.add([...path, String(key)], `got key ${show(key)}, expected a plain name`, { key: true })
      } else object[key] = this.plain(pair.value, [...path, key])
    }
    return object
  }

  #alias(node: Alias, path: Path): unknown {
    const target = node.resolve(this.#document)
    if (++this.#aliases > ALIASES_MAX) {
      this.#problems.add(
        path,
        `got more than ${ALIASES_MAX} aliases, each use counted where it is expanded; expected fewer`,
      )
      throw this.#problems.error()
    }
    if (target !== undefined) return this.plain(target, path)
    this.#problems.add(path, `got alias *${node.source}, expected one of an anchor that stands before it`)
    return null
  }

  #scalar(node: Scalar, path: Path): unknown {
    this.#checkTag(node.tag, path)
    const { value, source = '' } = node
    // An integer that a double would round stays text: defaults of int64 features are exact.
    const isRounded = typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)
    return isRounded && /^[-+]?\d+$/.test(source) ? source : value
  }

  #checkTag(tag: string | undefined, path: Path): void {
    if (tag !== undefined) this.#problems.add(path, `got tag ${tag}, expected a plain value`)
  }

  /** Once is enough: the rest of a bomb would repeat it. */
  #refuseSize(path: Path): never {
    this.#problems.add(
      path.slice(0, 2),
      `got more than ${NODES_MAX} values or ${DEPTH_MAX} levels, aliases expanded; expected fewer`,
    )
    throw this.#problems.error()
  }
}

// ---- places ----------------------------------------------------------------------------------------------------------

function positionAt(file: string, lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset)
  return { text: `${file}:${line}:${col}`, file, line, column: col }
}

function originOf(document: Document.Parsed, source: string, position: (offset: number) => Position): Origin {
  return {
    locate(path: Path, spot: Spot = {}): Position {
      let node: unknown = document.contents
      let at = startOf(node) ?? 0
      for (const [i, key] of path.entries()) {
        if (isAlias(node)) node = node.resolve(document)
        if (isSeq(node)) node = node.items[key as number]
        else if (isMap(node)) {
          const pair = node.items.find((each) => isScalar(each.key) && String(each.key.value) === String(key))
          // A missing value is reported where the object is.
          if (pair === undefined) break
          at = startOf(pair.key) ?? at
          if (spot.key && i === path.length - 1) return position(at)
          node = pair.value
        } else break
        at = startOf(node) ?? at
      }
      return position(spot.offset === undefined || !isScalar(node) ? at : offsetInside(source, node, spot.offset))
    },
  }
}

function startOf(node: unknown): number | undefined {
  return (node as Node | undefined)?.range?.[0]
}

function below(origin: Origin, base: Path): Origin {
  return { locate: (path, spot) => origin.locate([...base, ...path], spot) }
}

/**
 * Where character `offset` of a scalar's value stands in the file. Quotes, escapes, indentation and folded lines make the
 * two differ: both are walked together, runs of space count as one.
 */
function offsetInside(source: string, node: Scalar, offset: number): number {
  const value = String(node.value)
  let at = node.range?.[0] ?? 0
  const end = node.range?.[1] ?? source.length
  const opening = source[at]
  if (opening === '|' || opening === '>') at = source.indexOf('\n', at) + 1
  const isSpace = (text: string | undefined) => text !== undefined && /\s/.test(text)
  for (let i = 0; i < Math.min(offset, value.length); i++) {
    if (isSpace(value[i])) {
      while (isSpace(source[at])) at++
      while (i + 1 < offset && isSpace(value[i + 1])) i++
      continue
    }
    while (at < end && source[at] !== value[i]) at++
    at++
  }
  while (at < end && !isSpace(value[offset]) && source[at] !== value[offset] && offset < value.length) at++
  return Math.min(at, end)
}
