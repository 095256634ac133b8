import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Settings } from '../../src/cli/settings.ts'
import { cli, errorOf, makeFolder, runProcess, writeIn } from './harness.ts'

const folder = makeFolder()

describe('a setting', () => {
  it('comes from its flag, else the environment, else the configuration file, else its default', async () => {
    const config = writeIn(folder, 'settings.json', '{ "port": 3003, "host": "127.0.0.3", "store": "data" }')
    const env = { TILEFOLD_PORT: '2002', TILEFOLD_CONFIG: config }
    const all = await Settings.open({ port: '1001' }, env)
    expect(all.get('port')).toEqual({ text: '1001', from: '--port', rank: 'flag' })
    const some = await Settings.open({}, env)
    expect(some.get('port')).toEqual({ text: '2002', from: 'TILEFOLD_PORT', rank: 'env' })
    expect(some.get('host')).toEqual({ text: '127.0.0.3', from: `${config}: host`, rank: 'config' })
    expect(some.get('output')).toEqual({ text: 'table', from: 'default', rank: 'default' })
    expect(some.get('threads')).toBeUndefined()
    const one = await Settings.open({}, { TILEFOLD_CONFIG: config })
    expect(one.whole('port', 0, 65_535)).toBe(3003)
  })

  it('is a path beside the configuration file where that says it', async () => {
    const config = writeIn(folder, 'paths.json', '{ "store": "data", "namespace": "n" }')
    const settings = await Settings.open({ config }, {})
    expect(settings.text('store')).toBe(join(folder, 'data'))
    expect(settings.text('namespace')).toBe('n')
    expect(settings.text('file')).toBe('tilefold.yaml')
  })

  it('counts as unset where its variable is empty', async () => {
    const settings = await Settings.open({}, { TILEFOLD_STORE: '' })
    expect(settings.get('store')).toMatchObject({ rank: 'default' })
  })

  it.each([
    ['{ "ports": 1 }', 'unknown setting "ports"; did you mean "port"?'],
    ['{ "port": ', 'it is not JSON'],
    ['[]', 'expected an object'],
    ['{ "port": { "a": 1 } }', 'port is {"a":1}, expected text or a number'],
    ['{ "__proto__": "x" }', 'unknown setting "__proto__"'],
  ])('is refused in a configuration file: %s', async (text, cause) => {
    const config = writeIn(folder, 'wrong.json', text)
    await expect(Settings.open({ config }, {})).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    await expect(Settings.open({ config }, {})).rejects.toThrow(cause)
  })

  it('needs a configuration file that is named to be there', async () => {
    await expect(Settings.open({ config: join(folder, 'nowhere.json') }, {})).rejects.toThrow('no such file')
  })
})

describe('a malformed setting', () => {
  it('is a wrong call where a flag says it, and a wrong configuration elsewhere', async () => {
    const flag = await cli(['get', 'v', '--entity', 'k=1', '-o', 'xml'])
    expect(flag.code).toBe(2)
    expect(flag.stderr).toContain('error USAGE: cannot use --output: got "xml", expected one of table, json, yaml')
    const env = await cli(['get', 'v', '--entity', 'k=1'], { env: { TILEFOLD_OUTPUT: 'xml' } })
    expect(env.code).toBe(1)
    expect(env.stderr).toContain('error CONFIG_INVALID: cannot use TILEFOLD_OUTPUT')
  })
})

describe('defaults', () => {
  it('are tilefold.yaml, .tilefold and tilefold.config.json of the working folder', async () => {
    const here = makeFolder()
    writeIn(here, 'tilefold.config.json', '{ "output": "json" }')
    const { code, ...outcome } = await runProcess(['validate'], here)
    expect(code).toBe(1)
    expect(errorOf({ code, ...outcome })).toMatchObject({ code: 'CONFIG_INVALID' })
    expect(outcome.stderr).toContain('cannot read definitions tilefold.yaml: no such file')
  })
})
