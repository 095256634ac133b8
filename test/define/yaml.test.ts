import { describe, expect, it } from 'vitest'
import { compileView } from '../../src/define/compile.ts'
import { type DefinitionFile, parseDefinitions } from '../../src/define/yaml.ts'
import { TilefoldError } from '../../src/model/errors.ts'
import { seededRandom } from '../support/random.ts'

const VIEW = `  - name: clicks
    source: { name: clicks, columns: { at: 'timestamp[ms]', who: utf8, size: int64 } }
    entity: who
    time: at
    filter: FILTER
    aggregations: [{ op: count, windows: [1h] }]
`

function refusal(read: () => unknown): TilefoldError {
  try {
    read()
  } catch (error) {
    expect(error).toBeInstanceOf(TilefoldError)
    return error as TilefoldError
  }
  throw new Error('it was accepted')
}

/** Where an expression's problem is reported: the text from there on. */
async function placeOf(filter: string): Promise<string> {
  const text = `views:\n${VIEW.replace('FILTER', filter)}`
  const { views } = parseDefinitions(text, 'x.yaml')
  const error = await compileView(views[0]!).then(
    () => undefined,
    (each: unknown) => each,
  )
  const [problem] = (error as TilefoldError).details.problems as { line: number; column: number }[]
  return text.split('\n')[problem!.line - 1]!.slice(problem!.column - 1)
}

describe('places of mistakes inside expressions', () => {
  it.each([
    ['plain', 'size > 0 AND nope = 1', 'nope = 1'],
    ['after letters of two bytes', "who = 'Zürich' AND nope = 1", 'nope = 1'],
    ['single quotes', "'size > 0 AND who = ''x'' AND nope = 1'", "nope = 1'"],
    ['double quotes', `"size > 0 AND\\twho = 'x' AND nope = 1"`, 'nope = 1"'],
    ['a literal block', '|\n      size > 0\n      AND nope = 1\n', 'nope = 1'],
    ['a folded block', '>-\n      size > 0\n      AND\n      nope = 1\n', 'nope = 1'],
    ['a folded block with an indicator', '>2-\n        size > 0\n\n        AND nope = 1\n', 'nope = 1'],
    ['quotes around quotes', "'''x'' = who AND nope = 1'", "nope = 1'"],
    ['several plain lines', 'size > 0\n      AND nope = 1', 'nope = 1'],
  ])('%s', async (_style, filter, place) => {
    expect(await placeOf(filter)).toBe(place)
  })

  it('go through anchors', () => {
    const text = `views:\n${VIEW.replace('FILTER', 'size > 0').replace('[{ op: count, windows: [1h] }]', '&a [{ op: count, windows: [0s] }]')}${VIEW.replace('FILTER', 'size > 0').replace('name: clicks\n', 'name: other\n').replace('[{ op: count, windows: [1h] }]', '*a')}`
    const problems = refusal(() => parseDefinitions(text, 'x.yaml')).details.problems as {
      line: number
      column: number
    }[]
    // Both views point at the one place where the window is written.
    const line = text.split('\n').findIndex((each) => each.includes('0s'))
    const column = text.split('\n')[line]!.indexOf('0s')
    expect(problems.map((each) => [each.line, each.column])).toEqual([
      [line + 1, column + 1],
      [line + 1, column + 1],
    ])
  })
})

describe('hostile files', () => {
  it.each([
    ['brackets that close', `${'['.repeat(20_000)}${']'.repeat(20_000)}`],
    ['nested maps', '{a: '.repeat(20_000)],
    ['nested lists', '- '.repeat(20_000)],
    ['more than a megabyte', `views: []\n#${'x'.repeat(1 << 20)}`],
    ['bytes that are no UTF-8', Uint8Array.of(0x76, 0xff, 0xfe)],
    ['control characters', 'views: \u0000\u0007'],
    [
      'a bomb of aliases',
      `a0: &a0 [x]\n${Array.from({ length: 60 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}]`).join('\n')}\nviews: *a60`,
    ],
    ['very many nodes', `views: [${'x,'.repeat(30_000)}]`],
    ['keys that are no text', 'views: []\n? [a]\n: b\n1: 2\ntrue: 3\n'],
    ['merge keys', 'base: &base { a: 1 }\nviews: []\n<<: *base\n'],
  ])(
    '%s is refused in bounded time',
    (_name, text) => {
      const error = refusal(() => parseDefinitions(text, 'x.yaml'))
      expect(['DEFINITION_SYNTAX', 'DEFINITION_INVALID']).toContain(error.code)
      expect(error.message.length).toBeLessThan(5_000)
    },
    30_000,
  )

  it('with brackets for miles are refused before the parser sees them', () => {
    const { message } = refusal(() => parseDefinitions('['.repeat(1_000_000), 'x.yaml'))
    expect(message).toBe('cannot use definition at x.yaml: got YAML nested too deeply')
  })

  it('never reach the prototype of anything', () => {
    for (const key of ['__proto__', 'constructor', 'prototype']) {
      for (const text of [
        `${key}: { polluted: 1 }\nviews: []`,
        `views:\n${VIEW.replace('FILTER', 'size > 0').replace('size: int64', `${key}: int64`)}`,
      ]) {
        expect(refusal(() => parseDefinitions(text, 'x.yaml')).message).toContain(key)
      }
    }
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
    expect(
      parseDefinitions(`views:\n${VIEW.replace('FILTER', 'size > 0')}`, 'x.yaml').views[0]!.source.columns,
    ).toHaveLength(3)
  })

  it('are refused with a coded error or read, whatever is done to a good one', async () => {
    const good = `namespace: a\nviews:\n${VIEW.replace('FILTER', "size > 0 AND who <> 'x'")}`
    let refused = 0
    for (let seed = 1; seed <= 600; seed++) {
      const random = seededRandom(seed)
      let text = good
      for (let i = random.between(1, 3); i > 0; i--) {
        const at = random.below(text.length)
        const insert = random.pick([
          '',
          ' ',
          '\n',
          ':',
          '[',
          '{',
          '}',
          '"',
          "'",
          '*',
          '&a ',
          '- ',
          '0',
          '\t',
          '#',
          '|',
          '\u{1f600}',
          '\ud800',
        ])
        text = text.slice(0, at) + insert + text.slice(at + random.below(3))
      }
      let file: DefinitionFile
      try {
        file = parseDefinitions(text, 'x.yaml')
      } catch (error) {
        expect(error, `seed ${seed}: ${JSON.stringify(text)}`).toBeInstanceOf(TilefoldError)
        refused++
        continue
      }
      for (const view of file.views) {
        const outcome = await compileView(view).catch((error: unknown) => error)
        if (outcome instanceof Error)
          expect(outcome, `seed ${seed}: ${JSON.stringify(text)}`).toBeInstanceOf(TilefoldError)
      }
    }
    expect(refused).toBeGreaterThan(150)
  }, 60_000)
})

describe('values', () => {
  it('of defaults keep integers that a double would round', async () => {
    const text = `views:\n${VIEW.replace('FILTER', 'size > 0').replace('{ op: count,', '{ op: max, column: size, default: 9007199254740993,')}`
    const plan = await compileView(parseDefinitions(text, 'x.yaml').views[0]!)
    expect(plan.features[0]!.default).toBe('9007199254740993')
  })

  it('are read from bytes, with a byte order mark and Windows line ends too', () => {
    const text = `\ufeffviews:\n${VIEW.replace('FILTER', 'size > 0')}`.replaceAll('\n', '\r\n')
    expect(parseDefinitions(Buffer.from(text), 'x.yaml').views[0]!.name).toBe('clicks')
  })
})
