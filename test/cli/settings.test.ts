import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { fileSettingOf, kindOf, SETTING_NAMES, type SettingName } from '../../src/cli/setting-kinds.ts'
import { Settings } from '../../src/cli/settings.ts'
import { redactAddress } from '../../src/observe/redact.ts'
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
    ['{ "redis_tls": "x", "port": true }', 'port is true, expected text or a number'],
    ['{ "redis_tls": 1, "kafka_tls": [] }', 'kafka_tls is [], expected text or true or false'],
    ['{ "kafka_brokers": [1] }', 'kafka_brokers is [1], expected text or a list of texts'],
    ['{ "token": ["very-secret"] }', 'token is a object, expected text or a number'],
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

describe('a setting of a form', () => {
  async function read(text: string, ask: (settings: Settings) => unknown): Promise<unknown> {
    const config = writeIn(folder, 'form.json', text)
    return ask(await Settings.open({ config }, {}))
  }

  it.each<[string, (settings: Settings) => unknown, unknown]>([
    ['{ "redis_tls": true }', (settings) => settings.isOn('redis_tls'), true],
    ['{ "redis_tls": "0" }', (settings) => settings.isOn('redis_tls'), false],
    ['{ "kafka_brokers": ["a:1", "b:2"] }', (settings) => settings.list('kafka_brokers'), ['a:1', 'b:2']],
    ['{ "kafka_brokers": " a:1,, b:2 " }', (settings) => settings.list('kafka_brokers'), ['a:1', 'b:2']],
    ['{}', (settings) => settings.list('kafka_brokers'), []],
    ['{ "memory_budget": "1.5GiB" }', (settings) => settings.bytes('memory_budget'), 1.5 * 2 ** 30],
    ['{ "memory_budget": 1000000 }', (settings) => settings.bytes('memory_budget'), 1_000_000],
    ['{ "memory_budget": "2MB" }', (settings) => settings.bytes('memory_budget'), 2_000_000],
    ['{ "max_dead_ratio": 0.25 }', (settings) => settings.ratio('max_dead_ratio'), 0.25],
    ['{ "idle_timeout": "1m30s" }', (settings) => settings.durationMs('idle_timeout'), 90_000],
    ['{ "metrics_port": 9464 }', (settings) => settings.whole('metrics_port'), 9464],
    ['{}', (settings) => settings.whole('metrics_port'), undefined],
  ])('is read: %s', async (text, ask, expected) => {
    expect(await read(text, ask)).toEqual(expected)
  })

  it('is on where its flag is given without a value', async () => {
    const settings = await Settings.open({ redisTls: true }, { TILEFOLD_REDIS_TLS: 'false' })
    expect(settings.get('redis_tls')).toEqual({ text: 'true', from: '--redis-tls', rank: 'flag' })
  })

  it.each<[SettingName, string, string]>([
    ['redis_tls', 'yes', 'got "yes", expected true or false'],
    ['memory_budget', '12 apples', 'expected bytes like 512MiB'],
    ['memory_budget', '9999999999GiB', 'expected bytes like 512MiB'],
    ['max_dead_ratio', '1.01', 'expected a number from 0 to 1'],
    ['max_dead_ratio', '-1', 'expected a number from 0 to 1'],
    ['flush_interval', 'soon', 'expected a duration'],
    ['metrics_port', '65536', 'expected a whole number from 0 to 65535'],
    ['kafka_sasl_mechanism', 'gssapi', 'expected one of plain, scram-sha-256, scram-sha-512'],
  ])('is refused: %s %s', async (name, text, cause) => {
    const settings = await Settings.open({}, { [`TILEFOLD_${name.toUpperCase()}`]: text })
    expect(() => settings.check(name)).toThrow(cause)
    expect(() => settings.check(name)).toThrow(`cannot use TILEFOLD_${name.toUpperCase()}`)
  })

  it.each(SETTING_NAMES)('has a default that can be used: %s', async (name) => {
    const settings = await Settings.open({}, {})
    expect(() => settings.check(name)).not.toThrow()
    expect(kindOf(name).about).toMatch(/^\S.*[^.]$/)
  })
})

describe('certificates', () => {
  const ca = writeIn(folder, 'ca.pem', 'the authority\n')
  const cert = writeIn(folder, 'own.pem', 'our own')
  const key = writeIn(folder, 'own.key', 'its key')

  it.each(['redis', 'kafka'] as const)('of %s are read from their files', async (server) => {
    const variable = (part: string) => `TILEFOLD_${server.toUpperCase()}_TLS_${part}`
    const open = (env: Record<string, string>) => Settings.open({}, env)
    expect((await open({})).certificates(server)).toBeUndefined()
    expect((await open({ [variable('CA')]: ca })).certificates(server)).toEqual({ ca: 'the authority' })
    const all = { [variable('CA')]: ca, [variable('CERT')]: cert, [variable('KEY')]: key }
    const expected = { ca: 'the authority', cert: 'our own', key: 'its key' }
    expect((await open(all)).certificates(server)).toEqual(expected)
    const half = await open({ [variable('KEY')]: key })
    expect(() => half.certificates(server)).toThrow(`cannot use ${variable('KEY')}: it needs ${server}_tls_cert`)
    const nowhere = await open({ [variable('CA')]: join(folder, 'nowhere.pem') })
    expect(() => nowhere.certificates(server)).toThrow(`cannot read the ${server} tls ca that ${variable('CA')} names`)
  })
})

describe('a secret', () => {
  const secrets = SETTING_NAMES.filter((name) => kindOf(name).secret !== undefined)

  it.each(secrets)('may come from a file: %s', async (name) => {
    const file = writeIn(folder, 'secret', ' the-secret-itself\n')
    const variable = `TILEFOLD_${name.toUpperCase()}_FILE`
    expect(kindOf(fileSettingOf(name)!)).toMatchObject({ isPath: true })
    const settings = await Settings.open({}, { [variable]: file })
    expect(settings.get(name)).toEqual({ text: 'the-secret-itself', from: variable, rank: 'env' })
    const direct = await Settings.open({}, { [variable]: file, [`TILEFOLD_${name.toUpperCase()}`]: 'direct' })
    expect(direct.text(name)).toBe('direct')
    const flag = await Settings.open(
      { [camelCase(`${name}_file`)]: file },
      { [`TILEFOLD_${name.toUpperCase()}`]: 'no' },
    )
    expect(flag.text(name)).toBe('the-secret-itself')
  })

  it('may stand beside the configuration file', async () => {
    writeIn(folder, 'redis-password', 'from beside\n')
    const config = writeIn(folder, 'secret.json', '{ "redis_password_file": "redis-password" }')
    expect((await Settings.open({ config }, {})).text('redis_password')).toBe('from beside')
  })

  it('is not what an unreadable or empty file holds', async () => {
    const missing = await Settings.open({}, { TILEFOLD_KAFKA_PASSWORD_FILE: '/nowhere/password' })
    expect(() => missing.text('kafka_password')).toThrow(
      'cannot read the kafka password that TILEFOLD_KAFKA_PASSWORD_FILE names: ENOENT',
    )
    const empty = await Settings.open({}, { TILEFOLD_TOKEN_FILE: writeIn(folder, 'empty', '\n') })
    expect(() => empty.text('token')).toThrow('is empty')
  })

  it.each(secrets.filter((name) => kindOf(name).secret === 'whole'))('is not shown: %s', async (name) => {
    const settings = await Settings.open({ [camelCase(name)]: 'hunter2' }, {})
    expect(settings.shown(name)).toBe('[redacted]')
    expect((await Settings.open({}, {})).shown(name)).toBeUndefined()
  })

  it.each([
    ['redis://127.0.0.1:6379/0', 'redis://127.0.0.1:6379/0'],
    ['redis://ada:hunter2@10.0.0.1:6379/0', 'redis://ada:[redacted]@10.0.0.1:6379/0'],
    ['rediss://:hunter2@r.example', 'rediss://:[redacted]@r.example'],
    ['redis://hunter2@r.example', 'redis://[redacted]@r.example'],
    ['redis://ada:hunt@er2/hunter2@r.example', 'redis://ada:[redacted]@r.example'],
    ['redis://a:hunter2@h1,redis://a:hunter2@h2:1', 'redis://a:[redacted]@h2:1'],
    ['redis://hunter2@h1,redis://a:hunter2@h2:1', 'redis://[redacted]@h2:1'],
    ['h0:1,redis://a:hunter2@h2:1', 'h0:[redacted]@h2:1'],
    ['ada:hunter2@r.example:1', 'ada:[redacted]@r.example:1'],
    ['redis://r.example?password=hunter2', 'redis://r.example?[redacted]'],
    ['redis://ada:hunter2?x@r.example', 'redis://ada:[redacted]@r.example'],
    ['redis://ada:hunter2@r.example?password=hunter2&db=1', 'redis://ada:[redacted]@r.example?[redacted]'],
    ['redis://ada:hun\nter2@r.example', 'redis://ada:[redacted]@r.example'],
  ])('is not shown in an address: %s', (address, shown) => {
    expect(redactAddress(address)).toBe(shown)
  })
})

function camelCase(name: string): string {
  return name.replaceAll(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase())
}

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
