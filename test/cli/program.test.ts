import { describe, expect, it } from 'vitest'
import { COMMANDS } from '../../src/cli/commands.ts'
import { cli, errorOf, makeFolder, ORDERS_YAML, runProcess, writeIn } from './harness.ts'

const folder = makeFolder()

describe('help', () => {
  it.each([[[]], [['--help']], [['help']]])('names every command: tilefold %j', async (args) => {
    const { code, stdout, stderr } = await cli(args)
    expect(code).toBe(0)
    expect(stderr).toBe('')
    for (const { name } of COMMANDS) expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'))
  })

  it.each(COMMANDS.map(({ name }) => name))(
    'of %s shows its options, the ones all commands have, and examples',
    async (name) => {
      const direct = await cli([name, '--help'])
      const asked = await cli(['help', name])
      expect(direct.code).toBe(0)
      expect(asked.stdout).toBe(direct.stdout)
      expect(direct.stdout).toContain(`Usage: tilefold ${name} `)
      expect(direct.stdout).toContain('--store <dir>')
      expect(direct.stdout).toContain('Examples:\n  ')
      const command = await COMMANDS.find((each) => each.name === name)!.load()
      expect(command.name).toBe(name)
      for (const { flags } of command.options) expect(direct.stdout).toContain(flags)
      for (const [line] of command.examples) expect(line).toContain(`tilefold ${name}`)
    },
  )

  it('says that standard input is read at most once', async () => {
    const { stdout } = await cli(['push', '--help'])
    expect(stdout).toContain('at most once')
  })
})

describe('a wrong call', () => {
  it.each([
    [['gett'], "unknown command 'gett' (Did you mean get?)"],
    [['get'], "missing required argument 'features'"],
    [['get', 'v', '--entiti', 'k=1'], "unknown option '--entiti' (Did you mean --entity?)"],
    [['get', 'v', '--entity'], "option '--entity <keys>' argument missing"],
    [['serve', 'extra'], 'too many arguments'],
    [['push', 'a', 'b'], 'too many arguments'],
  ])('ends with 2 and one line: %j', async (args, cause) => {
    const { code, stdout, stderr } = await cli(args)
    expect(code).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^error USAGE: [^\n]*\n$/)
    expect(stderr).toContain(cause)
  })

  it('is told as JSON where JSON was asked for', async () => {
    for (const args of [
      ['gett', '-o', 'json'],
      ['-ojson', 'gett'],
      ['gett', '--output=json'],
    ]) {
      expect(errorOf(await cli(args)), args.join(' ')).toMatchObject({ code: 'USAGE' })
    }
    expect(errorOf(await cli(['gett'], { env: { TILEFOLD_OUTPUT: 'json' } }))).toMatchObject({ code: 'USAGE' })
  })
})

describe('a failure', () => {
  it('is one line with its code on stderr, and ends with 1', async () => {
    const { code, stdout, stderr } = await cli(['validate', `${folder}/nothing.yaml`])
    expect(code).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^error CONFIG_INVALID: cannot read definitions [^\n]*nothing.yaml: no such file[^\n]*\n$/)
  })

  it('shows where it comes from only to those who ask', async () => {
    const args = ['validate', `${folder}/nothing.yaml`]
    expect((await cli(args)).stderr).not.toContain('    at ')
    expect((await cli(args, { env: { TILEFOLD_DEBUG: '1' } })).stderr).toContain('    at ')
  })

  it('carries its details as JSON', async () => {
    const file = writeIn(folder, 'wrong.yaml', ORDERS_YAML.replace('op: sum', 'op: summ'))
    const { code, stderr } = await cli(['validate', file, '-o', 'json'])
    expect(code).toBe(1)
    const error = errorOf({ code, stderr, stdout: '' })
    expect(error.code).toBe('DEFINITION_INVALID')
    expect(error.details.problems).toMatchObject([{ file, line: 9, column: 15 }])
  })
})

describe('colours', () => {
  it('are for terminals whose user wants them', async () => {
    const colour = '\u001b['
    const args = ['gett']
    expect((await cli(args, { isTTY: true })).stderr).toContain(colour)
    expect((await cli(args, { isTTY: false })).stderr).not.toContain(colour)
    expect((await cli(args, { isTTY: true, env: { NO_COLOR: '1' } })).stderr).not.toContain(colour)
    expect((await cli(args, { isTTY: true, env: { TERM: 'dumb' } })).stderr).not.toContain(colour)
  })
})

describe('the process', () => {
  it('ends with the exit code, and writes results and errors to different streams', async () => {
    const wrong = await runProcess(['gett'], folder)
    expect(wrong).toMatchObject({ code: 2, stdout: '' })
    const right = await runProcess(['--version'], folder)
    expect(right).toMatchObject({ code: 0, stderr: '' })
    expect(right.stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })
})
