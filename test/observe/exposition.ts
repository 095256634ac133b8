/** Prometheus' text format, read as its own parser would: strictly. */

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: readonly Sample[]
}

export function parseExposition(text: string): Map<string, Family> {
  const families = new Map<string, Family & { samples: Sample[] }>()
  let current: (Family & { samples: Sample[] }) | undefined
  let help = ''
  for (const line of text.split('\n')) {
    if (line === '') continue
    const [, kind, name, rest] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? []
    if (kind === 'HELP') {
      help = rest!
      continue
    }
    if (kind === 'TYPE') {
      if (families.has(name!)) throw new Error(`family ${name} comes twice`)
      current = { name: name!, type: rest!, help, samples: [] }
      families.set(name!, current)
      continue
    }
    const sample = parseSample(line)
    const suffix = current === undefined ? undefined : sample.name.slice(current.name.length)
    const suffixes = current?.type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']
    if (!current || !sample.name.startsWith(current.name) || !suffixes.includes(suffix!)) {
      throw new Error(`a sample stands outside its family: ${line}`)
    }
    current.samples.push(sample)
  }
  return families
}

function parseSample(line: string): Sample {
  const [, name, inner, value] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
  if (name === undefined) throw new Error(`no sample: ${line}`)
  const labels: Record<string, string> = {}
  const pairs = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)/y
  let at = 0
  while (at < (inner ?? '').length) {
    pairs.lastIndex = at
    const match = pairs.exec(inner!)
    if (!match) throw new Error(`no labels: ${line}`)
    labels[match[1]!] = match[2]!
    at = pairs.lastIndex
  }
  return { name, labels, value: Number(value === '+Inf' ? 'Infinity' : value) }
}

/** The sample's value; undefined where there is none. */
export function numberOf(
  families: Map<string, Family>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const samples = [...families.values()].flatMap((family) => family.samples)
  const found = samples.filter(
    (each) => each.name === name && JSON.stringify(sorted(each.labels)) === JSON.stringify(sorted(labels)),
  )
  if (found.length > 1) throw new Error(`${name} comes ${found.length} times`)
  return found[0]?.value
}

function sorted(labels: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))
}
